"""The laws of the IR: each one broken by hand, and the verifier names the op and the law."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from irc.ir import (
    DType,
    Graph,
    Location,
    Op,
    Tensor,
    TensorType,
    Use,
    Value,
    VerifyError,
    at,
    constant_op,
    make,
    verify,
)
from irc.ir.text import parse_graph

F = TensorType(DType.F32, (4,))

TEXT = """
graph @main(%x: f32[4], %k: bool[]) -> (%y: f32[4]) {
  %w = const @w : f32[4] = [1.0, 2.0, 3.0, 4.0]
  %a = Add(%x, %w) : f32[4] @first
  %b = If(%k) {
    then_branch=graph @then() captures(%a) -> (%t: f32[4]) {
      %t = Neg(%a) : f32[4] @inner
      return %t
    },
    else_branch=graph @else() captures(%a) -> (%a: f32[4]) {
      return %a
    }
  } : f32[4] @choice
  %y = Relu(%b) : f32[4] @last
  return %y
}
"""


def graph_and_ops() -> tuple[Graph, dict[str, Op]]:
    graph = parse_graph(TEXT)
    return graph, {str(op.location): op for op in graph.walk()}


def test_a_graph_that_keeps_all_laws() -> None:
    graph, _ = graph_and_ops()
    verify(graph)
    verify(Graph())


def foreign() -> Value:
    other = Graph("other")
    return other.add_input("z", F)


def use_before_definition(graph: Graph, ops: dict[str, Op]) -> None:
    ops["first"].set_operand(0, ops["last"].result)


def use_from_another_graph(graph: Graph, ops: dict[str, Op]) -> None:
    ops["last"].set_operand(0, foreign())


def use_from_inside_a_body(graph: Graph, ops: dict[str, Op]) -> None:
    ops["last"].set_operand(0, ops["inner"].result)


def use_from_another_branch(graph: Graph, ops: dict[str, Op]) -> None:
    otherwise = ops["choice"].attributes["else_branch"]
    assert isinstance(otherwise, Graph)
    otherwise.set_output(0, ops["inner"].result)


def body_that_uses_its_own_op(graph: Graph, ops: dict[str, Op]) -> None:
    ops["inner"].set_operand(0, ops["choice"].result)


def output_that_is_not_defined(graph: Graph, ops: dict[str, Op]) -> None:
    graph.set_output(0, foreign())


def output_of_an_erased_op(graph: Graph, ops: dict[str, Op]) -> None:
    graph.unlink(ops["last"])


def operand_that_does_not_know_its_user(graph: Graph, ops: dict[str, Op]) -> None:
    ops["first"].operands[0] = ops["first"].operands[1]


def operand_with_a_use_removed(graph: Graph, ops: dict[str, Op]) -> None:
    del graph.inputs[0].uses[Use(ops["first"], 0)]


def result_with_a_use_too_many(graph: Graph, ops: dict[str, Op]) -> None:
    ops["first"].result.uses[Use(ops["last"], 0)] = None


def result_used_at_a_slot_that_is_gone(graph: Graph, ops: dict[str, Op]) -> None:
    ops["first"].result.uses[Use(ops["last"], 7)] = None


def input_with_a_use_too_many(graph: Graph, ops: dict[str, Op]) -> None:
    graph.inputs[0].uses[Use(ops["last"], 0)] = None


def use_by_an_op_that_is_in_no_graph(graph: Graph, ops: dict[str, Op]) -> None:
    Op("Neg", [ops["first"].result], {}, [F], at("nowhere"))


def output_that_does_not_know_it_is_one(graph: Graph, ops: dict[str, Op]) -> None:
    del graph.outputs[0].uses[Use(graph, 0)]


def result_of_another_op(graph: Graph, ops: dict[str, Op]) -> None:
    ops["last"].result.op = ops["first"]


def no_location(graph: Graph, ops: dict[str, Op]) -> None:
    ops["first"].location = Location()


def lost_name(graph: Graph, ops: dict[str, Op]) -> None:
    graph.input_names.pop()


def lost_output_type(graph: Graph, ops: dict[str, Op]) -> None:
    graph.output_types.pop()


def two_inputs_of_one_name(graph: Graph, ops: dict[str, Op]) -> None:
    graph.input_names[1] = graph.input_names[0]


def two_outputs_of_one_name(graph: Graph, ops: dict[str, Op]) -> None:
    graph.add_output(ops["last"].result, "y")


def broken_list(graph: Graph, ops: dict[str, Op]) -> None:
    following = ops["first"].next
    assert following is not None
    following.prev = None


def op_of_another_graph(graph: Graph, ops: dict[str, Op]) -> None:
    ops["last"].graph = Graph("other")


def body_of_another_op(graph: Graph, ops: dict[str, Op]) -> None:
    branch = ops["choice"].attributes["then_branch"]
    assert isinstance(branch, Graph)
    branch.owner = ops["last"]


def too_many_operands(graph: Graph, ops: dict[str, Op]) -> None:
    ops["last"].operands.append(None)


def absent_operand(graph: Graph, ops: dict[str, Op]) -> None:
    ops["first"].set_operand(0, None)


def unknown_attribute(graph: Graph, ops: dict[str, Op]) -> None:
    ops["last"].attributes = {"alpha": 1.0}


def missing_attribute(graph: Graph, ops: dict[str, Op]) -> None:
    del ops["choice"].attributes["else_branch"]


def attribute_of_another_kind(graph: Graph, ops: dict[str, Op]) -> None:
    graph.append(Op("Flatten", [graph.inputs[0]], {"axis": 1.0}, [F], at("flat")))


def operands_of_another_dtype(graph: Graph, ops: dict[str, Op]) -> None:
    doubles = constant_op(Tensor.from_array(np.zeros(4)), at("doubles"))
    graph.insert(doubles, ops["first"])
    ops["first"].set_operand(1, doubles.result)


def constant_of_another_type(graph: Graph, ops: dict[str, Op]) -> None:
    ops["w"].result.type = TensorType(DType.F32, (5,))


BROKEN: dict[Callable[[Graph, dict[str, Op]], None], str] = {
    use_before_definition: "first: Add uses %y before it is defined",
    use_from_another_graph: "last: Relu uses %z before it is defined",
    use_from_inside_a_body: "last: Relu uses %t before it is defined",
    use_from_another_branch: "graph 'else': output 'a' is not defined",
    body_that_uses_its_own_op: "inner: Neg uses %b before it is defined",
    output_that_is_not_defined: "graph 'main': output 'y' is not defined",
    output_of_an_erased_op: "choice: a use of If's result is by an op in no graph",
    operand_that_does_not_know_its_user: "first: Add is no known user of its operand 0",
    operand_with_a_use_removed: "first: Add is no known user of its operand 0",
    result_with_a_use_too_many: "first: a use of Add's result is stale",
    result_used_at_a_slot_that_is_gone: "first: a use of Add's result is stale",
    input_with_a_use_too_many: "graph 'main': a use of input 'x' is stale",
    use_by_an_op_that_is_in_no_graph: "first: a use of Add's result is by an op in no graph",
    output_that_does_not_know_it_is_one: "graph 'main': output 'y' is no known use of its value",
    result_of_another_op: "last: a result of Relu belongs to another op",
    no_location: "Add has no location",
    lost_name: "graph 'main': the signature has lost a name or a type",
    lost_output_type: "graph 'main': the signature has lost a name or a type",
    two_inputs_of_one_name: "graph 'main': two inputs or two outputs have one name",
    two_outputs_of_one_name: "graph 'main': two inputs or two outputs have one name",
    broken_list: "first: the op list is broken",
    op_of_another_graph: "last: the op list is broken",
    body_of_another_op: "choice: it holds a body that belongs to another op",
    too_many_operands: "last: Relu takes 1 operands, not 2",
    absent_operand: "first: Add lacks operand 0 (A)",
    unknown_attribute: "last: Relu has no attribute 'alpha'",
    missing_attribute: "choice: If lacks its attribute 'else_branch'",
    attribute_of_another_kind: "flat: Flatten has an attribute 'axis' that is no int",
    operands_of_another_dtype: "first: Add is mistyped: operand 1 is tensor(double) where tensor(float) is needed",
    constant_of_another_type: "w: a constant of f32[4] is typed f32[5]",
}


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda f: f.__name__)
def test_a_broken_law_is_named(break_it: Callable[[Graph, dict[str, Op]], None]) -> None:
    graph, ops = graph_and_ops()
    break_it(graph, ops)
    with pytest.raises(VerifyError) as caught:
        verify(graph)
    assert str(caught.value) == BROKEN[break_it]
    assert caught.value.exit_code == 3


def test_structure_is_checked_without_types_too() -> None:
    graph, ops = graph_and_ops()
    unknown_attribute(graph, ops)
    verify(graph, types=False)
    use_before_definition(graph, ops)
    with pytest.raises(VerifyError, match="before it is defined"):
        verify(graph, types=False)


def test_ops_without_a_schema_may_be_anything() -> None:
    graph = Graph()
    x = graph.add_input("x", F)
    graph.append(make("Mystery", [x, None, x], at("m"), attributes={"any": 1}, results=3, domain="their.own"))
    verify(graph)


def test_graphs_of_any_depth_and_length() -> None:
    graph = Graph()
    value = graph.add_input("x", F)
    for _ in range(20_000):
        value = graph.append(Op("Neg", [value], {}, [F], at("n"))).result
    graph.add_output(value, "y")
    verify(graph)

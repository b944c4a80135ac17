"""What the rewriter refuses from a rule: the pass is rolled back, the sentence names the rule, and the graph is as it was."""

from __future__ import annotations

import pytest

from irc.ir import DType, Op, Tensor, Value
from irc.ir.text import parse_graph, print_graph
from irc.passes import No, Pass, PassManager, Rewriter, Rule, rule
from irc.passes.registry import rule_pass

GRAPH = """
graph @main(%x: f32[4]) -> (%y: f32[4]) {
  %0 = Relu(%x) : f32[4]   @first
  %y = Relu(%0) : f32[4]   @second
  return %y
}
"""


@rule("Relu")
def relu_again(op: Op, rewrite: Rewriter) -> Value | No:
    """Relu is Relu."""
    return rewrite.op("Relu", [op.operand(0)])


@rule("Relu")
def relu_to_integers(op: Op, rewrite: Rewriter) -> Value | No:
    """Relu is a cast."""
    return rewrite.op("Cast", [op.operand(0)], {"to": DType.I64.onnx_code})


@rule("Relu")
def relu_to_nonsense(op: Op, rewrite: Rewriter) -> Value | No:
    """Relu is an op nobody knows."""
    return rewrite.op("Nonsense", [op.operand(0)])


@rule("Relu")
def relu_to_two(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """Relu has two results."""
    value = rewrite.op("Abs", [op.operand(0)])
    return value, value


@pytest.mark.parametrize(
    ("one", "message"),
    [
        (relu_again, "rewriting does not end; the last rule is 'relu-again'"),
        (relu_to_integers, "rule 'relu-to-integers' gives i64[4] for f32[4]"),
        (relu_to_nonsense, "ONNX has no op 'Nonsense'"),
        (relu_to_two, "rule 'relu-to-two' gives 2 values for 1 results"),
    ],
    ids=lambda value: value.name if isinstance(value, Rule) else "",
)
def test_a_rule_that_cannot_be_right_is_rolled_back(one: Rule, message: str) -> None:
    kind: type[Pass] = rule_pass(one)
    graph = parse_graph(GRAPH)
    manager = PassManager((kind(),))
    result = manager.run(graph)
    assert print_graph(result) == print_graph(parse_graph(GRAPH))
    assert message in str(manager.failures[0].failure)


def test_a_replacement_of_another_shape_does_not_apply() -> None:
    """A declared shape may be wrong, and then the op stays; nothing is rolled back."""

    @rule("Relu")
    def relu_to_constant(op: Op, rewrite: Rewriter) -> Value | No:
        """Relu is a constant of another size."""
        return rewrite.constant(Tensor.from_array([1.0, 2.0], DType.F32))

    manager = PassManager((rule_pass(relu_to_constant)(),), remark=True)
    result = manager.run(parse_graph(GRAPH))
    assert print_graph(result) == print_graph(parse_graph(GRAPH))
    assert not manager.failures
    assert "its replacement has another shape" in manager.misses[0].text


def test_a_rule_is_not_tried_where_no_operand_is_made_by_what_it_is_over() -> None:
    """Not even called, unless somebody asks why nothing matched."""
    tried: list[str] = []

    @rule("Relu", over=["Relu"])
    def relu_of_relu(op: Op, rewrite: Rewriter) -> Value | No:
        """Relu of Relu stays, but is noticed."""
        tried.append(str(op.location))
        return No("it is only looked at")

    kind = rule_pass(relu_of_relu)
    PassManager((kind(),)).run(parse_graph(GRAPH))
    assert tried == ["second"]
    manager = PassManager((kind(),), remark=True)
    manager.run(parse_graph(GRAPH))
    assert [str(miss.op.location) for miss in manager.misses] == ["first", "second"]

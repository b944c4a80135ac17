"""Functions of a model disappear into their calls: inlined, each call under names of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from irc.ir import Graph, capture

from .models import BOOL, F32, body, check_capture, const, info, model, node, normal, ops

X, Y = [info("x", F32, [4])], [info("y", F32, [4])]
FEED = {"x": normal(4)}


def function(
    name: str,
    inputs: Sequence[str],
    nodes: Sequence[NodeProto],
    *,
    outputs: Sequence[str] = ("o",),
    opset: int = 17,
    attributes: Sequence[str] = (),
    defaults: Sequence[AttributeProto] = (),
) -> FunctionProto:
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("f", 1)]
    return helper.make_function("f", name, list(inputs), list(outputs), list(nodes), imports, list(attributes), list(defaults))


def calling(functions: Sequence[FunctionProto], *nodes: NodeProto, **extra: object) -> ModelProto:
    return model(nodes, extra.pop("inputs", X), Y, functions=list(functions), domains={"f": 1}, **extra)  # type: ignore[arg-type]


def call(name: str, *operands: str, to: str = "y", **attributes: object) -> NodeProto:
    return node(name, list(operands), [to], domain="f", **attributes)


def reference(made: NodeProto, attribute: str, parameter: str, kind: int) -> NodeProto:
    made.attribute.add(name=attribute, ref_attr_name=parameter, type=kind)
    return made


def scale() -> list[NodeProto]:
    value = reference(node("Constant", [], ["k"]), "value_float", "by", AttributeProto.FLOAT)
    return [value, node("Mul", ["a", "k"], ["o"])]


def locations(graph: Graph) -> list[str]:
    return [str(op.location) for op in graph if not op.is_constant]


def test_names_inside_do_not_meet_names_outside() -> None:
    twice = function("Twice", ["x"], [node("Add", ["x", "x"], ["q"]), node("Neg", ["q"], ["o"])])
    message = calling([twice], node("Abs", ["x"], ["q"]), call("Twice", "q", to="o"), call("Twice", "o"))
    graph = check_capture(message, FEED)
    assert ops(graph) == ["Abs", "Add", "Neg", "Add", "Neg"]
    assert locations(graph) == ["Abs(q)", "Twice(o)/Add(q)", "Twice(o)/Neg(o)", "Twice(y)/Add(q)", "Twice(y)/Neg(o)"]


def test_functions_in_functions() -> None:
    inner = function("Inner", ["a"], [node("Exp", ["a"], ["o"])])
    outer = function("Outer", ["a"], [call("Inner", "a", to="p"), call("Inner", "p", to="o")])
    assert ops(check_capture(calling([outer, inner], call("Outer", "x")), FEED)) == ["Exp", "Exp"]


def test_attributes_given_and_left_out() -> None:
    message = calling(
        [function("Scale", ["a"], scale(), defaults=[helper.make_attribute("by", 2.0)])],
        call("Scale", "x", to="m"),
        call("Scale", "m", by=-3.0),
    )
    check_capture(message, FEED)


def test_attributes_handed_on() -> None:
    inner = function("Scale", ["a"], scale(), attributes=["by"])
    handing = reference(call("Scale", "a", to="o"), "by", "factor", AttributeProto.FLOAT)
    outer = function("Outer", ["a"], [handing], attributes=["factor"])
    check_capture(calling([inner, outer], call("Outer", "x", factor=0.5)), FEED)


def test_an_attribute_left_out_leaves_the_op_its_default() -> None:
    leaky = reference(node("LeakyRelu", ["a"], ["o"]), "alpha", "slope", AttributeProto.FLOAT)
    message = calling([function("Leaky", ["a"], [leaky], attributes=["slope"])], call("Leaky", "x"))
    (op,) = check_capture(message, FEED)
    assert op.attributes == {}


def test_attributes_inside_bodies_of_functions() -> None:
    then = [reference(node("LeakyRelu", ["a"], ["t"]), "alpha", "slope", AttributeProto.FLOAT)]
    branches = {
        "then_branch": body("t", then, [], [info("t", F32, [4])]),
        "else_branch": body("e", [node("Exp", ["a"], ["e"])], [], [info("e", F32, [4])]),
    }
    choose = function("Choose", ["a", "c"], [node("If", ["c"], ["o"], **branches)], attributes=["slope"])
    message = calling([choose], call("Choose", "x", "k", slope=0.25), inputs=[*X, info("k", BOOL, [])])
    for value in (True, False):
        check_capture(message, {**FEED, "k": np.array(value)})


def test_calls_inside_bodies() -> None:
    neg = function("Minus", ["a"], [node("Neg", ["a"], ["o"])])
    branches = {
        f"{which}_branch": body(which, [call(name, "x", to="o")], [], [info("o", F32, [4])])
        for which, name in (("then", "Minus"), ("else", "Plus"))
    }
    plus = function("Plus", ["a"], [node("Abs", ["a"], ["o"])])
    message = calling([neg, plus], node("If", ["k"], ["y"], **branches), inputs=[*X, info("k", BOOL, [])])
    for value in (True, False):
        check_capture(message, {**FEED, "k": np.array(value)})


def test_optional_inputs_left_out_at_the_end_and_in_the_middle() -> None:
    clip = function("Bound", ["a", "low", "high"], [node("Clip", ["a", "low", "high"], ["o"])])
    low = [const("w", np.float32(0))]
    for given in (["x"], ["x", "w"], ["x", "", "w"]):
        graph = capture(calling([clip], call("Bound", *given), initializers=low))
        (bound,) = (op for op in graph if not op.is_constant)
        assert [operand is not None for operand in bound.operands] == [name != "" for name in given]


def test_outputs_left_out() -> None:
    both = function("Both", ["a"], [node("Neg", ["a"], ["o"]), node("Exp", ["a"], ["p"])], outputs=["p", "o"])
    message = calling([both], node("Both", ["x"], ["", "y"], domain="f"))
    check_capture(message, FEED)


def test_an_output_that_is_an_input() -> None:
    same = function("Same", ["o"], [])
    graph = capture(calling([same], call("Same", "x", to="m"), node("Neg", ["m"], ["y"])))
    assert [op.name for op in graph] == ["Neg"]
    assert graph.first is not None
    assert graph.first.operands == graph.inputs


def test_a_function_of_an_older_opset_than_the_model() -> None:
    old = function("Old", ["a"], [node("Softmax", ["a"], ["o"], axis=0)], opset=11)
    message = model([call("Old", "x")], [info("x", F32, [2, 3])], ["y"], functions=[old], domains={"f": 1})
    graph = capture(message)
    assert ops(graph) == ["Flatten", "Softmax", "Shape", "Reshape"]


def test_functions_with_one_name_and_two_overloads() -> None:
    one, two = (function("F", ["a"], [node(op, ["a"], ["o"])]) for op in ("Neg", "Exp"))
    one.overload, two.overload = "first", "second"
    nodes = [call("F", "x", to="m"), call("F", "m")]
    nodes[0].overload, nodes[1].overload = "second", "first"
    graph = capture(model(nodes, X, Y, functions=[one, two], domains={"f": 1}, ir_version=10))
    assert ops(graph) == ["Exp", "Neg"]


def test_a_function_may_replace_an_op_of_onnx() -> None:
    imports = [helper.make_opsetid("", 17)]
    own = onnx.helper.make_function("", "Relu", ["a"], ["o"], [node("Neg", ["a"], ["o"])], imports)
    message = model([node("Relu", ["x"], ["y"])], X, Y, functions=[own])
    assert ops(capture(message)) == ["Neg"]

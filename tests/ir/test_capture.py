"""What capture takes, and that it keeps meaning and signature: each model against ONNX Runtime before and after."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from irc.ir import IrcError, SequenceType, TensorType, capture, to_model, verify

from .models import (
    BOOL,
    F32,
    I64,
    body,
    check_capture,
    check_signature,
    const,
    if_model,
    info,
    model,
    node,
    normal,
    ops,
    run,
    same,
)

X = [info("x", F32, [4])]
Y = [info("y", F32, [4])]
FEED = {"x": normal(4)}
YES, NO = {**FEED, "k": np.array(True)}, {**FEED, "k": np.array(False)}


# Domains


def test_the_default_domain_has_two_names() -> None:
    made = node("Relu", ["x"], ["y"], domain="ai.onnx")
    assert ops(check_capture(model([made], X, Y, opset=None, domains={"ai.onnx": 17}), FEED)) == ["Relu"]


def test_machine_learning_ops() -> None:
    scaler = node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.5, 1.0], scale=[2.0, 3.0])
    message = model([scaler], [info("x", F32, [1, 2])], ["y"], opset=None, domains={"ai.onnx.ml": 3})
    assert ops(check_capture(message, {"x": normal(1, 2)})) == ["ai.onnx.ml::Scaler"]


def test_maps_and_sequences_of_them() -> None:
    zipmap = node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    element = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(F32, []))
    output = helper.make_value_info("y", helper.make_sequence_type_proto(element))
    message = model([zipmap], [info("x", F32, [2, 2])], [output], domains={"ai.onnx.ml": 1})
    graph = check_capture(message, {"x": normal(2, 2)})
    assert str(graph.outputs[0].type) == "seq<map<str,f32[]>>"


def test_ops_of_onnx_runtime() -> None:
    made = node("FusedMatMul", ["x", "w"], ["y"], domain="com.microsoft", transA=1, alpha=0.5)
    message = model(
        [made], [info("x", F32, [4, 2])], [info("y", F32, [2, 3])], [const("w", normal(4, 3))], domains={"com.microsoft": 1}
    )
    assert ops(check_capture(message, {"x": normal(4, 2)})) == ["com.microsoft::FusedMatMul"]


def test_unknown_ops_stay_as_they_are() -> None:
    attributes = {
        "i": 1,
        "f": 0.5,
        "s": "text",
        "ints": [1, 2],
        "floats": [0.5],
        "strings": ["a"],
        "t": TensorProto(data_type=I64, raw_data=bytes(8)),
    }
    nodes = [
        node("Mystery", ["x", "", "x"], ["m", "n"], "odd", domain="their.own", **attributes),
        node("RequantShift", ["m"], ["r"], scale=0.5),
        node("Neg", ["r"], ["y"]),
    ]
    known = [info("m", F32, ["N", 7]), info("r", F32, [3])]
    graph = capture(model(nodes, X, ["y"], domains={"their.own": 3}, value_info=known))
    mystery, unknown, negative = graph
    assert (mystery.qualified_name, str(mystery.location), mystery.operands[1]) == ("their.own::Mystery", "odd", None)
    assert list(mystery.attributes) == sorted(attributes)
    assert [str(r.type) for r in mystery.results] == ["f32[N,7]", "?"]
    assert (unknown.qualified_name, str(unknown.result.type)) == ("RequantShift", "f32[3]")
    assert str(negative.result.type) == "f32[3]"
    again = to_model(graph)
    for written, given in zip(again.graph.node[0].attribute, nodes[0].attribute, strict=True):
        assert (written.name, written.type) == (given.name, given.type)
        assert written.name == "t" or helper.get_attribute_value(written) == helper.get_attribute_value(given)
    assert {i.domain: i.version for i in again.opset_import}["their.own"] == 3


# Bodies


def test_both_branches() -> None:
    message = if_model([node("Add", ["x", "w"], ["t"])], [node("Sub", ["x", "w"], ["e"])], initializers=[const("w", normal(4))])
    for feeds in (YES, NO):
        graph = check_capture(message, feeds)
    assert [value.name for value in graph.captures()] == []
    choice = next(op for op in graph if op.bodies)
    assert [[value.name for value in b.captures()] for b in choice.bodies] == [["x", "w"], ["x", "w"]]


def test_capture_from_two_levels_up() -> None:
    inner = [body(n, [node(op, ["h", "w"], [n])], [], [info(n, F32, [4])]) for n, op in (("a", "Add"), ("b", "Mul"))]
    then = [node("Relu", ["x"], ["h"]), node("If", ["k"], ["t"], then_branch=inner[0], else_branch=inner[1])]
    message = if_model(then, [node("Neg", ["x"], ["e"])], initializers=[const("w", normal(4))])
    for feeds in (YES, NO):
        check_capture(message, feeds)


def test_names_shadowed_and_shared_between_bodies() -> None:
    # The same name inside both branches, and in the second If again.
    branches = {
        f"{which}_branch": body(which, [node(op, ["x"], ["q"]), node("Exp", ["q"], ["r"])], [], [info("r", F32, [4])])
        for which, op in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [
        node("If", ["k"], ["a"], **branches),
        node("If", ["k"], ["b"], **branches),
        node("Add", ["a", "b"], ["y"]),
    ]
    for feeds in (YES, NO):
        check_capture(model(nodes, [*X, info("k", BOOL, [])], Y), feeds)


def test_a_body_that_hides_an_outer_name() -> None:
    # Engines differ here, so the answer is written down: the inner q is the branch's own.
    then = body("t", [node("Neg", ["x"], ["q"]), node("Exp", ["q"], ["t"])], [], [info("t", F32, [4])])
    otherwise = body("e", [node("Identity", ["q"], ["e"])], [], [info("e", F32, [4])])
    nodes = [node("Abs", ["x"], ["q"]), node("If", ["k"], ["y"], then_branch=then, else_branch=otherwise)]
    again = to_model(capture(model(nodes, [*X, info("k", BOOL, [])], Y)))
    np.testing.assert_allclose(run(again, YES)[0], np.exp(-FEED["x"]), rtol=1e-6)
    np.testing.assert_array_equal(run(again, NO)[0], np.abs(FEED["x"]))


def test_branches_that_return_what_is_outside() -> None:
    then = body("t", [], [], [info("x", F32, [4])])
    otherwise = body("e", [], [], [info("v", F32, [4])], [const("v", normal(4, seed=3))])
    nodes = [node("If", ["k"], ["y"], then_branch=otherwise, else_branch=then)]
    again = to_model(capture(model(nodes, [*X, info("k", BOOL, [])], Y)))
    same(run(again, YES), [normal(4, seed=3)])
    same(run(again, NO), [FEED["x"]])


def loop(*carried: str) -> onnx.GraphProto:
    nodes = [
        node("Identity", ["go"], ["on"]),
        node("Add", ["acc", "w"], ["next"]),
        node("Cast", ["i"], ["f"], to=F32),
        node("Mul", ["next", "f"], ["scan"]),
    ]
    inputs = [info("i", I64, []), info("go", BOOL, []), info("acc", F32, [4])]
    return body("steps", nodes, inputs, [info("on", BOOL, []), info("next", F32, [4]), info("scan", F32, [4])])


@pytest.mark.parametrize(("trips", "go"), [(3, True), (0, True), (5, False)])
def test_loops(trips: int, go: bool) -> None:
    nodes = [node("Loop", ["n", "k", "x"], ["y", "ys"], body=loop())]
    inputs = [*X, info("n", I64, []), info("k", BOOL, [])]
    message = model(nodes, inputs, [*Y, info("ys", F32, ["trips", 4])], [const("w", normal(4))])
    check_capture(message, {**FEED, "n": np.array(trips), "k": np.array(go)})


def test_a_loop_without_a_count_or_a_condition() -> None:
    nodes = [node("Loop", ["n", "", "x"], ["y", "ys"], body=loop())]
    message = model(nodes, X, [*Y, "ys"], [const("w", normal(4)), const("n", 2)])
    graph = check_capture(message, FEED)
    assert str(graph.outputs[1].type) == "f32[?,4]"


@pytest.mark.parametrize("attributes", [{}, {"scan_input_directions": [1]}, {"scan_input_axes": [1], "scan_output_axes": [-1]}])
def test_scans(attributes: dict[str, object]) -> None:
    nodes = [node("Add", ["s", "e"], ["t"]), node("Mul", ["t", "w"], ["o"])]
    inner = body("b", nodes, [info("s", F32, [4]), info("e", F32, [4])], [info("t", F32, [4]), info("o", F32, [4])])
    message = model(
        [node("Scan", ["x", "seq"], ["y", "ys"], body=inner, num_scan_inputs=1, **attributes)],
        [*X, info("seq", F32, [4, 4])],
        [*Y, "ys"],
        [const("w", normal(4))],
    )
    check_capture(message, {**FEED, "seq": normal(4, 4)})


def test_large_tensors_inside_nested_bodies_stay_in_the_file() -> None:
    big = const("w", normal(4, 1000, seed=5))
    inner = body("i", [node("ReduceSum", ["w", "one"], ["r"], keepdims=0)], [], [info("r", F32, [4])], [big, const("one", [1])])
    other = body("o", [node("Identity", ["x"], ["r2"])], [], [info("r2", F32, [4])])
    then = [node("If", ["k"], ["t"], then_branch=inner, else_branch=other)]
    message = if_model(then, [node("Neg", ["x"], ["e"])])
    check_capture(message, YES, tolerance=1e-5)
    data = message.SerializeToString()
    graph = capture(data)
    weight = next(op.value for op in graph.walk() if op.is_constant and op.value.size == 4000)
    array = np.frombuffer(weight.data, np.uint8)
    whole = np.frombuffer(data, np.uint8)
    assert np.shares_memory(array, whole)


# Sequences, optionals, strings


def test_sequences() -> None:
    nodes = [
        node("SequenceConstruct", ["x", "w"], ["s"]),
        node("SequenceInsert", ["s", "x"], ["s2"]),
        node("SequenceAt", ["s2", "i"], ["y"]),
    ]
    inputs = [*X, info("i", I64, [])]
    sequence = helper.make_tensor_sequence_value_info("s2", F32, None)
    graph = check_capture(model(nodes, inputs, [*Y, sequence], [const("w", normal(4))]), {**FEED, "i": np.array(-2)})
    assert isinstance(graph.outputs[1].type, SequenceType)


def test_sequences_as_inputs_and_out_of_loops() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", F32, None)
    message = model([node("ConcatFromSequence", ["s"], ["y"], axis=0)], [sequence], [info("y", F32, None)])
    check_capture(message, {"s": [normal(2), normal(3)]})


def test_optionals() -> None:
    element = helper.make_tensor_type_proto(F32, [4])
    nodes = [
        node("Optional", ["x"], ["o"]),
        node("OptionalHasElement", ["o"], ["has"]),
        node("OptionalGetElement", ["o"], ["y"]),
        node("Optional", [], ["none"], type=element),
        node("OptionalHasElement", ["none"], ["hasnt"]),
    ]
    graph = check_capture(model(nodes, X, [*Y, info("has", BOOL, []), info("hasnt", BOOL, [])], opset=18), FEED)
    assert "opt<f32[4]>" in [str(op.results[0].type) for op in graph]


def test_strings() -> None:
    text = helper.make_tensor("w", TensorProto.STRING, [2], ["é".encode(), b"b"])
    message = model(
        [node("Equal", ["x", "w"], ["y"])], [info("x", TensorProto.STRING, [2])], [info("y", BOOL, [2])], [text], opset=19
    )
    check_capture(message, {"x": np.array(["é", "c"], object)})


# Signature


def test_an_input_that_is_an_output() -> None:
    message = model([node("Neg", ["x"], ["y"])], X, [*X, *Y])
    assert check_capture(message, FEED).output_names == ["x", "y"]


def test_a_constant_that_is_an_output() -> None:
    message = model([node("Neg", ["x"], ["y"])], X, [info("w", F32, [4]), *Y], [const("w", normal(4))])
    check_capture(message, FEED)
    check_capture(model([node("Constant", [], ["y"], value=const("", normal(4)))], [], Y), {})


def test_a_model_without_ops() -> None:
    check_capture(model([], X, X), FEED)


def test_unused_inputs_stay_and_unused_weights_go() -> None:
    message = model([node("Neg", ["x"], ["y"])], [*X, info("unused", I64, ["N"])], Y, [const("w", normal(9))])
    graph = check_capture(message, {**FEED, "unused": np.zeros(1, np.int64)})
    assert graph.input_names == ["x", "unused"]
    assert len(graph) == 1


def test_overridable_initializers() -> None:
    weight = [const("w", normal(4))]
    message = model([node("Add", ["x", "w"], ["y"])], [*X, info("w", F32, [4])], Y, weight)
    graph = check_capture(message, FEED)
    check_capture(message, {**FEED, "w": normal(4, seed=9)})
    assert len(graph.defaults) == 1
    assert graph.inputs[1].constant is None


def test_before_ir_4_initializers_are_constants() -> None:
    message = model(
        [node("Add", ["x", "w"], ["y"])], [*X, info("w", F32, [4])], Y, [const("w", normal(4))], ir_version=3, opset=8
    )
    graph = capture(message)
    assert graph.input_names == ["x"]
    same(run(to_model(graph), FEED), run(message, FEED))


def test_symbolic_dims_keep_their_names() -> None:
    dims = ["batch", None, 3, "past_sequence + 1"]
    message = model([node("Neg", ["x"], ["y"])], [info("x", F32, dims)], [info("y", F32, ["b2", 2, None, "d"])])
    graph = check_capture(message, {"x": normal(1, 2, 3, 4)})
    assert str(graph.inputs[0].type) == 'f32[batch,?,3,"past_sequence + 1"]'
    assert str(graph.output_types[0]) == "f32[b2,2,?,d]"


def test_metadata_and_names() -> None:
    message = model([node("Neg", ["x"], ["y"])], X, Y)
    message.graph.name = 'a name/with "all" of it'
    message.metadata_props.add(key="author", value="me\n")
    graph = check_capture(message, FEED)
    assert (graph.name, graph.metadata) == (message.graph.name, {"author": "me\n"})


# Order and names


def test_unsorted_nodes() -> None:
    nodes = [node("Exp", ["r"], ["y"]), node("Relu", ["n"], ["r"]), node("Neg", ["x"], ["n"])]
    graph = capture(model(nodes, X, Y))
    assert ops(graph) == ["Neg", "Relu", "Exp"]
    same(run(to_model(graph), FEED), run(model(nodes[::-1], X, Y), FEED))


def test_unsorted_through_what_a_body_captures() -> None:
    message = if_model([node("Add", ["x", "late"], ["t"])], [node("Sub", ["x", "late"], ["e"])])
    message.graph.node.append(node("Exp", ["x"], ["late"]))
    graph = capture(message)
    verify(graph)
    assert [op.name for op in graph] == ["Exp", "If"]


def test_duplicate_and_missing_node_names() -> None:
    nodes = [node("Neg", ["x"], ["a"], "n"), node("Exp", ["a"], ["b"], "n"), node("Relu", ["b"], ["y"])]
    graph = capture(model(nodes, X, Y))
    assert [str(op.location) for op in graph] == ["n", "n", "Relu(y)"]
    again = to_model(graph)
    assert len({each.name for each in again.graph.node}) == 3
    np.testing.assert_allclose(run(again, FEED)[0], np.exp(-FEED["x"]), rtol=1e-6)


@pytest.mark.parametrize(
    ("scopes", "location"),
    [
        ("['', 'stem.conv1', 'neg']", "model.py:41 (stem.conv1)"),
        ("['', 'neg']", "model.py:41"),
        ("['neg']", "model.py:41"),
        ("['', 'stem', '_empty_nn_module_stack_from_metadata_hook', 'neg']", "model.py:41 (stem)"),
        ("""['', "cache['cpu']", 'neg']""", "model.py:41 (cache['cpu'])"),
        ("", "model.py:41"),
    ],
)
def test_locations_of_torch(scopes: str, location: str) -> None:
    made = node("Neg", ["x"], ["y"], "node_neg")
    made.metadata_props.add(
        key="pkg.torch.onnx.stack_trace", value='File "models/mine/model.py", line 41, in forward\n    return -x'
    )
    made.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)
    assert [str(op.location) for op in capture(model([made], X, Y))] == [location]


def test_locations_survive_a_round_trip() -> None:
    graph = capture(model([node("Neg", ["x"], ["y"], "stem.conv1")], X, Y))
    assert [str(op.location) for op in capture(to_model(graph))] == ["stem.conv1"]


def test_a_file_and_its_bytes_and_its_message_are_one(tmp_path) -> None:
    message: ModelProto = if_model([node("Neg", ["x"], ["t"])], [node("Exp", ["x"], ["e"])])
    path = tmp_path / "model.onnx"
    path.write_bytes(message.SerializeToString())
    made: list[NodeProto | bytes] = [
        to_model(capture(m)).SerializeToString() for m in (path, str(path), message, message.SerializeToString())
    ]
    assert len(set(made)) == 1
    check_signature(message, to_model(capture(path)))


def test_one_copy_of_equal_weights() -> None:
    nodes = [node("Add", ["x", "a"], ["p"]), node("Add", ["p", "b"], ["y"])]
    graph = check_capture(model(nodes, X, Y, [const("a", normal(4)), const("b", normal(4))]), FEED)
    first, second = (op.value for op in graph if op.is_constant)
    assert first is second


def test_opset_28_is_taken_and_opset_29_is_not() -> None:
    newest = onnx.defs.onnx_opset_version()
    assert isinstance(capture(model([node("Neg", ["x"], ["y"])], X, Y, opset=newest)).outputs[0].type, TensorType)
    with pytest.raises(IrcError, match="opset"):
        capture(model([node("Neg", ["x"], ["y"])], X, Y, opset=newest + 1))

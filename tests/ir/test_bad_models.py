"""Malformed, oversized and hostile models: each is refused in one sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from irc.ir import IrcError, capture

from .models import BOOL, F32, I64, body, const, info, model, node, normal

X = [info("x", F32, [2, 3, 4, 4])]
SYMBOLIC = [info("x", F32, ["N", 3, "H", "W"])]
K = info("k", BOOL, [])


def relu() -> ModelProto:
    return model([node("Relu", ["x"], ["y"])], X, ["y"])


def op(name: str, *initializers: TensorProto, opset: int = 17, inputs: object = X, **attributes: object) -> ModelProto:
    """x and the initializers through one op."""
    names = ["x", *(t.name for t in initializers)]
    return model([node(name, names, ["y"], **attributes)], inputs, ["y"], initializers, opset=opset)  # type: ignore[arg-type]


def changed(message: ModelProto, change: Callable[[ModelProto], object]) -> ModelProto:
    change(message)
    return message


def with_constant(**fields: object) -> ModelProto:
    return model([node("Identity", ["w"], ["y"])], [], ["y"], [TensorProto(name="w", **fields)])


def with_sparse(values: object, indices: object, dims: list[int]) -> ModelProto:
    sparse = helper.make_sparse_tensor(const("w", values), const("i", indices), dims)
    return model([node("Identity", ["w"], ["y"])], [], ["y"], sparse_initializer=[sparse])


def with_function(*nodes: NodeProto, inputs: tuple[str, ...] = ("a",), call: NodeProto | None = None) -> ModelProto:
    """y = A(x), where the nodes of A make `o` of `a`."""
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    function = helper.make_function("f", "A", list(inputs), ["o"], list(nodes), imports)
    return model([call or node("A", ["x"], ["y"], domain="f")], X, ["y"], functions=[function], domains={"f": 1})


def set_opset(version: int) -> ModelProto:
    return changed(relu(), lambda m: setattr(m.opset_import[0], "version", version))


def learning(version: int | None) -> ModelProto:
    scaler = node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[1.0], scale=[1.0])
    return model([scaler], X, ["y"], domains={} if version is None else {"ai.onnx.ml": version})


def loop(outputs: int) -> ModelProto:
    inner = body("b", [node("Identity", ["c"], ["d"])], [info("i", I64, []), info("c", BOOL, [])], [info("d", BOOL, [])])
    return model([node("Loop", ["", "k"], [f"y{i}" for i in range(outputs)], body=inner)], [K], ["y0"])


def scan(*, scanned: int = 1, results: int = 1, **attributes: object) -> ModelProto:
    made = [f"r{i}" for i in range(results)]
    inner = body("b", [node("Relu", ["q"], [r]) for r in made], [info("q", F32, [2])], [info(r, F32, [2]) for r in made])
    outputs = [f"y{i}" for i in range(results)]
    return model([node("Scan", ["x"], outputs, body=inner, num_scan_inputs=scanned, **attributes)], X, ["y0"])


def calling_if() -> NodeProto:
    """An If that calls A in both branches."""
    then, otherwise = (body(w, [node("A", ["a"], [w], domain="f")], [], [info(w, F32, None)]) for w in ("t", "e"))
    return node("If", ["a"], ["o"], then_branch=then, else_branch=otherwise)


def reference_outside_of_a_function(message: ModelProto) -> None:
    message.graph.node[0].attribute.add(name="alpha", ref_attr_name="beta", type=onnx.AttributeProto.FLOAT)


WRONG: dict[str, tuple[ModelProto, int, str]] = {
    # The graph
    "cycle": (model([node("Relu", ["a"], ["y"]), node("Neg", ["y"], ["a"])], X, ["y"]), 3, "cyclic through Relu, Neg"),
    "op that uses itself": (model([node("Relu", ["y"], ["y"])], X, ["y"]), 3, "cyclic"),
    "undefined operand": (
        model([node("Relu", ["q"], ["y"])], X, ["y"]),
        3,
        r"Relu\(y\): uses 'q', which nothing defines",
    ),
    "output nobody makes": (model([node("Relu", ["x"], ["y"])], X, ["z"]), 3, "output 'z' is not produced by any node"),
    "output without a name": (changed(relu(), lambda m: setattr(m.graph.output[0], "name", "")), 3, "output ''"),
    "two outputs of one name": (model([node("Relu", ["x"], ["y"])], X, ["y", "y"]), 3, "'y' is declared twice"),
    "two inputs of one name": (model([node("Relu", ["x"], ["y"])], X * 2, ["y"]), 3, "'x' is declared twice"),
    "one name made twice": (
        model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])], X, ["y"]),
        3,
        "'y' is defined twice",
    ),
    "one result named twice": (
        model([node("Split", ["x"], ["y", "y"], axis=2)], X, ["y"], opset=13),
        3,
        "defined twice",
    ),
    "node that makes an input": (
        model([node("Relu", ["w"], ["x"])], X, ["x"], [const("w", normal(2))]),
        3,
        "'x' is defined twice",
    ),
    "no op": (model([node("", ["x"], ["y"])], X, ["y"]), 3, "does not say which op"),
    "output of another dtype": (
        model([node("Relu", ["x"], ["y"])], X, [info("y", I64, [2])]),
        3,
        "declared i64.* but is f32",
    ),
    "default of another dtype": (
        model([node("Relu", ["w"], ["y"])], [info("w", F32, [2])], ["y"], [const("w", np.zeros(2))]),
        3,
        "declared f32.* but is f64",
    ),
    # Types
    "input of no dtype there is": (
        changed(relu(), lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 77)),
        3,
        "element type 77",
    ),
    "input of 100 dims": (model([node("Relu", ["x"], ["y"])], [info("x", F32, [1] * 100)], ["y"]), 3, "100 dims"),
    "result of 100 dims": (op("Reshape", const("s", np.ones(100, np.int64))), 3, "Reshape.*100 dims"),
    # Constants
    "negative dim": (with_constant(dims=[-1, 4], data_type=F32, raw_data=b"\0" * 16), 3, "negative dim"),
    "too few bytes": (
        with_constant(dims=[4], data_type=F32, raw_data=b"\0" * 15),
        3,
        "holds 15 bytes but .* ask for 16",
    ),
    "too many bytes": (with_constant(dims=[1], data_type=F32, raw_data=b"\0" * 5000), 3, "holds 5000 bytes"),
    "too few numbers": (with_constant(dims=[4], data_type=F32, float_data=[1.0]), 3, "holds 1 numbers"),
    "numbers of another type": (with_constant(dims=[2], data_type=F32, int64_data=[1, 2]), 3, "cannot be read"),
    "too few strings": (
        with_constant(dims=[4], data_type=TensorProto.STRING, string_data=[b"a"]),
        3,
        "holds 1 strings",
    ),
    "no such dtype": (with_constant(dims=[4], data_type=99, raw_data=b""), 3, "tensor 'w': element type 99"),
    "no dtype": (with_constant(dims=[4], raw_data=b""), 3, "element type 0"),
    "constant of 100 dims": (with_constant(dims=[1] * 100, data_type=F32, raw_data=b"\0" * 4), 3, "100 dims"),
    "dims whose product overflows": (
        with_constant(dims=[2**62, 2**62], data_type=F32, raw_data=b"\0" * 4),
        3,
        "holds 4 bytes",
    ),
    "empty with dims that overflow": (
        with_constant(dims=[0, 2**62, 2**62], data_type=F32, raw_data=b""),
        3,
        "too large",
    ),
    "Constant of two values": (
        model([node("Constant", [], ["y"], value_int=1, value_float=2.0)], [], ["y"]),
        3,
        "2 values",
    ),
    "Constant of no value": (model([node("Constant", [], ["y"])], [], ["y"]), 3, "0 values"),
    "Constant of the wrong kind": (model([node("Constant", [], ["y"], value_int="s")], [], ["y"]), 3, "no int"),
    "Constant with an operand": (
        model([node("Constant", ["x"], ["y"], value_int=1)], X, ["y"]),
        3,
        "0 operands, not 1",
    ),
    # Sparse constants
    "sparse index outside": (with_sparse(np.ones(2, np.float32), np.array([0, 9]), [4]), 3, "index outside"),
    "sparse index below zero": (with_sparse(np.ones(2, np.float32), np.array([-1, 0]), [4]), 3, "index outside"),
    "sparse coordinates outside": (
        with_sparse(np.ones(2, np.float32), np.array([[0, 0], [0, 5]]), [2, 2]),
        3,
        "index outside",
    ),
    "sparse of 2**40 elements": (with_sparse(np.ones(2, np.float32), np.array([0, 1]), [2**40]), 3, "too large"),
    "sparse with a negative dim": (with_sparse(np.ones(2, np.float32), np.array([0, 1]), [-4]), 3, "negative dim"),
    "sparse of 71 dims": (with_sparse(np.ones(2, np.float32), np.array([0, 1]), [1] * 70 + [2]), 3, "71 dims"),
    "sparse of no dims": (with_sparse(np.ones(2, np.float32), np.array([0, 0]), []), 3, "missing"),
    "sparse of i32 indices": (with_sparse(np.ones(2, np.float32), np.array([0, 1], np.int32), [4]), 3, "do not fit"),
    "sparse with fewer indices": (with_sparse(np.ones(2, np.float32), np.array([0]), [4]), 3, "do not fit"),
    # Ops
    "too many operands": (op("Relu", const("w", normal(2))), 3, "Relu takes 1 operands, not 2"),
    "too few operands": (model([node("Add", ["x"], ["y"])], X, ["y"]), 3, "Add takes 2 operands, not 1"),
    "too many results": (model([node("Relu", ["x"], ["y", "z"])], X, ["y"]), 3, "Relu makes 1 results, not 2"),
    "absent operand": (model([node("Add", ["", "x"], ["y"])], X, ["y"]), 3, "lacks operand 0"),
    "unknown attribute": (op("Relu", alpha=1.0), 3, "no attribute 'alpha'"),
    "misspelt attribute": (op("Softmax", axes=1), 3, r"no attribute 'axes' \(did you mean axis\?\)"),
    "missing attribute": (model([node("Concat", ["x", "x"], ["y"])], X, ["y"]), 3, "lacks its attribute 'axis'"),
    "attribute of another kind": (op("Flatten", axis="one"), 3, "attribute 'axis' that is no int"),
    "attribute list of another kind": (op("ReduceSum", axes=["a"], opset=11), 3, "'axes' that is no list of int"),
    "attribute given twice": (
        changed(op("Flatten", axis=1), lambda m: m.graph.node[0].attribute.append(m.graph.node[0].attribute[0])),
        3,
        "given twice",
    ),
    "attribute of a function outside of one": (changed(relu(), reference_outside_of_a_function), 3, "outside of one"),
    "mistyped operands": (
        op("Add", const("w", np.zeros(4))),
        3,
        "Add is mistyped: operand 1 is tensor.double. where tensor.float.",
    ),
    "dtype the op does not take": (
        op("Relu", inputs=[info("x", BOOL, [2])]),
        3,
        "operand 0 is tensor.bool., which it does not take",
    ),
    "shapes that do not fit": (op("MatMul", const("w", normal(7, 7))), 3, "MatMul does not accept its operands"),
    "axis outside": (op("Flatten", axis=9), 3, "Flatten does not accept"),
    "slice axis outside": (
        op("Slice", const("s", [0]), const("e", [1]), const("a", [9]), inputs=SYMBOLIC),
        3,
        "Slice does not accept",
    ),
    "Scan without results": (scan(scanned=5), 3, "Scan"),
    "Scan that scans nothing": (scan(scanned=0), 3, "Scan"),
    "Scan with too few axes": (scan(results=2, scan_output_axes=[0]), 3, "one axis per scanned value"),
    "Loop with too many results": (loop(3), 3, "Loop's body"),
    "If without a branch": (model([node("If", ["k"], ["y"])], [K], ["y"]), 3, "lacks its attribute"),
    "If with a number for a branch": (
        model([node("If", ["k"], ["y"], then_branch=1, else_branch=2)], [K], ["y"]),
        3,
        "no graph",
    ),
    "old groups of none": (
        op("GroupNormalization", const("s", normal(1)), const("b", normal(1)), opset=18, num_groups=0),
        4,
        "0 groups",
    ),
    "old scales that are strings": (op("Upsample", const("s", np.array(["a"], object)), opset=9), 3, "mistyped"),
    "old scales below zero": (op("Upsample", opset=7, scales=[1.0, 1.0, -2.0, 0.0]), 4, "no positive number"),
    "old bound that is a string": (op("Clip", opset=7, min="a"), 3, "'min' that is no float"),
    "old bound for integers": (op("Clip", opset=7, min=1e30, inputs=[info("x", I64, [2])]), 3, "mistyped"),
    "experimental op with a string": (op("Affine", alpha="a"), 4, "no number"),
    "experimental op with half a scale": (op("Crop", border=[1, 1, 1, 1], scale=[1]), 4, "no scale of two"),
    # Versions
    "no opset": (model([node("Relu", ["x"], ["y"])], X, ["y"], opset=None), 3, "imports no opset"),
    "opset 5": (set_opset(5), 4, "written in opset 5; from 7 on"),
    "opset 0": (set_opset(0), 4, "written in opset 0"),
    "opset 99": (set_opset(99), 4, "needs opset 99"),
    "opset 2**62": (set_opset(2**62), 4, "needs opset"),
    "no opset of ai.onnx.ml": (learning(None), 3, "imports no opset of it"),
    "opset 0 of ai.onnx.ml": (learning(0), 3, "does not exist"),
    "opset 2**62 of ai.onnx.ml": (learning(2**62), 4, "needs opset"),
    "IR version 99": (changed(relu(), lambda m: setattr(m, "ir_version", 99)), 4, "IR version 99"),
    # Functions
    "function that calls itself": (
        with_function(node("A", ["a"], ["o"], domain="f")),
        3,
        "function 'A': it calls itself",
    ),
    "function that calls itself in a branch": (with_function(calling_if()), 3, "nested more than 64 deep|calls itself"),
    "function that makes no output": (with_function(node("Relu", ["a"], ["p"])), 3, "does not define its output 'o'"),
    "function that uses what it does not get": (
        with_function(node("Relu", ["x"], ["o"])),
        3,
        r"A\(y\)/Relu\(o\): uses 'x'",
    ),
    "function called with too much": (
        with_function(node("Relu", ["a"], ["o"]), call=node("A", ["x", "x"], ["y"], domain="f")),
        3,
        "takes 1 inputs",
    ),
    "function asked for too much": (
        with_function(node("Relu", ["a"], ["o"]), call=node("A", ["x"], ["y", "z"], domain="f")),
        3,
        "makes 1 outputs",
    ),
    "function with inputs of one name": (
        with_function(node("Relu", ["a"], ["o"]), inputs=("a", "a")),
        3,
        "two inputs of one name",
    ),
    "cyclic function": (with_function(node("Relu", ["o"], ["p"]), node("Relu", ["p"], ["o"])), 3, "cyclic"),
    "function of opset 2**40": (
        changed(
            with_function(node("Relu", ["a"], ["o"])),
            lambda m: setattr(m.functions[0].opset_import[0], "version", 2**40),
        ),
        4,
        "function 'A' needs opset",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_refused_in_one_sentence(case: str) -> None:
    message, code, sentence = WRONG[case]
    for given_as in (message, message.SerializeToString()):
        with pytest.raises(IrcError, match=sentence) as caught:
            capture(given_as)
        assert caught.value.exit_code == code
        assert len(str(caught.value)) < 400
        assert "\n" not in str(caught.value)

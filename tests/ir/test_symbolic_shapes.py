"""Shape arithmetic followed symbolically: `batch` stays `batch` the way each exporter spells it, and no shape is a lie."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, TensorProto, helper

from irc.ir import Graph, TensorType, Value, capture, dims
from irc.ir.text import parse_graph

from .models import F32, I32, I64, const, info, model, node, normal, run

Nodes = Sequence[NodeProto]


def shapes_of(
    nodes: Nodes, shape: Sequence[object], constants: dict[str, object] | None = None, *, opset: int = 17, dtype: int = F32
) -> ModelProto:
    """x of a symbolic shape through nodes that make y; the constants are initializers by name."""
    weights = [const(name, value) for name, value in (constants or {}).items()]
    return model(nodes, [info("x", dtype, list(shape))], ["y"], weights, opset=opset)


def text(graph: Graph) -> str:
    return str(graph.outputs[0].type)


def shape_text(message: ModelProto) -> str:
    return text(capture(message)).partition("[")[2][:-1]


# How exporters spell "keep the batch"

TORCHSCRIPT = [
    node("Shape", ["x"], ["s"]),
    node("Constant", [], ["i"], value=const("", 0)),
    node("Gather", ["s", "i"], ["n"], axis=0),
    node("Constant", [], ["axes"], value=const("", [0])),
    node("Unsqueeze", ["n", "axes"], ["n1"]),
    node("Concat", ["n1", "rest"], ["target"], axis=0),
    node("Reshape", ["x", "target"], ["y"]),
]
DYNAMO = [
    node("Shape", ["x"], ["n"], start=0, end=1),
    node("Concat", ["n", "rest"], ["target"], axis=0),
    node("Reshape", ["x", "target"], ["y"], allowzero=1),
]
TF2ONNX = [
    node("Shape", ["x"], ["s"]),
    node("Cast", ["s"], ["s32"], to=I32),
    node("Slice", ["s32", "zero", "one", "zero"], ["n32"]),
    node("Squeeze", ["n32", "zero"], ["n"]),
    node("Unsqueeze", ["n", "zero"], ["n1"]),
    node("Concat", ["n1", "rest32"], ["t32"], axis=0),
    node("Cast", ["t32"], ["target"], to=I64),
    node("Reshape", ["x", "target"], ["y"]),
]
KERAS = [
    node("Shape", ["x"], ["s"]),
    node("Slice", ["s", "zero", "one"], ["n"]),
    node("ReduceProd", ["n"], ["prod"], keepdims=0),
    node("Unsqueeze", ["prod", "zero"], ["n1"]),
    node("Concat", ["n1", "rest"], ["target"], axis=0),
    node("Reshape", ["x", "target"], ["y"]),
]
PADDLE = [
    node("Shape", ["x"], ["s"]),
    node("Slice", ["s", "zero", "one", "zero"], ["n"]),
    node("Cast", ["n"], ["n32"], to=I32),
    node("Concat", ["n32", "rest32"], ["t32"], axis=0),
    node("Cast", ["t32"], ["target"], to=I64),
    node("Reshape", ["x", "target"], ["y"]),
]
MINUS_ONE_LEFT = [node("Reshape", ["x", "fixed"], ["y"])]
EQUAL_WHERE = [
    # Expand with -1 for "as it is": ConstantOfShape, Mul, Equal and Where, as torch writes `expand`.
    node("Shape", ["x"], ["s"]),
    node("ConstantOfShape", ["four"], ["ones"], value=const("", [1])),
    node("Mul", ["ones", "minus"], ["minuses"]),
    node("Equal", ["wanted", "minuses"], ["free"]),
    node("Where", ["free", "ones", "wanted"], ["target"]),
    node("Expand", ["x", "target"], ["y"]),
]
REST = {"rest": [12, 5], "rest32": np.array([12, 5], np.int32), "zero": [0], "one": [1], "fixed": [-1, 12, 5]}

SPELLINGS = {
    "torchscript": (TORCHSCRIPT, "batch,12,5"),
    "dynamo": (DYNAMO, "batch,12,5"),
    "tf2onnx": (TF2ONNX, "batch,12,5"),
    "keras": (KERAS, "batch,12,5"),
    "paddle": (PADDLE, "batch,12,5"),
    "what is left": (MINUS_ONE_LEFT, "batch,12,5"),
}


@pytest.mark.parametrize("exporter", SPELLINGS)
def test_batch_stays_batch(exporter: str) -> None:
    nodes, wanted = SPELLINGS[exporter]
    used = {name for each in nodes for name in each.input}
    message = shapes_of(nodes, ["batch", 3, 4, 5], {k: v for k, v in REST.items() if k in used})
    assert shape_text(message) == wanted
    agrees(message, {"batch": 2})


def test_expand_with_minus_one_for_as_it_is() -> None:
    constants = {"four": [4], "minus": -1, "wanted": [-1, 7, -1, -1]}
    message = shapes_of(EQUAL_WHERE, ["batch", 1, 4, "w"], constants)
    assert shape_text(message) == "batch,7,4,w"
    agrees(message, {"batch": 2, "w": 3})


def test_attention_heads() -> None:
    nodes = [
        node("Shape", ["x"], ["n"], start=0, end=1),
        node("Shape", ["x"], ["t"], start=1, end=2),
        node("Concat", ["n", "t", "heads"], ["split"], axis=0),
        node("Reshape", ["x", "split"], ["h"]),
        node("Transpose", ["h"], ["y"], perm=[0, 2, 1, 3]),
    ]
    assert shape_text(shapes_of(nodes, ["batch", "seq", 64], {"heads": [4, 16]})) == "batch,4,seq,16"


# One op at a time: nodes, the shape of x, constants, the shape of y

CASES: dict[str, tuple[Nodes, Sequence[object], dict[str, object], str]] = {
    "conv": ([node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], ["N", 3, "H", "W"], {"w": normal(8, 3, 3, 3)}, "N,8,H,W"),
    "strided conv": (
        [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])],
        ["N", 3, "H", "W"],
        {"w": normal(8, 3, 3, 3)},
        "N,8,div(H - 1,2)+1,div(W - 1,2)+1",
    ),
    "dilated conv": (
        [node("Conv", ["x", "w"], ["y"], dilations=[2])], ["N", 3, "L"], {"w": normal(8, 3, 3)}, "N,8,L - 4",
    ),
    "pool": (
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 1])],
        ["N", 3, "H", "W"],
        {},
        "N,3,div(H - 2,2)+1,W - 2",
    ),
    "slice off": ([node("Slice", ["x", "a", "b", "i"], ["y"])], ["N", "M"], {"a": [0], "b": [2**63 - 1], "i": [0]}, "N,M"),
    "slice to a large end": (
        [node("Slice", ["x", "a", "b", "i"], ["y"])],
        ["N", "M"],
        {"a": [0], "b": [10**9], "i": [0]},
        "min(N,1000000000),M",
    ),
    "resize": (
        [node("Resize", ["x", "", "s"], ["y"], mode="nearest")],
        ["N", 2, "H", 5],
        {"s": np.array([1, 1, 2, 1.5], np.float32)},
        "N,2,2*H,7",
    ),
    "resize by a fraction": (
        [node("Resize", ["x", "", "s"], ["y"], mode="nearest")],
        ["N", 2, "H", 5],
        {"s": np.array([1, 1, 1.5, 1], np.float32)},
        "N,2,?,5",
    ),
    "concat": ([node("Concat", ["x", "x", "w"], ["y"], axis=0)], ["N", 4], {"w": normal(3, 4)}, "2*N+3,4"),
    "tile": ([node("Tile", ["x", "r"], ["y"])], ["N", "M"], {"r": [2, 3]}, "2*N,3*M"),
    "pad": ([node("Pad", ["x", "p"], ["y"])], ["N", "M"], {"p": [0, 1, 2, 3]}, "N+2,M+4"),
    "crop": ([node("Pad", ["x", "p"], ["y"])], ["N", "M"], {"p": [0, -1, 0, 0]}, "N,M - 1"),
    "flatten": ([node("Flatten", ["x"], ["y"], axis=2)], ["N", "M", 3, 4], {}, "M*N,12"),
    "flatten all": ([node("Flatten", ["x"], ["y"], axis=0)], ["N", "M", 3, 4], {}, "1,12*M*N"),
    "range": ([node("Size", ["x"], ["n"]), node("Range", ["o", "n", "i"], ["y"])], ["N", 3], {"o": 0, "i": 1}, "3*N"),
    "constant of shape": ([node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["y"])], ["N", "M", 3], {}, "N,M,3"),
    "reduce prod": (
        [
            node("Shape", ["x"], ["s"]),
            node("ReduceProd", ["s"], ["n"], keepdims=1),
            node("Reshape", ["x", "n"], ["y"]),
        ],
        ["N", "M", 3], {}, "3*M*N",
    ),
    "half of it": (
        [
            node("Shape", ["x"], ["s"]),
            node("Div", ["s", "two"], ["h"]),
            node("ConstantOfShape", ["h"], ["y"]),
        ],
        ["N", 6], {"two": [2]}, "div(N,2),3",
    ),
    "matmul": ([node("MatMul", ["x", "w"], ["y"])], ["N", "T", 4], {"w": normal(4, 5)}, "N,T,5"),
    "transpose": ([node("Transpose", ["x"], ["y"], perm=[2, 0, 1])], ["N", "T", 4], {}, "4,N,T"),
    "merge": ([node("Reshape", ["x", "s"], ["y"])], ["N", "T", 4], {"s": [-1, 4]}, "N*T,4"),
    "keep by zero": ([node("Reshape", ["x", "s"], ["y"])], ["N", "T", 4], {"s": [0, 0, 2, 2]}, "N,T,2,2"),
    "keep by zero and one left": ([node("Reshape", ["x", "s"], ["y"])], ["N", "T", 4], {"s": [0, -1]}, "N,4*T"),
    "unsqueeze": ([node("Unsqueeze", ["x", "a"], ["y"])], ["N", "T"], {"a": [1, -1]}, "N,1,T,1"),
    "split": ([node("Split", ["x"], ["y", "z"], axis=1)], ["N", 6], {}, "N,3"),
    "gather rows": ([node("Gather", ["w", "x"], ["y"])], ["N", "T"], {"w": normal(10, 4)}, "N,T,4"),
    "broadcast": ([node("Add", ["x", "w"], ["y"])], ["N", 1, "T"], {"w": normal(5, 1)}, "N,5,T"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=6)
@given(data=st.data())
def test_the_symbolic_shape_and_what_it_becomes(case: str, data: st.DataObject) -> None:
    nodes, shape, constants, wanted = CASES[case]
    dtype = I64 if case == "gather rows" else F32
    message = shapes_of(nodes, shape, constants, dtype=dtype)
    assert shape_text(message) == wanted
    names = [dim for dim in shape if isinstance(dim, str)]
    agrees(message, {name: data.draw(st.integers(5, 9)) for name in names})


def agrees(message: ModelProto, sizes: dict[str, int]) -> None:
    """Fail unless each known dim of every value is what ONNX Runtime makes of it at these sizes."""
    values: list[Value] = []
    graph = capture(message)
    for op in graph:
        values += [r for r in op.results if r.uses and isinstance(r.type, TensorType)]
    known = {value.name: value for value in values}
    probed = ModelProto()
    probed.CopyFrom(message)
    made = {name for each in probed.graph.node for name in each.output}
    probed.graph.ClearField("output")
    probed.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in known if name in made)
    feeds = {}
    for entry in message.graph.input:
        shape = [sizes[d.dim_param] if d.dim_param else d.dim_value for d in entry.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
        feeds[entry.name] = np.ones(shape, dtype)
    for entry, array in zip(probed.graph.output, run(probed, feeds), strict=True):
        value = known[entry.name]
        assert value.shape is None or len(value.shape) == array.ndim, entry.name
        for dim, size in zip(value.shape or (), array.shape, strict=False):
            assert dims.evaluate(dim, sizes) in (None, size), f"{entry.name}: {value.type} but {array.shape}"
        if value.content is not None:
            for dim, number in zip(value.content, array.reshape(-1).tolist(), strict=True):
                assert dims.evaluate(dim, sizes) in (None, int(number)), f"{entry.name}: {value.content} but {array}"


# Chains of them at random: whatever is said must be true


ARITHMETIC = [
    *(("Add", 3), ("Sub", 2), ("Mul", 2), ("Max", 4), ("Min", 6)),
    *(("Div", 2), ("Div", -2), ("Mod", 3), ("Mod", -3)),
]


@st.composite
def shape_programs(draw: st.DrawFn) -> ModelProto:
    """Integer arithmetic on the shape of x, as deep as it gets, whose end is used as a shape."""
    nodes = [node("Shape", ["x"], ["v0"])]
    vectors = {"v0": 3}
    weights: list[TensorProto] = []

    def constant(value: object) -> str:
        weights.append(const(f"c{len(weights)}", np.asarray(value, np.int64)))
        return weights[-1].name

    for index in range(1, draw(st.integers(2, 9))):
        name, (source, length) = f"v{index}", draw(st.sampled_from(sorted(vectors.items())))
        kind = draw(st.sampled_from(["arithmetic", "gather", "slice", "concat", "reduce", "cast", "where", "pair"]))
        if kind == "arithmetic":
            op, number = draw(st.sampled_from(ARITHMETIC))
            flipped = op in ("Sub", "Max", "Add") and draw(st.booleans())
            operands = [constant(number), source] if flipped else [source, constant(number)]
            nodes.append(node(op, operands, [name]))
        elif kind == "pair":
            other = draw(st.sampled_from([n for n, size in vectors.items() if size == length]))
            nodes.append(node(draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Min"])), [source, other], [name]))
        elif kind == "gather":
            picks = draw(st.lists(st.integers(-length, length - 1), min_size=1, max_size=3))
            nodes.append(node("Gather", [source, constant(picks)], [name]))
            length = len(picks)
        elif kind == "slice":
            start, end, step = draw(st.integers(-4, 3)), draw(st.integers(-4, 4)), draw(st.sampled_from([1, 2, -1]))
            kept = len(range(length)[slice(start, None if step < 0 and end < -length else end, step)])
            if kept == 0:
                nodes.append(node("Identity", [source], [name]))
            else:
                operands = [source, constant([start]), constant([end]), constant([0]), constant([step])]
                nodes.append(node("Slice", operands, [name]))
                length = kept
        elif kind == "concat":
            other, size = draw(st.sampled_from(sorted(vectors.items())))
            nodes.append(node("Concat", [source, other], [name], axis=0))
            length += size
        elif kind == "reduce":
            nodes.append(
                node(draw(st.sampled_from(["ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"])), [source], [name], keepdims=1)
            )
            length = 1
        elif kind == "cast":
            nodes.append(node("Cast", [source], [f"{name}_32"], to=I32))
            nodes.append(node("Cast", [f"{name}_32"], [name], to=I64))
        else:
            nodes.append(node("Equal", [source, constant(draw(st.sampled_from([-1, 0, 1, 4])))], [f"{name}_is"]))
            nodes.append(node("Where", [f"{name}_is", constant(7), source], [name]))
        vectors[name] = length
    last = f"v{len(vectors) - 1}"
    nodes += [
        node("Gather", [last, constant([0, -1])], ["ends"]),
        node("Max", ["ends", constant(1)], ["positive"]),
        node("Min", ["positive", constant(50)], ["small"]),
        node("ConstantOfShape", ["small"], ["y"]),
        node("Neg", ["y"], ["z"]),
    ]
    nodes += [node("Identity", [name], [f"{name}_out"]) for name in vectors]
    return model(nodes, [info("x", F32, ["N", "M", 4])], ["z", *(f"{name}_out" for name in vectors)], weights)


@settings(max_examples=150)
@given(shape_programs(), st.integers(0, 9), st.integers(0, 9))
def test_what_is_said_of_shapes_is_true(message: ModelProto, n: int, m: int) -> None:
    agrees(message, {"N": n, "M": m})


@settings(max_examples=80)
@given(
    sizes=st.fixed_dictionaries({"N": st.integers(0, 6), "M": st.integers(1, 9)}),
    start=st.integers(-7, 7),
    end=st.integers(-7, 7),
    step=st.sampled_from([1, 1, 2, -1, -2]),
)
def test_slices_of_symbolic_dims(sizes: dict[str, int], start: int, end: int, step: int) -> None:
    nodes = [node("Slice", ["x", "a", "b", "i", "s"], ["y"]), node("Neg", ["y"], ["z"])]
    weights = [const("a", [start]), const("b", [end]), const("i", [1]), const("s", [step])]
    agrees(model(nodes, [info("x", F32, ["N", "M"])], ["z"], weights), sizes)


@settings(max_examples=80)
@given(
    size=st.integers(1, 12),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 1), st.integers(0, 1)),
    pool=st.booleans(),
)
def test_windows_over_symbolic_dims(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int], pool: bool
) -> None:
    if size + sum(pads) < (kernel - 1) * dilation + 1 or max(pads) >= kernel:
        return
    attributes = {"strides": [stride], "dilations": [dilation], "pads": list(pads), "kernel_shape": [kernel]}
    made = node("MaxPool", ["x"], ["y"], **attributes) if pool else node("Conv", ["x", "w"], ["y"], **attributes)
    message = model(
        [made, node("Neg", ["y"], ["z"])], [info("x", F32, ["N", 2, "L"])], ["z"], [const("w", normal(3, 2, kernel))]
    )
    agrees(message, {"N": 2, "L": size})
    assert None not in (capture(message).outputs[0].shape or (None,))


def test_a_name_two_inputs_share_is_one_size() -> None:
    inputs = [info("x", F32, ["N", 2]), info("z", F32, ["N", 2])]
    graph = capture(model([node("Add", ["x", "z"], ["y"])], inputs, ["y"]))
    assert text(graph) == "f32[N,2]"
    different = [info("x", F32, ["N", 2]), info("z", F32, ["M", 2])]
    assert text(capture(model([node("Add", ["x", "z"], ["y"])], different, ["y"]))) == "f32[?,2]"


def test_a_target_dim_that_may_be_zero_and_then_means_copy_says_nothing() -> None:
    """[N, -1] of [2, N, 4] is [N, 8], but for N = 0 the 0 copies the 2, and the result is [2, 0]."""
    graph = parse_graph("""
    graph @main(%x: f32[2,N,4]) -> (%y: f32[?,?]) {
      %shape = Shape(%x) {start=1, end=2} : i64[1]   @shape
      %rest = const @rest : i64[1] = [-1]
      %target = Concat(%shape, %rest) {axis=0} : i64[2]   @target
      %y = Reshape(%x, %target)   @reshape
      return %y
    }
    """)
    assert str(graph.outputs[0].type) == "f32[?,?]"

"""Every op that there are kernels for on GPUs: run on a CPU, and compared with the reference, special values included."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from irc.ir import DType, capture, evaluate
from irc.lowering.tvm.cuda.legality import OPS, PIXELS, why_not

from ...models import node
from ..programs import compiled, of
from .cases import ALONE, normal
from .emulating import needs_emulator

SPECIAL = np.array(
    [
        0.0,
        -0.0,
        1,
        -1,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        88.7,
        -88.7,
        -104,
        1e-40,
        -1e-40,
        1e30,
        np.inf,
        -np.inf,
        np.nan,
        20,
        -20,
        0.1,
    ],
    np.float32,
)
"""Zeros of both signs, ties, the ends of exp, denormals, and what is no number."""


@dataclass
class Group:
    """A model in the making: each node is on its own, and its results are outputs."""

    feeds: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    weights: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    outputs: list[str] = field(default_factory=list[str])

    def add(self, op: str, *operands: str, results: int = 1, **attributes: Any) -> None:
        names = [f"y{len(self.outputs) + index}" for index in range(results)]
        self.nodes.append(node(op, list(operands), names, **attributes))
        self.outputs += names

    def known(self, array: Any) -> str:
        """A constant by its name."""
        name = f"w{len(self.weights)}"
        self.weights[name] = np.asarray(array)
        return name

    @property
    def ops(self) -> set[str]:
        return {each.op_type for each in self.nodes}

    @property
    def makers(self) -> list[str]:
        """The op behind each output."""
        return [each.op_type for each in self.nodes for _ in each.output]

    @property
    def message(self) -> ModelProto:
        return of(self.nodes, self.feeds, self.outputs, self.weights)

    def assert_right(self, found: Iterable[np.ndarray]) -> None:
        """Outputs are what the reference computes."""
        wanted = evaluate(capture(self.message.SerializeToString()), dict(self.feeds))
        for op, want, got in zip(self.makers, wanted, found, strict=True):
            assert_same(op, want, got)


def unary() -> Group:
    group = Group({"x": SPECIAL, "i": np.array([0, 3, -3, 2**31 - 1, -(2**31)], np.int32)})
    for op in (
        "Abs",
        "Neg",
        "Ceil",
        "Floor",
        "Reciprocal",
        "Sqrt",
        "Exp",
        "Log",
        "Erf",
        "Tanh",
        "Sigmoid",
        "Softplus",
        "Elu",
        "Gelu",
    ):
        group.add(op, "x")
    for op in ("HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Relu", "Softsign", "Swish", "Sin", "Cos", "IsNaN"):
        group.add(op, "x")
    group.add("Gelu", "x", approximate="tanh")
    group.add("Swish", "x", alpha=1.5)
    group.add("Clip", "x", group.known(np.float32(-1)), group.known(np.float32(2)))
    group.add("Clip", "x", "", group.known(np.float32(2)))
    group.add("Neg", "i")
    group.add("Cast", "i", to=TensorProto.FLOAT)
    group.add("Cast", "i", to=TensorProto.INT64)
    group.add("Cast", "x", to=TensorProto.BOOL)
    return group


def binary() -> Group:
    rows, columns = np.meshgrid(SPECIAL, SPECIAL, indexing="ij")
    whole = np.array([0, 1, -1, 7, 2**63 - 1, -(2**63)], np.int64)
    group = Group({"x": rows.copy(), "z": columns.copy(), "i": whole[:, None].repeat(6, 1), "j": whole[None]})
    group.feeds |= {"a": np.array([[True], [False]]), "b": np.array([[True, False]])}
    for op in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "PRelu"):
        group.add(op, "x", "z")
    for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
        group.add(op, "x", "z")
        group.add(op, "i", "j")
    for op in ("Add", "Sub", "Mul", "Max", "Min"):
        group.add(op, "i", "j")
    for op in ("And", "Or", "Xor"):
        group.add(op, "a", "b")
    group.add("Not", "a")
    group.add("Where", "b", "x2", "z2")
    group.feeds |= {"x2": SPECIAL[:2], "z2": SPECIAL[-2:]}
    return group


def moved() -> Group:
    group = Group({"x": normal(2, 4, 3, 5), "i": np.array([[0, 1], [-1, -4]]), "n": np.arange(12).reshape(3, 4)})
    group.add("Transpose", "x", perm=[0, 2, 3, 1])
    group.add("Transpose", "n", perm=[1, 0])
    group.add("Concat", "x", "x", axis=2)
    group.add("Flatten", "x", axis=2)
    group.add("Identity", "x")
    group.add("Expand", "n", group.known([2, 3, 4]))
    group.add("Reshape", "x", group.known([4, -1]))
    group.add("Squeeze", "r", group.known([0]))
    group.feeds["r"] = normal(1, 3)
    group.add("Unsqueeze", "n", group.known([0, 3]))
    group.add("Split", "x", group.known([1, 3]), axis=1, results=2)
    group.add("Tile", "n", group.known([2, 1]))
    group.add("Slice", "x", group.known([-1, 4]), group.known([-9, 0]), group.known([1, 3]), group.known([-2, -1]))
    group.add("DepthToSpace", "x", blocksize=2)
    group.add("DepthToSpace", "x", blocksize=2, mode="CRD")
    group.add("SpaceToDepth", "s", blocksize=2)
    group.feeds["s"] = normal(1, 3, 4, 6)
    for mode in ("constant", "edge", "reflect"):
        group.add("Pad", "x", group.known([0, 1, 0, 2, 0, -1, 1, 2]), mode=mode)
    group.add("Pad", "x", group.known([1, 2]), group.known(np.float32(2.5)), group.known([2]))
    sizes = group.known([2, 4, 7, 4])
    for place in PIXELS:
        group.add("Resize", "x", "", "", sizes, mode="linear", coordinate_transformation_mode=place)
        group.add("Resize", "x", "", "", sizes, coordinate_transformation_mode=place)
    up = group.known(np.array([1, 1, 2, 2], np.float32))
    group.add("Resize", "x", "", up, coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    group.add("Trilu", "x", upper=0)
    group.add("Trilu", "x", group.known(-1))
    group.add("Gather", "x", "i", axis=1)
    group.add("Gather", "n", group.known([2, -1]), axis=1)
    return group


def products() -> Group:
    group = Group({"x": normal(7, 33), "b": normal(2, 3, 17, 33), "v": normal(1, 33), "t": normal(33, 5)})
    weight = group.known(normal(33, 19, seed=1))
    for name in "xbv":
        group.add("MatMul", name, weight)
    group.add("MatMul", "b", "q")
    group.feeds["q"] = normal(2, 3, 33, 18, seed=2)
    group.add("Gemm", "x", weight, group.known(normal(19, seed=3)), alpha=0.5)
    group.add("Gemm", "t", weight, transA=1)
    group.add("MatMul", "x", group.known(normal(33, seed=4)))
    return group


def windows() -> Group:
    group = Group({"x": normal(2, 6, 9, 8), "l": normal(2, 6, 11), "d": normal(1, 2, 5, 4, 3)})
    group.add("Conv", "x", group.known(normal(8, 6, 3, 3)), group.known(normal(8)), pads=[1, 0, 1, 2], strides=[2, 1])
    group.add("Conv", "x", group.known(normal(6, 1, 3, 3)), group=6, dilations=[2, 1])
    group.add("Conv", "x", group.known(normal(4, 3, 1, 1)), group=2)
    group.add("Conv", "l", group.known(normal(5, 6, 3)), pads=[1, 1])
    group.add("Conv", "d", group.known(normal(3, 2, 2, 2, 2)))
    group.add("ConvTranspose", "x", group.known(normal(6, 4, 3, 3)), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 0])
    for op in ("AveragePool", "MaxPool"):
        group.add(op, "x", kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 1])
        group.add(op, "l", kernel_shape=[3])
    group.add("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    group.add("GlobalAveragePool", "x")
    group.add("GlobalMaxPool", "x")
    return group


def rows() -> Group:
    group = Group({"x": normal(6, 10, 8), "wide": 3 * normal(3, 300), "f": normal(2, 6, 5, 4)})
    group.feeds["x"][1] = -np.inf
    group.feeds["x"][2] = np.inf
    for axes in ([1], [0, 2], [2]):
        for op in ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"):
            group.add(op, "x", group.known(axes), keepdims=len(axes) - 1)
    for op in ("Softmax", "LogSoftmax"):
        group.add(op, "x", axis=1)
        group.add(op, "wide", axis=-1)
    scale, bias = group.known(normal(300, seed=1)), group.known(normal(300, seed=2))
    group.add("LayerNormalization", "wide", scale, bias)
    group.add("LayerNormalization", "x", group.known(normal(10, 8)), axis=1)
    group.add("RMSNormalization", "wide", scale)
    channels = [group.known(np.abs(normal(6, seed=seed)) + 0.5) for seed in range(4)]
    group.add("BatchNormalization", "f", *channels)
    group.add("InstanceNormalization", "f", *channels[:2])
    group.add("GroupNormalization", "f", *channels[:2], num_groups=3)
    return group


def attention() -> Group:
    group = Group({"q": normal(2, 5, 24), "k": normal(2, 7, 24), "v": normal(2, 7, 24), "h": normal(1, 4, 6, 8)})
    group.feeds |= {"m": normal(5, 7) > 0, "s": normal(1, 2, 6, 8)}
    group.feeds["m"][2] = False  # a row in which nothing may be seen
    group.add("Attention", "q", "k", "v", q_num_heads=3, kv_num_heads=3)
    group.add("Attention", "q", "k", "v", "m", q_num_heads=3, kv_num_heads=3, scale=0.3)
    group.add("Attention", "h", "s", "s", is_causal=1)
    group.add("RotaryEmbedding", "h", "c", "c")
    group.add("RotaryEmbedding", "q", "e", "e", num_heads=3, rotary_embedding_dim=6)
    group.feeds |= {"c": normal(1, 6, 4), "e": normal(2, 5, 3)}
    return group


GROUPS = {each.__name__: each for each in (unary, binary, moved, products, windows, rows, attention)}


def test_every_op_of_the_table_is_run() -> None:
    assert set().union(*(make().ops for make in GROUPS.values())) == set(OPS)


@needs_emulator
@pytest.mark.usefixtures("gpu_here")
@pytest.mark.parametrize("name", GROUPS)
def test_it_computes_what_the_reference_does(name: str, gpu_here: Any) -> None:
    group = GROUPS[name]()
    with compiled(group.message, ALONE).program as program:
        forwards = list(program.run(dict(group.feeds)).values())
        gpu_here.irc_go_backwards(1)
        backwards = list(program.run(dict(group.feeds)).values())
        gpu_here.irc_go_backwards(0)
    group.assert_right(forwards)
    for op, got, again in zip(group.makers, forwards, backwards, strict=True):
        np.testing.assert_array_equal(got, again, err_msg=f"{op} depends on the order of threads")


def assert_same(op: str, want: np.ndarray, got: np.ndarray) -> None:
    """Integers and bools alike; floats within rounding, with the same NaN, infinities and zeros."""
    assert (got.dtype, got.shape) == (want.dtype, want.shape), op
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(got, want, err_msg=op)
        return
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6 * max(1.0, norm(want)), equal_nan=True, err_msg=op)
    zeros = (want == 0) & (got == 0)
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]), err_msg=f"{op}: the sign of a zero")


def norm(array: np.ndarray) -> float:
    """The largest of the usual numbers."""
    usual = np.abs(array[np.isfinite(array) & (np.abs(array) < 1e6)])
    return float(usual.max(initial=0.0))


@pytest.mark.parametrize(
    ("op", "operands", "attributes", "clause"),
    [
        ("Sign", [normal(3)], {}, "there is no kernel for it on GPUs"),
        ("ArgMax", [normal(3)], {}, "there is no kernel for it on GPUs"),  # of -inf alone, TVM's index is out of range
        ("Relu", [normal(3).astype(np.float16)], {}, "it does not compute in f16"),
        ("Relu", [normal(3).astype(np.float64)], {}, "it does not compute in f64 on GPUs"),
        ("Softmax", [normal(3).astype(np.float64)], {}, "it does not compute in f64 on GPUs"),
        ("ReduceSum", [np.zeros((2, 3), np.int64)], {}, "it does not compute in i64 on GPUs"),
        ("Slice", [normal(2), np.array([0]), np.array([2])], {}, "its sizes are not all known"),
        ("MaxPool", [normal(1, 1, 5)], {"kernel_shape": [2], "strides": [2], "ceil_mode": 1}, "its last windows are cut off"),
        ("Conv", [normal(1, 1, 5), normal(1, 1, 2)], {"auto_pad": "SAME_UPPER"}, "its pads are not said"),
        ("Attention", [normal(1, 1, 2, 4)] * 3, {"softcap": 2.0}, "it caps its scores"),
        ("RotaryEmbedding", [normal(1, 2, 3, 4), *[normal(1, 3, 2)] * 2], {"interleaved": 1}, "its pairs lie side by side"),
        ("Pad", [normal(3), np.array([1, 1])], {"mode": "wrap"}, "its sizes are not all known"),
        ("RMSNormalization", [normal(3), normal(3)], {"axis": 0}, "it takes all axes together"),
        ("Cast", [normal(3)], {"to": TensorProto.UINT8}, "it does not compute in u8 on GPUs"),
    ],
)
def test_what_is_refused_is_refused_in_a_clause(op: str, operands: Sequence[Any], attributes: Any, clause: str) -> None:
    names = [f"x{index}" for index in range(len(operands))]
    message = of([node(op, names, ["y"], **attributes)], dict(zip(names, operands, strict=True)), ["y"])
    (found,) = [each for each in capture(message.SerializeToString()).walk() if not each.is_constant]
    assert clause in why_not(found)


def test_types_are_few() -> None:
    assert {dtype for dtypes, _ in OPS.values() for dtype in dtypes} == {DType.F32, DType.I32, DType.I64, DType.BOOL}

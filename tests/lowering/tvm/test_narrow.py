"""Operands that lie narrow: products of bf16 and of bytes are those of the f32 that they stand for, wherever they come from.

The numbers are small multiples of powers of two, so that bf16 holds them, sums have no rounding, and answers are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from irc.ir import DType, capture, evaluate
from irc.lowering import find_target
from irc.lowering.tvm.places import Storage
from irc.lowering.tvm.program import calls_of, machine_of
from irc.passes import LEVELS, PassManager

from ..models import node
from .programs import Feeds, compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

Shape = tuple[int, ...]
WIDE = find_target("cpu:sapphirerapids")
"""A processor that multiplies pairs of bf16 and four bytes at a time."""
STEP, ZERO = 0.5, 3
"""The scale and the zero point of bytes."""


def whole(*shape: int, seed: int = 0, most: int = 4) -> np.ndarray:
    """Whole numbers up to `most` or down to its negative."""
    return np.random.default_rng(seed).integers(-most, most + 1, shape).astype(np.float32)


@dataclass
class Narrowed:
    """A model in the making whose values are made narrow and wide again, in bf16 or in bytes."""

    form: str
    nodes: list[NodeProto] = field(default_factory=list[NodeProto])
    weights: dict[str, np.ndarray] = field(default_factory=dict[str, np.ndarray])

    def data(self, name: str, step: float = STEP) -> str:
        """The value read narrow, in bytes by a scale."""
        if self.form == "bf16":
            self.nodes.append(node("Cast", [name], [f"{name}.low"], to=TensorProto.BFLOAT16))
            self.nodes.append(node("Cast", [f"{name}.low"], [f"{name}.wide"], to=TensorProto.FLOAT))
            return f"{name}.wide"
        by = f"step{step}"
        self.weights |= {by: np.array(step, np.float32), "zero": np.array(ZERO, np.uint8)}
        self.nodes.append(node("QuantizeLinear", [name, by, "zero"], [f"{name}.low"]))
        self.nodes.append(node("DequantizeLinear", [f"{name}.low", by, "zero"], [f"{name}.wide"]))
        return f"{name}.wide"

    def weight(self, name: str, content: np.ndarray, axis: int) -> str:
        """Constant weights, in bytes with a scale for each index of an axis."""
        if self.form == "bf16":
            halves = numpy_helper.from_array(content.astype(DType.BF16.numpy))
            self.nodes.append(node("Constant", [], [f"{name}.low"], value=halves))
            self.nodes.append(node("Cast", [f"{name}.low"], [f"{name}.wide"], to=TensorProto.FLOAT))
            return f"{name}.wide"
        self.weights[name] = content.astype(np.int8)
        self.weights[f"{name}.step"] = np.resize(np.array([0.5, 1.0, 2.0], np.float32), content.shape[axis])
        self.nodes.append(node("DequantizeLinear", [name, f"{name}.step"], [f"{name}.wide"], axis=axis))
        return f"{name}.wide"

    def op(self, name: str, operands: Sequence[str], result: str, **attributes: Any) -> str:
        """One more op."""
        self.nodes.append(node(name, list(operands), [result], **attributes))
        return result

    def model(self, feeds: Feeds, *outputs: str) -> ModelProto:
        """The model that returns the outputs."""
        return of(self.nodes, feeds, outputs, self.weights)


def assert_equal(message: ModelProto, feeds: Feeds) -> None:
    """The engine answers as the reference does, to the bit."""
    wanted = evaluate(capture(message.SerializeToString()), dict(feeds))
    for given, own in zip(wanted, compiled(message).program.run(dict(feeds)).values(), strict=True):
        np.testing.assert_array_equal(own, given)


def sources(message: ModelProto) -> list[str]:
    """The kernels of a model for a processor with all arithmetics."""
    return [call.kernel.source for call in calls_of(capture(message.SerializeToString()), machine_of(WIDE))]


MULTIPLIES = {"bf16": "irc_dpbf16", "bytes": "vpdpbusd"}
"""What stands in a kernel that multiplies as its operands lie."""
forms = pytest.mark.parametrize("form", MULTIPLIES)


@forms
@pytest.mark.parametrize(
    ("a", "b", "lies_so"),
    [
        ((5, 8), (8, 37), True),
        ((2, 3, 4, 16), (16, 70), True),
        ((1, 12), (12, 1), True),
        ((4, 8), (3, 8, 5), True),
        ((5, 7), (7, 9), False),
        ((8,), (8, 5), True),
    ],
    ids=str,
)
def test_matrices(form: str, a: Shape, b: Shape, lies_so: bool) -> None:
    made = Narrowed(form)
    made.op("MatMul", [made.data("x"), made.weight("w", whole(*b, seed=1), len(b) - 1)], "y")
    feeds = {"x": whole(*a)}
    message = made.model(feeds, "y")
    assert_equal(message, feeds)
    assert any(MULTIPLIES[form] in each for each in sources(message)) == lies_so


@forms
@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_scaled_and_added(form: str, turned: int) -> None:
    made = Narrowed(form)
    w = made.weight("w", whole(*((9, 8) if turned else (8, 9)), seed=1), 1 - turned)
    made.weights["c"] = whole(9, seed=2)
    made.op("Gemm", [made.data("x"), w, "c"], "y", transB=turned, alpha=2.0, beta=0.5)
    feeds = {"x": whole(6, 8)}
    assert_equal(made.model(feeds, "y"), feeds)


@forms
def test_a_turned_operand_is_read_wide(form: str) -> None:
    made = Narrowed(form)
    turned = made.op("Transpose", [made.data("x")], "t", perm=[1, 0])
    made.op("MatMul", [turned, made.weight("w", whole(8, 5, seed=1), 1)], "y")
    feeds = {"x": whole(8, 6)}
    assert_equal(made.model(feeds, "y"), feeds)


@forms
def test_constant_weights_on_the_left(form: str) -> None:
    made = Narrowed(form)
    made.op("MatMul", [made.weight("w", whole(6, 8, seed=1), 0), made.data("x")], "y")
    feeds = {"x": whole(2, 8, 5)}
    assert_equal(made.model(feeds, "y"), feeds)


@forms
@pytest.mark.parametrize(
    ("data", "filters", "attributes", "lies_so"),
    [
        ((1, 8, 6, 7), (5, 8, 3, 3), {"pads": [1, 1, 1, 1]}, True),
        ((2, 8, 7, 6), (33, 8, 3, 2), {"strides": [2, 1], "pads": [0, 1, 2, 0]}, True),
        ((1, 8, 9, 9), (4, 8, 3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, True),
        ((1, 16, 5, 5), (6, 8, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}, True),
        ((1, 12, 4, 4), (7, 12, 1, 1), {}, True),
        ((1, 8, 9), (3, 8, 3), {"pads": [1, 1]}, True),
        ((1, 19, 6, 6), (19, 1, 3, 3), {"group": 19, "pads": [1, 1, 1, 1]}, False),
        ((1, 3, 8, 8), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}, True),
        ((2, 3, 9, 9), (5, 3, 7, 7), {"pads": [3, 3, 3, 3], "strides": [2, 2]}, True),
        ((1, 3, 5, 5), (17, 3, 1, 1), {}, True),
        ((1, 9, 5, 5), (4, 9, 3, 3), {"pads": [0, 1, 0, 1]}, True),
        ((1, 4, 5, 5), (4, 4, 2, 2), {}, True),
        ((1, 1, 5, 5), (4, 1, 3, 3), {"pads": [1, 1, 1, 1]}, False),
        ((1, 6, 5, 5), (4, 3, 3, 3), {"pads": [1, 1, 1, 1], "group": 2}, False),
    ],
    ids=str,
)
def test_convolutions(form: str, data: Shape, filters: Shape, attributes: dict[str, Any], lies_so: bool) -> None:
    made = Narrowed(form)
    made.weights["bias"] = whole(filters[0], seed=2)
    made.op("Conv", [made.data("x"), made.weight("w", whole(*filters, seed=1), 0), "bias"], "y", **attributes)
    feeds = {"x": whole(*data)}
    message = made.model(feeds, "y")
    assert_equal(message, feeds)
    assert any(MULTIPLIES[form] in each for each in sources(message)) == lies_so


@forms
def test_a_transposed_convolution_is_computed_wide(form: str) -> None:
    made = Narrowed(form)
    made.op("ConvTranspose", [made.data("x"), made.weight("w", whole(8, 4, 3, 3, seed=1), 1)], "y", strides=[2, 2])
    feeds = {"x": whole(1, 8, 4, 4)}
    assert_equal(made.model(feeds, "y"), feeds)


def residual_network(form: str) -> tuple[ModelProto, Feeds]:
    """A product whose result is read narrow by two others, one of which adds it: it need not be there in f32."""
    made = Narrowed(form)
    made.op("Relu", [made.op("Conv", [made.data("x"), made.weight("w", whole(8, 8, 1, 1, seed=1, most=1), 0)], "c")], "r")
    kept = made.data("r")
    second = made.op("Conv", [kept, made.weight("v", whole(8, 8, 1, 1, seed=2, most=1), 0)], "d")
    made.op("Relu", [made.op("Add", [second, kept], "s")], "y")
    feeds = {"x": whole(1, 8, 6, 6, most=1)}
    return made.model(feeds, "y"), feeds


@forms
def test_what_is_read_narrow_alone_is_never_wide(form: str) -> None:
    message, feeds = residual_network(form)
    assert_equal(message, feeds)
    calls = calls_of(capture(message.SerializeToString()), machine_of(WIDE))
    computed = [call.ops[0].name for call in calls if call.ops]
    assert computed.count("Conv") == 2
    assert "DequantizeLinear" not in computed
    assert [call.result.dtype.text for call in calls if call.ops and call.ops[0].name == "Conv"][-1] == "f32"
    assert sum(call.result.dtype.text in ("bf16", "u8") and call.ops[0].name == "Conv" for call in calls if call.ops) == 1


@forms
def test_layers_that_differ_in_scales_alone_have_one_kernel(form: str) -> None:
    made, value = Narrowed(form), "x"
    for layer in range(3):
        product = made.op(
            "MatMul", [made.data(value, 2.0**-layer), made.weight(f"w{layer}", whole(8, 8, seed=layer), 1)], f"p{layer}"
        )
        value = made.op("Relu", [product], f"y{layer}")
    feeds = {"x": whole(4, 8)}
    kernels = {call.kernel.name for call in calls_of(capture(made.model(feeds, value).SerializeToString()), machine_of(WIDE))}
    assert len([each for each in sources(made.model(feeds, value)) if MULTIPLIES[form] in each]) == 3
    assert len(kernels) <= 3


def test_what_is_rounded_to_bf16_is_rounded_as_the_reference_does() -> None:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.00390625, 1.01171875, -1.00390625, 3.3895314e38, 3.4e38, 1e-40, -1e-45]
    numbers = np.concatenate([np.array(special, np.float32), np.random.default_rng(0).standard_normal(999).astype(np.float32)])
    made = Narrowed("bf16")
    made.op("Identity", [made.data("x")], "y")
    feeds = {"x": numbers}
    message = made.model(feeds, "y")
    wanted = evaluate(capture(message.SerializeToString()), dict(feeds))[0]
    own = compiled(message).program.run(dict(feeds))["y"]
    np.testing.assert_array_equal(own, wanted)
    assert (np.signbit(own) == np.signbit(wanted))[~np.isnan(wanted)].all()


@forms
def test_parts_of_a_concat(form: str) -> None:
    made = Narrowed(form)
    first = made.op("Conv", [made.data("x"), made.weight("w", whole(8, 8, 1, 1, seed=1), 0)], "a")
    second = made.op("Conv", [made.data("z"), made.weight("v", whole(8, 8, 1, 1, seed=2), 0)], "b")
    joined = made.op("Concat", [made.data(first), made.data(second)], "j", axis=1)
    made.op("Conv", [made.data(joined), made.weight("u", whole(4, 16, 1, 1, seed=3), 0)], "y")
    feeds = {"x": whole(1, 8, 4, 4), "z": whole(1, 8, 4, 4, seed=9)}
    assert_equal(made.model(feeds, "y"), feeds)


def test_weights_in_blocks_are_those_that_they_stand_for() -> None:
    blocks, numbers = np.array([[0.5, 1.0, 2.0], [1.0, 0.25, 1.0]], np.float32), whole(8, 3, seed=1)
    weights = {"w": numbers.astype(np.int8), "step": blocks, "zero": np.zeros((2, 3), np.int8)}
    nodes = [
        node("DequantizeLinear", ["w", "step", "zero"], ["wide"], axis=0, block_size=4),
        node("MatMul", ["x", "wide"], ["y"]),
    ]
    feeds = {"x": whole(5, 8)}
    assert_equal(of(nodes, feeds, ["y"], weights), feeds)


def test_the_program_of_a_processor_without_these_arithmetics_is_right_too() -> None:
    for form in MULTIPLIES:
        message, _ = residual_network(form)
        graph = capture(message.SerializeToString())
        kernels = [call.kernel.source for call in calls_of(graph, machine_of(find_target("cpu:x86-64-v3")))]
        assert not any(each in source for source in kernels for each in MULTIPLIES.values())


@pytest.mark.parametrize(("most", "wanted"), [(64, "irc_in_words"), (127, "irc_pairs")])
def test_bytes_are_summed_in_words_where_weights_are_small(most: int, wanted: str) -> None:
    made = Narrowed("bytes")
    made.op("Conv", [made.data("x"), made.weight("w", whole(8, 8, 3, 3, seed=1, most=most), 0)], "y")
    feeds = {"x": whole(1, 8, 5, 5, most=200)}
    message = made.model(feeds, "y")
    calls = calls_of(capture(message.SerializeToString()), machine_of(find_target("cpu:haswell")))
    assert any(wanted in call.kernel.source for call in calls)
    assert_equal(message, feeds)


@pytest.mark.parametrize("seed", range(4))
def test_bytes_next_to_what_they_saturate_at(seed: int) -> None:
    made = Narrowed("bytes")
    made.op("MatMul", [made.data("x"), made.weight("w", whole(64, 8, seed=seed, most=127), 1)], "y")
    feeds = {"x": whole(3, 64, seed=seed, most=200)}
    assert_equal(made.model(feeds, "y"), feeds)


def few_bits(
    bits: int, columns: int, depth: int, block: int, transposed: bool, scale: Any = np.float32, rows: int = 5
) -> tuple[Any, Feeds]:
    """A product with weights of few bits, their zero points as they come; and what is fed."""
    chance = np.random.default_rng(columns + depth + block)
    signed = chance.integers(0, 2) == 0
    dtype = {4: (DType.I4, DType.U4), 8: (DType.I8, DType.U8)}[bits][0 if signed else 1]
    least = -(1 << bits - 1) if signed else 0
    blocks = depth // block if block else 1
    numbers = chance.integers(least, least + (1 << bits), (depth, columns))
    zeros = chance.integers(least, least + (1 << bits), (blocks, columns) if block else (columns,))
    scales = np.exp2(chance.integers(-3, 1, zeros.shape)).astype(scale)
    axis = 0
    if transposed:
        numbers, axis = numbers.T, 1
        zeros, scales = (zeros.T, scales.T) if block else (zeros, scales)
    tensors = [(numbers, dtype), (scales, DType.F16 if scale is np.float16 else DType.F32), (zeros, dtype)]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array).astype(kind.numpy)) for array, kind in tensors]
    names = ("w", "low" if scale is np.float16 else "step", "zero")
    nodes = [node("Constant", [], [name], value=each) for name, each in zip(names, constants, strict=True)]
    if scale is np.float16:
        nodes.append(node("Cast", ["low"], ["step"], to=TensorProto.FLOAT))
    lying = axis if block else 1 - axis
    nodes.append(node("DequantizeLinear", ["w", "step", "zero"], ["wide"], axis=lying, block_size=block))
    nodes.append(node("Gemm", ["x", "wide", "c"], ["p"], transB=int(transposed)))
    nodes.append(node("Relu", ["p"], ["y"]))
    feeds = {"x": whole(rows, depth)}
    return of(nodes, feeds, ["y"], {"c": whole(columns, seed=5)}), feeds


@pytest.mark.parametrize("scale", [np.float16, np.float32])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("columns", "depth", "block", "transposed"),
    [(37, 64, 16, False), (16, 32, 32, True), (130, 96, 32, True), (5, 24, 8, False), (7, 20, 0, False), (3, 192, 0, True)],
    ids=str,
)
@pytest.mark.parametrize("rows", [1, 70])
def test_weights_of_few_bits(rows: int, bits: int, columns: int, depth: int, block: int, transposed: bool, scale: Any) -> None:
    """A single tile of rows unpacks them slice by slice, several tiles a panel at a time."""
    message, feeds = few_bits(bits, columns, depth, block, transposed, scale, rows)
    assert_equal(message, feeds)


def test_weights_of_few_bits_lie_so_in_memory() -> None:
    message, _ = few_bits(4, 64, 1024, 32, False, np.float16)
    calls = calls_of(PassManager(LEVELS["O1"]).run(capture(message.SerializeToString())), machine_of(WIDE))
    constants = {each for call in calls for each in call.buffers if each.storage is Storage.CONSTANT and each.size > 64}
    assert sum(each.byte_count for each in constants) / (64 * 1024) < 0.6


@pytest.mark.parametrize("wide", ["Conv", "MatMul"])
def test_weights_of_a_codebook(wide: str) -> None:
    book, shape = np.array([-2.0, -0.5, 0.25, 1.0, 4.0], np.float32), (4, 8, 1, 1) if wide == "Conv" else (8, 4)
    indices = np.random.default_rng(0).integers(0, 5, shape)
    nodes = [
        node("Constant", [], ["which"], value=numpy_helper.from_array(indices.astype(DType.U4.numpy))),
        node("Cast", ["which"], ["at"], to=TensorProto.INT32),
        node("Gather", ["book", "at"], ["w"]),
        node(wide, ["x", "w"], ["y"]),
    ]
    feeds = {"x": whole(2, 8, 3, 3) if wide == "Conv" else whole(5, 8)}
    message = of(nodes, feeds, ["y"], {"book": book})
    assert_equal(message, feeds)

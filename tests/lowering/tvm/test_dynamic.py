"""Ranges that are found in the run: bytes, scale and zero point to the bit, and products of such bytes as sums of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto

from irc.ir import capture, evaluate
from irc.lowering import find_target
from irc.lowering.tvm.dynamic import SHORTEST, parts_of
from irc.lowering.tvm.opening import opened
from irc.lowering.tvm.program import calls_of, machine_of

from ..models import node, normal
from .programs import compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

WIDE = machine_of(find_target("cpu:sapphirerapids"))
QUANTIZED = node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="q")
PAIR = [QUANTIZED, node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d")]


@pytest.mark.parametrize("shape", [(1,), (4, 3), (7, 4099), (4, SHORTEST)])
def test_bytes_scale_and_zero_point_are_those_of_the_reference(shape: tuple[int, ...]) -> None:
    data = normal(*shape)
    message = of([QUANTIZED], {"x": data}, ["q", "s", "z"])
    program = compiled(message).program
    for x in (data, np.zeros_like(data), np.abs(data) + 1, -1e-6 * np.abs(data)):
        wanted = evaluate(capture(message.SerializeToString()), {"x": x.astype(np.float32)})
        for given, own in zip(wanted, program.run({"x": x.astype(np.float32)}).values(), strict=True):
            assert (own.dtype, own.shape) == (given.dtype, given.shape)
            assert np.array_equal(own, given)


def test_parts_are_of_equal_size() -> None:
    assert [parts_of(size) for size in (1, SHORTEST, 2 * SHORTEST, 100 * SHORTEST)] == [1, 1, 2, 16]
    assert not (8 * SHORTEST + 1) % parts_of(8 * SHORTEST + 1)


def constants(rows: int, columns: int, **changed: Any) -> dict[str, Any]:
    """Weights, scales and a bias."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (rows, columns)).astype(np.int8)
    return {"w": weights, "t": rng.uniform(1e-3, 1e-2, columns).astype(np.float32), "b": normal(columns), **changed}


def multiplies_bytes(message: ModelProto) -> bool:
    """Whether the kernels of a model multiply bytes, where the processor does."""
    graph = opened(capture(message.SerializeToString()))
    return any("vpdpbusd" in call.kernel.source for call in calls_of(graph, WIDE))


def assert_same(message: ModelProto, x: np.ndarray) -> None:
    """The engine answers as the reference does."""
    wanted = evaluate(capture(message.SerializeToString()), {"x": x})
    for given, own in zip(wanted, compiled(message).program.run({"x": x}).values(), strict=True):
        np.testing.assert_allclose(own, given, rtol=1e-5, atol=1e-5)


BY_COLUMN = node("DequantizeLinear", ["w", "t"], ["v"], name="v", axis=1)
PRODUCTS: dict[str, list[NodeProto]] = {
    "MatMul": [BY_COLUMN, node("MatMul", ["d", "v"], ["p"], name="m"), node("Relu", ["p"], ["y"], name="r")],
    "Gemm": [BY_COLUMN, node("Gemm", ["d", "v", "b"], ["y"], name="g", alpha=0.5, beta=2.0)],
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=list(PRODUCTS))
@pytest.mark.parametrize("depth", [64, 6])
def test_products_of_what_is_quantized_in_the_run(product: list[NodeProto], depth: int) -> None:
    x = normal(5, depth) + np.float32(0.5)
    message = of([*PAIR, *product], {"x": x}, ["y"], constants(depth, 33))
    assert multiplies_bytes(message) == (depth % 4 == 0)
    assert_same(message, x)


def test_a_stack_of_matrices_and_another_reader_of_the_data() -> None:
    x = normal(2, 3, 8)
    nodes = [*PAIR, BY_COLUMN, node("MatMul", ["d", "v"], ["y"], name="m"), node("Neg", ["d"], ["n"], name="n")]
    message = of(nodes, {"x": x}, ["y", "n"], constants(8, 5))
    assert multiplies_bytes(message)
    assert_same(message, x)


def test_products_share_what_is_quantized() -> None:
    x = normal(3, 8)
    nodes = [
        *PAIR,
        BY_COLUMN,
        node("MatMul", ["d", "v"], ["p"], name="m"),
        node("Gemm", ["d", "v", "b"], ["r"], name="g"),
        node("Mul", ["p", "r"], ["y"], name="y"),
    ]
    message = of(nodes, {"x": x}, ["y"], constants(8, 5))
    calls = calls_of(opened(capture(message.SerializeToString())), WIDE)
    assert sum("vpdpbusd" in call.kernel.source for call in calls) == 2
    assert sum(call.ops[0].is_a("DynamicQuantizeLinear") for call in calls) == 4  # extremes, scale, zero point, bytes
    assert not any(call.ops[0].is_a("DequantizeLinear") for call in calls)
    assert_same(message, x)


SUMS: dict[str, dict[str, Any]] = {
    "i8": {},
    "i8 by one scale": {"t": np.float32(0.01)},
    "u8 around 128": {"w": np.arange(40, dtype=np.uint8).reshape(8, 5) * 6, "o": np.uint8(128)},
    "u8 around another": {"w": np.arange(40, dtype=np.uint8).reshape(8, 5) * 6, "o": np.uint8(3)},
}


@pytest.mark.parametrize("changed", SUMS.values(), ids=list(SUMS))
def test_the_usual_spelling_as_sums_of_integers_is_the_same_product(changed: dict[str, Any]) -> None:
    x = normal(4, 8)
    weights = ["q", "w", "z", *(["o"] if "o" in changed else [])]
    nodes = [
        QUANTIZED,
        node("MatMulInteger", weights, ["i"], name="i"),
        node("Cast", ["i"], ["f"], name="f", to=1),
        node("Mul", ["s", "t"], ["st"], name="st"),
        node("Mul", ["f", "st"], ["y"], name="y"),
    ]
    message = of(nodes, {"x": x}, ["y"], constants(8, 5, **changed))
    graph = opened(capture(message.SerializeToString()))
    assert not any(op.is_a("MatMulInteger") for op in graph)
    assert multiplies_bytes(message) == (changed.get("o", 128) == 128)
    assert_same(message, x)


def test_sums_that_something_else_reads_stay() -> None:
    nodes = [QUANTIZED, node("MatMulInteger", ["q", "w", "z"], ["y"], name="i")]
    message = of(nodes, {"x": normal(4, 8)}, ["y"], constants(8, 5))
    assert any(op.is_a("MatMulInteger") for op in opened(capture(message.SerializeToString())))
    assert_same(message, normal(4, 8))

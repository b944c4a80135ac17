"""Products of data that are quantized in each run: which become one kernel of integers, and that the answers stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from irc.ir import Graph

from .forms import assert_same, like, lowered, names, node, numbers, optimized, written

CONSTANTS: dict[str, Any] = {
    "w": np.array([[1, -2], [40, 50], [-127, 9]], np.int8),
    "t": np.array([0.01, 0.5], np.float32),
    "b": np.array([0.3, -4.0], np.float32),
}
QUANTIZED = [
    node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="q"),
    node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
]
BY_COLUMN = node("DequantizeLinear", ["w", "t"], ["v"], name="v", axis=1)
PRODUCT = "com.microsoft::MatMulIntegerToFloat"


def same(*nodes: NodeProto, x: np.ndarray | None = None, **changed: Any) -> Graph:
    """The graph of these ops behind what is quantized, in ONNX Runtime's forms, and checked."""
    feeds = {"x": numbers(4, 3) if x is None else x}
    return assert_same(written([*QUANTIZED, *nodes], like(feeds), ["y"], **{**CONSTANTS, **changed}), feeds)[0]


def test_a_gemm_with_its_bias_is_one_product_of_integers() -> None:
    found = same(BY_COLUMN, node("Gemm", ["d", "v", "b"], ["y"], name="g"))
    assert names(found) == ["DynamicQuantizeLinear", PRODUCT]


def test_weights_that_lie_by_rows_are_turned() -> None:
    nodes = [
        node("DequantizeLinear", ["w", "t"], ["v"], name="v", axis=0),
        node("Gemm", ["d", "v"], ["y"], name="g", transB=1),
    ]
    assert names(same(*nodes, w=np.ascontiguousarray(CONSTANTS["w"].T))) == ["DynamicQuantizeLinear", PRODUCT]


def test_a_stack_of_matrices_and_what_is_added_to_its_columns() -> None:
    found = same(
        BY_COLUMN,
        node("MatMul", ["d", "v"], ["p"], name="m"),
        node("Add", ["b", "p"], ["y"], name="a"),
        x=numbers(2, 4, 3),
    )
    assert names(found) == ["DynamicQuantizeLinear", PRODUCT]


def test_one_scale_and_weights_with_a_zero_point() -> None:
    weights = node("DequantizeLinear", ["w", "t", "o"], ["v"], name="v")
    changed: dict[str, Any] = {"w": np.array([[1, 2], [140, 50], [255, 9]], np.uint8), "t": np.float32(0.1), "o": np.uint8(128)}
    found = same(weights, node("MatMul", ["d", "v"], ["y"], name="m"), **changed)
    assert names(found) == ["DynamicQuantizeLinear", PRODUCT]


def test_products_share_what_is_quantized() -> None:
    found = same(
        BY_COLUMN,
        node("MatMul", ["d", "v"], ["p"], name="m"),
        node("Gemm", ["d", "v", "b"], ["r"], name="n"),
        node("Mul", ["p", "r"], ["y"], name="a"),
    )
    assert names(found) == ["DynamicQuantizeLinear", PRODUCT, PRODUCT, "Mul"]


@pytest.mark.parametrize(
    "nodes",
    [
        [BY_COLUMN, node("Gemm", ["d", "v"], ["y"], name="g", alpha=0.5)],
        [
            node("DequantizeLinear", ["w", "t"], ["v"], name="v", axis=0, block_size=3),
            node("MatMul", ["d", "v"], ["y"], name="m"),
        ],
        [BY_COLUMN, node("MatMul", ["x", "v"], ["y"], name="m")],
    ],
    ids=["scaled", "in blocks", "data in f32"],
)
def test_other_products_stay(nodes: list[NodeProto]) -> None:
    changed = {"t": np.array([[0.01, 0.5]], np.float32)} if "block" in str(nodes[0]) else {}
    message = written([*QUANTIZED, *nodes], like({"x": numbers(4, 3)}), ["y"], **{**CONSTANTS, **changed})
    assert PRODUCT not in names(lowered(message)[0])


def test_onnx_runtime_joins_the_usual_spelling_itself() -> None:
    nodes = [
        QUANTIZED[0],
        node("MatMulInteger", ["q", "w", "z"], ["i"], name="m"),
        node("Cast", ["i"], ["f"], name="c", to=1),
        node("Mul", ["s", "t"], ["st"], name="st"),
        node("Mul", ["f", "st"], ["y"], name="y"),
    ]
    feeds = {"x": numbers(4, 3)}
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], **CONSTANTS), feeds)
    assert names(graph) == [each.op_type for each in nodes]
    assert optimized(graph, feeds)[0].shape == (4, 2)

"""Moved integers between pairs of QuantizeLinear and DequantizeLinear, and biases in the steps of sums of integers."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import NodeProto

from irc.ir import Graph

from .forms import assert_same, like, lowered, names, node, numbers, written

SCALE = {"s": np.array(0.05, np.float32), "z": np.array(3, np.int8)}


def test_pairs_stand_around_what_moves_quantized_numbers() -> None:
    feeds = {"x": numbers(2, 3, 4), **SCALE, "shape": np.array([4, 6])}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        node("Transpose", ["q"], ["t"], name="t", perm=[0, 2, 1]),
        node("Reshape", ["t", "shape"], ["r"], name="r"),
        node("DequantizeLinear", ["r", "s", "z"], ["y"], name="d"),
    ]
    graph, _ = assert_same(written(nodes, like(feeds), ["y"]), feeds)
    pair = ["QuantizeLinear", "DequantizeLinear"]
    assert names(graph) == [*pair, "Transpose", *pair, "Reshape", *pair]


def test_integers_that_were_not_just_quantized_move_as_they_are() -> None:
    feeds = {"x": np.arange(6, dtype=np.int8).reshape(2, 3)}
    graph, _ = assert_same(written([node("Transpose", ["x"], ["y"], name="t", perm=[1, 0])], like(feeds), ["y"]), feeds)
    assert names(graph) == ["Transpose"]


STEPS = {
    "s": np.array(0.02, np.float32),
    "z": np.array(120, np.uint8),
    "w": np.array([[1, -2, 3], [40, 50, -127]], np.int8),
    "t": np.array([0.01, 0.5], np.float32),
    "b": np.array([0.30011, -4.0], np.float32),
}
DATA = [
    node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
    node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
    node("DequantizeLinear", ["w", "t"], ["v"], name="v", axis=0),
]
GEMM = node("Gemm", ["d", "v", "b"], ["y"], name="g", transB=1)


def product(*last: NodeProto, **changed: np.ndarray) -> tuple[Graph, dict[str, np.ndarray]]:
    feeds = {"x": numbers(4, 3)}
    if "x" in changed:
        feeds["x"] = changed.pop("x")
    return lowered(written([*DATA, *last], like(feeds), ["y"], **{**STEPS, **changed}))[0], feeds


def stored_bias(graph: Graph) -> tuple[list[int], list[float]] | None:
    """The integers and scales of the bias, where it has any."""
    last = next(op for op in graph if op.is_a("Gemm", "Conv"))
    maker = last.operands[2].op if last.operands[2] is not None else None
    if maker is None or not maker.is_a("DequantizeLinear"):
        return None
    integers, scales = maker.constant_operand(0), maker.constant_operand(1)
    assert integers is not None
    assert scales is not None
    assert integers.dtype.text == "i32"
    return integers.array.tolist(), scales.array.tolist()


def test_a_bias_beside_integers_is_an_integer_in_the_steps_of_the_sums() -> None:
    graph, _ = product(GEMM)
    found = stored_bias(graph)
    assert found is not None
    assert found[0] == [1501, -400]
    assert found[1] == pytest.approx([2e-4, 1e-2])
    assert names(graph).count("DequantizeLinear") == 3


def test_a_convolution_gets_an_integer_bias_too() -> None:
    graph, _ = product(node("Conv", ["d", "v", "b"], ["y"], name="c"), x=numbers(1, 3, 5, 5), w=np.ones((2, 3, 1, 1), np.int8))
    assert stored_bias(graph) is not None


def test_answers_differ_by_less_than_a_step_of_the_sums() -> None:
    message = written([*DATA, GEMM], like({"x": numbers(4, 3)}), ["y"], **STEPS)
    assert_same(message, {"x": numbers(4, 3)}, bound=1e-4)


@pytest.mark.parametrize(
    ("last", "changed"),
    [
        (node("Gemm", ["d", "v", "b"], ["y"], name="g", transB=1, alpha=0.5), {}),
        (node("Gemm", ["d", "v", "b"], ["y"], name="g", transB=1), {"b": np.array([0.3, 1e9], np.float32)}),
        (node("Conv", ["x", "v", "b"], ["y"], name="c"), {"x": numbers(1, 3, 5, 5), "w": np.ones((2, 3, 1, 1), np.int8)}),
        (
            node("Gemm", ["d", "v", "b"], ["y"], name="g"),
            {"w": np.ones((3, 2), np.int8), "t": np.ones(3, np.float32), "b": np.zeros(2, np.float32)},
        ),
    ],
    ids=["scaled", "too large", "data in f32", "scales by rows"],
)
def test_other_biases_stay_f32(last: NodeProto, changed: dict[str, np.ndarray]) -> None:
    graph, _ = product(last, **changed)
    assert stored_bias(graph) is None


def test_data_and_weights_in_integers_are_no_product_with_weights_in_blocks() -> None:
    graph, _ = product(node("MatMul", ["d", "v"], ["y"], name="m"), w=np.ones((3, 2), np.int8), t=np.ones((), np.float32))
    assert "MatMul" in names(graph)

"""Moved integers between pairs of QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np

from .forms import assert_same, like, names, node, numbers, written

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

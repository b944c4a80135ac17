"""Reductions written out, on ordinary and special values, with and without axes."""

from __future__ import annotations

import numpy as np
import pytest

from .forms import assert_same, like, names, node, numbers, written

PARTS = {
    "ReduceL1": ["Abs", "ReduceSum"],
    "ReduceL2": ["Mul", "ReduceSum", "Sqrt"],
    "ReduceSumSquare": ["Mul", "ReduceSum"],
    "ReduceLogSum": ["ReduceSum", "Log"],
}


@pytest.mark.parametrize("op", PARTS)
@pytest.mark.parametrize("axes", [None, [1], [0, -1]])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_reduction_from_its_parts(op: str, axes: list[int] | None, keep: int) -> None:
    feeds = {"x": np.abs(numbers(2, 3, 4)) + 0.5}
    if axes is not None:
        feeds["axes"] = np.array(axes)
    graph, _ = assert_same(written([node(op, list(feeds), ["y"], name="it", keepdims=keep)], like(feeds), ["y"]), feeds)
    assert names(graph) == PARTS[op]


def test_integers_stay() -> None:
    feeds = {"x": np.arange(6).reshape(2, 3)}
    graph, _ = assert_same(written([node("ReduceL1", ["x"], ["y"], name="it")], like(feeds), ["y"]), feeds)
    assert names(graph) == ["ReduceL1"]

"""Activations behind convolutions and Gemms, in one op with them, on ordinary and special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from .forms import assert_same, like, lowered, names, node, numbers, written

ACTIVATIONS: dict[str, dict[str, Any]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "LeakyRelu": {"alpha": 0.3},
    "HardSigmoid": {"alpha": 0.25, "beta": 0.4},
}


def behind(op: str, activation: str, feeds: dict[str, np.ndarray], outputs: list[str], **attributes: Any) -> Any:
    """An op of all that is fed, and an activation behind it."""
    nodes = [node(op, list(feeds), ["h"], name="it"), node(activation, ["h"], ["y"], name="act", **attributes)]
    return written(nodes, like(feeds), outputs)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_convolution_applies_the_activation_behind_it(activation: str) -> None:
    feeds = {"x": numbers(1, 3, 5, 5), "w": numbers(4, 3, 3, 3), "b": numbers(4)}
    graph, _ = assert_same(behind("Conv", activation, feeds, ["y"], **ACTIVATIONS[activation]), feeds)
    assert names(graph) == ["com.microsoft::FusedConv"]


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "Tanh", "LeakyRelu"])
def test_a_gemm_applies_the_activation_behind_it(activation: str) -> None:
    feeds = {"a": numbers(2, 3), "b": numbers(3, 4), "c": numbers(4)}
    graph, _ = assert_same(behind("Gemm", activation, feeds, ["y"], **ACTIVATIONS[activation]), feeds)
    assert names(graph) == ["com.microsoft::FusedGemm"]


def test_a_result_that_others_use_stays() -> None:
    feeds = {"x": numbers(1, 3, 5, 5), "w": numbers(4, 3, 3, 3)}
    graph, _ = assert_same(behind("Conv", "Relu", feeds, ["y", "h"]), feeds)
    assert names(graph) == ["Conv", "Relu"]


def test_other_precisions_and_bounds_that_are_fed_stay() -> None:
    feeds = {"x": numbers(1, 3, 5, 5, dtype=np.float64), "w": numbers(4, 3, 3, 3, dtype=np.float64)}
    assert names(lowered(behind("Conv", "Relu", feeds, ["y"]))[0]) == ["Conv", "Relu"]
    feeds = {"x": numbers(1, 3, 5, 5), "w": numbers(4, 3, 3, 3), "high": np.float32(1)}
    nodes = [node("Conv", ["x", "w"], ["h"], name="it"), node("Clip", ["h", "", "high"], ["y"], name="act")]
    assert names(lowered(written(nodes, like(feeds), ["y"]))[0]) == ["Conv", "Clip"]

"""Sums along an axis, attention with a past, statistics of normalizations and computed positions, against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irc.runtime import RunError

from ..models import node, normal
from .programs import assert_right, compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 1e-40, 3e38, 0.5, np.inf, 2.0, -np.inf, -3.0, np.nan, 7.0], np.float32)


def right(nodes: list[Any], feeds: dict[str, Any], weights: dict[str, Any] | None = None, outputs: str = "y") -> None:
    """The named outputs are those of the reference."""
    assert_right(of(nodes, feeds, outputs.split(), weights), feeds)


@pytest.mark.parametrize("attributes", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}], ids=str)
@pytest.mark.parametrize("kind", [np.float32, np.int32, np.int64])
def test_sums_up_to_each_element(attributes: dict[str, Any], kind: Any) -> None:
    x = (normal(3, 4, 5) * 9).astype(kind)
    for axis in (0, -1):
        right([node("CumSum", ["x", "a"], ["y"], **attributes)], {"x": x}, {"a": np.array(axis)})


def test_sums_of_specials_and_sums_that_wrap() -> None:
    right([node("CumSum", ["x", "a"], ["y"])], {"x": SPECIAL}, {"a": np.array(0)})
    right([node("CumSum", ["x", "a"], ["y"])], {"x": np.full(5, 2**30, np.int32)}, {"a": np.array(0)})


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_a_past(causal: int) -> None:
    """Keys and values are those of the past and then the given ones, also where fewer heads share them, and are returned."""
    feeds = {"q": normal(2, 4, 5, 8), "k": normal(2, 2, 5, 8, seed=1), "v": normal(2, 2, 5, 6, seed=2)}
    past = {"pk": normal(2, 2, 7, 8, seed=3), "pv": normal(2, 2, 7, 6, seed=4)}
    attention = node("Attention", ["q", "k", "v", "", "pk", "pv"], ["y", "k2", "v2"], is_causal=causal)
    right([attention], {**feeds, **past}, outputs="y k2 v2")


def test_attention_with_a_past_and_a_mask() -> None:
    """Heads may be in the last axis of what is given; the past has them as an axis."""
    feeds = {"q": normal(1, 3, 8), "k": normal(1, 3, 8, seed=1), "v": normal(1, 3, 8, seed=2), "m": normal(3, 9)}
    past = {"pk": normal(1, 2, 6, 4, seed=3), "pv": normal(1, 2, 6, 4, seed=4)}
    heads: dict[str, Any] = {"q_num_heads": 2, "kv_num_heads": 2}
    right([node("Attention", ["q", "k", "v", "m", "pk", "pv"], ["y", "a", "b"], **heads)], {**feeds, **past}, outputs="y a b")


@pytest.mark.parametrize("axis", [-1, 1, 0])
def test_normalizations_return_means_and_deviations(axis: int) -> None:
    x = normal(3, 4, 5)
    scale = {"s": normal(*x.shape[axis:], seed=1), "b": normal(*x.shape[axis:], seed=2)}
    norm = node("LayerNormalization", ["x", "s", "b"], ["y", "m", "d"], axis=axis)
    right([norm], {"x": x}, scale, "y m d")
    right([norm], {"x": x}, scale, "d")


def test_rotation_by_computed_positions() -> None:
    rotary = node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"])
    feeds = {"x": normal(2, 3, 4, 8), "p": np.array([[0, 5, 2, 9], [1, 1, 9, 0]])}
    angles = {"c": normal(10, 4, seed=1), "s": normal(10, 4, seed=2)}
    right([rotary], feeds, angles)
    program = compiled(of([rotary], feeds, ["y"], angles)).program
    for beyond in (10, -1):
        with pytest.raises(RunError, match="range"):
            program.run({**feeds, "p": np.full((2, 4), beyond)})


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_first_of_the_greatest(axis: int) -> None:
    right([node("Hardmax", ["x"], ["y"], axis=axis)], {"x": np.round(normal(3, 20, 5))})
    right([node("Hardmax", ["x"], ["y"], axis=axis)], {"x": np.full((2, 3, 4), -np.inf, np.float32)})


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_normalizations_by_norms(p: int, axis: int) -> None:
    x = normal(3, 20, 5)
    x[1], x[:, 3], x[..., 2] = 0, 0, 0
    right([node("LpNormalization", ["x"], ["y"], p=p, axis=axis)], {"x": x})
    right([node("LpNormalization", ["x"], ["y"], p=p)], {"x": SPECIAL[:, None]})

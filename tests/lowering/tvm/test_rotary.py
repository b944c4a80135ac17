"""RotaryEmbedding answers as the reference does, for each place that its angles may come from."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import capture, evaluate
from irc.lowering.tvm.rotary import RotaryRequest, rotary_embedding
from irc.lowering.tvm.views import View

from ..forms import like, node, written
from .running import lanes, needs_tvm, run

BATCH, HEADS = 2, 3


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def answers(
    x: np.ndarray, cosines: np.ndarray, sines: np.ndarray, positions: np.ndarray | None, turned: int, interleaved: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The kernel's and the reference's, of [batch, tokens, heads * size]."""
    batch, tokens, width = x.shape
    heads = View.dense((batch, tokens, HEADS, width // HEADS)).permuted((0, 2, 1, 3))
    places = None if positions is None else View.dense(positions.shape)
    angles = View.dense(cosines.shape)
    kernel = rotary_embedding(RotaryRequest(heads, heads, angles, angles, turned, lanes(), interleaved, places))
    y = np.full(x.shape, np.nan, np.float32)
    run(kernel, x, cosines, sines, *([] if positions is None else [positions, np.zeros(1, np.int32)]), y)
    feeds = {"x": x, "cosines": cosines, "sines": sines, **({} if positions is None else {"positions": positions})}
    attributes = {"num_heads": HEADS, "rotary_embedding_dim": turned, "interleaved": int(interleaved)}
    model = written([node("RotaryEmbedding", list(feeds), ["y"], **attributes)], like(feeds), ["y"])
    return y, evaluate(capture(model.SerializeToString()), feeds)[0]


@needs_tvm
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("has_positions", [False, True])
@pytest.mark.parametrize(("size", "turned", "tokens"), [(64, 64, 128), (40, 24, 7), (10, 6, 1)])
def test_rotary_embedding(size: int, turned: int, tokens: int, has_positions: bool, interleaved: bool) -> None:
    x = numbers(BATCH, tokens, HEADS * size)
    shape = (200, turned // 2) if has_positions else (BATCH, tokens, turned // 2)
    positions = np.random.default_rng(0).integers(0, 200, (BATCH, tokens)) if has_positions else None
    got, wanted = answers(x, numbers(*shape, seed=1), numbers(*shape, seed=2), positions, turned, interleaved)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@needs_tvm
def test_heads_before_tokens() -> None:
    """The form of four axes is only another view."""
    x, cosines, sines = numbers(BATCH, HEADS, 5, 16), numbers(BATCH, 5, 8, seed=1), numbers(BATCH, 5, 8, seed=2)
    view, angles, y = View.dense(x.shape), View.dense(cosines.shape), np.empty(x.shape, np.float32)
    run(rotary_embedding(RotaryRequest(view, view, angles, angles, 16, lanes())), x, cosines, sines, y)
    feeds = {"x": x, "cosines": cosines, "sines": sines}
    model = written([node("RotaryEmbedding", list(feeds), ["y"])], like(feeds), ["y"])
    np.testing.assert_allclose(y, evaluate(capture(model.SerializeToString()), feeds)[0], rtol=1e-5, atol=1e-6)

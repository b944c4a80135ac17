"""Adaptive rounding: less error than the nearest integers on data that hang together, and never more."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir.text import parse_graph
from irc.passes import sites
from irc.passes.precision import covariance, integer_weights, rounded_weights
from irc.passes.precision.rounding import descend, loss


@given(seed=st.integers(0, 10**6), rows=st.integers(1, 6), columns=st.integers(2, 20), rank=st.integers(1, 20))
@settings(max_examples=40)
def test_no_row_has_more_error_than_rounded_to_the_nearest(seed: int, rows: int, columns: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(-9, 9, (rows, columns))
    half = rng.standard_normal((columns, rank))
    spread = half @ half.T / rank
    nearest = np.rint(wanted).astype(np.int8)
    found = descend(wanted, nearest, spread)
    before, after = loss(wanted, nearest, spread), loss(wanted, found, spread)
    assert (after <= before + 1e-4 * (1 + before)).all()


def test_neighbours_that_are_held_together_stay_so() -> None:
    rng = np.random.default_rng(1)
    wanted = rng.uniform(-80, 80, (16, 9))
    steps = wanted.clip(-64, 64).astype(np.int8)
    half = rng.standard_normal((9, 3))
    spread = half @ half.T + 0.01 * np.eye(9)
    free, held = descend(wanted, steps, spread).astype(int), descend(wanted, steps, spread, together=128).astype(int)
    assert np.abs(free[:, 0:8:2] + free[:, 1::2]).max() > 128
    assert np.abs(held[:, 0:8:2] + held[:, 1::2]).max() <= 128
    assert (loss(wanted, held, spread) <= loss(wanted, steps, spread) + 1e-3).all()


def test_data_that_hang_together_hide_much_of_the_error() -> None:
    rng = np.random.default_rng(0)
    wanted = rng.uniform(-100, 100, (32, 64))
    x = rng.standard_normal((1000, 8)) @ rng.standard_normal((8, 64)) + 0.1 * rng.standard_normal((1000, 64))
    spread = covariance(x.T @ x, x.mean(axis=0), len(x))
    assert np.allclose(spread, np.cov(x.T, bias=True))
    nearest = np.rint(wanted).astype(np.int8)
    assert loss(wanted, descend(wanted, nearest, spread), spread).sum() < 0.2 * loss(wanted, nearest, spread).sum()


def test_taps_of_a_filter_are_rounded_each_by_itself() -> None:
    rng = np.random.default_rng(0)
    flat = ", ".join(repr(float(n)) for n in rng.standard_normal((3, 4, 2, 2)).astype(np.float32).reshape(-1))
    graph = parse_graph(
        f"graph @main(%x: f32[1,4,5,5]) -> (%y: f32[*]) {{\n  %w = const @_ : f32[3,4,2,2] = [{flat}]\n"
        "  %y = Conv(%x, %w)\n  return %y\n}"
    )
    (site,) = sites(graph)
    constant = site.weights.constant
    assert constant is not None
    nearest, spread = integer_weights(constant, 0), np.full((4, 4), 0.9) + 0.1 * np.eye(4)
    found = rounded_weights(site, nearest, spread)
    assert found.steps.shape == (3, 4, 2, 2)
    assert np.array_equal(found.scales, nearest.scales)
    assert np.abs(found.steps.astype(int) - nearest.steps).max() <= 2
    off, plain = found.values - constant.array, nearest.values - constant.array
    error = np.einsum("oikl,ij,ojkl->kl", off, spread, off)
    assert (error <= np.einsum("oikl,ij,ojkl->kl", plain, spread, plain)).all()
    assert error.sum() < 0.7 * np.einsum("oikl,ij,ojkl->", plain, spread, plain)


def test_a_depthwise_filter_is_rounded_to_the_nearest() -> None:
    graph = parse_graph(
        """graph @main(%x: f32[1,2,5,5]) -> (%y: f32[*]) {
  %w = const @_ : f32[2,1,1,1] = [0.3, 0.7]
  %y = Conv(%x, %w) {group=2}
  return %y
}"""
    )
    (site,) = sites(graph)
    assert site.weights.constant is not None
    nearest = integer_weights(site.weights.constant, 0)
    assert rounded_weights(site, nearest, np.eye(2)) is nearest


def test_channels_that_are_as_good_as_still_leave_weights_nearest() -> None:
    wanted = np.array([[0.4, 1.6, -2.3]])
    steps = np.rint(wanted).astype(np.int8)
    with np.errstate(all="raise", under="ignore"):
        np.testing.assert_array_equal(descend(wanted, steps, np.diag([1e-60, 1e-60, 0.0])), steps)

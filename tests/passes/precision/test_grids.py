"""Grids: what a block of weights is rounded to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from irc.ir import DType
from irc.passes.precision.grids import Levels, best_grid, stored_dtype, widest_grid

LEVELS = [Levels(bits, symmetric) for bits in (4, 8) for symmetric in (False, True)]
NUMBERS = st.floats(-4, 4, width=32)
WEIGHTS = st.tuples(st.integers(1, 40), st.integers(1, 3)).flatmap(
    lambda shape: arrays.arrays(np.float32, shape, elements=NUMBERS)
)


def squares(weights: np.ndarray, points: np.ndarray) -> float:
    """The squared error, in float64."""
    return float(((weights.astype(np.float64) - points) ** 2).sum())


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@given(weights=WEIGHTS, block=st.sampled_from([1, 7, 16, 64]))
def test_no_weight_is_further_off_than_half_a_step(levels: Levels, weights: np.ndarray, block: int) -> None:
    grid = widest_grid(weights, levels, block, DType.F32)
    points = grid.values(grid.codes(weights))
    steps = np.abs(np.repeat(grid.scales, block, axis=0)[: len(weights)])
    assert (np.abs(weights - points) <= 0.501 * steps + 1e-30).all()


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("stored", [DType.F16, DType.F32])
@given(weights=WEIGHTS, block=st.sampled_from([1, 7, 16, 64]))
def test_the_best_grid_is_no_worse_than_the_widest(levels: Levels, stored: DType, weights: np.ndarray, block: int) -> None:
    widest, best = widest_grid(weights, levels, block, stored), best_grid(weights, levels, block, stored)
    errors = [squares(weights, grid.values(grid.codes(weights))) for grid in (best, widest)]
    assert errors[0] <= errors[1] * (1 + 1e-5) + 1e-12


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@given(weights=WEIGHTS)
def test_zero_stays_zero(levels: Levels, weights: np.ndarray) -> None:
    weights = np.where(np.arange(len(weights))[:, None] % 2, weights, 0).astype(np.float32)
    grid = best_grid(weights, levels, 8, DType.F16)
    assert not grid.values(grid.codes(weights))[::2].any()


def test_a_block_is_cut_off_where_that_is_better_for_the_others() -> None:
    weights = np.append(np.linspace(-1, 1, 63), 1.6).astype(np.float32)[:, None]
    levels = Levels(4, symmetric=False)
    widest, best = (make(weights, levels, 64, DType.F32) for make in (widest_grid, best_grid))
    assert best.scales.item() < widest.scales.item()
    assert squares(weights, best.values(best.codes(weights))) < squares(weights, widest.values(widest.codes(weights)))


def test_important_rows_are_rounded_better() -> None:
    weights = np.random.default_rng(0).standard_normal((32, 200)).astype(np.float32)
    importance = np.where(np.arange(32) < 4, 100.0, 1.0)
    levels = Levels(4, symmetric=False)
    plain, weighted = best_grid(weights, levels, 32, DType.F16), best_grid(weights, levels, 32, DType.F16, importance)
    first = [squares(weights[:4], grid.values(grid.codes(weights))[:4]) for grid in (weighted, plain)]
    assert first[0] < 0.8 * first[1]


def test_a_lone_positive_end_is_met_by_a_negative_scale() -> None:
    weights = np.array([[8.0], [-7.0], [1.0]], np.float32)
    grid = best_grid(weights, Levels(4, symmetric=True), 16, DType.F16)
    assert np.array_equal(grid.values(grid.codes(weights)), weights)


@pytest.mark.parametrize(
    ("size", "bits", "stored"),
    [
        (0.1, 4, DType.F16),
        (1e-4, 4, DType.F16),
        (1e-5, 4, DType.F32),
        (1e-2, 8, DType.F32),
        (1, 8, DType.F16),
        (1e6, 4, DType.F32),
    ],
)
def test_scales_are_kept_in_f16_where_they_are_ordinary_numbers_in_it(size: float, bits: int, stored: DType) -> None:
    weights = np.random.default_rng(0).uniform(0.5, 1, (32, 4)).astype(np.float32) * np.float32(size)
    assert stored_dtype(weights, Levels(bits, symmetric=False), 32) is stored


def test_a_block_of_zeros_does_not_matter_for_how_scales_are_kept() -> None:
    weights = np.ones((64, 1), np.float32)
    weights[:32] = 0
    assert stored_dtype(weights, Levels(4, symmetric=False), 32) is DType.F16

"""Error compensation: the products come out nearer, and never further off than by rounding to the nearest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import DType
from irc.passes.precision.compensating import Curvature, compensated, learnt
from irc.passes.precision.grids import Levels, best_grid

LEVELS = [Levels(bits, symmetric) for bits in (4, 8) for symmetric in (False, True)]


def correlated(rows: int, samples: int, rank: int, seed: int = 0) -> np.ndarray:
    """Data [samples, rows] that depend on each other."""
    random = np.random.default_rng(seed)
    return random.standard_normal((samples, rank)) @ random.standard_normal((rank, rows)) + 0.1 * random.standard_normal(
        (samples, rows)
    )


@pytest.mark.parametrize("levels", LEVELS, ids=str)
@given(
    rows=st.integers(1, 48),
    columns=st.integers(1, 5),
    samples=st.integers(0, 60),
    block=st.sampled_from([4, 16, 32]),
    seed=st.integers(0, 99),
)
@settings(max_examples=25)
def test_no_column_is_worse_than_rounded_to_the_nearest(
    levels: Levels, rows: int, columns: int, samples: int, block: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights = random.standard_normal((rows, columns)).astype(np.float32)
    data = correlated(rows, samples, 3, seed)
    curvature = Curvature.of(data.T @ data)
    plain = best_grid(weights, levels, block, DType.F16)
    grid, codes = compensated(weights, curvature, plain)
    assert (codes == np.rint(codes)).all()
    assert codes.min() >= levels.low
    assert codes.max() <= levels.high
    off, nearest = (weights - each for each in (grid.values(codes), plain.values(plain.codes(weights))))
    assert (curvature.error(off) <= curvature.error(nearest) * (1 + 1e-9) + 1e-12).all()


def test_products_of_data_that_were_not_seen_come_out_nearer() -> None:
    weights = np.random.default_rng(1).standard_normal((64, 40)).astype(np.float32)
    everything = correlated(64, 2000, 16)
    seen, held_back = everything[:1000], everything[1000:]
    plain = best_grid(weights, Levels(4, symmetric=False), 32, DType.F16)
    grid, codes = compensated(weights, Curvature.of(seen.T @ seen), plain)
    errors = [
        np.linalg.norm(held_back @ (weights - points)) for points in (grid.values(codes), plain.values(plain.codes(weights)))
    ]
    assert errors[0] < 0.7 * errors[1]


def test_without_any_data_all_rows_count_the_same() -> None:
    curvature = Curvature.of(np.zeros((5, 5)))
    assert np.allclose(curvature.hessian, np.diag(np.diag(curvature.hessian)))
    assert np.isfinite(curvature.factor).all()


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300, 517])
def test_the_factor_made_by_halves_is_that_of_the_inverse(rows: int) -> None:
    data = correlated(rows, 2 * rows, max(1, rows // 3))
    curvature = Curvature.of(data.T @ data, 0.1)
    factor = curvature.factor
    assert (np.triu(factor) == factor).all()
    assert np.allclose(factor.T @ factor @ curvature.hessian, np.eye(rows), atol=1e-9)


def test_what_hangs_together_in_one_half_of_the_data_only_is_not_believed() -> None:
    weights = np.random.default_rng(1).standard_normal((64, 40)).astype(np.float32)
    random = np.random.default_rng(2)
    independent = [random.standard_normal((70, 64)) for _ in range(2)]
    grams = np.stack([half.T @ half for half in independent])
    levels = Levels(4, symmetric=False)
    found = learnt(grams, weights, levels, 32, DType.F16)
    truth = Curvature.of(np.eye(64), 0.0)
    plain = best_grid(weights, levels, 32, DType.F16)
    nearest = truth.error(weights - plain.values(plain.codes(weights))).sum()
    if found is not None:
        grid, codes = compensated(weights, found, plain)
        assert truth.error(weights - grid.values(codes)).sum() < 1.02 * nearest


def test_what_both_halves_say_is_believed() -> None:
    weights = np.random.default_rng(1).standard_normal((64, 40)).astype(np.float32)
    data = correlated(64, 2000, 16)
    grams = np.stack([half.T @ half for half in (data[::2], data[1::2])])
    found = learnt(grams, weights, Levels(4, symmetric=False), 32, DType.F16)
    assert found is not None
    hessian = found.hessian * np.trace(grams.sum(axis=0)) / 64
    assert np.allclose(hessian - np.diag(np.diag(hessian)), grams.sum(axis=0) - np.diag(np.diag(grams.sum(axis=0))))

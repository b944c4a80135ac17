"""Ranges from histograms: each way holds what it promises, stays within what was seen, and is as good as trying them all."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.lowering.calibration import METHODS, Histogram, percentile_range, squared_error
from irc.passes.precision import Range

Array = np.ndarray[Any, Any]
FLOATS = st.floats(width=32, min_value=-1e6, max_value=1e6)


def histogram(values: Any) -> Histogram:
    result = Histogram()
    result.see(np.asarray(values, np.float32))
    return result


def spread(kind: str) -> Array:
    """200,000 numbers of some distribution."""
    generator = np.random.default_rng(7)
    normal = generator.standard_normal(200_000)
    return {
        "normal": normal,
        "relu": np.maximum(normal, 0),
        "negative": -np.abs(normal),
        "gelu": normal * (1 + np.tanh(0.8 * normal)) / 2,
        "laplace": generator.laplace(size=200_000),
        "student": generator.standard_t(3, 200_000),
        "outlier": np.append(normal, 60.0),
        "uniform": generator.random(200_000),
        "integers": generator.integers(0, 256, 200_000),
        "two heaps": np.concatenate([normal - 20, normal + 5]),
    }[kind]


KINDS = ["normal", "relu", "negative", "gelu", "laplace", "student", "outlier", "uniform", "integers", "two heaps"]


def error(values: Array, chosen: Range) -> float:
    """The sum of squares of what u8 makes wrong."""
    scale, zero = (float(each) for each in chosen.scale_and_zero())
    return float(np.square((np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale - values).sum())


@settings(deadline=None)
@given(st.sampled_from(sorted(METHODS)), st.lists(FLOATS, max_size=40), st.integers(0, 300))
def test_a_range_holds_zero_and_nothing_that_was_not_seen(method: str, values: list[float], more: int) -> None:
    chosen = METHODS[method](histogram([*values, *np.linspace(-1, 3, more)]))
    seen = [0.0, *values, *([-1.0, 3.0] if more > 1 else [-1.0] * more)]
    assert min(seen) <= chosen.low <= 0 <= chosen.high <= max(seen)
    assert chosen.scale_and_zero()[0] > 0


def test_min_max_is_exact() -> None:
    values = spread("student").astype(np.float32)
    chosen = METHODS["min-max"](histogram(values))
    assert (chosen.low, chosen.high) == (values.min(), values.max())


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.99, 100.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_percentile_leaves_out_no_more_than_it_says(kind: str, percentile: float) -> None:
    values = spread(kind)
    found = histogram(values)
    chosen = percentile_range(found, percentile)
    allowed = (100 - percentile) / 100 * values.size + found.counts.max(initial=0, where=found.counts < values.size / 100) + 1
    assert (values > chosen.high).sum() <= allowed
    assert (values < chosen.low).sum() <= allowed
    if percentile == 100:
        assert chosen == METHODS["min-max"](found)


def test_a_percentile_is_that_of_the_numbers() -> None:
    values = spread("normal")
    chosen = percentile_range(histogram(values), 99)
    np.testing.assert_allclose([chosen.low, chosen.high], np.percentile(values, [1, 99]), atol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_no_pair_of_ends_is_much_better_than_that_of_least_squares(kind: str) -> None:
    values = spread(kind)
    found = histogram(values)
    chosen = METHODS["mse"](found)
    tried = [
        squared_error(found, Range(min(low, 0.0), max(high, 0.0)))
        for low in found.low * np.linspace(0, 1, 25)
        for high in found.high * np.linspace(0.04, 1, 25)
    ]
    assert squared_error(found, chosen) <= 1.08 * min(tried)
    assert squared_error(found, chosen) <= squared_error(found, METHODS["min-max"](found))


@pytest.mark.parametrize("kind", ["normal", "relu", "laplace", "student", "uniform"])
def test_the_error_by_histogram_is_that_of_the_numbers(kind: str) -> None:
    values = spread(kind)
    chosen = METHODS["mse"](histogram(values))
    assert squared_error(histogram(values), chosen) == pytest.approx(error(values, chosen), rel=0.03)


def divergence(counts: Array, bins: int, levels: int) -> float:
    """KL(P || Q) as the talk has it, bin by bin, for a histogram of magnitudes without its first bin."""
    kept = counts[:bins].copy()
    kept[0] = 0
    p = kept.copy()
    p[bins - 1] += counts[bins:].sum()
    q = np.zeros(bins)
    borders = np.arange(levels + 1) * bins // levels
    for start, stop in itertools.pairwise(borders):
        filled = kept[start:stop] > 0
        q[start:stop][filled] = kept[start:stop].sum() / max(filled.sum(), 1)
    p, q = p / p.sum(), q / q.sum()
    held = p > 0
    return float((p[held] * np.log(p[held] / q[held])).sum())


def test_the_least_divergence_is_found() -> None:
    found = histogram(spread("relu"))
    right = found.counts[len(found.counts) // 2 :]
    chosen = METHODS["entropy"](found)
    last = int(np.flatnonzero(right)[-1])
    ends = [bins for bins in range(256, last + 2, 8) if right[bins - 1] > 0]
    best = min(divergence(right, bins, 256) for bins in ends)
    own = (
        divergence(right, round(chosen.high / found.width), 256)
        if chosen.high < found.high
        else divergence(right, last + 1, 256)
    )
    assert own <= best * 1.1 + 1e-9


def test_entropy_cuts_off_a_lonely_outlier() -> None:
    chosen = METHODS["entropy"](histogram(spread("outlier")))
    assert chosen.high < 6


def test_values_with_fewer_steps_than_an_integer_are_not_cut() -> None:
    for method in METHODS:
        chosen = METHODS[method](histogram([-1.0, 0.0, 1.0, 2.0]))
        assert chosen.low == pytest.approx(-1, abs=1e-3)
        assert chosen.high == pytest.approx(2, abs=1e-3)


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [np.nan]], ids=["empty", "zeros", "not finite"])
@pytest.mark.parametrize("method", sorted(METHODS))
def test_where_nothing_was_seen_but_zeros_the_range_is_zero(method: str, values: list[float]) -> None:
    chosen = METHODS[method](histogram(values))
    assert (chosen.low, chosen.high) == (0, 0)
    assert chosen.scale_and_zero()[0] > 0

"""Observers: exact counts and extremes, the same however the samples were dealt out and merged, and nothing lost to NaN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.lowering.calibration import ChannelExtremes, ChannelMoments, Gram, Histogram, SampleExtents, Samples
from irc.lowering.calibration.observers import HALF

Array = np.ndarray[Any, Any]
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
PARTS = st.lists(st.lists(FLOATS, max_size=6), min_size=1, max_size=6)
QUIET = settings(deadline=None)


def seen(make: Callable[[], Any], *arrays: Array) -> Any:
    """An observer that has seen some arrays."""
    observer = make()
    for array in arrays:
        observer.see(array)
    return observer


def f32(values: Any) -> Array:
    return np.array(values, np.float32)


def same(one: Histogram, other: Histogram) -> bool:
    """Whether two histograms agree in every bit."""
    alike = (one.exponent, one.low, one.high, one.count, one.skipped) == (
        *(other.exponent, other.low, other.high),
        *(other.count, other.skipped),
    )
    return alike and np.array_equal(one.counts, other.counts)


# Histograms


@QUIET
@given(PARTS)
def test_a_histogram_counts_everything_within_its_range(parts: list[list[float]]) -> None:
    histogram = seen(Histogram, *map(f32, parts))
    values = f32([value for part in parts for value in part])
    assert histogram.counts.sum() == histogram.count == values.size
    if values.size:
        assert (histogram.low, histogram.high) == (values.min(), values.max())
        assert histogram.edges[0] < histogram.low
        assert histogram.high < histogram.edges[-1]


def test_zeros_widen_no_range() -> None:
    assert same(seen(Histogram, f32([0.0]), f32([0.25])), seen(Histogram, f32([0.0, 0.25])))


@QUIET
@given(PARTS, st.randoms())
def test_merging_histograms_in_any_order_is_seeing_it_all(parts: list[list[float]], random: Any) -> None:
    whole = seen(Histogram, f32([value for part in parts for value in part]))
    random.shuffle(parts)
    merged = Histogram()
    for part in parts:
        merged.merge(seen(Histogram, f32(part)))
    assert same(merged, whole)
    assert same(seen(Histogram, *map(f32, parts)), whole)


@QUIET
@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_every_element_is_in_the_bin_that_its_edges_say(values: list[float]) -> None:
    histogram = seen(Histogram, f32(values))
    numbers = f32(values).astype(np.float64)
    edges, width = histogram.edges, histogram.width
    bins = np.trunc(numbers / width).astype(int) + HALF - 1
    np.testing.assert_array_equal(histogram.counts, np.bincount(bins, minlength=2 * HALF - 1))
    assert (edges[bins] <= numbers).all()
    assert (numbers <= edges[bins + 1]).all()
    assert len(edges) == len(histogram.counts) + 1


def test_the_range_doubles_no_more_than_it_has_to() -> None:
    histogram = seen(Histogram, f32([0.3]), f32([0.9]), f32([-3.5]))
    assert (histogram.edges[0], histogram.edges[-1]) == (-4.0, 4.0)
    assert seen(Histogram, f32([1.0])).edges[-1] == 2.0


def test_what_is_not_finite_is_counted_apart() -> None:
    histogram = seen(Histogram, f32([np.nan, np.inf, 1.0, -np.inf, -2.0]), f32([np.nan]))
    assert (histogram.low, histogram.high, histogram.count, histogram.skipped) == (-2.0, 1.0, 2, 4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.int64, np.bool_, np.uint8])
def test_histograms_take_any_numbers(dtype: Any) -> None:
    array = np.array([0, 1, 1, 1, 0], dtype)
    histogram = seen(Histogram, array, np.zeros((0, 3), dtype))
    assert (histogram.low, histogram.high, histogram.count) == (0, 1, 5)
    assert sorted(histogram.counts[histogram.counts > 0]) == [2, 3]


def test_huge_and_tiny_numbers_share_a_histogram() -> None:
    largest = float(np.finfo(np.float32).max)
    histogram = seen(Histogram, f32([1e-45, -1e-45, largest, -largest]), np.array([1e300]), f32([-1.0]))
    assert histogram.counts.sum() == histogram.count == 6
    assert (histogram.low, histogram.high) == (-largest, 1e300)


def test_many_blocks_are_counted_as_one() -> None:
    values = np.random.default_rng(0).standard_normal((3, 50_000)).astype(np.float32)
    assert same(seen(Histogram, values), seen(Histogram, *values))


# Channels


def stacked(axis: int) -> list[Array]:
    generator = np.random.default_rng(axis + 5)
    return [np.moveaxis(generator.standard_normal((4, 2, size)), 0, axis).astype(np.float32) for size in (3, 1, 5)]


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_channels_are_looked_at_one_by_one(axis: int) -> None:
    arrays = stacked(axis)
    rows = np.concatenate([np.moveaxis(array, axis, 0).reshape(4, -1) for array in arrays], axis=1).astype(np.float64)
    extremes = seen(lambda: ChannelExtremes(axis), *arrays)
    np.testing.assert_array_equal(extremes.low, rows.min(axis=1))
    np.testing.assert_array_equal(extremes.high, rows.max(axis=1))
    np.testing.assert_array_equal(extremes.magnitude, np.abs(rows).max(axis=1))
    moments = seen(lambda: ChannelMoments(axis), *arrays)
    np.testing.assert_allclose(moments.means, rows.mean(axis=1))
    np.testing.assert_allclose(moments.squares, np.square(rows).mean(axis=1))
    gram = seen(lambda: Gram(axis), *arrays)
    np.testing.assert_allclose(gram.matrix, rows @ rows.T, rtol=1e-5, atol=1e-5)
    assert gram.rows == rows.shape[1]


@pytest.mark.parametrize("make", [lambda: ChannelExtremes(0), lambda: ChannelMoments(0), lambda: Gram(0)])
def test_channels_merge_as_they_are_seen(make: Callable[[], Any]) -> None:
    arrays = stacked(0)
    whole, merged = seen(make, *arrays), make()
    for array in reversed(arrays):
        merged.merge(seen(make, array))
    merged.merge(make())
    for one, other in zip(numbers(whole), numbers(merged), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def numbers(observer: Any) -> list[Any]:
    """What an observer by channels has found."""
    if isinstance(observer, Gram):
        return [observer.matrix, observer.rows]
    if isinstance(observer, ChannelMoments):
        return [observer.means, observer.squares, observer.count]
    return [observer.low, observer.high]


def test_channels_leave_out_what_is_not_finite() -> None:
    array = f32([[1, np.nan, -4], [np.inf, 2, 3], [5, 6, -np.inf]])
    extremes = seen(lambda: ChannelExtremes(0), array)
    assert extremes.low.tolist() == [-4, 2, 5]
    assert extremes.high.tolist() == [1, 3, 6]
    assert seen(lambda: ChannelMoments(0), array).means.tolist() == pytest.approx([-1, 5 / 3, 11 / 3])
    gram = seen(lambda: Gram(1), array)
    assert gram.rows == 0
    assert not gram.matrix.any()


def test_a_gram_matrix_of_large_numbers_does_not_overflow() -> None:
    gram = seen(Gram, f32([[1e30, 1.0]]))
    np.testing.assert_allclose(gram.matrix, [[1e60, 1e30], [1e30, 1.0]], rtol=1e-6)


def test_a_gram_matrix_is_summed_in_float64() -> None:
    gram = seen(Gram, np.full((1 << 14, 1), 4097.0, np.float32))
    np.testing.assert_allclose(gram.matrix, [[(1 << 14) * 4097.0**2]], rtol=1e-6)


def test_samples_keep_the_first_few() -> None:
    array = f32([1, 2])
    samples = seen(lambda: Samples(2), array, array + 1, array + 2)
    array[:] = 9
    assert [each.tolist() for each in samples.arrays] == [[1, 2], [2, 3]]


# Samples by themselves


def test_how_far_samples_reach_is_kept_of_each() -> None:
    found = seen(SampleExtents, f32([1.0, 3.0]), f32([-1.0, 1.0]), f32([]), f32([np.nan]), f32([-np.inf, 1.0]), f32([0.0]))
    assert found.widths == [3.0, 2.0, 0.0]
    assert found.squares == [5.0, 1.0, 0.0]
    found.merge(seen(SampleExtents, f32([2.0])))
    assert (found.widths[-1], found.squares[-1]) == (2.0, 4.0)

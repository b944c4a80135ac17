"""Which part of a value's range the 256 steps of an 8-bit integer are best spent on, decided by its histogram.

Law: every range holds zero, and nothing that was never seen: it ends at or within the exact least and greatest elements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from irc.passes.precision import Range

from .observers import HALF, Floats, Histogram

LEVELS = 256
PERCENTILE = 99.99
_GRID = 65
"""Ends that are tried on each side at a time."""
_THRESHOLDS = 256
_ZERO = HALF - 1
"""Where the bin around zero is."""


def min_max_range(histogram: Histogram) -> Range:
    """All that was seen (Jacob et al. 2018, arXiv:1712.05877, section 3.1)."""
    return Range(histogram.low, histogram.high) if histogram.count else Range(0.0, 0.0)


def percentile_range(histogram: Histogram, percentile: float = PERCENTILE) -> Range:
    """As much as leaves out at most 100 - `percentile` percent of the elements at either end.

    McKinstry et al. 2018, arXiv:1809.04191, calibrate so; Wu et al. 2020, arXiv:2004.09602, compare it with the others.
    """
    if not histogram.count:
        return Range(0.0, 0.0)
    share = percentile / 100
    below = np.concatenate([[0.0], np.cumsum(histogram.counts)])
    low, high = np.interp([(1 - share) * histogram.count, share * histogram.count], below, histogram.edges)
    return _within(histogram, float(low), float(high))


def mse_range(histogram: Histogram) -> Range:
    """The range with the least expected squared error of what it clips and what it rounds.

    An element beyond an end is off by its distance from it, one within by Δ²/12 in the mean (Banner et al. 2019,
    arXiv:1810.05723, equation 5), and one nearer to zero than Δ/2 by itself. The pairs of ends are searched on a grid, and
    again around the best. An end where clipping does not help after all, as with values that are integers, is left as it is.
    """
    if not histogram.count or histogram.low == histogram.high == 0:
        return min_max_range(histogram)
    whole, errors = min_max_range(histogram), _Errors(histogram)
    lows, highs = np.linspace(whole.low, 0, _GRID), np.linspace(whole.high, 0, _GRID)
    low, high = errors.best(lows, highs)
    apart = -whole.low / (_GRID - 1), whole.high / (_GRID - 1)
    lows = np.clip(np.linspace(low - apart[0], low + apart[0], _GRID), whole.low, 0)
    highs = np.clip(np.linspace(high + apart[1], high - apart[1], _GRID), 0, whole.high)
    best = _within(histogram, *errors.best(lows, highs))
    mixed = Range(whole.low, best.high), Range(best.low, whole.high)
    return min(whole, best, *mixed, key=lambda each: squared_error(histogram, each))


def entropy_range(histogram: Histogram) -> Range:
    """The range whose 256 levels tell least more than the values did: of the least Kullback-Leibler divergence.

    After Migacz, "8-bit Inference with TensorRT", GTC 2017: P is what was seen, with what is clipped put into the outermost
    bins, and Q spreads what each level holds over those of its bins that hold anything. Ranges are cut at one magnitude on
    both sides, and end where elements are. The bin around zero is left out, as in NVIDIA's pytorch-quantization: zero is
    exact in every range, and after a Relu there is little else.
    """
    counts = histogram.counts.copy()
    counts[_ZERO] = 0
    filled = np.flatnonzero(counts)
    first, last = (int(filled[0]), int(filled[-1])) if len(filled) else (_ZERO, _ZERO)
    if max(last, _ZERO) - min(first, _ZERO) < LEVELS:
        return min_max_range(histogram)
    starts, ends = _cuts(filled, first, last)
    divergence = _divergences(counts, starts, ends)
    best = int(np.argmin(divergence))
    edges = histogram.edges
    return _within(histogram, float(edges[starts[best]]), float(edges[ends[best] + 1]))


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "min-max": min_max_range,
    "percentile": percentile_range,
    "entropy": entropy_range,
    "mse": mse_range,
}
"""Every way to choose a range, by its name."""


def squared_error(histogram: Histogram, chosen: Range) -> float:
    """The sum of squares of what the elements are off in the 256 steps of a range, each taken for the middle of its bin."""
    scale, zero = (float(each) for each in chosen.scale_and_zero())
    middles = _middles(histogram)
    stood = (np.clip(np.rint(middles / scale) + zero, 0, LEVELS - 1) - zero) * scale
    return float(histogram.counts @ np.square(stood - middles))


def _within(histogram: Histogram, low: float, high: float) -> Range:
    """A range cut to what was seen."""
    low, high = max(low, min(histogram.low, 0.0)), min(high, max(histogram.high, 0.0))
    return Range(min(low, 0.0), max(high, 0.0))


def _middles(histogram: Histogram) -> Floats:
    edges = histogram.edges
    return (edges[1:] + edges[:-1]) / 2


class _Errors:
    """Expected squared errors from sums over bins up to each, so that a range costs the same however many bins it has."""

    def __init__(self, histogram: Histogram) -> None:
        self._middles = _middles(histogram)
        sums = [np.cumsum(histogram.counts * self._middles**power) for power in range(3)]
        self._sums = np.array([np.concatenate([[0.0], each]) for each in sums])

    def best(self, lows: Floats, highs: Floats) -> tuple[float, float]:
        """The ends with the least error among all pairs; of equals the wider range, which comes first."""
        step = (highs[None, :] - lows[:, None]) / (LEVELS - 1)
        below, above = self._clipped(lows, highs)
        inner = np.searchsorted(self._middles, step / 2)
        outer = len(self._middles) - inner  # the bins lie alike on both sides of zero
        seen = self._sums[0][np.searchsorted(self._middles, highs)][None, :]
        unseen = self._sums[0][np.searchsorted(self._middles, lows)][:, None]
        near = self._sums[:, inner] - self._sums[:, outer]
        rounded = np.maximum(seen - unseen - near[0], 0) * np.square(step) / 12 + near[2]
        total = below[:, None] + above[None, :] + rounded
        row, column = np.unravel_index(int(np.argmin(np.where(step > 0, total, np.inf))), total.shape)
        return float(lows[row]), float(highs[column])

    def _clipped(self, lows: Floats, highs: Floats) -> tuple[Floats, Floats]:
        """The squared distances of what lies below and above: the sum of (x - end)² = Σx² - 2 end Σx + end² Σ1."""
        under = self._sums[:, np.searchsorted(self._middles, lows)]
        over = self._sums[:, -1:] - self._sums[:, np.searchsorted(self._middles, highs)]
        below, above = (s[2] - 2 * end * s[1] + end * end * s[0] for s, end in ((under, lows), (over, highs)))
        return np.maximum(below, 0), np.maximum(above, 0)


def _cuts(filled: npt.NDArray[np.intp], first: int, last: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The first and last bins of the ranges to try, from the whole range to the narrowest that has a bin for each level."""
    reach = max(last - _ZERO, _ZERO - first)
    sides = (last > _ZERO) + (first < _ZERO)
    cuts = np.unique(np.linspace(reach, min(reach, -(-LEVELS // sides)), _THRESHOLDS).astype(np.intp))[::-1]
    # Where nothing lies within a cut, these are outside of it: a range that is tried already, or none.
    starts = filled[np.minimum(np.searchsorted(filled, _ZERO - cuts), len(filled) - 1)]
    ends = filled[np.searchsorted(filled, _ZERO + cuts, side="right") - 1]
    good = (starts <= ends) & (np.maximum(ends, _ZERO) - np.minimum(starts, _ZERO) + 1 >= LEVELS)
    return starts[good], ends[good]


def _divergences(counts: Floats, starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]) -> Floats:
    """KL(P || Q) for each range of bins; starts and ends are bins with counts."""
    total = counts.sum()
    sums, filled, entropies = (_summed(each) for each in (counts, (counts > 0).astype(np.float64), _entropy(counts)))
    begins, stops = np.minimum(starts, _ZERO), np.maximum(ends, _ZERO) + 1
    borders = begins[:, None] + np.arange(LEVELS + 1)[None, :] * (stops - begins)[:, None] // LEVELS
    masses, bins = np.diff(sums[borders], axis=1), np.diff(filled[borders], axis=1)
    held = masses > 0
    inside = sums[stops] - sums[begins]
    logs = np.log(np.where(held, masses, 1.0) / np.where(held, bins, 1.0) / inside[:, None])
    under, over = sums[starts], total - sums[ends + 1]
    rows, lowest, highest = np.arange(len(starts)), held.argmax(axis=1), LEVELS - 1 - held[:, ::-1].argmax(axis=1)
    crossed = (masses * np.where(held, logs, 0.0)).sum(axis=1) + under * logs[rows, lowest] + over * logs[rows, highest]
    known = entropies[ends + 1] - entropies[starts]
    for edge, more in ((starts, under), (ends, over)):
        known += _entropy(counts[edge] + more) - _entropy(counts[edge])
    return (known - crossed) / total - np.log(total)


def _summed(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _entropy(counts: Floats) -> Floats:
    return counts * np.log(np.where(counts > 0, counts, 1.0))

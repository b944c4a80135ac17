"""What is kept of a value while samples go by: a histogram, extremes and means by channel, a Gram matrix, a few samples.

Law: what observers have seen in parts and merged is what one would have seen at once, in whatever order (sums of float64 up
to their rounding; a histogram exactly). Memory does not grow with the number of samples, but for the samples kept on purpose.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
HALF = 4096
"""Bins of a histogram on each side, the one around zero counted to both."""
_SMALLEST_EXPONENT, _LARGEST_EXPONENT = -100, 128
"""Of the range of a histogram, and of one that float32 has numbers for."""
_BLOCK = 1 << 16
"""Elements binned at a time, so that what is computed on the way stays in the cache."""
_GRAM_ROWS = 1 << 12


class Observer(Protocol):
    """Something that is shown what a value holds on one sample after another."""

    def see(self, array: Array) -> None:
        """Take in what the value holds on one more sample; the array is not kept."""
        ...


class Histogram:
    """How often a value's elements lie where: bins of one width `w` between -2^e and 2^e, counted in float64.

    Element x is in bin trunc(x / w), so the bin around zero, (-w, w), is twice as wide as the others. `counts` has the bins
    in order, from -HALF + 1 to HALF - 1. The range doubles where an element lies outside, and the bins with it. As widths are
    powers of two, an element's bin depends on the final range alone, so that histograms merge exactly, in any order. `low`
    and `high` are exact. What is not finite is counted in `skipped` and nowhere else.
    """

    def __init__(self) -> None:
        self.counts: Floats = np.zeros(2 * HALF - 1)
        self.exponent = _SMALLEST_EXPONENT
        self.low = math.inf
        self.high = -math.inf
        self.count = 0
        self.skipped = 0

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0 / HALF, self.exponent)

    @property
    def edges(self) -> Floats:
        """The ends of the bins in order, one more than there are bins."""
        return np.concatenate([np.arange(-HALF, 0), np.arange(1, HALF + 1)]).astype(np.float64) * self.width

    def see(self, array: Array) -> None:
        """Count the elements of an array of any type of numbers."""
        if not array.size:
            return
        values = array.reshape(-1)
        if values.dtype != np.float32:
            values = values.astype(np.float64)
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            finite = values[np.isfinite(values)]
            self.skipped += values.size - finite.size
            self.see(finite)
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += values.size
        if low or high:  # zeros are in the same bin whatever the range
            self._widen(math.frexp(max(-low, high))[1])
        self._bin(values)

    def merge(self, other: Histogram) -> None:
        """Take in what another histogram has seen."""
        self._widen(other.exponent)
        self.counts += _wider(other.counts, self.exponent - other.exponent)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.count += other.count
        self.skipped += other.skipped

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = _wider(self.counts, exponent - self.exponent)
            self.exponent = exponent

    def _bin(self, values: Array) -> None:
        """Scaling by a power of two is exact, but for what is far below a bin and stays so."""
        kind = values.dtype if self.exponent <= _LARGEST_EXPONENT else np.dtype(np.float64)
        scale = kind.type(math.ldexp(HALF, -self.exponent))
        scaled, narrow, places = np.empty(_BLOCK, kind), np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.intp)
        for start in range(0, values.size, _BLOCK):
            block = values[start : start + _BLOCK]
            part, whole, place = (each[: block.size] for each in (scaled, narrow, places))
            np.multiply(block, scale, out=part)
            np.copyto(whole, part, casting="unsafe")  # which rounds toward zero, and by way of int32 is twice as fast
            np.add(whole, HALF - 1, out=place)
            self.counts += np.bincount(place, minlength=2 * HALF - 1)


def _wider(counts: Floats, times: int) -> Floats:
    """The counts where bins are 2^times as wide: bin i becomes bin trunc(i / 2^times)."""
    if not times:
        return counts
    together = 1 << min(times, HALF.bit_length() - 1)
    above, below = counts[HALF - 1 :], counts[HALF - 1 :: -1].copy()
    below[0] = 0  # the bin around zero is counted once
    above, below = (side.reshape(-1, together).sum(axis=1) for side in (above, below))
    above[0] += below[0]
    result = np.zeros(2 * HALF - 1)
    result[HALF - 1 : HALF - 1 + len(above)] = above
    result[HALF - len(below) : HALF - 1] = below[:0:-1]
    return result


class SampleExtents:
    """How far each sample reaches: its `widths`, from the least to the greatest element and zero, and the mean of x² in it.

    Samples without elements, and such as hold NaN or Inf, are left out.
    """

    def __init__(self) -> None:
        self.widths: list[float] = []
        self.squares: list[float] = []

    def see(self, array: Array) -> None:
        """Take in one more sample."""
        low, high = float(array.min(initial=0.0)), float(array.max(initial=0.0))
        if not array.size or not math.isfinite(high - low):
            return
        values = array.reshape(-1).astype(np.float64)
        self.widths.append(high - low)
        self.squares.append(float(values @ values) / values.size)

    def merge(self, other: SampleExtents) -> None:
        """Take in what another has seen."""
        self.widths += other.widths
        self.squares += other.squares


class ChannelExtremes:
    """The least and the greatest element of each channel: `low` and `high` [channels] over all other axes, None before any."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.low: Array | None = None
        self.high: Array | None = None

    @property
    def magnitude(self) -> Array:
        """The largest magnitude in each channel."""
        assert self.low is not None, "nothing was seen"
        assert self.high is not None
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def see(self, array: Array) -> None:
        """Take in an array whose axis `axis` are the channels; NaN and Inf do not count."""
        others = _others(array, self.axis)
        low, high = array.min(axis=others, initial=np.inf), array.max(axis=others, initial=-np.inf)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            finite = np.isfinite(array)
            low = np.where(finite, array, np.inf).min(axis=others, initial=np.inf)
            high = np.where(finite, array, -np.inf).max(axis=others, initial=-np.inf)
        self._take(low, high)

    def merge(self, other: ChannelExtremes) -> None:
        """Take in what another has seen."""
        if other.low is not None and other.high is not None:
            self._take(other.low, other.high)

    def _take(self, low: Array, high: Array) -> None:
        self.low = low if self.low is None else np.minimum(self.low, low)
        self.high = high if self.high is None else np.maximum(self.high, high)


class ChannelMoments:
    """The mean and mean square of each channel over all other axes and samples, in float64; NaN and Inf count as 0."""

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self._sums: tuple[Floats, Floats] | None = None

    @property
    def means(self) -> Floats:
        """The mean of x [channels]."""
        assert self._sums is not None, "nothing was seen"
        return self._sums[0] / max(self.count, 1)

    @property
    def squares(self) -> Floats:
        """The mean of x² [channels]."""
        assert self._sums is not None, "nothing was seen"
        return self._sums[1] / max(self.count, 1)

    def see(self, array: Array) -> None:
        """Take in an array whose axis `axis` are the channels."""
        stacks = _stacks(array, self.axis).astype(np.float64)
        if not np.isfinite(stacks.sum()):
            stacks[~np.isfinite(stacks)] = 0
        sums = stacks.sum(axis=(0, 2)), np.einsum("scp,scp->c", stacks, stacks)
        self._take(sums, stacks.shape[0] * stacks.shape[2])

    def merge(self, other: ChannelMoments) -> None:
        """Take in what another has seen."""
        if other._sums is not None:
            self._take(other._sums, other.count)

    def _take(self, sums: tuple[Floats, Floats], count: int) -> None:
        self._sums = sums if self._sums is None else (self._sums[0] + sums[0], self._sums[1] + sums[1])
        self.count += count


class Gram:
    """The sum of x xᵀ [width, width] over all vectors x along axis `axis`, in float64; `rows` is how many there were.

    For the last axis it is XᵀX of the value as rows X [rows, width], the second moment that error compensation needs (GPTQ,
    Frantar et al. 2022, arXiv:2210.17323, calls 2 XᵀX the Hessian). Products of up to 4096 vectors are made in float32, as
    fast as the machine has it, and summed in float64. A vector that holds NaN or Inf is left out.
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis
        self.matrix: Floats | None = None
        self.rows = 0

    def see(self, array: Array) -> None:
        """Take in an array of rank 1 or more."""
        stacks = _stacks(array, self.axis)
        if stacks.dtype != np.float64:
            stacks = stacks.astype(np.float32, copy=False)
        matrix: Floats = np.zeros((stacks.shape[1], stacks.shape[1])) if self.matrix is None else self.matrix
        for stack in stacks.transpose(2, 1, 0) if stacks.shape[2] == 1 else stacks:
            for start in range(0, stack.shape[1], _GRAM_ROWS):
                block = stack[:, start : start + _GRAM_ROWS]
                with np.errstate(all="ignore"):
                    product = block @ block.T
                if not np.isfinite(np.diag(product)).all():
                    block = block[:, np.isfinite(block).all(axis=0)].astype(np.float64)
                    product = block @ block.T
                np.add(matrix, product, out=matrix)
                self.rows += block.shape[1]
        self.matrix = matrix

    def merge(self, other: Gram) -> None:
        """Take in what another has seen."""
        if other.matrix is not None:
            self.matrix = other.matrix.copy() if self.matrix is None else self.matrix + other.matrix
            self.rows += other.rows


class Samples:
    """What a value holds on the first `most` samples, copied."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.arrays: list[Array] = []

    def see(self, array: Array) -> None:
        """Keep the array while there is room."""
        if len(self.arrays) < self.most:
            self.arrays.append(array.copy())


def _others(array: Array, axis: int) -> tuple[int, ...]:
    return tuple(each for each in range(array.ndim) if each != axis % array.ndim)


def _stacks(array: Array, axis: int) -> Array:
    """An array as [before, channels, behind] the axis of its channels, not copied where it is contiguous."""
    axis %= array.ndim
    return array.reshape(math.prod(array.shape[:axis]), array.shape[axis], math.prod(array.shape[axis + 1 :]))

"""Constant weights as integers of 8 bits: symmetric, with a scale for each channel of the output.

Law: a channel's scale is the one of a few that leaves the least squared error, so that a lone large weight costs the others no
digits unless that is worth it.

Two weights may be held `together`: neighbours along the summed axis, the first with the second, the third with the fourth,
whose steps of one sign are no larger than that as a sum. Where 255 times that is within 16 bits, VPMADDUBSW is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from irc.ir import Tensor

from ..precise import Floats
from .ranges import SMALLEST_SCALE

Steps = npt.NDArray[np.int8]
Rows = npt.NDArray[np.float32]
LARGEST = 127
"""Of the steps; -128 is left out, so that both signs reach as far."""
CLIPPINGS = (0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7, 0.6)
"""Shares of the largest weight that a scale may end at."""
ANY_TOGETHER = 2 * LARGEST
"""What neighbours are together at most, if nothing holds them."""
EXACT_TOGETHER = 128
"""What they may be at most for sums in 16 bits: 255 * 128 <= 32767."""
SPREADS = (1.08, 1.16, 1.25, 1.35, 1.5, 1.7, 2.0)
"""As CLIPPINGS, where neighbours are held together: a larger scale leaves them more room."""
_BLOCK = 1 << 18
"""Weights looked at together."""
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class IntegerWeights:
    """`steps` times `scales`: int8 as the weights are stored, and f32, one for each index of `axis` or one for all (None).

    Neighbours are held `together`.
    """

    steps: Steps
    scales: npt.NDArray[np.float32]
    axis: int | None
    together: int = ANY_TOGETHER

    def along_axis(self, numbers: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """One number for each channel, shaped to broadcast to the steps."""
        if self.axis is None:
            return numbers
        return numbers.reshape([-1 if index == self.axis else 1 for index in range(self.steps.ndim)])

    @property
    def values(self) -> Floats:
        """What DequantizeLinear makes of them."""
        scales = np.asarray(self.along_axis(self.scales), np.float32)
        return (self.steps.astype(np.float32) * scales).astype(np.float64)


def integer_weights(
    weights: Tensor, axis: int | None, summed: int | None = None, together: int = ANY_TOGETHER
) -> IntegerWeights:
    """The weights nearest to constant f32 `weights`, which are finite, scaled along `axis` (None: by one scale).

    Neighbours along the axis `summed` are held `together`.
    """
    rows = as_rows(weights.array, axis, summed)
    hold = _holding(1 if summed is None else weights.shape[summed], together)
    shares = CLIPPINGS if together >= ANY_TOGETHER else (*CLIPPINGS, *SPREADS)
    steps, scales = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
    block = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        own = rows[part].astype(np.float32)
        scales[part] = _best_scales(own, shares, hold)
        steps[part] = _nearest(own, scales[part], hold)
    return IntegerWeights(
        from_rows(steps, weights.shape, axis, summed), scales if axis is not None else scales.reshape(()), axis, together
    )


def _holding(width: int, together: int) -> Callable[[Rows], None]:
    """Brings neighbours in rows of so many summed steps each back together, in place, both by as much.

    `together` is LARGEST at least, so that two of which it is less have one sign.
    """

    def hold(steps: Rows) -> None:
        pairs = steps.reshape(-1, width)
        first, second = pairs[:, 0 : width // 2 * 2 : 2], pairs[:, 1::2]
        found = np.unravel_index(np.flatnonzero(np.abs(first + second) > together), first.shape)
        one, other = first[found], second[found]
        excess = np.abs(one + other) - together
        of_one = np.where(np.abs(one) >= np.abs(other), np.ceil(excess / 2), np.floor(excess / 2))
        first[found], second[found] = one - np.sign(one) * of_one, other - np.sign(one) * (excess - of_one)

    return hold if together < ANY_TOGETHER and width > 1 else lambda steps: None


def _best_scales(rows: Rows, shares: Sequence[float], hold: Callable[[Rows], None]) -> npt.NDArray[np.float32]:
    """For each row the scale, of those that end at these shares of its largest weight, that leaves the least squared error."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    best = _scales(largest, 1.0)
    least = _errors(rows, best, hold)
    for share in shares:
        scales = _scales(largest, share)
        errors = _errors(rows, scales, hold)
        better = errors < least
        best[better], least[better] = scales[better], errors[better]
    return best


def _scales(largest: npt.NDArray[np.float32], share: float) -> npt.NDArray[np.float32]:
    scales = np.maximum(largest * np.float32(share / LARGEST), np.float32(SMALLEST_SCALE))
    return np.where(largest > 0, scales, np.float32(1.0)).astype(np.float32)


def _nearest(rows: Rows, scales: npt.NDArray[np.float32], hold: Callable[[Rows], None]) -> Rows:
    steps = rows / scales[:, None]
    np.clip(np.rint(steps, out=steps), -LARGEST, LARGEST, out=steps)
    hold(steps)
    return steps


def _errors(rows: Rows, scales: npt.NDArray[np.float32], hold: Callable[[Rows], None]) -> npt.NDArray[np.float64]:
    left = _nearest(rows, scales, hold)
    np.multiply(left, scales[:, None], out=left)
    np.subtract(rows, left, out=left)
    return np.einsum("ij,ij->i", left, left, dtype=np.float64)


def as_rows(array: npt.NDArray[Number], axis: int | None, summed: int | None = None) -> npt.NDArray[Number]:
    """[channels, all others], of which `summed` is the last if that is given; one row where there is one scale."""
    order = _order(len(array.shape), axis, summed)
    return array.transpose(order).reshape(1 if axis is None else array.shape[axis], -1)


def from_rows(
    rows: npt.NDArray[Number], shape: tuple[int, ...], axis: int | None, summed: int | None = None
) -> npt.NDArray[Number]:
    """The inverse of `as_rows`."""
    order = _order(len(shape), axis, summed)
    moved = rows.reshape([shape[index] for index in order])
    return np.ascontiguousarray(moved.transpose(np.argsort(order)))


def _order(rank: int, axis: int | None, summed: int | None) -> tuple[int, ...]:
    ends = ([] if axis is None else [axis], [] if summed is None else [summed])
    return (*ends[0], *(index for index in range(rank) if index not in (axis, summed)), *ends[1])

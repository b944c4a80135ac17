"""Constant weights as integers of 8 bits: symmetric, with a scale for each channel of the output.

Law: a channel's scale is the one of a few clippings that leaves the least squared error, so that a lone large weight costs the
others no digits unless that is worth it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from irc.ir import Tensor

from ..precise import Floats
from .ranges import SMALLEST_SCALE

Steps = npt.NDArray[np.int8]
LARGEST = 127
"""Of the steps; -128 is left out, so that both signs reach as far."""
CLIPPINGS = (0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7, 0.6)
"""Shares of the largest weight that a scale may end at."""
_BLOCK = 1 << 21
"""Weights looked at together."""
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class IntegerWeights:
    """`steps` times `scales`: int8 as the weights are stored, and f32, one for each index of `axis` or one for all (None)."""

    steps: Steps
    scales: npt.NDArray[np.float32]
    axis: int | None

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


def integer_weights(weights: Tensor, axis: int | None) -> IntegerWeights:
    """The weights nearest to constant f32 `weights`, which are finite, scaled along `axis` (None: by one scale)."""
    rows = as_rows(weights.array, axis)
    steps, scales = np.empty(rows.shape, np.int8), np.empty(len(rows), np.float32)
    block = max(1, _BLOCK // max(1, rows.shape[1]))
    for start in range(0, len(rows), block):
        part = slice(start, start + block)
        scales[part] = _best_scales(rows[part].astype(np.float32))
        steps[part] = _nearest(rows[part], scales[part])
    return IntegerWeights(from_rows(steps, weights.shape, axis), scales if axis is not None else scales.reshape(()), axis)


def _best_scales(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """For each row the scale, of those that clip it a little, that leaves the least squared error."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    best = _scales(largest, 1.0)
    least = _errors(rows, best)
    for clipping in CLIPPINGS:
        scales = _scales(largest, clipping)
        errors = _errors(rows, scales)
        better = errors < least
        best[better], least[better] = scales[better], errors[better]
    return best


def _scales(largest: npt.NDArray[np.float32], clipping: float) -> npt.NDArray[np.float32]:
    scales = np.maximum(largest * np.float32(clipping / LARGEST), np.float32(SMALLEST_SCALE))
    return np.where(largest > 0, scales, np.float32(1.0)).astype(np.float32)


def _nearest(rows: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> Steps:
    return np.clip(np.rint(rows / scales[:, None]), -LARGEST, LARGEST).astype(np.int8)


def _errors(rows: npt.NDArray[np.float32], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    left = rows - _nearest(rows, scales) * scales[:, None]
    return np.einsum("ij,ij->i", left, left, dtype=np.float64)


def as_rows(array: npt.NDArray[Number], axis: int | None) -> npt.NDArray[Number]:
    """[channels, all others]; one row where there is one scale."""
    return array.reshape(1, -1) if axis is None else np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)


def from_rows(rows: npt.NDArray[Number], shape: tuple[int, ...], axis: int | None) -> npt.NDArray[Number]:
    """The inverse of `as_rows`."""
    if axis is None:
        return rows.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis))

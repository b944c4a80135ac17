"""Integers for weights: the scale and the zero point of every block of them, chosen for the least error.

Law: zero is a point of every grid, so what was zero (padding, pruned weights) stays zero; scales are as they are stored, so
that an error computed here is the error that an engine makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from irc.ir import DType

Floats: TypeAlias = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Levels:
    """The integers that a weight may be: of 4 or 8 bits, signed where they are symmetric around a zero point of 0."""

    bits: int
    symmetric: bool

    @property
    def dtype(self) -> DType:
        """The element type that holds them."""
        names = {4: (DType.U4, DType.I4), 8: (DType.U8, DType.I8)}
        return names[self.bits][self.symmetric]

    @property
    def low(self) -> int:
        """The smallest."""
        return -(1 << self.bits - 1) if self.symmetric else 0

    @property
    def high(self) -> int:
        """The largest."""
        return self.low + (1 << self.bits) - 1


@dataclass(frozen=True)
class Grid:
    """The points that weights [rows, columns] may take: `scales` * (integer - `zeros`), both [blocks, columns].

    A block is `block` rows of one column; the last one may be short. `stored` is the element type scales are kept in.
    """

    levels: Levels
    block: int
    scales: Floats
    zeros: Floats
    stored: DType

    def codes(self, weights: Floats) -> Floats:
        """The integers of the points nearest to weights [rows, columns]."""
        scales, zeros = self._by_row(len(weights))
        return np.clip(np.rint(weights / scales) + zeros, self.levels.low, self.levels.high)

    def values(self, codes: Floats) -> Floats:
        """What integers [rows, columns] stand for."""
        scales, zeros = self._by_row(len(codes))
        return scales * (codes - zeros)

    def _by_row(self, rows: int) -> tuple[Floats, Floats]:
        return (
            np.repeat(self.scales, self.block, axis=0)[:rows],
            np.repeat(self.zeros, self.block, axis=0)[:rows],
        )


def stored_dtype(weights: Floats, levels: Levels, block: int) -> DType:
    """f16 where no scale loses so much in it that the far end of its block moves by more than a quarter of a step; else f32."""
    widest = np.abs(_in_blocks(weights, block)).max(axis=1)
    widest = widest[widest > 0]
    half, count = np.finfo(np.float16), 1 << levels.bits
    smallest = float(half.smallest_subnormal) / 2 * 4 * count  # a step is a count-th of the range, and less where that is cut
    fits = not widest.size or (widest.min() / (2 * count) >= smallest and widest.max() <= half.max)
    return DType.F16 if fits else DType.F32


def rounded(scales: Floats, stored: DType) -> Floats:
    """Scales as they are stored; one that is nothing there is 1, since a block of zeros takes any."""
    with np.errstate(over="ignore"):
        kept = scales.astype(stored.numpy).astype(scales.dtype)
    return np.where((kept == 0) | ~np.isfinite(kept), 1, kept)


# What is left of the range of a block where its ends are cut off, and how far its zero point may move.
_SHARES = {4: (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.75, 0.7), 8: (1.0, 0.99, 0.98, 0.96, 0.94)}
_MOVES = {4: (0, -1, 1), 8: (0,)}
_REFITS = 3


def widest_grid(weights: Floats, levels: Levels, block: int, stored: DType) -> Grid:
    """The grid from the smallest to the largest of each block, zero among them: no weight is further than half a step off."""
    blocks = _in_blocks(weights, block)
    scales, zeros = _start(blocks, levels, stored, 1.0)
    return Grid(levels, block, scales[:, 0], zeros[:, 0], stored)


def best_grid(weights: Floats, levels: Levels, block: int, stored: DType, importance: Floats | None = None) -> Grid:
    """The grid of the least squared error of rounding that was found, each row's weighted by its `importance` [rows].

    For each block a search over ranges cut off at both ends and over zero points, then least squares for the scale with the
    integers held, and the integers again.
    """
    blocks = _in_blocks(weights, block)
    weighting = np.ones((1, 1, 1), weights.dtype) if importance is None else _in_blocks(importance[:, None], block)
    weighting = weighting.astype(weights.dtype)
    best = _Best(blocks, weighting, levels, stored)
    for share in _SHARES[levels.bits]:
        scales, zeros = _start(blocks, levels, stored, share)
        for sign in (1, -1) if levels.symmetric else (1,):
            for move in (0,) if levels.symmetric else _MOVES[levels.bits]:
                best.offer(scales * sign, np.clip(zeros + move, levels.low, levels.high))
    for _ in range(_REFITS):
        best.refit()
    return Grid(levels, block, best.scales[:, 0], best.zeros[:, 0], stored)


class _Best:
    """The best scales and zero points so far, [blocks, 1, columns] each, for blocks [blocks, block, columns]."""

    def __init__(self, blocks: Floats, weighting: Floats, levels: Levels, stored: DType) -> None:
        self._blocks, self._weighting, self._levels, self._stored = blocks, weighting, levels, stored
        shape = (blocks.shape[0], 1, blocks.shape[2])
        self.scales = np.ones(shape, blocks.dtype)
        self.zeros = np.zeros(shape, blocks.dtype)
        self._errors = np.full(shape, np.inf, blocks.dtype)

    def offer(self, scales: Floats, zeros: Floats) -> None:
        """Take scales and zero points where they are better."""
        off = self._steps(scales, zeros)
        off *= scales
        np.subtract(self._blocks, off, out=off)
        off *= off
        off *= self._weighting
        errors = off.sum(axis=1, keepdims=True)
        better = errors < self._errors
        self._errors = np.where(better, errors, self._errors)
        self.scales, self.zeros = np.where(better, scales, self.scales), np.where(better, zeros, self.zeros)

    def refit(self) -> None:
        """Offer the scale of least squares for the integers that the best ones give."""
        steps = self._steps(self.scales, self.zeros)
        weighted = steps * self._weighting
        squares = (weighted * steps).sum(axis=1, keepdims=True)
        product = (weighted * self._blocks).sum(axis=1, keepdims=True)
        scales = np.divide(product, squares, out=self.scales.copy(), where=squares > 0)
        self.offer(rounded(scales, self._stored), self.zeros)

    def _steps(self, scales: Floats, zeros: Floats) -> Floats:
        """How many steps from zero the points nearest to the weights are."""
        steps = self._blocks / scales
        np.rint(steps, out=steps)
        return steps.clip(self._levels.low - zeros, self._levels.high - zeros, out=steps)


def _start(blocks: Floats, levels: Levels, stored: DType, share: float) -> tuple[Floats, Floats]:
    """Scales and zero points for a share of the range of each block."""
    low = np.minimum(blocks.min(axis=1, keepdims=True), 0) * share
    high = np.maximum(blocks.max(axis=1, keepdims=True), 0) * share
    if levels.symmetric:
        # There is one more negative integer than there are positive ones: it is for the end that is further away.
        far, near = np.maximum(-low, high), np.minimum(-low, high)
        scales = np.copysign(np.maximum(far / -levels.low, near / levels.high), -low - high)
        return rounded(scales, stored), np.zeros_like(scales)
    scales = rounded((high - low) / (levels.high - levels.low), stored)
    return scales, np.clip(np.rint(levels.low - low / scales), levels.low, levels.high)


def _in_blocks(weights: Floats, block: int) -> Floats:
    """Weights [rows, columns] as [blocks, block, columns], zeros behind the last."""
    missing = -len(weights) % block
    padded = np.pad(weights, ((0, missing), (0, 0))) if missing else weights
    return padded.reshape(-1, block, weights.shape[1])

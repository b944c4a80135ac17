"""Error compensation: integers for a weight that make its products, not itself, come out nearest.

With H = X^T X of the inputs X of a product, the squared error of its results for one column of weights w is e^T H e, with
e = w - ŵ. Rounding one weight at a time, the error of each is made good for by those that come after it (GPTQ, Frantar et al.
2022, arXiv:2210.17323), then each is rounded anew given all others (coordinate descent as in QuantEase, Behdin et al. 2023,
arXiv:2309.01885) and the scale of each block is the one of least squares. All in float64.
Law: by e^T H e, no column is worse than rounded to the nearest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from irc.ir import DType

from .grids import Floats, Grid, Levels, best_grid, rounded

SWEEPS = 2
DAMPINGS = (0.1, 1.0, 8.0)
"""Shares of the mean of H's diagonal that may be added to it: the more, the less is made of how the data hang together."""
DAMPING = 3.0
"""The one that does no harm with about as many rows of data as there are weights in a column, where none can be tried."""
_TRIED_COLUMNS = 64
_HALVED = 64
"""Rows of half a matrix, below which halving it gains nothing."""


@dataclass(frozen=True)
class Curvature:
    """H [rows, rows], damped, and the upper factor U of its inverse U^T U."""

    hessian: Floats
    factor: Floats

    @staticmethod
    def of(gram: npt.NDArray[Any], damping: float = DAMPING) -> Curvature:
        """From X^T X [rows, rows]. A row that no input reaches counts as much as the damping alone."""
        hessian = np.array(gram, dtype=np.float64)
        mean = float(np.trace(hessian)) / len(hessian) or 1.0
        damped = hessian / mean + damping * np.eye(len(hessian))
        # With the order of the rows turned around, the lower factor of H is the inverse of what is wanted, turned around.
        return Curvature(damped, np.ascontiguousarray(_inverse_factor(damped[::-1, ::-1])[::-1, ::-1]))

    def error(self, off: Floats) -> Floats:
        """e^T H e of each column of errors [rows, columns]."""
        return np.einsum("rc,rc->c", off, self.hessian @ off)


def _inverse_factor(matrix: Floats) -> Floats:
    """L^-1 of a positive definite matrix L L^T, by halves of it, so that almost all of it is products of matrices.

    Of [[A, B^T], [B, C]] with A = L L^T the lower left of the factor is M = B L^-T, and what is left for the other half is
    C - M M^T (Golub and Van Loan, Matrix Computations, section 4.2).
    """
    half = len(matrix) // 2
    if half < _HALVED:
        return np.linalg.inv(np.linalg.cholesky(matrix))
    inverse = np.zeros(matrix.shape)
    inverse[:half, :half] = first = _inverse_factor(matrix[:half, :half])
    lower = matrix[half:, :half] @ first.T
    inverse[half:, half:] = second = _inverse_factor(matrix[half:, half:] - lower @ lower.T)
    inverse[half:, :half] = -second @ (lower @ first)
    return inverse


def learnt(grams: npt.NDArray[Any], weights: Floats, levels: Levels, block: int, stored: DType) -> Curvature | None:
    """What data tell of weights [rows, columns]; None where rounding to the nearest is better.

    `grams` is X^T X [rows, rows], or [2, rows, rows] of two halves of the data: then each damping is tried on some columns
    with the first half, and judged by the second. Data hang together by chance, too: within a sequence, or where they are few.
    """
    if grams.ndim == 2:
        return Curvature.of(grams)
    first, second = grams
    some = np.ascontiguousarray(weights[:, :: max(1, weights.shape[1] // _TRIED_COLUMNS)])
    plain = best_grid(some, levels, block, stored)
    least, best = _judged(some - plain.values(plain.codes(some)), second), None
    for damping in DAMPINGS:
        curvature = Curvature.of(first, damping)
        grid, codes = compensated(some, curvature, best_grid(some, levels, block, stored, np.diag(curvature.hessian)))
        error = _judged(some - grid.values(codes), second)
        if error < least:
            least, best = error, damping
    return None if best is None else Curvature.of(first + second, best)


def _judged(off: Floats, gram: npt.NDArray[Any]) -> float:
    return float(np.einsum("rc,rc->", off, gram @ off))


def compensated(weights: Floats, curvature: Curvature, plain: Grid) -> tuple[Grid, Floats]:
    """Grid and integers [rows, columns] for weights [rows, columns]; `plain` is the grid for rounding to the nearest.

    Columns for which no compensation helps are rounded to the nearest on `plain`.
    """
    wanted = weights.astype(np.float64)
    grid, codes = _one_after_the_other(wanted, curvature, plain)
    grid, codes = _swept(wanted, curvature, grid, codes)
    nearest = plain.codes(wanted)
    better = curvature.error(wanted - grid.values(codes)) < curvature.error(wanted - plain.values(nearest))
    scales, zeros = np.where(better, grid.scales, plain.scales), np.where(better, grid.zeros, plain.zeros)
    return replace(plain, scales=scales, zeros=zeros), np.where(better, codes, nearest)


def _one_after_the_other(wanted: Floats, curvature: Curvature, plain: Grid) -> tuple[Grid, Floats]:
    """GPTQ: the grid of each block is found when it is its turn, for what its weights have become by then."""
    left, codes, factor = wanted.copy(), np.empty_like(wanted), curvature.factor
    diagonal = np.diag(factor)
    parts: list[Grid] = []
    for begin in range(0, len(left), plain.block):
        rows = slice(begin, begin + plain.block)
        part = best_grid(left[rows].astype(np.float32), plain.levels, plain.block, plain.stored, 1 / diagonal[rows] ** 2)
        parts.append(part)
        block, inner = left[rows], factor[rows, rows]
        off = np.empty_like(block)
        for row in range(len(block)):
            code = _nearest(block[row], part.scales[0], part.zeros[0], plain.levels)
            codes[begin + row] = code
            off[row] = (block[row] - part.scales[0] * (code - part.zeros[0])) / inner[row, row]
            block[row + 1 :] -= inner[row, row + 1 :, None] * off[row]
        left[begin + len(block) :] -= factor[rows, begin + len(block) :].T @ off
    scales, zeros = (np.concatenate([getattr(part, name) for part in parts], dtype=np.float64) for name in ("scales", "zeros"))
    return replace(plain, scales=scales, zeros=zeros), codes


def _swept(wanted: Floats, curvature: Curvature, grid: Grid, codes: Floats) -> tuple[Grid, Floats]:
    """Each integer anew for all others as they are, and each scale for its integers; none of it makes the error larger."""
    hessian, levels = curvature.hessian, grid.levels
    scales, codes = grid.scales.copy(), codes.copy()
    off = wanted - grid.values(codes)
    pull = hessian @ off
    for sweep in range(SWEEPS):
        for number, begin in enumerate(range(0, len(wanted), grid.block)):
            rows = slice(begin, begin + grid.block)
            inner, before = hessian[rows, rows], off[rows].copy()
            zeros = grid.zeros[number]
            own = pull[rows].copy()
            for row, position in enumerate(range(begin, begin + len(before))):
                # What the value would have to be for this row to pull no more, the others held.
                best = wanted[position] - off[position] + own[row] / inner[row, row]
                codes[position] = _nearest(best, scales[number], zeros, levels)
                off[position] = wanted[position] - scales[number] * (codes[position] - zeros)
                own[row + 1 :] += inner[row + 1 :, row, None] * (off[position] - before[row])
            if sweep + 1 < SWEEPS:  # the last one is for the integers
                own = pull[rows] + inner @ (off[rows] - before)
                scales[number] = _refitted(scales[number], codes[rows] - zeros, own, inner, grid)
                off[rows] = wanted[rows] - scales[number] * (codes[rows] - zeros)
            np.add(pull, hessian[:, rows] @ (off[rows] - before), out=pull)
    return replace(grid, scales=scales), codes


def _refitted(scales: Floats, steps: Floats, pull: Floats, inner: Floats, grid: Grid) -> Floats:
    """The scales [columns] of least error for a block's `steps` [block, columns] from zero, where as stored they are better."""
    slope = np.einsum("rc,rc->c", steps, pull)
    curve = np.einsum("rc,rc->c", steps, inner @ steps)
    wished = scales + np.divide(slope, curve, out=np.zeros_like(slope), where=curve > 0)
    change = rounded(wished, grid.stored) - scales
    return np.where(curve * change * change < 2 * slope * change, scales + change, scales)


def _nearest(weights: Floats, scales: Floats, zeros: Floats, levels: Levels) -> Floats:
    codes = weights / scales
    np.rint(codes, out=codes)
    codes += zeros
    return codes.clip(levels.low, levels.high, out=codes)

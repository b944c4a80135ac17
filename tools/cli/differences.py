"""How far the answers of two programs are apart: floats by distance, integers by steps, everything else by being equal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, Any]
_INFINITE = float("inf")


@dataclass(frozen=True)
class Difference:
    """How far one output of the second model is from the first's, at worst over all trials.

    `relative` is the relative L2 distance in float64, `largest` the largest absolute difference of one element, `cosine` the
    cosine of the angle between them, `same_argmax` the share of equal positions of the largest element along the last axis.
    `steps` says that one step is no difference, as for integers; `note` is why the two cannot be measured against each other.
    """

    output: str
    relative: float
    largest: float
    cosine: float
    same_argmax: float
    note: str = ""
    steps: bool = False

    def agrees(self, tolerance: float) -> bool:
        """Whether this is within bounds: one step for integers, else the tolerance."""
        return not self.note and (self.largest <= 1 if self.steps else self.relative <= tolerance)

    def worse(self, other: Difference, tolerance: float) -> Difference:
        """The worse of two: one out of bounds before one within, then by distance."""
        mine, its = (not self.agrees(tolerance), self.relative), (not other.agrees(tolerance), other.relative)
        return other if its > mine else self


def difference(name: str, before: Any, after: Any) -> Difference:
    """How far `after` is from `before`, in float64. Where both are NaN or the same Inf they agree."""
    if isinstance(before, list) and isinstance(after, list):
        return _parts(name, cast("list[Any]", before), cast("list[Any]", after))
    if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
        alike = type(cast("object", before)) is type(cast("object", after))
        return _equal(name, alike and bool(before == after))
    x, y = cast("Array", before), cast("Array", after)
    if x.shape != y.shape or x.dtype != y.dtype:
        return _apart(name, f"{y.dtype}{list(y.shape)} instead of {x.dtype}{list(x.shape)}")
    if x.dtype.kind in "OSUb":
        return _equal(name, bool(np.array_equal(x, y)))
    return _numbers(name, x, y)


def _apart(name: str, note: str) -> Difference:
    return Difference(name, _INFINITE, _INFINITE, 0.0, 0.0, note)


def _equal(name: str, same: bool) -> Difference:
    return Difference(name, 0.0, 0.0, 1.0, 1.0) if same else _apart(name, "not equal")


def _parts(name: str, before: list[Any], after: list[Any]) -> Difference:
    """The worst of the parts of two sequences."""
    if len(before) != len(after):
        return _apart(name, f"{len(after)} entries instead of {len(before)}")
    found = [difference(name, a, b) for a, b in zip(before, after, strict=True)]
    return max(found, key=lambda d: (bool(d.note), d.relative, d.largest), default=_equal(name, True))


def _numbers(name: str, before: Array, after: Array) -> Difference:
    kind = np.complex128 if before.dtype.kind == "c" else np.float64
    x, y = before.astype(kind).reshape(-1), after.astype(kind).reshape(-1)
    unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if not np.isfinite(x[unequal]).all() or not np.isfinite(y[unequal]).all():
        return _apart(name, "NaN or Inf in other places")
    with np.errstate(invalid="ignore"):
        gap = np.where(unequal, x - y, 0)
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    norm = float(np.linalg.norm(x))
    relative = float(np.linalg.norm(gap)) / norm if norm else float(np.linalg.norm(gap))
    scale = norm * float(np.linalg.norm(y))
    cosine = float(np.real(np.vdot(x, y))) / scale if scale else float(not norm and not y.any())
    steps = before.dtype.kind in "iu"
    largest = _steps(before, after) if steps else float(np.abs(gap).max(initial=0.0))
    return Difference(name, relative, largest, min(cosine, 1.0), _same_argmax(before, after), steps=steps)


def _steps(before: Array, after: Array) -> float:
    """The largest difference of two arrays of integers; float64 does not hold them all, but modulo 2**64 it is exact."""
    above, below = np.maximum(before, after).astype(np.uint64), np.minimum(before, after).astype(np.uint64)
    return float((above - below).max(initial=0))


def _same_argmax(before: Array, after: Array) -> float:
    if before.ndim == 0 or before.size == 0 or before.dtype.kind == "c":
        return 1.0
    return float(np.mean(np.asarray(before.astype(np.float64).argmax(-1) == after.astype(np.float64).argmax(-1))))

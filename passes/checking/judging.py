"""Whether two results count as equal under a contract, and if not how far they are apart.

`exact` is bit for bit, where any NaN equals any other. Below `lossy`, NaN and Inf lie in the same places, and the rest is
compared by relative L2 distance in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np

Array = np.ndarray[Any, Any]

# Relative L2 distances that another order of additions may come to, by bytes of the float; 2 bytes are f16 or bf16.
TOLERANCES = {2: 5e-3, 4: 2e-5, 8: 1e-11}
WIDE_TOLERANCE = 1e-6
"""For an evaluation in f64: constants that a rule made are rounded to f32, and that is all that may be seen."""
SENSITIVITY = 32.0
"""A difference is rounding when the last bits of the inputs move the old answer by a part of it this large."""


ERROR_GROWTH = 16.0
"""How many times the error of the old result, against one in f64, the error of the new one may be."""


@dataclass(frozen=True)
class Gap:
    """How two results differ: a relative L2 distance, infinite where something else than numbers differs; and what."""

    distance: float
    what: str

    @property
    def text(self) -> str:
        """For people: `off by 3.2e-01 (relative L2)`."""
        return self.what or f"off by {self.distance:.1e} (relative L2)"


def bits_apart(wanted: Any, got: Any) -> Gap | None:
    """How two results differ in any bit, or None where they do not; any NaN equals any other."""
    if isinstance(wanted, list) and isinstance(got, list):
        return _lists_apart(cast("list[Any]", wanted), cast("list[Any]", got))
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray):
        alike = type(cast("object", wanted)) is type(cast("object", got)) and wanted == got
        return None if alike else Gap(float("inf"), "it is another kind of value")
    first, second = cast("Array", wanted), cast("Array", got)
    if first.dtype != second.dtype or first.shape != second.shape:
        return _form_gap(first, second)
    if _same_bits(first, second):
        return None
    gap = _numbers_apart(first, second)
    if gap.distance or gap.what:
        return gap
    return Gap(0.0, "it differs in the sign of a zero")


def apart(wanted: Any, got: Any, *, finite_inputs: bool) -> Gap:
    """How far two results are apart; where inputs are finite and the old answer is not, it has overflowed and says nothing."""
    if (
        isinstance(wanted, list)
        or isinstance(got, list)
        or not isinstance(wanted, np.ndarray)
        or not isinstance(got, np.ndarray)
    ):
        return bits_apart(wanted, got) or Gap(0.0, "")
    first, second = cast("Array", wanted), cast("Array", got)
    if first.dtype != second.dtype or first.shape != second.shape:
        return _form_gap(first, second)
    if finite_inputs and first.dtype.kind == "f":
        usable = np.isfinite(first)
        first, second = first[usable], second[usable]
    return _numbers_apart(first, second)


def _lists_apart(wanted: list[Any], got: list[Any]) -> Gap | None:
    if len(wanted) != len(got):
        return Gap(float("inf"), f"it has {len(got)} elements and not {len(wanted)}")
    gaps = (bits_apart(a, b) for a, b in zip(wanted, got, strict=True))
    return next((gap for gap in gaps if gap is not None), None)


def _form_gap(wanted: Array, got: Array) -> Gap:
    text = f"it is {got.dtype}{list(got.shape)} and not {wanted.dtype}{list(wanted.shape)}"
    return Gap(float("inf"), text)


def _same_bits(first: Array, second: Array) -> bool:
    if first.dtype.kind not in "fc":
        return bool(np.array_equal(first, second))
    if first.tobytes() == second.tobytes():
        return True
    nan = np.isnan(first)
    if not np.array_equal(nan, np.isnan(second)):
        return False
    return np.where(nan, 0, first).tobytes() == np.where(nan, 0, second).tobytes()


def _numbers_apart(wanted: Array, got: Array) -> Gap:
    """Of one shape and dtype."""
    if wanted.dtype.kind not in "fiub":
        return Gap(0.0, "") if np.array_equal(wanted, got) else Gap(float("inf"), "it holds other values")
    x, y = wanted.astype(np.float64).reshape(-1), got.astype(np.float64).reshape(-1)
    if wanted.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            gap, norm = _norm(x - y), _norm(x)
        if np.isfinite(gap) and np.isfinite(norm):  # so no NaN and no Inf is among them
            return Gap(gap / norm if norm else gap, "")
    unequal = ~((x == y) | (np.isnan(x) & np.isnan(y)))
    if not unequal.any():
        return Gap(0.0, "") if wanted.dtype.kind not in "iu" or np.array_equal(wanted, got) else Gap(1e-16, "")
    if not (np.isfinite(x[unequal]).all() and np.isfinite(y[unequal]).all()):
        return Gap(float("inf"), "NaN or Inf lie elsewhere")
    norm, gap = _norm(x[np.isfinite(x)]), _norm(x[unequal] - y[unequal])
    return Gap(gap / norm if norm else gap, "")


def _norm(x: Array) -> float:
    # Not by BLAS: its threads would wait busily beside those of the engine.
    return float(np.sqrt(np.einsum("i,i->", x, x)))


def tolerance(array: Any) -> float:
    """The relative L2 distance that rounding may come to for results of this dtype; none for what is no float."""
    if not isinstance(array, np.ndarray) or cast("Array", array).dtype.kind != "f":
        return 0.0
    return TOLERANCES.get(cast("Array", array).dtype.itemsize, 0.0)


def widened(array: Any) -> Any:
    """The array in f64 where it is in f32."""
    known: Any = array
    return known.astype(np.float64) if isinstance(array, np.ndarray) and known.dtype == np.float32 else known


def narrowed(array: Any, like: Any) -> Any:
    """A result in f64 in the dtype of another one."""
    known: Any = array
    with np.errstate(over="ignore"):
        return known.astype(cast("Array", like).dtype) if isinstance(like, np.ndarray) else known


def nudged(array: Any, seed: int) -> Any:
    """The array with its floats moved by some of their last bits."""
    known: Any = array
    if not isinstance(array, np.ndarray) or known.dtype.kind != "f":
        return known
    step = 4 * float(np.finfo(known.dtype).eps)
    factors = np.resize(np.random.default_rng(seed).uniform(1 - step, 1 + step, 65_537), known.shape)
    with np.errstate(all="ignore"):
        return np.asarray((known.astype(np.float64) * factors).astype(known.dtype))

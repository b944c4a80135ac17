"""What a page says of a constant: figures over its elements, and the elements where they are few."""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Tensor

LARGEST_MEASURED = 1 << 20
"""Bytes up to which elements are read at all: a page must not page in gigabytes of weights."""

SHORTEST_ELEMENTS = 4
_I64 = np.iinfo(np.int64)
_COMPLEX = (DType.C64, DType.C128)


def statistics_of(tensor: Tensor) -> list[tuple[str, str]]:
    """Figures over the elements of a numeric tensor as pairs of name and text; none for a large or empty one."""
    if tensor.byte_count > LARGEST_MEASURED or tensor.size == 0 or tensor.dtype is DType.STR or tensor.dtype in _COMPLEX:
        return []
    values = tensor.array
    if tensor.dtype is DType.BOOL:
        return [("true", f"{int(np.count_nonzero(values)):,} of {tensor.size:,}")]
    if tensor.dtype.is_integer:
        whole = values.astype(np.uint64 if tensor.dtype is DType.U64 else np.int64)
        mean = float(whole.astype(np.float64).mean())
        return [("min", str(int(whole.min()))), ("max", str(int(whole.max()))), ("mean", f"{mean:.6g}")]
    reals = values.astype(np.float64)
    finite = reals[np.isfinite(reals)]
    figures: list[tuple[str, str]] = []
    if finite.size:
        figures += [("min", f"{finite.min():.6g}"), ("max", f"{finite.max():.6g}"), ("mean", f"{_mean(finite):.6g}")]
        figures += [("zeros", f"{int(np.count_nonzero(finite == 0)):,}")]
    if finite.size < reals.size:
        nans = int(np.count_nonzero(np.isnan(reals)))
        figures += [("NaN", f"{nans:,}"), ("infinite", f"{reals.size - finite.size - nans:,}")]
    return figures


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    # Scaled first, because the sum of large f64 elements may overflow where their mean does not.
    largest = float(np.abs(values).max())
    return float((values / largest).mean()) * largest if largest > 0 else 0.0


def shortened(tensor: Tensor) -> str:
    """A few elements to read inside a box, such as `0.5` or `[1, -1]`; empty when there are more than a few."""
    if tensor.size > SHORTEST_ELEMENTS or tensor.dtype is DType.STR or tensor.size == 0:
        return ""
    texts = [_element(value) for value in tensor.array.reshape(-1).tolist()]
    return texts[0] if not tensor.shape else f"[{', '.join(texts)}]"


def _element(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    # How models write "to the end": nineteen digits would make the widest boxes of all.
    return "max" if value == _I64.max else "min" if value == _I64.min else str(value)

"""Constants computed in f64 and rounded once, for ops that absorb what stands around them.

Law: a factor is used only if it is finite, has zeros where the exact one has, and is as precise as its dtype allows; else an
infinity that meets a zero, or a number too small for its dtype, would change the answer. A term has to be finite.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from irc.ir import DType, Op, Tensor, Value

from .rewriter import No

Floats = npt.NDArray[np.float64]

FLOATS = (DType.F16, DType.BF16, DType.F32, DType.F64)
SMALLEST = {DType.F16: 2.0**-14, DType.BF16: 2.0**-126, DType.F32: 2.0**-126, DType.F64: 2.0**-1022}
_EPSILON = {DType.F16: 2.0**-10, DType.BF16: 2.0**-7, DType.F32: 2.0**-23, DType.F64: 2.0**-52}

MOST_COMPUTED = 2**28
"""Bytes of a weight above which it is left as it is: most likely a mapped file that would have to be held in memory."""

MOST_COPIED = 2**20
"""Bytes of a weight that several ops use, above which none of them gets a copy of its own."""


def rounded(exact: Floats, dtype: DType) -> Tensor | No:
    """Exact numbers in a dtype that holds them all, no zero and no subnormal standing for something larger."""
    with np.errstate(all="ignore"):
        array = exact.astype(dtype.numpy)
        sizes = np.abs(array)
        is_finite = sizes.max(initial=0) < np.inf
    if not is_finite:
        return No("a product of constants is not finite")
    if sizes.min(initial=np.inf) >= SMALLEST[dtype] or not exact[sizes < SMALLEST[dtype]].any():
        return Tensor.from_array(array, dtype)
    if ((array == 0) & (exact != 0)).any():
        return No("a product of constants is too small for its dtype")
    if np.abs(array.astype(np.float64) - exact).sum() > _EPSILON[dtype] * np.abs(exact).sum():
        return No("products of constants are too small for their dtype")
    return Tensor.from_array(array, dtype)


def scaled(weight: Tensor, factors: Floats | None) -> Tensor | No:
    """A constant times factors that broadcast to its shape, or the constant itself."""
    if factors is None:
        return weight
    if weight.byte_count > MOST_COMPUTED:
        return No("its weight is too large to compute with")
    with np.errstate(all="ignore"):
        return rounded(np.multiply(weight.array, factors, dtype=np.float64), weight.dtype)


def bias_of(numbers: Floats, channels: int, dtype: DType) -> Tensor | No:
    """A vector of one number for each channel."""
    with np.errstate(all="ignore"):
        array = np.broadcast_to(numbers, (channels,)).astype(dtype.numpy)
    return Tensor.from_array(array, dtype) if np.isfinite(array).all() else No("a bias is not finite")


def copies_too_much(op: Op, index: int = 1) -> bool:
    """Whether another weight for `op` would leave a large one standing for others, such as a table of embeddings."""
    return not may_be_replaced(op.needed(index))


def may_be_replaced(value: Value) -> bool:
    """Whether a constant in place of another, for one op, leaves no large one standing for others."""
    return value.has_one_use or value.constant is None or value.constant.byte_count <= MOST_COPIED

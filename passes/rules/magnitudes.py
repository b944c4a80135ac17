"""How large the elements of a weight are, from the bits of its floats; a weight is read once for each answer.

Law: no element is larger than an answer; an answer is infinite or NaN where an element is. Without their signs, floats are
ordered as their bits are, and NaN comes after infinity.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from irc.ir import Tensor

_CACHED = 1 << 16
"""How many elements of a weight are looked at twice while the processor's cache holds them."""


@lru_cache(maxsize=4)
def magnitude(weight: Tensor) -> float:
    """The largest absolute value in a float tensor of at least 8 bits an element; 0 where it is empty."""
    bits = _bits(weight)
    mask = _without_sign(bits)
    parts = [(bits[start : start + _CACHED] & mask).max() for start in range(0, bits.size, _CACHED)]
    return _float(max(parts), weight) if parts else 0.0


@lru_cache(maxsize=4)
def glance(weight: Tensor) -> float:
    """A bound found twice as fast: all bits that any element has. It is close to 2 for less, and says nothing for more."""
    bits = _bits(weight)
    return _float(np.bitwise_or.reduce(bits) & _without_sign(bits), weight)


def _bits(weight: Tensor) -> npt.NDArray[np.unsignedinteger]:
    array = weight.array
    flat = (array if array.flags.c_contiguous else array.T).reshape(-1)  # a weight that is a transposed view stays one
    return flat.view(f"u{flat.itemsize}")


def _without_sign(bits: npt.NDArray[np.unsignedinteger]) -> np.unsignedinteger:
    return bits.dtype.type(2 ** (8 * bits.itemsize - 1) - 1)


def _float(bits: np.unsignedinteger, weight: Tensor) -> float:
    return float(np.asarray(bits).view(weight.dtype.numpy))


__all__ = ["glance", "magnitude"]

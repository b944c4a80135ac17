"""Sums of products of integers that were dequantized from 8 bits: the step by which two such sums can differ.

Law: with data s (q - a) and weights t w, every product is a multiple of s t, and so is every sum of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from irc.ir import DType, Op, Tensor, TensorType, Value

Steps = npt.NDArray[np.float32]
Array = np.ndarray[Any, Any]


def steps_of_sums(op: Op) -> Steps | None:
    """The steps of the sums of a Conv or Gemm, f32[1], or f32[C] where the channels of its result have their own.

    None where an operand is not dequantized from 8 bits by constants, the data by one scale and the weights by one or by one a
    channel, and where the op scales what it adds.
    """
    if not op.is_a("Conv", "Gemm") or any(op.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return None
    by_rows = op.name == "Conv" or op.integer("transB", 0) == 1
    data, weights = _scales(op.needed(0), 0), _scales(op.needed(1), 0 if by_rows else 1)
    if data is None or weights is None or data.size != 1:
        return None
    return (data.array.reshape(-1) * weights.array.reshape(-1)).astype(np.float32)


def moved_half_a_step(got: Array, wanted: Array, op: Op) -> Array:
    """A result for `op` moved towards the one that is wanted by at most half a step of its sums, where it has such steps.

    Both are floats; NaN and Inf stay where they are, and so does all where the shapes differ.
    """
    steps = steps_of_sums(op)
    if steps is None or got.shape != wanted.shape:
        return got
    half = (steps.reshape(-1, *[1] * (got.ndim - 2)) if op.is_a("Conv") else steps).astype(np.float64) / 2
    with np.errstate(invalid="ignore", over="ignore"):
        gap = got.astype(np.float64) - wanted
        near = wanted + np.sign(gap) * np.maximum(np.abs(gap) - half, 0.0)
        return np.where(np.isfinite(gap), near, got).astype(got.dtype)


def _scales(value: Value, axis: int) -> Tensor | None:
    """The constant scale, or the scales along an axis, of what was dequantized from 8 bits to f32, without blocks."""
    maker = value.op
    if maker is None or not maker.is_a("DequantizeLinear") or maker.integer("block_size", 0):
        return None
    if _dtype(maker.needed(0)) not in (DType.I8, DType.U8) or _dtype(value) is not DType.F32:
        return None
    scale = maker.constant_operand(1)
    if scale is None or scale.dtype is not DType.F32 or len(scale.shape) > 1:
        return None
    return scale if scale.size == 1 or maker.integer("axis", 1) % max(len(value.shape or ()), 1) == axis else None


def _dtype(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None


__all__ = ["moved_half_a_step", "steps_of_sums"]

"""Values that lie narrow and are read wide: kernels read bf16 or bytes as they lie, and widen them in registers.

Law: what is widened is a function of what lies there, so whoever reads it may read that; where all do, it is never made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Op, Tensor, Value

from .arithmetic import BF16, F32, Arithmetic, arithmetic_of_bytes
from .elements import dtype_of
from .scaling import is_scaled, quantized_in_run
from .tiling import Machine

Number = TypeVar("Number", np.int32, np.float32)


def narrow(value: Value) -> Value | None:
    """The bf16 of which a value is the f32, or the bytes that it is by one scale; None of any other value."""
    op = value.op
    return op.needed(0) if op is not None and is_widening(op) else None


def is_widening(op: Op | None) -> bool:
    """Whether an op makes the f32 of a bf16, or of bytes by one scale."""
    if op is None:
        return False
    if op.is_a("Cast"):
        return dtype_of(op.result) is DType.F32 and dtype_of(op.needed(0)) is DType.BF16
    return op.is_a("DequantizeLinear") and is_scaled(op)


def is_narrowing(op: Op) -> bool:
    """Whether an op makes the bf16 of an f32, or bytes by one scale of it."""
    if op.is_a("Cast"):
        return dtype_of(op.result) is DType.BF16 and dtype_of(op.needed(0)) is DType.F32
    return op.is_a("QuantizeLinear") and is_scaled(op)


def constant_of(value: Value) -> Tensor | None:
    """The constant that a value is, or is the f32 of."""
    op = value.op
    return op.constant_operand(0) if op is not None and (is_known(op) or is_widening(op)) else value.constant


def is_known(op: Op) -> bool:
    """Whether an op only widens a constant: what it makes is known when compiling."""
    if op.is_a("Cast"):
        lying = op.constant_operand(0)
        return lying is not None and lying.dtype in (DType.BF16, DType.F16) and dtype_of(op.result) is DType.F32
    if not op.is_a("DequantizeLinear") or op.constant_operand(0) is None or dtype_of(op.result) is not DType.F32:
        return False
    return parameter_of(op, 1) is not None and (op.operand(2) is None or op.constant_operand(2) is not None)


def parameter_of(op: Op, index: int) -> Tensor | None:
    """The constant scale or zero point of a DequantizeLinear, as it lies, be it f16 behind a Cast."""
    value = op.operand(index)
    maker = None if value is None else value.op
    return maker.constant_operand(0) if maker is not None and is_widened_half(maker) else op.constant_operand(index)


def is_widened_half(op: Op) -> bool:
    """Whether an op makes the f32 of a constant in f16."""
    lying = op.constant_operand(0) if op.is_a("Cast") else None
    return lying is not None and lying.dtype is DType.F16 and dtype_of(op.result) is DType.F32


def content_of(value: Value) -> NDArray[np.float32]:
    """The elements of a value that is constant, or the f32 of a constant."""
    tensor, op = constant_of(value), value.op
    assert tensor is not None
    if value.constant is not None or op is None or not op.is_a("DequantizeLinear"):
        return np.ascontiguousarray(tensor.array, np.float32)
    scale, zero = parameter_of(op, 1), op.constant_operand(2)
    assert scale is not None
    whole = tensor.array.astype(np.int32)
    if zero is not None:
        whole = whole - _spread(op, zero.array.astype(np.int32), tensor.shape)
    return whole.astype(np.float32) * _spread(op, scale.array.astype(np.float32), tensor.shape)


def _spread(op: Op, parameter: NDArray[Number], shape: tuple[int, ...]) -> NDArray[Number]:
    """A scale or zero point for each element: it is one, or one for each index of an axis, or for each block along it."""
    if parameter.size == 1:
        return parameter.reshape(())
    axis, block = op.integer("axis", 1) % len(shape), op.integer("block_size", 0)
    if block:
        return np.repeat(parameter, block, axis=axis)[tuple(slice(size) for size in shape)]
    return parameter.reshape([-1 if each == axis else 1 for each in range(len(shape))])


@dataclass(frozen=True)
class Bytes:
    """How a value lies in bytes: by one scale and zero point."""

    scale: float
    zero: int


def bytes_of(value: Value) -> Bytes | None:
    """How a value lies in u8; None where it does not."""
    op = value.op
    if op is None or not op.is_a("DequantizeLinear") or not is_widening(op) or dtype_of(op.needed(0)) is not DType.U8:
        return None
    scale, zero = op.constant_operand(1), op.constant_operand(2)
    assert scale is not None
    return Bytes(float(scale.array.reshape(-1)[0]), 0 if zero is None else int(zero.array.reshape(-1)[0]))


def scales_of(product: Op) -> NDArray[np.float32] | None:
    """The scales of a product's constant i8 weights, one for all or one for each channel; None where they lie otherwise."""
    value = product.needed(1)
    op, tensor = value.op, constant_of(value)
    if op is None or tensor is None or not op.is_a("DequantizeLinear") or tensor.dtype is not DType.I8:
        return None
    scale, zero = op.constant_operand(1), op.constant_operand(2)
    if scale is None or scale.dtype is not DType.F32 or (zero is not None and np.any(zero.array)):
        return None
    if scale.size == 1:
        return scale.array.reshape(1)
    axis = op.integer("axis", 1) % len(tensor.shape)
    by_channel = axis == _channel_axis(product) % len(tensor.shape) and not op.integer("block_size", 0)
    return scale.array.reshape(-1) if by_channel and scale.size == tensor.shape[axis] else None


def _channel_axis(product: Op) -> int:
    """The axis of a product's weights with the channels of its result."""
    if product.is_a("Conv"):
        return 0
    return 0 if product.is_a("Gemm") and product.integer("transB", 0) else -1


def lying_left(op: Op) -> Value | None:
    """What the left operand of a product is the f32 of; of matrices that may be bytes by a scale that is found in the run."""
    made = quantized_in_run(op.needed(0)) if op.is_a("MatMul", "Gemm") else None
    return narrow(op.needed(0)) if made is None else made.results[0]


def arithmetic_of(op: Op, machine: Machine) -> Arithmetic | None:
    """The arithmetic for products of operands as they lie, the second constant; None where the processor has none."""
    left, weights = lying_left(op), constant_of(op.needed(1))
    if left is None or weights is None:
        return None
    if dtype_of(left) is DType.BF16:
        return BF16 if weights.dtype is DType.BF16 and machine.features.issuperset(BF16.features) else None
    is_bytes = bytes_of(op.needed(0)) is not None or left is not narrow(op.needed(0))
    return arithmetic_of_bytes(machine.features) if is_bytes and scales_of(op) is not None else None


def lying_arithmetic(dtype: DType, machine: Machine) -> Arithmetic:
    """The arithmetic of an A of f32, bf16 or u8 that is read as it lies, but where the columns are A's: that is f32."""
    if dtype is DType.BF16:
        return BF16
    return (arithmetic_of_bytes(machine.features) if dtype is DType.U8 else None) or F32

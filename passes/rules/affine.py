"""What an op does to each channel, y = x * scale + shift with constants, and constants multiplied without losing anything.

Law: a product of constants is used only if it is finite, has zeros where its factors have, and is as precise as its dtype
allows; else an infinity that meets a zero, or a number too small for its dtype, would change the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from irc.ir import DType, Op, Tensor, TensorType, Value

from ..rewriter import No, Rule

Floats = npt.NDArray[np.float64]

AFFINE = ("BatchNormalization", "Mul", "Div", "Add", "Sub", "Neg")
FLOATS = (DType.F16, DType.BF16, DType.F32, DType.F64)
SMALLEST = {DType.F16: 2.0**-14, DType.BF16: 2.0**-126, DType.F32: 2.0**-126, DType.F64: 2.0**-1022}
_EPSILON = {DType.F16: 2.0**-10, DType.BF16: 2.0**-7, DType.F32: 2.0**-23, DType.F64: 2.0**-52}
_ONE: Floats = np.ones(1)


@dataclass(frozen=True)
class Step:
    """y = operand * scale + shift: each of one element or one for each channel, or None where it changes nothing."""

    operand: Value
    scale: Floats | None
    shift: Floats | None


def step_of(op: Op, rank: int, axis: int, channels: int) -> Step | No:
    """An op as one step along `axis` (counted from the end) of values that have at least `rank` dims.

    Its constants must not stretch its operand: they vary along the axis only, and have no more than `rank` dims.
    """
    if dtype_of(op.results[0]) not in FLOATS:
        return No("it is not in floats")
    if op.is_a("BatchNormalization"):
        return _normalization(op, rank, axis, channels)
    if op.is_a("Neg"):
        return Step(op.needed(0), -_ONE, None)
    index = 1 if op.constant_operand(1) is not None else 0
    constant, operand = op.constant_operand(index), op.needed(1 - index)
    if constant is None:
        return No("neither operand is constant")
    numbers = along(constant, rank, axis, channels)
    if numbers is None:
        return No("its constant does not vary along the channels only")
    if not np.isfinite(numbers).all():
        return No("its constant is not finite")
    if op.is_a("Div"):
        return _quotient(operand, numbers) if index == 1 else No("it divides by what is not constant")
    if op.is_a("Mul"):
        return Step(operand, numbers, None)
    if op.is_a("Add"):
        return Step(operand, None, numbers)
    return Step(operand, None, -numbers) if index == 1 else Step(operand, -_ONE, numbers)


def _quotient(operand: Value, numbers: Floats) -> Step | No:
    return Step(operand, 1 / numbers, None) if numbers.all() else No("it divides by zero")


def _normalization(op: Op, rank: int, axis: int, channels: int) -> Step | No:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, per channel (Ioffe and Szegedy 2015)."""
    if op.integer("training_mode", 0) or len(op.results) > 1:
        return No("it is training")
    if axis != 1 - rank:
        return No("its channels are another axis")
    given = [op.constant_operand(index) for index in range(1, 5)]
    gamma, beta, mean, variance = (None if t is None or t.shape != (channels,) else t.array.astype(np.float64) for t in given)
    if gamma is None or beta is None or mean is None or variance is None:
        return No("its statistics are not constant")
    epsilon = op.attributes.get("epsilon", 1e-5)
    spread = variance + (epsilon if isinstance(epsilon, float) else 1e-5)
    if not (spread > 0).all():
        return No("a variance is not positive")
    scale = gamma / np.sqrt(spread)
    shift = beta - mean * scale
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
        return No("its statistics are not finite")
    return Step(op.needed(0), scale, shift)


def along(constant: Tensor, rank: int, axis: int, channels: int) -> Floats | None:
    """The elements of a constant that broadcasts along all dims but `axis`: one, or one for each channel."""
    shape = constant.shape
    position = len(shape) + axis
    if len(shape) > rank or any(size != 1 for index, size in enumerate(shape) if index != position):
        return None
    if constant.size not in (1, channels):
        return None
    return constant.array.reshape(-1).astype(np.float64)


def times(first: Floats | None, second: Floats | None) -> Floats | None:
    """The product of two factors, of which None is 1."""
    return second if first is None else first if second is None else first * second


def plus(first: Floats | None, second: Floats | None) -> Floats | None:
    """The sum of two terms, of which None is 0."""
    return second if first is None else first if second is None else first + second


def rounded(exact: Floats, dtype: DType) -> Tensor | No:
    """Exact numbers in a dtype that holds them all, no zero and no subnormal standing for something larger."""
    with np.errstate(all="ignore"):
        array = exact.astype(dtype.numpy)
    if not np.isfinite(array).all():
        return No("a product of constants is not finite")
    small = np.abs(array) < SMALLEST[dtype]
    if not exact[small].any():
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
        return rounded(weight.array.astype(np.float64) * factors, weight.dtype)


def bias_of(numbers: Floats, channels: int, dtype: DType) -> Tensor | No:
    """A vector of one number for each channel."""
    with np.errstate(all="ignore"):
        array = np.broadcast_to(numbers, (channels,)).astype(dtype.numpy)
    return Tensor.from_array(array, dtype) if np.isfinite(array).all() else No("a bias is not finite")


MOST_COMPUTED = 2**28
"""Bytes of a weight above which it is left as it is: most likely a mapped file that would have to be held in memory."""

MOST_COPIED = 2**20
"""Bytes of a weight that several ops use, above which none of them gets a copy of its own."""


def copies_too_much(op: Op, index: int = 1) -> bool:
    """Whether another weight for `op` would leave a large one standing for others, such as a table of embeddings."""
    value = op.needed(index)
    return not value.has_one_use and value.constant is not None and value.constant.byte_count > MOST_COPIED


def dtype_of(value: Value) -> DType | None:
    """The dtype of a tensor value, or None."""
    return value.type.dtype if isinstance(value.type, TensorType) else None


def behind(one: Rule, *makers: str) -> Rule:
    """A rule that is worth trying only where one of these ops makes an operand of its root."""
    return replace(one, needs={root: ((frozenset(makers),),) for root in one.roots})


def first_operand_made_by(op: Op, names: Sequence[str]) -> Op | None:
    """The op of one of these names that makes an operand of `op`, which alone uses its result; or None."""
    for operand in op.operands:
        if operand is not None and operand.op is not None and operand.op.is_a(*names) and operand.has_one_use:
            return operand.op
    return None


_UNBOUNDED_PASS = (
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Split", "Expand", "Identity"),
    *("Relu", "LeakyRelu", "Neg", "Abs", "MaxPool", "DepthToSpace", "SpaceToDepth"),
)
_BOUNDED = (
    *("Sigmoid", "Tanh", "Softmax", "HardSigmoid", "Erf", "Sin", "Cos", "Softsign", "Sign"),
    *("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"),
)
_DEEPEST = 6


def never_infinite(value: Value, depth: int = _DEEPEST) -> bool:
    """Whether a value is proved to hold no infinity, though perhaps NaN, looking back over `depth` ops.

    A normalization divides by the root of what its largest element adds to, so that an infinity becomes NaN or 0.
    """
    op = value.op
    if op is None or depth == 0:
        return False
    if op.is_constant:
        return dtype_of(value) in FLOATS and bool(np.isfinite(op.value.array).all())
    if op.is_a(*_BOUNDED):
        return op.attributes.get("epsilon") != 0.0 and all(
            _is_finite(operand) for operand in op.operands[1:] if operand is not None
        )
    if op.is_a("Clip"):
        return all((t := op.constant_operand(i)) is not None and bool(np.isfinite(t.array).all()) for i in (1, 2))
    if op.is_a("Concat"):
        return all(operand is not None and never_infinite(operand, depth - 1) for operand in op.operands)
    return op.is_a(*_UNBOUNDED_PASS) and never_infinite(op.needed(0), depth - 1)


def _is_finite(value: Value) -> bool:
    tensor = value.constant
    return tensor is not None and bool(np.isfinite(tensor.array).all())


__all__ = [
    "AFFINE",
    "FLOATS",
    "MOST_COMPUTED",
    "SMALLEST",
    "Floats",
    "Step",
    "along",
    "behind",
    "bias_of",
    "copies_too_much",
    "dtype_of",
    "first_operand_made_by",
    "never_infinite",
    "plus",
    "rounded",
    "scaled",
    "step_of",
    "times",
]

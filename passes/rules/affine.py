"""What an op does to each channel, y = x * scale + shift with constants, for what absorbs it.

Law: a step is one only if its numbers are finite and its constants do not stretch its operand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from irc.ir import DType, Op, Tensor, TensorType, Value

from ..precise import FLOATS, MOST_COMPUTED, Floats, bias_of, copies_too_much, rounded, scaled
from ..rewriter import No, Rule

AFFINE = ("BatchNormalization", "Mul", "Div", "Add", "Sub", "Neg")
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

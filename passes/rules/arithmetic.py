"""Arithmetic with constants in Python: scaling twice, and roots of what cannot be negative.

Of two factors only those are put together that cannot overflow where both steps did not, nor the other way round:
(x * 1e30) * 1e-30 is Inf for x = 1e10, and stays so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from irc.ir import DType, Op, Tensor, Value, shapes

from ..rewriter import Contract, No, Rewriter, Rule, rule

_NEVER_NEGATIVE = ("Abs", "Exp", "Sigmoid", "Softmax", "ReduceSumSquare", "ReduceL1", "ReduceL2")
_NEVER_NEGATIVE_OF_SUCH = (
    *("Add", "Mul", "Sqrt", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Flatten", "Slice"),
    *("ReduceSum", "ReduceMean", "ReduceMax"),
)
_DEEPEST = 8
Array = np.ndarray[Any, Any]
_LARGEST_CONSTANT = 1 << 20


@rule("Mul", "Div", contract=Contract.REASSOCIATING)
def scale_twice(op: Op, rewrite: Rewriter) -> Value | No:
    """x scaled by one constant and then by another is x scaled by both, where no step overflows that the other way does not."""
    for index in (0, 1) if op.is_a("Mul") else (0,):
        inner, second = op.needed(index).op, op.constant_operand(1 - index)
        if inner is None or not inner.is_a("Mul", "Div") or second is None or not inner.result.has_one_use:
            continue
        place = 1 if inner.constant_operand(1) is not None or inner.is_a("Div") else 0
        first = inner.constant_operand(place)
        if first is None or not first.dtype.is_float or first.size * second.size > _LARGEST_CONSTANT:
            return No("what it scales is not scaled by a small float constant")
        if not _keeps_range(inner, first, op, second):
            return No("a step might overflow that the other way does not")
        if shapes.broadcast_shapes(first.shape, second.shape) not in (first.shape, second.shape):
            return No("the constants together are larger than each")
        return _scaled(inner, place, op, first, second, rewrite)
    return No("no operand is scaled while the other is constant")


def _keeps_range(inner: Op, first: Tensor, outer: Op, second: Tensor) -> bool:
    reach = 64.0 if first.dtype is DType.F16 else 2.0**24
    lowest, highest = _factors(inner, first)
    low, high = _factors(outer, second)
    if min(lowest, low) < 1 / reach or max(highest, high) > reach:
        return False
    return (highest <= 1 and (high <= 1 or low >= 1)) or (lowest >= 1 and low >= 1)


def _factors(op: Op, constant: Tensor) -> tuple[float, float]:
    """The smallest and the largest magnitude by which an op scales; NaN and nothing at all are out of every range."""
    sizes = np.abs(constant.array.astype(np.float64))
    if not sizes.size or not np.isfinite(sizes).all() or not sizes.all():
        return 0.0, 0.0
    low, high = float(sizes.min()), float(sizes.max())
    return (1 / high, 1 / low) if op.is_a("Div") else (low, high)


def _scaled(inner: Op, place: int, outer: Op, first: Tensor, second: Tensor, rewrite: Rewriter) -> Value:
    c, d = first.array.astype(np.float64), second.array.astype(np.float64)
    quotients = inner.is_a("Div") and outer.is_a("Div")
    together = c * d if quotients or outer.is_a("Mul") == inner.is_a("Mul") else d / c if inner.is_a("Div") else c / d
    # At once and not by an op, so that other rules see a constant.
    constant = rewrite.constant(Tensor.from_array(np.asarray(together).astype(first.dtype.numpy), first.dtype))
    return rewrite.op("Div" if quotients else "Mul", [inner.needed(1 - place), constant])


@dataclass(frozen=True)
class _Step:
    """An op with a constant operand: the op, the other operand, the constant, and the place of the latter."""

    op: Op
    value: Value
    constant: Tensor
    place: int


def _step(value: Value, *names: str) -> _Step | None:
    """The step of one of these names that makes a value for one user; a constant minus x and one over x are none."""
    op = value.op
    return _step_of(op) if op is not None and op.is_a(*names) and value.has_one_use else None


def _step_of(op: Op) -> _Step | None:
    for place in (1, 0) if op.is_a("Add", "Mul") else (1,):
        constant = op.constant_operand(place)
        if constant is not None and constant.dtype.is_float and constant.size:
            return _Step(op, op.needed(1 - place), constant, place)
    return None


@rule("Mul", "Div", contract=Contract.REASSOCIATING)
def scale_of_line(op: Op, rewrite: Rewriter) -> Value | No:
    """(x * a + b) * c = x * (a * c) + b * c, for constants, none of them large."""
    scale = _step_of(op)
    shift = None if scale is None else _step(scale.value, "Add", "Sub")
    inner = None if shift is None else _step(shift.value, "Mul", "Div")
    if scale is None or shift is None or inner is None:
        return No("it scales no sum of a scaled value and a constant by a constant")
    moved = _scaled_constant(_signed(shift), scale)
    if not _keeps_range(inner.op, inner.constant, op, scale.constant) or not _are_modest(shift.constant, moved):
        return No("a constant is too large or too small")
    if not _stay_small(inner.constant, scale.constant) or not _stay_small(shift.constant, scale.constant):
        return No("the constants together are larger than each")
    product = _scaled(inner.op, inner.place, op, inner.constant, scale.constant, rewrite)
    return rewrite.op("Add", [product, rewrite.constant(moved)])


@rule("Add", "Sub", contract=Contract.REASSOCIATING)
def shift_of_scaled_sum(op: Op, rewrite: Rewriter) -> Value | No:
    """(x + b) * c + d = x * c + (b * c + d), for constants, none of them large."""
    last = _step_of(op)
    scale = None if last is None else _step(last.value, "Mul", "Div")
    shift = None if scale is None else _step(scale.value, "Add", "Sub")
    if last is None or scale is None or shift is None:
        return No("it adds no constant to a sum with a constant that is scaled by a constant")
    moved = _scaled_constant(_signed(shift), scale)
    if not _keeps_range(scale.op, scale.constant, scale.op, scale.constant) or not _are_modest(
        shift.constant, last.constant, moved
    ):
        return No("a constant is too large or too small")
    if not _stay_small(shift.constant, scale.constant) or not _stay_small(moved, last.constant):
        return No("the constants together are larger than each")
    together = moved.array.astype(np.float64) + _signed(last)
    operands = [shift.value, scale.op.operand(scale.place)]
    product = rewrite.op(scale.op.name, operands)
    return rewrite.op("Add", [product, rewrite.constant(_rounded(together, last.constant.dtype))])


def _signed(shift: _Step) -> Array:
    """What a step adds, in double precision."""
    wide = shift.constant.array.astype(np.float64)
    return -wide if shift.op.is_a("Sub") else wide


def _scaled_constant(wide: Array, scale: _Step) -> Tensor:
    factor = scale.constant.array.astype(np.float64)
    with np.errstate(all="ignore"):
        return _rounded(wide / factor if scale.op.is_a("Div") else wide * factor, scale.constant.dtype)


def _rounded(wide: Array, dtype: DType) -> Tensor:
    with np.errstate(all="ignore"):
        return Tensor.from_array(np.asarray(wide).astype(dtype.numpy), dtype)


def _stay_small(first: Tensor, second: Tensor) -> bool:
    """Whether the two together are no larger than one of them."""
    return shapes.broadcast_shapes(first.shape, second.shape) in (first.shape, second.shape)


def _are_modest(*constants: Tensor) -> bool:
    """Whether adding them to a number and taking them away again hardly rounds the number."""
    limit = {DType.F16: 16.0, DType.BF16: 4.0}.get(constants[0].dtype, 1024.0)
    return all(bool((np.abs(c.array.astype(np.float64)) <= limit).all()) for c in constants)


@rule("Pow", contract=Contract.REASSOCIATING)
def root(op: Op, rewrite: Rewriter) -> Value | No:
    """x ** 0.5 is the root of x where x is no -0.0 and not -Inf, for which they differ."""
    exponent = op.constant_operand(1)
    if exponent is None or exponent.size != 1 or float(exponent.array.reshape(-1)[0]) != 0.5:
        return No("its exponent is not 0.5")
    if not rewrite.same_type(op.needed(0), op.result) or not _is_never_negative(op.needed(0), _DEEPEST):
        return No("its base may be negative or -0.0, or the exponent raises the rank")
    return rewrite.op("Sqrt", [op.operand(0)])


def _is_never_negative(value: Value, depth: int) -> bool:
    """Whether a float value is proved to hold neither negative numbers nor -0.0, looking `depth` ops back."""
    tensor, op = value.constant, value.op
    if tensor is not None:
        return tensor.dtype.is_float and not bool(np.signbit(tensor.array.astype(np.float64)).any())
    if op is None or op.domain or depth == 0:
        return False
    if op.is_a(*_NEVER_NEGATIVE) or (op.is_a("Mul") and op.operand(0) is op.operand(1)):
        return True
    if op.is_a("Pow"):
        exponent = op.constant_operand(1)
        return exponent is not None and exponent.size == 1 and float(exponent.array.reshape(-1)[0]) == 2
    # The other operands of these, axes and shapes, are integers.
    parts = op.operands if op.is_a("Add", "Mul") else op.operands[:1]
    return op.is_a(*_NEVER_NEGATIVE_OF_SUCH) and all(v is not None and _is_never_negative(v, depth - 1) for v in parts)


RULES: tuple[Rule, ...] = (scale_twice, scale_of_line, shift_of_scaled_sum, root)

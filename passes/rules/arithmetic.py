"""Arithmetic with constants in Python: scaling twice, and roots of what cannot be negative.

Of two factors only those are put together that cannot overflow where both steps did not, nor the other way round:
(x * 1e30) * 1e-30 is Inf for x = 1e10, and stays so.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Tensor, Value, shapes

from ..rewriter import Contract, No, Rewriter, Rule, rule

_NEVER_NEGATIVE = ("Abs", "Exp", "Sigmoid", "Softmax", "ReduceSumSquare", "ReduceL1", "ReduceL2")
_NEVER_NEGATIVE_OF_SUCH = (
    *("Add", "Mul", "Sqrt", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Flatten", "Slice"),
    *("ReduceSum", "ReduceMean", "ReduceMax"),
)
_DEEPEST = 8


@rule("Mul", "Div", contract=Contract.REASSOCIATING)
def scale_twice(op: Op, rewrite: Rewriter) -> Value | No:
    """x scaled by one constant and then by another is x scaled by both, where no step overflows that the other way does not."""
    for index in (0, 1) if op.is_a("Mul") else (0,):
        inner, second = op.needed(index).op, op.constant_operand(1 - index)
        if inner is None or not inner.is_a("Mul", "Div") or second is None or not inner.result.has_one_use:
            continue
        place = 1 if inner.constant_operand(1) is not None or inner.is_a("Div") else 0
        first = inner.constant_operand(place)
        if first is None or not first.dtype.is_float:
            return No("what it scales is not scaled by a float constant")
        if not _keeps_range(inner, first, op, second):
            return No("a step might overflow that the other way does not")
        if shapes.broadcast_shapes(first.shape, second.shape) not in (first.shape, second.shape):
            return No("the constants together are larger than each")
        return _scaled(inner, place, op, 1 - index, rewrite)
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


def _scaled(inner: Op, first: int, outer: Op, second: int, rewrite: Rewriter) -> Value:
    value, c, d = inner.needed(1 - first), inner.needed(first), outer.needed(second)
    if inner.is_a("Div") and outer.is_a("Div"):
        return rewrite.op("Div", [value, rewrite.op("Mul", [c, d])])
    if inner.is_a("Div"):
        return rewrite.op("Mul", [value, rewrite.op("Div", [d, c])])
    return rewrite.op("Mul", [value, rewrite.op(outer.name, [c, d])])


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


RULES: tuple[Rule, ...] = (scale_twice, root)

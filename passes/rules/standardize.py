"""Normalizations written out, in Python: whatever way mean, square, root and quotient are spelled, one op is made of them.

(x - mean(x)) / sqrt(mean((x - mean(x)) ** 2) + epsilon) is LayerNormalization without scale and bias, and x / sqrt(mean(x ** 2)
+ epsilon) RMSNormalization; the rules in `normalizations.rules` put scales and biases in. f16 is matched only where it is cast
to f32 around, since squares of f16 overflow; f64 is not, since the ops compute in f32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irc.ir import Dim, DType, Op, Tensor, TensorType, Value, dims

from ..rewriter import Contract, No, Rewriter, rule
from .reductions import reduction_of

_DTYPES = (DType.F32, DType.BF16)

# Of more elements, no constant of ones is made.
_MOST_ONES = 1 << 18


@dataclass(frozen=True)
class MeanSquare:
    """mean(of ** 2) + epsilon over axes, counted from the front and sorted, which stay as dims of 1."""

    of: Value
    axes: tuple[int, ...]
    epsilon: float


@dataclass(frozen=True)
class Norm:
    """What is normalized: over which axes, with which epsilon, and whether its mean is taken away first."""

    of: Value
    axes: tuple[int, ...]
    epsilon: float
    is_centred: bool


@rule("Div", "Mul", contract=Contract.REASSOCIATING)
def standardize(op: Op, rewrite: Rewriter) -> Value | No:
    """What is divided by the root of its mean square is normalized; with its mean taken away first, LayerNormalization."""
    for side in (1,) if op.is_a("Div") else (1, 0):
        part, factor = op.needed(1 - side), None
        square = _under_root(op.needed(side), op) if op.is_a("Div") else None
        if op.is_a("Mul"):
            square, factor = _scaled_inverse_root(op.needed(side), op)
        if square is None:
            continue
        norm = _norm_of(part, square, op)
        if norm is None:
            return No("the mean square is of another value")
        made = _normalized(norm, rewrite)
        return made if isinstance(made, No) or factor is None else rewrite.op("Mul", [made, factor])
    return No("no operand is the root of a mean square, or its inverse")


@rule("Add", "Sub", contract=Contract.REASSOCIATING)
def standardize_as_affine_map(op: Op, rewrite: Rewriter) -> Value | No:
    """x * s + (b - mean(x) * s) with s = scale / sqrt(variance + epsilon) is LayerNormalization (Keras)."""
    for side in (0, 1) if op.is_a("Add") else (0,):
        product, rest = made_by(op.needed(side), op, "Mul"), op.needed(1 - side)
        for value, slope in both_ways(product):
            square, scale = _scaled_inverse_root(slope, op, uses=2)
            if square is None:
                continue
            norm = Norm(value, square.axes, square.epsilon, is_centred=True)
            if not _is_centred(square.of, value, norm.axes, op):
                return No("what is under the root is no variance of the value")
            if op.is_a("Sub"):
                bias, is_less_mean = None, _is_mean_times(rest, norm, slope, op)
            else:
                bias = _less_mean(rest, norm, slope, op)
                is_less_mean = bias is not None
            if not is_less_mean:
                return No("what is added is not a bias less the mean times the slope")
            made = _normalized(norm, rewrite)
            if isinstance(made, No):
                return made
            scaled = made if scale is None else rewrite.op("Mul", [made, scale])
            return scaled if bias is None else rewrite.op("Add", [scaled, bias])
    return No("it adds to no product with the inverse root of a variance")


def made_by(value: Value | None, user: Op, *names: str, uses: int = 1) -> Op | None:
    """The op of one of these names that makes a value in the body of `user`, for at most so many uses."""
    op = None if value is None else value.op
    if op is None or op.domain or op.name not in names or op.graph is not user.graph or len(op.result.uses) > uses:
        return None
    return op


def both_ways(op: Op | None) -> tuple[tuple[Value, Value], ...]:
    """The two operands of a commutative op, in both orders."""
    return () if op is None else ((op.needed(0), op.needed(1)), (op.needed(1), op.needed(0)))


def _number(value: Value | None) -> float | None:
    tensor = None if value is None else value.constant
    if tensor is None or tensor.size != 1 or not (tensor.dtype.is_float or tensor.dtype.is_integer):
        return None
    return float(tensor.array.reshape(-1)[0])


def _under_root(value: Value, user: Op) -> MeanSquare | None:
    """Of which mean square a value is the root: sqrt(m), m ** 0.5, or the L2 norm over the root of the count."""
    op = made_by(value, user, "Sqrt", "Pow", "Div", "Mul")
    if op is None:
        return None
    if op.is_a("Sqrt") or (op.is_a("Pow") and _number(op.operand(1)) == 0.5):
        return _mean_square(op.needed(0), user)
    return _shared_out(op, user, "ReduceL2", power=0.5)


def _shared_out(op: Op, user: Op, name: str, power: float) -> MeanSquare | None:
    """Of what d an op is reduction(d) / count ** power; the mean square of d goes with it."""
    if not op.is_a("Div", "Mul"):
        return None
    for part, share in both_ways(op)[: 1 if op.is_a("Div") else 2]:
        number = _number(share)
        reduce = None if number is None else made_by(part, user, name)
        found = reduction_of(reduce)
        if number is None or reduce is None or found is None or not found.keeps:
            continue
        count = dims.product([found.shape[axis] for axis in found.axes])
        wanted = float(count) ** power if isinstance(count, int) and count else math.nan
        if abs((number if op.is_a("Div") else 1 / (number or math.nan)) - wanted) <= 1e-6 * wanted:
            return MeanSquare(reduce.needed(0), found.axes, 0.0)
    return None


def _under_inverse_root(value: Value, user: Op, uses: int = 1) -> MeanSquare | None:
    """Of which mean square a value is the inverse root: 1 / sqrt(m) or m ** -0.5."""
    op = made_by(value, user, "Reciprocal", "Div", "Pow", uses=uses)
    if op is None:
        return None
    if op.is_a("Pow"):
        return _mean_square(op.needed(0), user) if _number(op.operand(1)) == -0.5 else None
    if op.is_a("Reciprocal"):
        return _under_root(op.needed(0), user)
    return _under_root(op.needed(1), user) if _number(op.operand(0)) == 1 else None


def _scaled_inverse_root(value: Value, user: Op, uses: int = 1) -> tuple[MeanSquare | None, Value | None]:
    """Of which m, and with which s, a value is s / sqrt(m); s is None for 1."""
    plain = _under_inverse_root(value, user, uses)
    if plain is not None:
        return plain, None
    for part, scale in both_ways(made_by(value, user, "Mul", uses=uses)):
        found = _under_inverse_root(part, user)
        if found is not None:
            return found, scale
    return None, None


def _norm_of(part: Value, square: MeanSquare, user: Op) -> Norm | None:
    """How `part` is normalized when it is divided by the root of `square`."""
    centred = made_by(part, user, "Sub", uses=len(part.uses))
    if centred is not None and _is_centred(part, centred.needed(0), square.axes, user):
        whole = centred.needed(0)
        if square.of is part or _is_centred(square.of, whole, square.axes, user):
            return Norm(whole, square.axes, square.epsilon, is_centred=True)
    return Norm(part, square.axes, square.epsilon, is_centred=False) if square.of is part else None


def _mean_square(value: Value, user: Op) -> MeanSquare | None:
    """Of what a value is the mean square, with the epsilon added to it."""
    for part, added in both_ways(made_by(value, user, "Add")):
        epsilon = _number(added)
        if epsilon is not None and 0 <= epsilon < math.inf:
            found = _plain_mean_square(part, user)
            return None if found is None else MeanSquare(found.of, found.axes, epsilon)
    return _plain_mean_square(value, user)


def _plain_mean_square(value: Value, user: Op) -> MeanSquare | None:
    shared = made_by(value, user, "Div", "Mul")
    if shared is not None:
        return _shared_out(shared, user, "ReduceSumSquare", power=1)
    mean = _mean_of(value, user)
    op = None if mean is None else made_by(mean[0], user, "Mul", "Pow")
    if mean is None or op is None:
        return None
    is_square = op.operand(0) is op.operand(1) if op.is_a("Mul") else _number(op.operand(1)) == 2
    return MeanSquare(op.needed(0), mean[1], 0.0) if is_square else None


def _mean_of(value: Value, user: Op, uses: int = 1) -> tuple[Value, tuple[int, ...]] | None:
    """What a value is the mean of, over which axes, which stay as dims of 1."""
    op = made_by(value, user, "ReduceMean", "GlobalAveragePool", uses=uses)
    if op is None:
        return None
    if op.is_a("GlobalAveragePool"):
        shape = op.needed(0).shape
        return None if shape is None else (op.needed(0), tuple(range(2, len(shape))))
    found = reduction_of(op)
    return None if found is None or not found.keeps or not found.axes else (op.needed(0), found.axes)


def _is_centred(part: Value, whole: Value, axes: tuple[int, ...], user: Op) -> bool:
    """Whether `part` is `whole` less its mean over these axes; both may have other users."""
    op = made_by(part, user, "Sub", uses=len(part.uses))
    return op is not None and op.operand(0) is whole and _is_mean(op.needed(1), whole, axes, user)


def _is_mean(value: Value, whole: Value, axes: tuple[int, ...], user: Op) -> bool:
    return _mean_of(value, user, uses=len(value.uses)) == (whole, axes)


def _less_mean(value: Value, norm: Norm, slope: Value, user: Op) -> Value | None:
    """What b is where `value` is b - mean * slope or -mean * slope + b."""
    less = made_by(value, user, "Sub")
    if less is not None and _is_mean_times(less.needed(1), norm, slope, user):
        return less.needed(0)
    for product, bias in both_ways(made_by(value, user, "Add")):
        for part, other in both_ways(made_by(product, user, "Mul")):
            negated = made_by(part, user, "Neg", uses=len(part.uses))
            if other is slope and negated is not None and _is_mean(negated.needed(0), norm.of, norm.axes, user):
                return bias
    return None


def _is_mean_times(value: Value, norm: Norm, slope: Value, user: Op) -> bool:
    """Whether a value is the mean of what is normalized, times the slope."""
    pairs = both_ways(made_by(value, user, "Mul"))
    return any(other is slope and _is_mean(part, norm.of, norm.axes, user) for part, other in pairs)


def _normalized(norm: Norm, rewrite: Rewriter) -> Value | No:
    """The op that normalizes without scale and bias; over axes that are not the last ones, between transposes."""
    kind, shape = norm.of.type, norm.of.shape
    if not isinstance(kind, TensorType) or kind.dtype not in _DTYPES:
        return No("it is not f32 or bf16")
    if shape is None:
        return No("its rank is not known")
    sizes = [size for i, size in enumerate(shape) if i in norm.axes and isinstance(size, int) and size > 0]
    if len(sizes) != len(norm.axes) or math.prod(sizes) > _MOST_ONES:
        return _normalized_image(norm, shape, kind.dtype, rewrite)
    order = (*(i for i in range(len(shape)) if i not in norm.axes), *norm.axes)
    is_in_order = order == tuple(range(len(shape)))
    moved = norm.of if is_in_order else rewrite.op("Transpose", [norm.of], {"perm": order})
    name = "LayerNormalization" if norm.is_centred else "RMSNormalization"
    scale = filled(rewrite, sizes, 1, kind.dtype)
    made = rewrite.op(name, [moved, scale], {"axis": len(shape) - len(sizes), "epsilon": norm.epsilon})
    back = tuple(order.index(i) for i in range(len(shape)))
    return made if is_in_order else rewrite.op("Transpose", [made], {"perm": back})


def _normalized_image(norm: Norm, shape: Sequence[Dim], dtype: DType, rewrite: Rewriter) -> Value | No:
    """InstanceNormalization, which has a scale for each channel and so can do with an image of any size."""
    if not norm.is_centred or norm.axes != tuple(range(2, len(shape))) or not isinstance(shape[1], int):
        return No("the size of what is normalized is not known, or too large for a scale of ones")
    fills = [filled(rewrite, [shape[1]], value, dtype) for value in (1, 0)]
    return rewrite.op("InstanceNormalization", [norm.of, *fills], {"epsilon": norm.epsilon})


def filled(rewrite: Rewriter, sizes: list[int], value: int, dtype: DType) -> Value:
    """A constant of equal numbers."""
    return rewrite.constant(Tensor.from_array(np.full(sizes, value, dtype.numpy), dtype))

"""Reductions in Python: dims they keep or drop, axes of several merged, means out of sums; and Einsum taken apart.

Engines leave open what ReduceMax and ReduceMin of floats do with NaN, and differ by order: those are merged for integers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from irc.ir import Attribute, Dim, DType, Op, Tensor, TensorType, Value, dims, shapes

from ..rewriter import Contract, No, Rewriter, Rule, rule
from . import arithmetic
from .einsum import einsum_by_matmul

_REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
)
_PICKING = ("ArgMax", "ArgMin")


@dataclass(frozen=True)
class Reduction:
    """What a reduction does: its input's dims, the axes it reduces (from the front, sorted), and whether they stay as 1."""

    shape: tuple[Dim, ...]
    axes: tuple[int, ...]
    keeps: bool

    @property
    def kept(self) -> tuple[Dim, ...]:
        """The result's shape with the reduced dims as 1."""
        return tuple(1 if i in self.axes else d for i, d in enumerate(self.shape))

    @property
    def dropped(self) -> tuple[Dim, ...]:
        """The result's shape without the reduced dims."""
        return tuple(d for i, d in enumerate(self.shape) if i not in self.axes)


def reduction_of(op: Op | None) -> Reduction | None:
    """How an op reduces, or None for other ops and where rank or axes are not known."""
    if op is None or op.domain or not op.is_a(*_REDUCTIONS, *_PICKING):
        return None
    shape = op.needed(0).shape
    if shape is None:
        return None
    keeps = op.integer("keepdims", 1) == 1
    if op.is_a(*_PICKING):
        axis = op.integer("axis", 0)
        return Reduction(shape, (axis % len(shape),), keeps) if shape else None
    if op.operand(1) is None:
        noop = op.integer("noop_with_empty_axes", 0)
        return None if noop else Reduction(shape, tuple(range(len(shape))), keeps)
    axes = op.constant_operand(1)
    if axes is None or axes.size == 0:
        return None
    return Reduction(shape, tuple(sorted({int(a) % len(shape) for a in axes.to_list()})), keeps)


def _reduced(op: Op, value: Value, axes: Sequence[int], keeps: bool, rewrite: Rewriter) -> Value:
    """The reduction `op` does, of `value` over `axes`."""
    attributes: dict[str, Attribute] = {n: a for n, a in op.attributes.items() if n not in ("noop_with_empty_axes", "axis")}
    attributes["keepdims"] = int(keeps)
    if op.is_a(*_PICKING):
        return rewrite.op(op.name, [value], {**attributes, "axis": axes[0]})
    return rewrite.op(op.name, [value, rewrite.constant(Tensor.integers(axes))], attributes)


@rule("Squeeze", "Reshape", "Flatten")
def reduce_without_dims(op: Op, rewrite: Rewriter) -> Value | No:
    """A reduction whose reduced dims are taken away afterwards need not keep them."""
    inner = op.needed(0).op
    found = reduction_of(inner)
    if inner is None or found is None:
        return No("its input is no reduction over known axes")
    if not found.keeps or not inner.result.has_one_use:
        return No("the reduction drops its dims already, or has other users")
    if op.is_a("Squeeze") and op.operand(1) is not None:
        taken = op.constant_operand(1)
        if taken is None or {int(a) % len(found.shape) for a in taken.to_list()} != set(found.axes):
            return No("it takes away other dims than those reduced")
    elif not rewrite.same_dims(op.result.shape, found.dropped):
        return No("its shape is not provably that of the dims not reduced")
    return _reduced(inner, inner.needed(0), found.axes, False, rewrite)


@rule("Unsqueeze", "Reshape")
def reduce_with_dims(op: Op, rewrite: Rewriter) -> Value | No:
    """A reduction whose reduced dims are put back afterwards can keep them."""
    inner = op.needed(0).op
    found = reduction_of(inner)
    if inner is None or found is None:
        return No("its input is no reduction over known axes")
    if found.keeps or not inner.result.has_one_use:
        return No("the reduction keeps its dims already, or has other users")
    if op.is_a("Unsqueeze"):
        put = op.constant_operand(1)
        if put is None or {int(a) % len(found.shape) for a in put.to_list()} != set(found.axes):
            return No("it puts in other dims than those reduced")
        if put.size != len(found.axes):
            return No("it puts in another number of dims")
    elif not rewrite.same_dims(op.result.shape, found.kept):
        return No("its shape is not provably that of the reduced dims as 1")
    return _reduced(inner, inner.needed(0), found.axes, True, rewrite)


@rule("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin")
def reduce_integers_once(op: Op, rewrite: Rewriter) -> Value | No:
    """Reducing integers over some axes and then over others is reducing them over all, in whatever order."""
    if not _is_of(op, *(d for d in DType if d.is_integer)):
        return No("it reduces no integers")
    return _merged(op, rewrite)


@rule("ReduceSum", "ReduceMean", "ReduceL1", contract=Contract.REASSOCIATING)
def reduce_once(op: Op, rewrite: Rewriter) -> Value | No:
    """A sum of sums is one sum, and a mean of means of equally many one mean."""
    # In half precision the larger sum might overflow where the smaller ones did not.
    if not _is_of(op, DType.F32, DType.F64):
        return No("it reduces no single or double precision floats")
    return _merged(op, rewrite)


def _is_of(op: Op, *dtypes: DType) -> bool:
    kind = op.needed(0).type
    return isinstance(kind, TensorType) and kind.dtype in dtypes


def _merged(op: Op, rewrite: Rewriter) -> Value | No:
    inner = op.needed(0).op
    if inner is None or not inner.is_a(op.name) or not inner.result.has_one_use:
        return No(f"its input is no {op.name} that only it uses")
    first, second = reduction_of(inner), reduction_of(op)
    if first is None or second is None:
        return No("their axes are not known")
    if first.keeps != second.keeps:
        return No("one keeps its dims and the other does not")
    left = list(range(len(first.shape))) if first.keeps else [i for i in range(len(first.shape)) if i not in first.axes]
    axes = sorted({*first.axes, *(left[a] for a in second.axes)})
    return _reduced(op, inner.needed(0), axes, second.keeps, rewrite)


@rule("ReduceMax", "ReduceMin", "ReduceProd")
def reduce_one_exactly(op: Op, rewrite: Rewriter) -> Value | No:
    """The largest, the smallest and the product of one element are that element: dims of size 1 need no reducing."""
    return _without_ones(op, rewrite)


@rule("ReduceSum", "ReduceMean", contract=Contract.REASSOCIATING)
def reduce_one(op: Op, rewrite: Rewriter) -> Value | No:
    """The sum and the mean of one element are that element, but that engines may make 0.0 of -0.0."""
    return _without_ones(op, rewrite)


def _without_ones(op: Op, rewrite: Rewriter) -> Value | No:
    found = reduction_of(op)
    if found is None:
        return No("its axes are not known")
    ones = [a for a in found.axes if found.shape[a] == 1]
    if not ones:
        return No("no dim it reduces is known to be 1")
    value, rest = op.needed(0), [a for a in found.axes if a not in ones]
    if not rest:
        return value if found.keeps else rewrite.op("Squeeze", [value, rewrite.constant(Tensor.integers(ones))])
    if not found.keeps:
        return No("it reduces other dims too, and drops them")
    return _reduced(op, value, rest, True, rewrite)


@rule("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", contract=Contract.REASSOCIATING)
def reduce_before_transpose(op: Op, rewrite: Rewriter) -> Value | No:
    """What a reduction drops need not be moved first, where the dims left stand in their order."""
    inner, found = op.needed(0).op, reduction_of(op)
    if inner is None or not inner.is_a("Transpose") or found is None:
        return No("its input is no Transpose")
    moved = inner.integers("perm") or tuple(reversed(range(len(found.shape))))
    left = [p for i, p in enumerate(moved) if i not in found.axes]
    if found.keeps or left != sorted(left):
        return No("it keeps its dims, or the others change places")
    return _reduced(op, inner.needed(0), sorted(moved[a] for a in found.axes), False, rewrite)


@rule("Mul", "Div", contract=Contract.REASSOCIATING)
def mean_of_sum(op: Op, rewrite: Rewriter) -> Value | No:
    """A sum over n elements divided by n, or times 1 / n, is their mean."""
    for index in (0, 1) if op.is_a("Mul") else (0,):
        inner = op.needed(index).op
        if inner is None or not inner.is_a("ReduceSum"):
            continue
        factor, found = op.constant_operand(1 - index), reduction_of(inner)
        if factor is None or factor.size != 1 or not factor.dtype.is_float or found is None:
            return No("its other operand is no number, or the axes are not known")
        count = dims.product([found.shape[a] for a in found.axes])
        number = float(factor.array.reshape(-1)[0])
        number = number if op.is_a("Div") else 1 / number if number else 0.0
        if not isinstance(count, int) or count == 0 or abs(number / count - 1) > _tolerance(factor.dtype):
            return No("it does not divide by the number of elements")
        if not inner.result.has_one_use or len(factor.shape) > len(found.kept if found.keeps else found.dropped):
            return No("the sum has other users, or the number raises the rank")
        return rewrite.op("ReduceMean", [inner.operand(0), *inner.operands[1:]], dict(inner.attributes))
    return No("no operand is a ReduceSum")


def _tolerance(dtype: DType) -> float:
    """How far a quotient of two numbers may lie from 1 by rounding alone."""
    return {DType.F64: 1e-12, DType.F32: 1e-6, DType.F16: 1e-3}.get(dtype, 4e-3)


@rule("CumSum")
def cumulative_sum_of_one(op: Op, rewrite: Rewriter) -> Value | No:
    """A running sum along a dim of size 1 is its input, of integers; floats may lose the sign of zero."""
    axis, shape = shapes.scalar_of(op.operand(1)), op.needed(0).shape
    if not isinstance(axis, int) or not shape or shape[axis] != 1:
        return No("its dim is not known to be 1")
    if op.integer("exclusive", 0) or not _is_of(op, *(d for d in DType if d.is_integer)):
        return No("it leaves out the element itself, or sums floats")
    return op.needed(0)


@rule("ReduceProd")
def product_of_sizes(op: Op, rewrite: Rewriter) -> Value | No:
    """The product of sizes of which all but one are known is that one times a number, also where integers wrap."""
    maker, content, found = op.needed(0).op, shapes.content_of(op.needed(0)), reduction_of(op)
    if maker is None or not maker.is_a("Shape") or content is None or found is None or not found.axes:
        return No("it does not multiply all of a shape")
    unknown = [index for index, size in enumerate(content) if not isinstance(size, int)]
    if len(unknown) != 1:
        return No("it is not one size that is not known")
    factor = prod(size for size in content if isinstance(size, int))
    if factor >= 1 << 63:
        return No("the other sizes are too large to multiply")
    start, end, zero = (rewrite.constant(Tensor.integers([n])) for n in (unknown[0], unknown[0] + 1, 0))
    product = rewrite.op("Slice", [maker.result, start, end, zero])
    if factor != 1:
        product = rewrite.op("Mul", [product, rewrite.constant(Tensor.integers([factor]))])
    return product if found.keeps else rewrite.op("Squeeze", [product, zero])


RULES: tuple[Rule, ...] = (
    reduce_without_dims,
    reduce_with_dims,
    reduce_integers_once,
    reduce_once,
    product_of_sizes,
    reduce_one_exactly,
    reduce_one,
    reduce_before_transpose,
    mean_of_sum,
    *arithmetic.RULES,
    cumulative_sum_of_one,
    einsum_by_matmul,
)

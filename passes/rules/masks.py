"""Masks and index arithmetic in Python: truths compared with constants, expands put off, casts that meet, one-hot products."""

from __future__ import annotations

from typing import Any

import numpy as np

from irc.ir import DType, Op, Tensor, Value, shapes

from ..canonicalize.casts import dtype_of, is_lossless
from ..rewriter import Contract, No, Rewriter, Rule, rule
from . import scatters
from .attention_masks import is_causal
from .sizes import size_of

Array = np.ndarray[Any, Any]

# Each result element depends on the operand element at its place alone, and equal elements give equal results.
_ELEMENTWISE = ("Cast", "Not", "Neg", "Abs", "IsNaN", "Sqrt", "Exp", "Sigmoid", "Tanh", "Relu", "Floor", "Ceil", "Reciprocal")
# Up to here single precision holds every integer.
_LARGEST_BOUND = 1 << 24
_MOVEMENT = ("Reshape", "Squeeze", "Unsqueeze", "Transpose", "Flatten", "Slice", "Expand", "Tile", "Gather")


@rule("Equal", "Xor")
def truth_and_constant(op: Op, rewrite: Rewriter) -> Value | No:
    """A truth compared with true is itself, and compared with false its negation; Xor is the other way round."""
    for index in (1, 0):
        constant, other = op.constant_operand(index), op.needed(1 - index)
        if constant is None or constant.dtype is not DType.BOOL or not constant.size:
            continue
        if not (constant.array.all() or not constant.array.any()):
            return No("its constant differs from element to element")
        if not rewrite.same_dims(other.shape, op.result.shape):
            return No("its constant may change the shape")
        turns = bool(constant.array.any()) == op.is_a("Xor")
        return rewrite.op("Not", [other]) if turns else other
    return No("no operand is a constant truth")


@rule(*_ELEMENTWISE, over=["Expand"])
def expand_after(op: Op, rewrite: Rewriter) -> Value | No:
    """What is computed of each element by itself is computed before the elements are repeated."""
    expand = op.needed(0).op
    if expand is None or not expand.is_a("Expand") or not expand.result.has_one_use:
        return No("its input is no Expand that only it uses")
    if len(op.operands) != 1:
        return No("it has other operands")
    value = rewrite.op(op.name, [expand.operand(0)], dict(op.attributes))
    return rewrite.op("Expand", [value, expand.operand(1)])


@rule("Cast", over=_MOVEMENT)
def cast_of_moved_cast(op: Op, rewrite: Rewriter) -> Value | No:
    """Elements cast to a wider dtype, moved, and cast again can be moved as they are and cast once."""
    moved = op.needed(0).op
    if moved is None or not moved.is_a(*_MOVEMENT) or not moved.result.has_one_use:
        return No("its input only moves nothing, or has other users")
    inner = moved.needed(0).op
    if inner is None or not inner.is_a("Cast"):
        return No("what is moved is no Cast")
    first, middle = dtype_of(inner.needed(0)), dtype_of(inner.result)
    if first is None or middle is None or not is_lossless(first, middle) or first.bits < 8:
        return No("the inner cast may lose something")
    # Casts that do not meet would only change places.
    last = dtype_of(op.result)
    one_kind = last is not None and (first is DType.BOOL or first.is_float == middle.is_float == last.is_float)
    if last is None or middle is DType.BOOL or not (first is last or (one_kind and last.bits >= 8)):
        return No("a direct cast may convert otherwise")
    value = rewrite.op(moved.name, [inner.operand(0), *moved.operands[1:]], dict(moved.attributes))
    return value if first is last else rewrite.op("Cast", [value], dict(op.attributes))


@rule("Cast", over=["Clip"])
def clip_of_integers(op: Op, rewrite: Rewriter) -> Value | No:
    """Integers clipped as floats to small whole numbers are clipped as they are: rounding moves none across a bound."""
    clip = op.needed(0).op
    inner = None if clip is None or not clip.is_a("Clip") or not clip.result.has_one_use else clip.needed(0).op
    if clip is None or inner is None or not inner.is_a("Cast"):
        return No("its input is no Clip of a Cast that only it uses")
    dtype, middle = dtype_of(op.result), dtype_of(inner.result)
    if dtype not in (DType.I32, DType.I64) or dtype_of(inner.needed(0)) is not dtype or middle not in (DType.F32, DType.F64):
        return No("no integers are cast to floats and back")
    bounds = [clip.constant_operand(i) for i in (1, 2)]
    numbers = [float(b.array.reshape(-1)[0]) for b in bounds if b is not None and b.size == 1]
    if len(numbers) != 2 or any(not abs(n) <= _LARGEST_BOUND or n != round(n) for n in numbers):
        return No("its bounds are not two small whole numbers")
    made = [rewrite.constant(Tensor.from_array(np.array(int(n)), dtype)) for n in numbers]
    return rewrite.op("Clip", [inner.operand(0), *made])


@rule("MatMul", contract=Contract.REASSOCIATING, over=["Cast"])
def one_hot_product(op: Op, rewrite: Rewriter) -> Value | No:
    """One-hot rows times a table are rows of the table, and zeros for indices that it does not have.

    The indices are clipped to the table and one row of zeros behind it, which -1 is, too.
    """
    cast = op.needed(0).op
    equal = None if cast is None or not cast.is_a("Cast") else cast.needed(0).op
    if equal is None or not equal.is_a("Equal"):
        return No("its first operand is no Equal cast to numbers")
    table = op.constant_operand(1)
    if table is None or len(table.shape) != 2 or table.dtype is not DType.F32 or not np.isfinite(table.array).all():
        return No("its second operand is no finite constant table")
    for index in (1, 0):
        numbers, wide = equal.constant_operand(index), equal.needed(1 - index)
        if numbers is not None and _counts(numbers, table.shape[0]) and wide.shape is not None:
            break
    else:
        return No("nothing is compared with 0, 1, 2, ...")
    if numbers.dtype not in (DType.I32, DType.I64) or len(numbers.shape) > len(wide.shape) or wide.shape[-1] != 1:
        return No("it is no last dim of 1 that is compared with all numbers")
    if not rewrite.same_dims(op.result.shape, (*wide.shape[:-1], table.shape[1])):
        return No("its shape is not known")
    last = rewrite.constant(Tensor.integers([len(wide.shape) - 1]))
    bounds = [rewrite.constant(Tensor.from_array(np.array(b), numbers.dtype)) for b in (-1, table.shape[0])]
    places = rewrite.op("Clip", [rewrite.op("Squeeze", [wide, last]), *bounds])
    rows = np.concatenate([table.array, np.zeros((1, table.shape[1]), np.float32)])
    return rewrite.op("Gather", [rewrite.constant(Tensor.from_array(rows + np.float32(0), DType.F32)), places], {"axis": 0})


def _counts(numbers: Tensor, count: int) -> bool:
    """Whether a constant holds 0, 1, ... along its last dim and has no other."""
    return (
        numbers.dtype.is_integer
        and numbers.size == count
        and bool(numbers.shape)
        and numbers.shape[-1] == count
        and bool((numbers.array.reshape(-1) == np.arange(count)).all())
    )


@rule("Gather")
def gather_of_one(op: Op, rewrite: Rewriter) -> Value | No:
    """Picking the only element of a dim of size 1 takes the dim away, or puts others of size 1 beside it."""
    shape, indices, axis = op.needed(0).shape, op.constant_operand(1), op.integer("axis", 0)
    if shape is None or indices is None or indices.size != 1:
        return No("it does not pick one constant index")
    axis %= max(len(shape), 1)
    if not shape or shape[axis] != 1 or int(indices.to_list()[0]) not in (0, -1):
        return No("the dim it picks from is not known to be 1")
    rank = len(indices.shape)
    if rank == 0:
        return rewrite.op("Squeeze", [op.operand(0), rewrite.constant(Tensor.integers([axis]))])
    axes = list(range(axis, axis + rank - 1))
    return rewrite.op("Unsqueeze", [op.operand(0), rewrite.constant(Tensor.integers(axes))]) if axes else op.needed(0)


@rule("Gather", over=["Range"])
def gather_of_range(op: Op, rewrite: Rewriter) -> Value | No:
    """Picking 0, 1, ... up to a bound is a Slice; where the bound lies beyond the dim, picking fails."""
    picked, shape = op.needed(1).op, op.needed(0).shape
    if picked is None or not picked.is_a("Range") or shape is None:
        return No("its indices are no Range")
    first, step = shapes.scalar_of(picked.operand(0)), shapes.scalar_of(picked.operand(2))
    if first != 0 or step != 1 or dtype_of(picked.result) not in (DType.I32, DType.I64):
        return No("its Range does not count from 0 in steps of 1")
    axis = op.integer("axis", 0) % max(len(shape), 1)
    zero = rewrite.constant(Tensor.integers([0]))
    end = rewrite.op("Unsqueeze", [picked.operand(1), zero])
    if dtype_of(end) is DType.I32:
        end = rewrite.op("Cast", [end], {"to": DType.I64.onnx_code})
    result = rewrite.op("Slice", [op.operand(0), zero, end, rewrite.constant(Tensor.integers([axis]))])
    return result


@rule("GatherND", over=["Unsqueeze"])
def gather_nd_of_rows(op: Op, rewrite: Rewriter) -> Value | No:
    """Picking by lists of one index each is picking by the indices."""
    listed, shape = op.needed(1).op, op.needed(1).shape
    if op.integer("batch_dims", 0) or shape is None or not shape or shape[-1] != 1:
        return No("it picks by more than one index, or in batches")
    axes = None if listed is None or not listed.is_a("Unsqueeze") else shapes.content_of(listed.operand(1))
    if listed is None or axes not in ((-1,), (len(shape) - 1,)):
        return No("its indices were no list before")
    return rewrite.op("Gather", [op.operand(0), listed.operand(0)], {"axis": 0})


@rule("NonZero", over=["ConstantOfShape"])
def places_of_ones(op: Op, rewrite: Rewriter) -> Value | No:
    """The places of what is nowhere zero along one dim are 0, 1, ...; TorchScript writes arange so."""
    maker = op.needed(0).op
    if maker is None or not maker.is_a("ConstantOfShape") or maker.needed(0).shape != (1,):
        return No("its input is no ConstantOfShape of one dim")
    fill = maker.attributes.get("value")
    if not isinstance(fill, Tensor) or not fill.array.any():
        return No("its input is zero")
    zero = rewrite.constant(Tensor.integers([0]))
    bounds = [Tensor.from_array(np.array(n), DType.I64) for n in (0, 1)]
    count = rewrite.op("Squeeze", [maker.operand(0), zero])
    numbers = rewrite.op("Range", [rewrite.constant(bounds[0]), count, rewrite.constant(bounds[1])])
    return rewrite.op("Unsqueeze", [numbers, zero])


@rule("Where")
def choice_of_parts(op: Op, rewrite: Rewriter) -> Value | No:
    """Where a constant chooses between constants and integers joined from parts, the parts it chooses can be joined."""
    condition, length = op.constant_operand(0), op.result.shape
    if condition is None or condition.dtype is not DType.BOOL or len(condition.shape) != 1 or length != condition.shape:
        return No("it does not choose by one constant truth for each element of one dim")
    for index in (1, 2):
        joined, other = op.needed(index).op, op.constant_operand(3 - index)
        if joined is None or not joined.is_a("Concat") or other is None or dtype_of(op.result) not in (DType.I32, DType.I64):
            continue
        if joined.result.shape != length or len(other.shape) > 1:
            return No("what it chooses from is repeated")
        chosen = condition.array if index == 1 else ~condition.array
        return _parts_chosen(
            joined, chosen, Tensor.from_array(np.broadcast_to(other.array, chosen.shape), other.dtype), rewrite
        )
    return No("it does not choose between integers joined from parts and constants")


def _parts_chosen(joined: Op, chosen: Array, other: Tensor, rewrite: Rewriter) -> Value | No:
    """The parts of a Concat of one dim where they are chosen, joined with elements of `other` where they are not."""
    pieces: list[Value | None] = []
    start = 0
    for part in joined.operands:
        size = None if part is None or part.shape is None or len(part.shape) != 1 else part.shape[0]
        if part is None or not isinstance(size, int):
            return No("the length of a part is not known")
        here, others = chosen[start : start + size], other.array[start : start + size]
        start += size
        if here.all():
            pieces.append(part)
        elif part.constant is not None or not here.any():
            own = others if part.constant is None else part.constant.array
            pieces.append(rewrite.constant(Tensor.from_array(np.where(here, own, others), other.dtype)))
        else:
            return No("only some of a part is chosen")
    return rewrite.op("Concat", pieces, {"axis": 0})


@rule("Where")
def causal_numbers(op: Op, rewrite: Rewriter) -> Value | No:
    """A number where the key comes after the query, and 0 elsewhere, is the upper triangle of that number."""
    condition, shape = op.needed(0), op.result.shape
    if condition.is_output or condition.op is None or condition.op.is_constant or not condition.has_one_use:
        return No("its condition is constant, an input, or used elsewhere too")
    side = is_causal(condition)
    if side is None or shape is None or len(shape) != 2 or not rewrite.same_dims(shape, condition.shape):
        return No("its condition does not compare the places of keys and queries in two dims")
    visible, hidden = (op.constant_operand(i) for i in ((1, 2) if side else (2, 1)))
    if visible is None or hidden is None or visible.size != 1 or hidden.size != 1 or hidden.dtype is not DType.F32:
        return No("it does not choose between two constant numbers in f32")
    if visible.array.any() or np.signbit(visible.array).any():
        return No("what is visible is not 0")
    sizes = [size_of(condition, axis, rewrite) for axis in (0, 1)]
    if any(size.op is not None and size.op.is_a("Shape") and size.op.needed(0) is condition for size in sizes):
        return No("no input has its dims")
    number = rewrite.constant(Tensor.from_array(hidden.array.reshape(()), hidden.dtype))
    numbers = rewrite.op("Expand", [number, rewrite.op("Concat", sizes, {"axis": 0})])
    return rewrite.op("Trilu", [numbers, rewrite.constant(Tensor.from_array(np.array(1), DType.I64))], {"upper": 1})


@rule("Unsqueeze", over=["Concat"])
def unsqueeze_of_parts(op: Op, rewrite: Rewriter) -> Value | No:
    """Dims of 1 in front of what is joined are put in front of the parts, where ops that make the parts take them in."""
    joined, axes = op.needed(0).op, shapes.content_of(op.operand(1))
    rank = None if op.needed(0).shape is None else len(op.needed(0).shape or ())
    if joined is None or not joined.is_a("Concat") or not joined.result.has_one_use or rank is None:
        return No("its input is no Concat that only it uses")
    if axes is None or axes != tuple(range(len(axes))):
        return No("the dims are not put in front")
    if not all(part is not None and part.has_one_use and _takes_in_dims(part.op) for part in joined.operands):
        return No("a part does not take in the dims")
    parts = [rewrite.op("Unsqueeze", [part, op.operand(1)]) for part in joined.operands]
    return rewrite.op("Concat", parts, {"axis": joined.integer("axis", 0) % rank + len(axes)})


def _takes_in_dims(maker: Op | None) -> bool:
    """Whether an Unsqueeze behind an op goes into it, or into what it expands."""
    if maker is not None and maker.is_a("Expand") and maker.needed(0).has_one_use:
        maker = maker.needed(0).op
    return maker is not None and maker.is_a("Reshape", "Unsqueeze")


RULES: tuple[Rule, ...] = (
    truth_and_constant,
    expand_after,
    cast_of_moved_cast,
    clip_of_integers,
    one_hot_product,
    gather_of_one,
    gather_of_range,
    gather_nd_of_rows,
    places_of_ones,
    choice_of_parts,
    causal_numbers,
    unsqueeze_of_parts,
    *scatters.RULES,
)

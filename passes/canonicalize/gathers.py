"""Gathers that pick known places: of everything, of one part, of a Shape; and sequences that are only taken apart."""

from __future__ import annotations

from irc.ir import Op, Tensor, Value

from ..rewriter import No, Rewriter, Rule, rule
from .shapes import shape_range

_MOST_PARTS = 256


def axis_of(op: Op) -> int | None:
    """The axis along which a Gather, Split or SplitToSequence takes its input apart, counted from the front."""
    shape = op.needed(0).shape
    return None if shape is None else op.integer("axis", 0) % len(shape)


def _picked(op: Op) -> list[int] | None:
    """The constant indices of a Gather, counted from the front, or None when they or the size they count in are unknown."""
    indices, shape, axis = op.constant_operand(1), op.needed(0).shape, axis_of(op)
    if indices is None or shape is None or axis is None or indices.size > _MOST_PARTS:
        return None
    size = shape[axis]
    numbers = [int(v) for v in indices.to_list()]
    if isinstance(size, int):
        numbers = [n + size if n < 0 else n for n in numbers]
        return numbers if all(0 <= n < size for n in numbers) else None
    return numbers if all(n >= 0 for n in numbers) else None


@rule("Gather")
def gather_of_everything(op: Op, rewrite: Rewriter) -> Value | No:
    """Gathering every index in order is the input."""
    indices, numbers, axis, shape = op.constant_operand(1), _picked(op), axis_of(op), op.needed(0).shape
    if indices is None or numbers is None or axis is None or shape is None or len(indices.shape) != 1:
        return No("its indices are no constant list")
    if shape[axis] != len(numbers) or numbers != list(range(len(numbers))):
        return No("it leaves something out or moves something")
    return op.needed(0)


@rule("Gather")
def gather_of_shape(op: Op, rewrite: Rewriter) -> Value | No:
    """Neighbouring dims of a Shape are what a Shape with a start and an end gives."""
    source, indices, numbers = shape_range(op.operand(0)), op.constant_operand(1), _picked(op)
    if source is None or numbers is None or indices is None or len(indices.shape) != 1 or not numbers:
        return No("it is no list of constant places in a Shape")
    value, start, _ = source
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        return No("the dims it picks are no neighbours")
    return rewrite.op("Shape", [value], {"start": start + numbers[0], "end": start + numbers[-1] + 1})


@rule("Gather")
def gather_of_concat(op: Op, rewrite: Rewriter) -> Value | No:
    """One element of a concatenation along its axis is an element of the part that holds it."""
    concat, indices, numbers, axis = op.needed(0).op, op.constant_operand(1), _picked(op), axis_of(op)
    if concat is None or not concat.is_a("Concat") or indices is None or numbers is None or axis is None:
        return No("its input is no Concat or its indices are not constant")
    shape = op.needed(0).shape
    if len(numbers) != 1 or shape is None or concat.integer("axis", 0) % len(shape) != axis:
        return No("it picks several elements, or along another axis")
    index = numbers[0]
    for part in concat.operands:
        size = part.shape[axis] if part is not None and part.shape is not None else None
        if part is None or not isinstance(size, int):
            return No("the size of a part before it is not known")
        if index < size:
            if size == 1 and len(indices.shape) == 1:
                return part
            place = Tensor.from_array(indices.array * 0 + index, indices.dtype)
            return rewrite.op("Gather", [part, rewrite.constant(place)], {"axis": axis})
        index -= size
    return No("its index is beyond the parts")


@rule("Gather")
def gather_of_unsqueeze(op: Op, rewrite: Rewriter) -> Value | No:
    """The one element along a dim just put in is what it was put into."""
    inner, indices, numbers, axis = op.needed(0).op, op.constant_operand(1), _picked(op), axis_of(op)
    if inner is None or not inner.is_a("Unsqueeze") or indices is None or numbers != [0] or axis is None:
        return No("its input is no Unsqueeze or it does not pick the first element")
    if _only_axis(inner, inner.result) != axis:
        return No("it picks along another dim than was put in")
    return inner.needed(0) if not indices.shape else No("it keeps the dim")


@rule("Unsqueeze")
def unsqueeze_of_gather(op: Op, rewrite: Rewriter) -> Value | No:
    """Picking one index and putting the dim back is picking a list of one index."""
    return _gather_again(op, op.result, (), (1,), rewrite)


@rule("Squeeze")
def squeeze_of_gather(op: Op, rewrite: Rewriter) -> Value | No:
    """Picking a list of one index and taking the dim away is picking that index."""
    return _gather_again(op, op.needed(0), (1,), (), rewrite)


def _gather_again(op: Op, long: Value, before: tuple[int, ...], after: tuple[int, ...], rewrite: Rewriter) -> Value | No:
    gather = op.needed(0).op
    if gather is None or not gather.is_a("Gather") or not gather.result.has_one_use:
        return No("its input is no Gather that only it uses")
    indices, axis = gather.constant_operand(1), axis_of(gather)
    if indices is None or indices.shape != before or axis is None:
        return No("the Gather does not pick one constant index")
    if _only_axis(op, long) != axis:
        return No("it changes another dim than the Gather")
    place = Tensor.from_array(indices.array.reshape(after), indices.dtype)
    return rewrite.op("Gather", [gather.operand(0), rewrite.constant(place)], {"axis": axis})


def _only_axis(op: Op, long: Value) -> int | None:
    """The one axis of a Squeeze or Unsqueeze, counted from the front of the longer of its two shapes."""
    axes = op.constant_operand(1)
    if axes is None or axes.size != 1 or long.shape is None:
        return None
    return int(axes.to_list()[0]) % len(long.shape)


@rule("SequenceAt")
def part_of_sequence(op: Op, rewrite: Rewriter) -> Value | No:
    """An element of what SplitToSequence makes is a part of a Split."""
    maker, position = op.needed(0).op, op.constant_operand(1)
    if maker is None or not maker.is_a("SplitToSequence") or position is None:
        return No("its sequence is no SplitToSequence or its position is not constant")
    sizes, axis = _part_sizes(maker), axis_of(maker)
    if sizes is None or axis is None:
        return No("the sizes of the parts are not known")
    index = int(position.to_list()[0])
    if not -len(sizes) <= index < len(sizes):
        return No("there is no such part")
    operands = [maker.operand(0), rewrite.constant(Tensor.integers(sizes))]
    split = rewrite.op("Split", operands, {"axis": axis}, results=len(sizes)).op
    assert split is not None
    return split.results[index]


def _part_sizes(maker: Op) -> list[int] | None:
    shape, axis, split = maker.needed(0).shape, axis_of(maker), maker.constant_operand(1)
    size = None if shape is None or axis is None else shape[axis]
    if not isinstance(size, int) or split is None or not 0 < split.size <= _MOST_PARTS:
        return None
    sizes = [int(v) for v in split.to_list()]
    if not split.shape:
        step = sizes[0]
        if not 0 < step <= size or size // step > _MOST_PARTS:
            return None
        sizes = [min(step, size - start) for start in range(0, size, step)]
    return sizes if sum(sizes) == size and all(s > 0 for s in sizes) else None


@rule("Split")
def split_of_concat(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """A concatenation taken apart again along its axis, part by part, is its parts."""
    concat, shape, axis = op.needed(0).op, op.needed(0).shape, axis_of(op)
    if concat is None or not concat.is_a("Concat") or shape is None or axis is None:
        return No("its input is no Concat")
    if concat.integer("axis", 0) % len(shape) != axis:
        return No("its input is put together along another axis")
    parts = tuple(v for v in concat.operands if v is not None)
    if len(parts) != len(op.results):
        return No("it has another number of parts")
    for part, result in zip(parts, op.results, strict=True):
        own, made = part.shape, result.shape
        if own is None or made is None or not isinstance(own[axis], int) or own[axis] != made[axis]:
            return No("its parts have other sizes")
    return parts


RULES: tuple[Rule, ...] = (
    gather_of_everything,
    gather_of_shape,
    gather_of_concat,
    gather_of_unsqueeze,
    unsqueeze_of_gather,
    squeeze_of_gather,
    part_of_sequence,
    split_of_concat,
)

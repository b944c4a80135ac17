"""Which slots tie together in ops that only move elements: one row of MOVES an op.

An op whose sizes or indices stand in a constant operand or an attribute is told of only where `restating.py` can write them
anew, since they change with what is taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np

from irc.ir import Dim, Op, Value

from ..layout.grouping import Group, groups_of
from .slots import Indices, Place, Ties


def _cast_like(op: Op, ties: Ties) -> None:
    """Only the dtype of the second operand matters."""
    for axis in range(len(op.needed(0).shape or ())):
        ties.same((op.needed(0), axis), (op.result, axis))
    ties.free(*_places(op.needed(1)))


def _places(value: Value) -> list[Place]:
    return [(value, axis) for axis in range(len(value.shape or ()))]


def _shape(op: Op, ties: Ties) -> None:
    """Where only some of the sizes are looked at, only those have to stay."""
    looked_at = _looked_at(op)
    if looked_at is not None:
        ties.free(*((op.needed(0), axis) for axis in range(len(op.needed(0).shape or ())) if axis not in looked_at))


def _looked_at(op: Op) -> set[int] | None:
    """The axes whose sizes some user of a Shape picks by constant indices; None where it is not known."""
    rank = len(op.needed(0).shape or ())
    axes = range(rank)[op.integer("start", 0) : op.integer("end", rank)]
    if op.result.is_output:
        return None
    found: set[int] = set()
    for user in op.result.users:
        index = user.constant_operand(1) if user.is_a("Gather") and user.operands[0] is op.result else None
        if index is None:
            return set(axes)
        found.update(axes[int(i)] for i in index.array.reshape(-1) if -len(axes) <= int(i) < len(axes))
    return found


def _reshape(op: Op, ties: Ties) -> None:
    """In each block of axes that turn into each other the outermost ones that fit together carry the ties, the others stay.

    A slot of the axis with fewer indices goes with the run of slots of the other that covers the same elements.
    """
    data, result = op.needed(0), op.result
    before, after = data.shape, result.shape
    if before is None or after is None or (op.name == "Reshape" and op.constant_operand(1) is None):
        return
    for inside, outside in groups_of(before, after) or _equal_ends(before, after):
        if len(inside) == len(outside) == 1 and before[inside[0]] == after[outside[0]]:
            ties.same((data, inside[0]), (result, outside[0]))
            continue
        inner = [axis for axis in inside if before[axis] != 1]
        outer = [axis for axis in outside if after[axis] != 1]
        if not inner or not outer:
            continue
        if len(inner) == 1 and len(outer) > 2:
            _unpacked((data, inner[0]), result, outer, ties)
        elif len(outer) == 1 and len(inner) > 2:
            _unpacked((result, outer[0]), data, inner, ties)
        else:
            sizes = sorted(size for size in (before[inner[0]], after[outer[0]]) if isinstance(size, int))
            if len(sizes) == 2 and sizes[1] % sizes[0] == 0:
                ties.blocks((data, inner[0]), (result, outer[0]), count=sizes[0])


def _equal_ends(before: Sequence[Dim], after: Sequence[Dim]) -> list[Group]:
    """The equal dims at the front and at the back, which go on whatever happens between them."""
    shorter, front, back = min(len(before), len(after)), 0, 0
    while front < shorter and before[front] is not None and before[front] == after[front]:
        front += 1
    while back < shorter - front and before[-1 - back] is not None and before[-1 - back] == after[-1 - back]:
        back += 1
    ends = [(len(before) - i, len(after) - i) for i in range(1, back + 1)]
    return [([i], [i]) for i in range(front)] + [([i], [j]) for i, j in ends]


_FEW = 4
"""At most so many parts lie in front of the heads where queries, keys and values are made by one product."""


def _unpacked(whole: Place, value: Value, axes: list[int], ties: Ties) -> None:
    """One axis that is all of `axes` in order; one of these carries the ties: the first, or the second behind a few parts.

    A product that makes queries, keys and values has its columns as [3, heads, size]: a head is cut out of all three parts.
    """
    sizes = [size for axis in axes if isinstance(size := (value.shape or ())[axis], int)]
    chosen = 1 if sizes[0] < _FEW else 0
    slots = ties.slots.of(*whole)
    if len(sizes) != len(axes) or slots.size != prod(sizes):
        return
    own = ties.slots.of(value, axes[chosen])
    if not own.size:
        return
    spread = np.moveaxis(slots.reshape(sizes), chosen, 0).reshape(sizes[chosen], -1)
    ties.slots.tie(np.repeat(own, spread.shape[1]), spread.reshape(-1))
    ties.free(whole, (value, axes[chosen]))


def _transpose(op: Op, ties: Ties) -> None:
    rank = len(op.needed(0).shape or ())
    order = op.integers("perm") or tuple(reversed(range(rank)))
    for axis, source in enumerate(order):
        ties.same((op.needed(0), source), (op.result, axis))


def _concat(op: Op, ties: Ties) -> None:
    _in_parts(op, op.result, [operand for operand in op.operands if operand is not None], ties)


def _split(op: Op, ties: Ties) -> None:
    _in_parts(op, op.needed(0), op.results, ties)


def _in_parts(op: Op, whole: Value, parts: Sequence[Value], ties: Ties) -> None:
    """Parts that lie one behind the other in a whole, along the axis of an op."""
    sizes = _sizes_along(op, parts)
    if whole.shape is None or sizes is None or sum(sizes) != whole.shape[_axis(op, whole)]:
        return
    axis, start = _axis(op, whole), 0
    for part, size in zip(parts, sizes, strict=True):
        ties.pick((whole, axis), np.arange(start, start + size), (part, axis))
        start += size
        _others(part, axis, whole, ties)


def _axis(op: Op, value: Value) -> int:
    axis = op.integer("axis", 0)
    return axis + len(value.shape or ()) if axis < 0 else axis


def _sizes_along(op: Op, values: Sequence[Value]) -> list[int] | None:
    """The sizes of values along the op's axis, where all of them are known."""
    sizes = [v.shape[_axis(op, v)] for v in values if v.shape]
    known = [size for size in sizes if isinstance(size, int)]
    return known if len(known) == len(values) else None


def _others(first: Value, axis: int, second: Value, ties: Ties) -> None:
    for other in range(len(first.shape or ())):
        if other != axis:
            ties.same((first, other), (second, other))


def taken_by_slice(op: Op) -> dict[int, Indices] | None:
    """For each axis that a Slice cuts, the indices it takes; None unless all is constant, of step 1 and of known size."""
    data = op.needed(0)
    given = [op.constant_operand(i) for i in range(1, 5)]
    if data.shape is None or given[0] is None or given[1] is None:
        return None
    if any(op.operand(i) is not None and given[i - 1] is None for i in (3, 4)):
        return None
    starts, ends = given[0].to_list(), given[1].to_list()
    axes = list(range(len(starts))) if given[2] is None else given[2].to_list()
    if given[3] is not None and any(step != 1 for step in given[3].to_list()):
        return None
    found: dict[int, Indices] = {}
    for start, end, axis in zip(starts, ends, axes, strict=True):
        size = data.shape[axis]
        if not isinstance(size, int):
            return None
        found[axis % len(data.shape)] = np.arange(size)[start:end]
    return found


def _slice(op: Op, ties: Ties) -> None:
    data, taken = op.needed(0), taken_by_slice(op)
    if data.shape is None or op.result.shape is None or taken is None:
        return
    for axis in range(len(data.shape)):
        if axis in taken:
            ties.pick((data, axis), taken[axis], (op.result, axis))
        else:
            ties.same((data, axis), (op.result, axis))


def _gather(op: Op, ties: Ties) -> None:
    """Constant indices pick slots; the other axes go on."""
    data, indices, result = op.needed(0), op.needed(1), op.result
    if data.shape is None or indices.shape is None or result.shape is None:
        return
    axis, added = _axis(op, data), len(indices.shape)
    size, constant = data.shape[axis], indices.constant
    for other in range(len(data.shape)):
        if other != axis:
            ties.same((data, other), (result, other if other < axis else other + added - 1))
    if constant is not None and added == 1 and isinstance(size, int):
        chosen = constant.array.astype(np.int64) % size
        if np.unique(chosen).size == chosen.size:
            ties.pick((data, axis), chosen, (result, axis))
            ties.free((indices, 0))
    else:
        for position in range(added):
            ties.same((indices, position), (result, axis + position))


def _pad(op: Op, ties: Ties) -> None:
    """What is added stays; the rest goes on behind it."""
    data, result, amounts = op.needed(0), op.result, op.constant_operand(1)
    if data.shape is None or result.shape is None or amounts is None or op.operand(3) is not None:
        return
    rank, pads = len(data.shape), [int(n) for n in amounts.to_list()]
    for axis in range(rank):
        before, after, size = pads[axis], pads[axis + rank], data.shape[axis]
        if before == after == 0:
            ties.same((data, axis), (result, axis))
        elif op.string("mode", "constant") == "constant" and min(before, after) >= 0 and isinstance(size, int):
            ties.pick((result, axis), np.arange(before, before + size), (data, axis))
            added = ties.slots.of(result, axis)
            ties.slots.keep(np.delete(added, np.arange(before, before + size)), op)


def _resize(op: Op, ties: Ties) -> None:
    """Batch and channels go on where they keep their sizes; with `sizes` these are written anew."""
    data, result = op.needed(0), op.results[0]
    if op.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return
    if data.shape is None or result.shape is None or (op.constant_operand(2) is None and op.constant_operand(3) is None):
        return
    if op.operand(3) is not None and op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return
    for axis in (0, 1):
        if data.shape[axis] == result.shape[axis]:
            ties.same((data, axis), (result, axis))


def _expand(op: Op, ties: Ties) -> None:
    """Its sizes are written anew, so that what is repeated along an axis is repeated less often."""
    data, result = op.needed(0), op.result
    if data.shape is None or result.shape is None or op.constant_operand(1) is None:
        return
    shift = len(result.shape) - len(data.shape)
    for axis in range(len(result.shape)):
        size = data.shape[axis - shift] if axis >= shift else 1
        if size == 1:
            ties.free((result, axis))
        else:
            ties.same((data, axis - shift), (result, axis))


def _tile(op: Op, ties: Ties) -> None:
    repeats = op.constant_operand(1)
    for axis, count in enumerate(repeats.to_list() if repeats is not None else ()):
        if count == 1:
            ties.same((op.needed(0), axis), (op.result, axis))


def _channels_to_space(op: Op, ties: Ties, wide: Value, narrow: Value, depth_first: bool) -> None:
    """A channel of `narrow` goes with all channels of `wide` it is laid out in."""
    area = op.integer("blocksize", 1) ** 2
    slots, own = ties.slots.of(wide, 1), ties.slots.of(narrow, 1)
    if not own.size or slots.size != own.size * area:
        return
    rows = slots.reshape(area, -1).T if depth_first else slots.reshape(-1, area)
    ties.slots.tie(np.repeat(own, area), rows.reshape(-1))
    ties.free((wide, 1), (narrow, 1))
    ties.same((wide, 0), (narrow, 0))


def _depth_to_space(op: Op, ties: Ties) -> None:
    _channels_to_space(op, ties, op.needed(0), op.result, op.string("mode", "DCR") == "DCR")


def _space_to_depth(op: Op, ties: Ties) -> None:
    _channels_to_space(op, ties, op.result, op.needed(0), True)


MOVES: Mapping[str, Callable[[Op, Ties], None]] = {
    "CastLike": _cast_like,
    "Shape": _shape,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
"""What is known of each op that moves elements, by its name."""

"""Slices that take a value apart, as one Split. They come last: rules know many things by their slices."""

from __future__ import annotations

import math
from itertools import pairwise

from irc.ir import Op, Tensor, Value

from ..canonicalize.gathers import axis_of
from ..canonicalize.shapes import target_pattern
from ..rewriter import No, Rewriter, Rule, rule
from .chains import VIEWS, Arrangement
from .slices import part_of

_FARTHEST = 256
"""How many ops apart slices may stand."""
_FAR = 2**62


@rule("Slice")
def split_of_slices(op: Op, rewrite: Rewriter) -> Value | No:
    """Neighbouring slices that together are the whole of an axis are the parts of a Split."""
    own = _part(op)
    if own is None:
        return No("its bounds are not constant along one axis of known size")
    source, (axis, start, end) = op.needed(0), own
    made = _split_before(op, source, axis)
    if made is not None:
        return _result(made, start, end)
    parts: dict[tuple[int, int], Op] = {}
    for user in source.users:
        part = _part(user) if user.is_a("Slice") and user.graph is op.graph and user.needed(0) is source else None
        if part is not None and part[0] == axis:
            parts.setdefault(part[1:], user)
    bounds = sorted(parts)
    whole = (source.shape or ())[axis]
    if len(bounds) < 2 or bounds[0][0] != 0 or bounds[-1][1] != whole or any(a[1] != b[0] for a, b in pairwise(bounds)):
        return No("the slices of its input are not the whole of the axis, each element once")
    if not _is_first(op, set(parts.values())):
        return No("another slice stands before it, or one stands far away")
    sizes = rewrite.constant(Tensor.integers([b - a for a, b in bounds]))
    split = rewrite.op("Split", [source, sizes], {"axis": axis}, results=len(bounds)).op
    assert split is not None
    return split.results[bounds.index((start, end))]


def _part(op: Op) -> tuple[int, int, int] | None:
    """The axis, the start and the end of a Slice of one axis of known size with step 1, if it takes anything."""
    part = part_of(op.result)
    return None if part is None else part[1:]


def _split_before(op: Op, source: Value, axis: int) -> Op | None:
    """A Split of the same value along the same axis that stands not far in front of `op`."""
    splits = [user for user in source.users if user.is_a("Split") and user.integer("axis", 0) == axis]
    current, left = op.prev, _FARTHEST
    while splits and current is not None and left:
        if current in splits:
            return current
        current, left = current.prev, left - 1
    return None


def _result(split: Op, start: int, end: int) -> Value | No:
    position, axis = 0, split.integer("axis", 0)
    for result in split.results:
        size = None if result.shape is None else result.shape[axis]
        if not isinstance(size, int):
            return No("the sizes of the parts are not known")
        if (position, position + size) == (start, end):
            return result
        position += size
    return No("it takes no part of the Split before it")


def _is_first(op: Op, others: set[Op]) -> bool:
    """Whether `op` stands before all others, and they not far behind it."""
    missing, current, left = others - {op}, op.next, _FARTHEST
    while missing and current is not None and left:
        missing.discard(current)
        current, left = current.next, left - 1
    return not missing


@rule("Gather")
def gather_of_cut(op: Op, rewrite: Rewriter) -> Value | No:
    """A place of the outer dim that a reshape cuts from another is a slice of that one; of the inner dim, one with a step."""
    view, index, axis, cut = op.needed(0).op, op.constant_operand(1), axis_of(op), op.needed(0).shape
    if view is None or not view.is_a(*VIEWS) or index is None or index.shape or axis is None or cut is None:
        return No("it does not take one constant place of a reshape")
    if not all(user.is_a("Gather") for user in op.needed(0).users) or op.needed(0).is_output:
        return No("others use the reshape, too", 2)
    whole, count = view.needed(0), cut[axis]
    arrangement = None if whole.shape is None else Arrangement.of(whole.shape)
    if arrangement is None or not isinstance(count, int) or count < 2 or not arrangement.reshape(cut):
        return No("how the reshape cuts dims is not known", 2)
    place = int(index.to_list()[0]) % count
    taken = _taken(arrangement, arrangement.after[axis], count, place)
    if taken is None:
        return No("the reshape does not cut one dim in two", 2)
    dim, start, end, step = taken
    bounds = [rewrite.constant(Tensor.integers([number])) for number in (start, end, dim, step)]
    part = rewrite.op("Slice", [whole, *(bounds if step != 1 else bounds[:3])])
    target = op.result.shape
    if target is None or part.shape == target:
        return part if target is not None else No("its shape is not known", 2)
    pattern = target_pattern(target, part.shape)
    if pattern is None:
        return No("several dims are not known", 2)
    rewrite.assume([*arrangement.relied, *pattern[1]])
    return rewrite.op("Reshape", [part, rewrite.constant(Tensor.integers(pattern[0]))])


def _taken(arrangement: Arrangement, atoms: list[int], count: int, place: int) -> tuple[int, int, int, int] | None:
    """The dim, start, end and step of what one place along one atom of the input is, where it is its outermost or innermost."""
    if len(atoms) != 1:
        return None
    for dim, group in enumerate(arrangement.before):
        if atoms[0] not in group or len(group) < 2:
            continue
        rest = math.prod(size for size in (arrangement.sizes[atom] for atom in group[1:]) if isinstance(size, int))
        if any(not isinstance(arrangement.sizes[atom], int) for atom in group):
            return None
        if group[0] == atoms[0]:
            return dim, place * rest, (place + 1) * rest, 1
        if group[-1] == atoms[0]:
            return dim, place, _FAR, count
    return None


CUTS: tuple[Rule, ...] = (gather_of_cut,)
RULES: tuple[Rule, ...] = (split_of_slices,)
"""To be run over slices in the order of the graph, when all are there: the first of several makes the Split."""

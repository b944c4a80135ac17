"""Slices that take a value apart, as one Split. They come last: rules know many things by their slices."""

from __future__ import annotations

from itertools import pairwise

from irc.ir import Op, Tensor, Value

from ..canonicalize.gathers import axis_of
from ..rewriter import No, Rewriter, Rule, rule
from .slices import part_of

_FARTHEST = 256
"""How many ops apart slices may stand."""


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
    """Place i of the outer of two dims that a Reshape cuts from one is the slice from i·w to (i + 1)·w of that one."""
    view, index, axis, cut = op.needed(0).op, op.constant_operand(1), axis_of(op), op.needed(0).shape
    if view is None or not view.is_a("Reshape") or index is None or index.shape or axis is None or cut is None:
        return No("it does not take one constant place of a Reshape")
    whole, shape = view.needed(0), view.needed(0).shape
    width = cut[axis + 1] if axis + 1 < len(cut) else None
    count = cut[axis]
    if shape is None or not isinstance(width, int) or not isinstance(count, int) or 0 in (width, count):
        return No("the dims it is cut into are not known", 2)
    if shape != (*cut[:axis], count * width, *cut[axis + 2 :]) or not rewrite.same_dims(shape, shape):
        return No("the Reshape does more than to cut one dim in two", 2)
    start = int(index.to_list()[0]) % count * width
    bounds = [rewrite.constant(Tensor.integers([number])) for number in (start, start + width, axis)]
    return rewrite.op("Slice", [whole, *bounds])


CUTS: tuple[Rule, ...] = (gather_of_cut,)
RULES: tuple[Rule, ...] = (split_of_slices,)
"""To be run over slices in the order of the graph, when all are there: the first of several makes the Split."""

"""ScatterND that writes whole slabs, as `x[:, 2:6] = y` is exported: slabs are told apart, and put together by Concat.

A slab is what `start <= place < stop` along one axis holds; all other axes are written from end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from irc.ir import Op, Tensor, Value

from ..rewriter import No, Rewriter, Rule, rule

_LARGEST_INDICES = 1 << 20
_MOST_WRITES = 64


@dataclass(frozen=True)
class Slab:
    """`updates`, written from `start` to `stop` along `axis` of `data`, which has `size` places there; and the slab's shape."""

    data: Value
    updates: Value
    axis: int
    start: int
    stop: int
    shape: tuple[int, ...]
    size: int


def slab_of(op: Op | None) -> Slab | None:
    """The slab a ScatterND writes, or None for other ops and for indices that are no slab or not constant."""
    if op is None or op.domain or not op.is_a("ScatterND") or op.string("reduction", "none") != "none":
        return None
    indices, shape = op.constant_operand(1), op.needed(0).shape
    if indices is None or not indices.shape or not 0 < indices.size <= _LARGEST_INDICES or shape is None:
        return None
    sizes = tuple(d for d in shape if isinstance(d, int))
    depth = indices.shape[-1]
    if len(sizes) != len(shape) or not 0 < depth <= len(sizes):
        return None
    places = indices.array.reshape(-1, depth)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(int(n) for n in high - low)
    if low.min() < 0 or prod(box) != len(places) or any(int(h) > n for h, n in zip(high, sizes[:depth], strict=True)):
        return None
    grid = np.indices(box).reshape(depth, -1).T + low
    partial = [axis for axis in range(depth) if box[axis] != sizes[axis]]
    if len(partial) > 1 or not bool((places == grid).all()):
        return None
    axis = partial[0] if partial else 0
    return Slab(op.needed(0), op.needed(2), axis, int(low[axis]), int(high[axis]), (*box, *sizes[depth:]), sizes[axis])


def _in_shape(slab: Slab, rewrite: Rewriter) -> Value:
    if slab.updates.shape == slab.shape:
        return slab.updates
    return rewrite.op("Reshape", [slab.updates, rewrite.constant(Tensor.integers(slab.shape))])


@rule("ScatterND")
def scatter_everywhere(op: Op, rewrite: Rewriter) -> Value | No:
    """Where everything is written over, what is written is the result."""
    slab = slab_of(op)
    if slab is None:
        return No("it writes no slab at constant places")
    if slab.shape != op.needed(0).shape:
        return No("it leaves something as it was")
    if 0 in slab.shape:
        return No("it is empty")
    return _in_shape(slab, rewrite)


@rule("ScatterND")
def scatter_by_concat(op: Op, rewrite: Rewriter) -> Value | No:
    """Slabs written one after the other that together leave nothing as it was are put together by Concat."""
    last = slab_of(op)
    if last is None:
        return No("it writes no slab at constant places")
    slabs = [last]
    while len(slabs) < _MOST_WRITES:
        inner = slab_of(slabs[-1].data.op) if slabs[-1].data.has_one_use else None
        if inner is None or inner.axis != last.axis:
            break
        slabs.append(inner)
    slabs.sort(key=lambda slab: slab.start)
    edges = [0, *(slab.stop for slab in slabs)]
    if [*(slab.start for slab in slabs), last.size] != edges:
        return No("what is written leaves something as it was, or twice the same")
    if 0 in last.shape:
        return No("it is empty")
    return rewrite.op("Concat", [_in_shape(slab, rewrite) for slab in slabs], {"axis": last.axis})


@rule("Slice")
def slice_of_scatter(op: Op, rewrite: Rewriter) -> Value | No:
    """A part of what was written is a part of the updates; a part of what was not written is as it was."""
    slab = slab_of(op.needed(0).op)
    if slab is None:
        return No("its input is no ScatterND of a slab")
    bounds = [op.constant_operand(i) for i in (1, 2, 3)]
    starts, ends, axes = (None if b is None or b.size != 1 else int(b.to_list()[0]) for b in bounds)
    steps = op.constant_operand(4)
    if (
        starts is None
        or ends is None
        or axes is None
        or (op.operand(4) is not None and (steps is None or steps.to_list() != [1]))
    ):
        return No("it has several axes, a step, or bounds that are not constant")
    shape = op.needed(0).shape or ()
    size = shape[slab.axis]
    if axes % len(shape) != slab.axis or not isinstance(size, int):
        return No("it goes along another axis")
    span = range(size)[starts:ends]
    source, offset = _side(slab, span, rewrite)
    if source is None:
        return No("it is partly written over, or empty")
    numbers = [rewrite.constant(Tensor.integers([n])) for n in (span.start - offset, span.stop - offset, slab.axis)]
    return rewrite.op("Slice", [source, *numbers])


@rule("Gather")
def gather_of_scatter(op: Op, rewrite: Rewriter) -> Value | No:
    """One element of what was written is an element of the updates; of what was not written it is as it was."""
    slab, index = slab_of(op.needed(0).op), op.constant_operand(1)
    if slab is None or index is None or index.size != 1:
        return No("its input is no ScatterND of a slab, or it does not pick one constant index")
    shape = op.needed(0).shape or ()
    size = shape[slab.axis]
    place = int(index.to_list()[0])
    if op.integer("axis", 0) % len(shape) != slab.axis or not isinstance(size, int) or not -size <= place < size:
        return No("it picks along another axis")
    place %= size
    source, offset = _side(slab, range(place, place + 1), rewrite)
    if source is None:
        return No("it is partly written over")
    number = Tensor.from_array(np.full(index.shape, place - offset), index.dtype)
    return rewrite.op("Gather", [source, rewrite.constant(number)], {"axis": slab.axis})


def _side(slab: Slab, span: range, rewrite: Rewriter) -> tuple[Value | None, int]:
    """What holds a span along the slab's axis, the updates or the data, and where the span starts to count there."""
    if not span or 0 in slab.shape:
        return None, 0
    if span.stop <= slab.start or span.start >= slab.stop:
        return slab.data, 0
    if span.start >= slab.start and span.stop <= slab.stop:
        return _in_shape(slab, rewrite), slab.start
    return None, 0


RULES: tuple[Rule, ...] = (scatter_everywhere, scatter_by_concat, slice_of_scatter, gather_of_scatter)

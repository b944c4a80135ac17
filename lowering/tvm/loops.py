"""Loops over all elements of a tensor, wherever these lie: one kernel for elementwise ops and for every copy between views.

Law: each element of the result is computed from the elements at its place in the operands alone. Axes are walked in the order
in which the result lies in memory; those that all views step through alike are one. The last is vectorized; an operand that
lies in order along another axis is turned by square tiles in registers.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from irc.ir import DType

from .kernel import Kernel, Writer, product, tir_name
from .lanes import held, part, transposed
from .views import View

Body = Callable[[Writer, Sequence[str]], str]
"""Writes what computes an element, given the texts of those of the operands; the text of the result."""

GRAIN = 1 << 14
"""Elements that are worth a task of their own: some microseconds."""
MOST_TASKS = 16
_INNERMOST = 64
"""Elements of the last axis in a chunk, at least and as a multiple: whole vectors and whole cache lines."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """The size of an axis and its stride in each view, the result's first."""

    size: int
    strides: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Space:
    """The axes to walk, outermost first, and where each view has its first element."""

    axes: tuple[_Axis, ...]
    offsets: tuple[int, ...]

    @property
    def size(self) -> int:
        return product([axis.size for axis in self.axes])


@dataclass(frozen=True, slots=True)
class _Walk:
    """What a kernel is written with: its buffers, the result's first, and what happens at an element."""

    writer: Writer
    buffers: tuple[str, ...]
    dtypes: tuple[DType, ...]
    body: Body
    lanes: int

    def element(self, places: Sequence[str]) -> None:
        """One element, or a vector of them in a vectorized loop, at its place in each buffer."""
        self.result(places[0], [f"{buffer}[{place}]" for buffer, place in zip(self.buffers[1:], places[1:], strict=True)])

    def result(self, place: str, operands: Sequence[str]) -> None:
        """An element of the result, given where it is and those of the operands."""
        pairs = zip(self.dtypes[1:], operands, strict=True)
        names = [self.writer.value(tir_name(dtype), operand) for dtype, operand in pairs]
        self.writer.line(f"{self.buffers[0]}[{place}] = {self.body(self.writer, names)}")


def elementwise(dtype: DType, view: View, operands: Sequence[tuple[DType, View]], body: Body, lanes: int) -> Kernel:
    """The kernel that fills `view` of a buffer of `dtype` with what `body` makes of the operands, views of the same shape.

    Its pointers are those of the operands' buffers, then the result's, which may be an operand's only where the views are equal
    and dense. `lanes` f32 are a vector of the target. Of an empty shape there are no tasks. Bools are int8.
    """
    views = (view, *(each for _, each in operands))
    assert all(each.shape == view.shape for each in views), "operands are broadcast by the caller"
    writer = Writer()
    buffers = [writer.buffer(kind, _extent(each)) for kind, each in operands]
    buffers.insert(0, writer.buffer(dtype, _extent(view)))
    walk = _Walk(writer, tuple(buffers), (dtype, *(kind for kind, _ in operands)), body, lanes)
    space = _collapsed(views)
    if not space.size:
        writer.line("T.evaluate(0)")
        return writer.kernel(0)
    turned = _turned_axis(space, lanes)
    return writer.kernel(_write_rows(walk, space, 0) if turned is None else _write_tiles_and_rest(walk, space, turned))


def _extent(view: View) -> int:
    """The elements that a buffer has at least; strides may be negative."""
    ends = [(size - 1) * step for size, step in zip(view.shape, view.strides, strict=True)]
    return view.offset + sum(max(end, 0) for end in ends) + 1 if view.size else 0


def _collapsed(views: Sequence[View]) -> _Space:
    """The axes of views of one shape in the order of the first view's memory; neighbours that every view joins are one."""
    offsets = [view.offset for view in views]
    axes: list[_Axis] = []
    for index, size in enumerate(views[0].shape):
        strides = [view.strides[index] for view in views]
        if strides[0] < 0:  # walked the other way round
            offsets = [offset + (size - 1) * step for offset, step in zip(offsets, strides, strict=True)]
            strides = [-step for step in strides]
        if size != 1:
            axes.append(_Axis(size, tuple(strides)))
    axes.sort(key=lambda axis: -axis.strides[0])
    merged: list[_Axis] = []
    for axis in axes:
        if merged and merged[-1].strides == tuple(step * axis.size for step in axis.strides):
            axis = replace(axis, size=merged.pop().size * axis.size)
        merged.append(axis)
    return _Space(tuple(merged) or (_Axis(1, (0,) * len(views)),), tuple(offsets))


def _wanted_tasks(space: _Space) -> int:
    return max(1, min(MOST_TASKS, space.size // GRAIN))


# Row by row


def _write_rows(walk: _Walk, space: _Space, first: int) -> int:
    """Vectors along the last axis, in loops over the others, shared out to tasks from number `first`; the number after them."""
    *outer, last = space.axes
    wanted = _wanted_tasks(space)
    rows = product([axis.size for axis in outer])
    chunk = last.size
    if rows < wanted:
        chunk = min(last.size, math.ceil(last.size * rows / wanted / _INNERMOST) * _INNERMOST)
    heads = [*outer, _Axis(math.ceil(last.size / chunk), tuple(chunk * step for step in last.strides))]
    heads_only = replace(space, axes=tuple(heads))
    return _write_tasks(walk, heads_only, wanted, first, lambda at, index: _write_row(walk, at, last, chunk, index))


Inner = Callable[[Sequence[str], str], None]
"""Writes what happens at an index of all axes, given where each view is then and the index of the last axis."""


def _write_tasks(walk: _Walk, space: _Space, wanted: int, first: int, inner: Inner) -> int:
    """Loops over axes, the outer ones cut into about `wanted` tasks, the first of which is `first`; the number after them."""
    writer, units, shared = walk.writer, 1, 0
    while units < wanted and shared < len(space.axes):
        units, shared = units * space.axes[shared].size, shared + 1
    share = math.ceil(units / wanted)
    tasks = math.ceil(units / share)
    at = list(map(str, space.offsets))
    guard = writer.block(f"if T.And(task >= {first}, task < {first + tasks})")
    with guard, writer.loop(share) as turn, contextlib.ExitStack() as stack:
        unit = turn if tasks == 1 else writer.let("int32", f"(task - {first}) * {share} + {turn}")
        if units % share:
            stack.enter_context(writer.block(f"if {unit} < {units}"))
        index, rest = "0", units
        for axis in space.axes[:shared]:
            rest //= axis.size
            index = "0" if axis.size == 1 else writer.let("int32", f"{unit} // {rest} % {axis.size}")
            at = _advanced(walk, at, axis, index)
        _write_nest(walk, at, space.axes[shared:], index, inner)
    return first + tasks


def _write_nest(walk: _Walk, at: Sequence[str], axes: Sequence[_Axis], index: str, inner: Inner) -> None:
    """Loops over the axes; `index` is that of the axis in front of them."""
    if not axes:
        return inner(at, index)
    with walk.writer.loop(axes[0].size) as turn:
        return _write_nest(walk, _advanced(walk, at, axes[0], turn), axes[1:], turn, inner)


def _advanced(walk: _Walk, at: Sequence[str], axis: _Axis, index: str) -> list[str]:
    """Where the views are at an index of one more axis."""
    if index == "0":
        return list(at)
    pairs = zip(at, axis.strides, strict=True)
    return [place if step == 0 else walk.writer.let("int32", f"{place} + {index} * {step}") for place, step in pairs]


def _write_row(walk: _Walk, at: Sequence[str], axis: _Axis, chunk: int, index: str) -> None:
    """The elements of a chunk of the last axis; the last chunk may be shorter, and end with a part of a vector."""
    writer, lanes = walk.writer, walk.lanes
    chunks, vectors = math.ceil(axis.size / chunk), chunk // lanes
    short = axis.size - (chunks - 1) * chunk
    turns: int | str = vectors
    if short != chunk:
        turns = writer.let("int32", f"T.Select({index} == {chunks - 1}, {short // lanes}, {vectors})")
    if vectors:
        with writer.loop(turns) as turn, writer.loop(lanes, "vectorized") as lane:
            walk.element(_along(at, axis, _sum(_times(turn, lanes), lane)))
    if not short % lanes:
        return
    start = short // lanes * lanes
    if chunks == 1:
        with writer.loop(short % lanes, "vectorized") as lane:
            walk.element(_along(at, axis, _sum(str(start), lane)))
        return
    with writer.block(f"if {index} == {chunks - 1}"), writer.loop(short % lanes, "vectorized") as lane:
        walk.element(_along(at, axis, _sum(str(start), lane)))


def _along(at: Sequence[str], axis: _Axis, index: str) -> list[str]:
    return [_sum(place, _times(index, step)) for place, step in zip(at, axis.strides, strict=True)]


def _sum(a: str, b: str) -> str:
    return b if a == "0" else a if b == "0" else f"{a} + {b}"


def _times(index: str, step: int) -> str:
    return "0" if step == 0 or index == "0" else index if step == 1 else f"({index}) * {step}"


# Tile by tile


def _turned_axis(space: _Space, lanes: int) -> int | None:
    """The axis along which an operand lies in order that does not along the last one, if both have room for a tile."""
    *outer, last = space.axes
    if last.strides[0] != 1 or last.size < lanes or lanes == 1:
        return None
    for number, axis in enumerate(outer):
        if axis.size >= lanes and any(_is_turned(axis, last, view) for view in range(1, len(axis.strides))):
            return number
    return None


def _is_turned(axis: _Axis, last: _Axis, view: int) -> bool:
    return axis.strides[view] == 1 and last.strides[view] not in (0, 1)


def _write_tiles_and_rest(walk: _Walk, space: _Space, turned: int) -> int:
    """Square tiles of the last axis and of the one where an operand lies in order, then what is left of each; how many tasks.

    What is left is walked row by row: tiles that overlap would read an operand where the result has been written.
    """
    whole, tail = _split(space, turned, walk.lanes)
    squares, rim = _split(whole, len(space.axes) - 1, walk.lanes)
    tasks = _write_tiles(walk, squares, turned)
    for rest in (rim, tail):
        if rest.size:
            tasks = _write_rows(walk, rest, tasks)
    return tasks


def _split(space: _Space, number: int, unit: int) -> tuple[_Space, _Space]:
    """The elements within whole units of an axis, and the rest."""
    axis = space.axes[number]
    inside = axis.size // unit * unit
    offsets = tuple(offset + inside * step for offset, step in zip(space.offsets, axis.strides, strict=True))
    axes = [
        (*space.axes[:number], replace(axis, size=size), *space.axes[number + 1 :]) for size in (inside, axis.size - inside)
    ]
    return replace(space, axes=axes[0]), _Space(axes[1], offsets)


def _write_tiles(walk: _Walk, space: _Space, turned: int) -> int:
    """Square tiles of two axes whose sizes they divide; how many tasks."""
    axis, last, lanes = space.axes[turned], space.axes[-1], walk.lanes
    outer = [each for number, each in enumerate(space.axes[:-1]) if number != turned]
    tiles = [_Axis(each.size // lanes, tuple(lanes * step for step in each.strides)) for each in (axis, last)]
    tiled = replace(space, axes=(*outer, *tiles))
    return _write_tasks(walk, tiled, _wanted_tasks(space), 0, lambda at, _: _write_tile(walk, at, axis, last))


def _write_tile(walk: _Walk, at: Sequence[str], axis: _Axis, last: _Axis) -> None:
    """A tile whose first elements are at `at`: operands that lie the other way are turned into an array, then rows as ever."""
    writer, lanes = walk.writer, walk.lanes
    arrays: dict[int, str] = {}
    for view in range(1, len(at)):
        if _is_turned(axis, last, view):
            kind, buffer = tir_name(walk.dtypes[view]), walk.buffers[view]
            starts = [_sum(at[view], str(row * last.strides[view])) for row in range(lanes)]
            columns = transposed(writer, [held(writer, kind, lanes, part(buffer, start, lanes)) for start in starts], kind)
            arrays[view] = writer.local(kind, lanes * lanes)
            for number, column in enumerate(columns):
                writer.line(f"{part(arrays[view], number * lanes, lanes)} = {column}")
    with writer.loop(lanes) as row, writer.loop(lanes, "vectorized") as lane:
        places = [
            _sum(_sum(place, _times(row, step)), _times(lane, along))
            for place, step, along in zip(at, axis.strides, last.strides, strict=True)
        ]
        operands = [
            f"{arrays[view]}[{row} * {lanes} + {lane}]" if view in arrays else f"{walk.buffers[view]}[{places[view]}]"
            for view in range(1, len(at))
        ]
        walk.result(places[0], operands)

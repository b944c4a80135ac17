"""Slices, gathers and splits that take everything, and slices of slices."""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import Dim, Op, SymbolicDim, Tensor, Value, shapes

from ..rewriter import No, Rewriter, Rule, rule

_FAR = 2**31 - 1
_END = 2**62


@dataclass(frozen=True)
class Window:
    """What a Slice takes along one axis."""

    start: int
    end: int
    step: int


@rule("Slice")
def slice_of_everything(op: Op, rewrite: Rewriter) -> Value | No:
    """A slice from the start to the end of every axis is its input."""
    shape, starts, ends = op.needed(0).shape, shapes.content_of(op.operand(1)), shapes.content_of(op.operand(2))
    if shape is None or starts is None or ends is None:
        return No("its input or its bounds are not known")
    axes = tuple(range(len(starts))) if op.operand(3) is None else shapes.content_of(op.operand(3))
    steps = (1,) * len(starts) if op.operand(4) is None else shapes.content_of(op.operand(4))
    if axes is None or steps is None:
        return No("its axes or steps are not known")
    relied: list[Dim] = []
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not isinstance(axis, int) or start != 0 or step != 1 or not _reaches(end, shape[axis]):
            return No(f"it cuts axis {axis}")
        if isinstance(end, SymbolicDim):
            relied.append(end)
    rewrite.assume(relied)
    return op.needed(0)


def _reaches(end: Dim, size: Dim) -> bool:
    if isinstance(end, int):
        return end >= _FAR or (isinstance(size, int) and end >= size)
    return end is not None and end == size


def windows_of(op: Op) -> dict[int, Window] | None:
    """What a Slice with constant bounds takes by axis (from the front), or None when something is not known."""
    shape = op.needed(0).shape
    starts, ends = op.constant_operand(1), op.constant_operand(2)
    if shape is None or starts is None or ends is None:
        return None
    axes = list(range(starts.size)) if op.operand(3) is None else _numbers(op.constant_operand(3))
    steps = [1] * starts.size if op.operand(4) is None else _numbers(op.constant_operand(4))
    if axes is None or steps is None:
        return None
    pairs = zip(axes, starts.to_list(), ends.to_list(), steps, strict=True)
    return {axis % len(shape): Window(start, end, step) for axis, start, end, step in pairs}


def _numbers(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None else [int(v) for v in tensor.to_list()]


def _plain_windows(op: Op) -> dict[int, Window] | None:
    """The windows of a Slice as bounds counted from the front, or None when one has a step or counts from an unknown end."""
    windows, shape = windows_of(op), op.needed(0).shape
    if windows is None or shape is None:
        return None
    plain: dict[int, Window] = {}
    for axis, window in windows.items():
        size = shape[axis]
        if isinstance(size, int):
            start, end, _ = slice(window.start, window.end).indices(size)
            window = Window(start, max(start, end), window.step)
        if window.step != 1 or window.start < 0 or window.end < 0:
            return None
        plain[axis] = Window(window.start, max(window.start, min(window.end, _END)), 1)
    return plain


def _slice(value: Value, windows: dict[int, Window], rewrite: Rewriter) -> Value:
    """A Slice with these windows, or the value itself where none cuts anything."""
    sizes = value.shape or ()
    columns = [[axis, w.start, w.end] for axis, w in sorted(windows.items()) if (w.start, w.end) != (0, sizes[axis])]
    if not columns:
        return value
    axes, starts, ends = (rewrite.constant(Tensor.integers(column)) for column in map(list, zip(*columns, strict=True)))
    return rewrite.op("Slice", [value, starts, ends, axes])


@rule("Slice")
def slice_of_slice(op: Op, rewrite: Rewriter) -> Value | No:
    """Two slices with step 1 and bounds counted from the front are one: start a+c, end min(b, a+d)."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Slice"):
        return No("its input is no Slice")
    outer_windows, inner_windows = _plain_windows(op), _plain_windows(inner)
    if outer_windows is None or inner_windows is None:
        return No("its bounds are not constant, count from an unknown end or have a step")
    merged = dict(inner_windows)
    for axis, window in outer_windows.items():
        below = merged.get(axis, Window(0, _END, 1))
        start = min(below.start + window.start, _END)
        merged[axis] = Window(start, max(start, min(below.end, below.start + window.end)), 1)
    return _slice(inner.needed(0), merged, rewrite)


@rule("Slice")
def slice_of_concat(op: Op, rewrite: Rewriter) -> Value | No:
    """A slice that stays inside one part of a concatenation, or takes whole parts, need not concatenate the others."""
    concat, shape, windows = op.needed(0).op, op.needed(0).shape, _plain_windows(op)
    if concat is None or not concat.is_a("Concat") or shape is None or windows is None:
        return No("its input is no Concat or its bounds are not known")
    axis = concat.integer("axis", 0) % len(shape)
    parts = [(v, v.shape[axis] if v.shape is not None else None) for v in concat.operands if v is not None]
    if axis not in windows or not all(isinstance(size, int) for _, size in parts):
        return No("it does not cut where the parts meet, or a part's size is not known")
    window, position, kept = windows[axis], 0, list[tuple[Value, Window, int]]()
    for part, size in parts:
        assert isinstance(size, int)
        start, end = max(window.start - position, 0), min(window.end - position, size)
        if start < end:
            kept.append((part, Window(start, end, 1), size))
        position += size
    if not kept or len(kept) == len(parts):
        return No("it takes of all parts or of none")
    if len(kept) > 1 and any((w.start, w.end) != (0, size) for _, w, size in kept):
        return No("it takes of several parts")
    chosen = kept[0][0] if len(kept) == 1 else rewrite.op("Concat", [part for part, _, _ in kept], {"axis": axis})
    rest = {**windows, axis: kept[0][1]} if len(kept) == 1 else {a: w for a, w in windows.items() if a != axis}
    return _slice(chosen, rest, rewrite)


@rule("Concat")
def concat_of_slices(op: Op, rewrite: Rewriter) -> Value | No:
    """Slices of one value that meet along the axis of their concatenation are one slice."""
    rank = len(op.result.shape or ())
    axis = op.integer("axis", 0) % rank if rank else 0
    parts: list[tuple[Value, tuple[Value, Window] | None]] = []
    for operand in op.operands:
        known = _slice_along(operand, axis)
        last = parts[-1][1] if parts else None
        if known is not None and last is not None and last[0] is known[0] and last[1].end == known[1].start:
            parts[-1] = (parts[-1][0], (last[0], Window(last[1].start, known[1].end, 1)))
        elif operand is not None:
            parts.append((operand, known))
    if len(parts) == len(op.operands):
        return No("no neighbouring parts are neighbouring slices of one value")
    merged: list[Value] = []
    for value, known in parts:
        same = known is None or known == _slice_along(value, axis)
        merged.append(value if same or known is None else _slice(known[0], {axis: known[1]}, rewrite))
    return rewrite.op("Concat", merged, {"axis": axis}) if len(merged) > 1 else merged[0]


def _slice_along(value: Value | None, axis: int) -> tuple[Value, Window] | None:
    maker = None if value is None else value.op
    if maker is None or not maker.is_a("Slice"):
        return None
    windows = _plain_windows(maker)
    return (maker.needed(0), windows[axis]) if windows is not None and list(windows) == [axis] else None


@rule("Split")
def split_into_one(op: Op, rewrite: Rewriter) -> Value | No:
    """A split into one part is its input."""
    if len(op.results) != 1:
        return No("it has several parts")
    return op.needed(0)


RULES: tuple[Rule, ...] = (slice_of_everything, slice_of_slice, slice_of_concat, concat_of_slices, split_into_one)

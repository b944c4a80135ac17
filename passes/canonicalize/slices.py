"""Slices, gathers and splits that take everything, and slices of slices."""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import Op, Tensor, Value
from irc.ir.dims import Dim, SymbolicDim
from irc.ir.shapes import content_of

from ..rewriter import No, Rewriter, Rule, rule

_FAR = 2**31 - 1


@dataclass(frozen=True)
class Window:
    """What a Slice takes along one axis."""

    start: int
    end: int
    step: int


@rule("Slice")
def slice_of_everything(op: Op, rewrite: Rewriter) -> Value | No:
    """A slice from the start to the end of every axis is its input."""
    shape, starts, ends = op.needed(0).shape, content_of(op.operand(1)), content_of(op.operand(2))
    if shape is None or starts is None or ends is None:
        return No("its input or its bounds are not known")
    axes = tuple(range(len(starts))) if op.operand(3) is None else content_of(op.operand(3))
    steps = (1,) * len(starts) if op.operand(4) is None else content_of(op.operand(4))
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


@rule("Slice")
def slice_of_slice(op: Op, rewrite: Rewriter) -> Value | No:
    """Two slices with step 1 and bounds counted from the front are one: start a+c, end min(b, a+d)."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Slice"):
        return No("its input is no Slice")
    outer_windows, inner_windows = windows_of(op), windows_of(inner)
    if outer_windows is None or inner_windows is None:
        return No("its bounds are not constant")
    for window in (*outer_windows.values(), *inner_windows.values()):
        if window.step != 1 or window.start < 0 or window.end < 0:
            return No("its bounds count from the end or it has a step")
    merged = dict(inner_windows)
    for axis, window in outer_windows.items():
        below = merged.get(axis, Window(0, 2**62, 1))
        start = below.start + window.start
        merged[axis] = Window(start, max(start, min(below.end, below.start + min(window.end, 2**62))), 1)
    columns = [[axis, w.start, min(w.end, 2**62)] for axis, w in sorted(merged.items())]
    axes, starts, ends = (rewrite.constant(Tensor.integers(column)) for column in map(list, zip(*columns, strict=True)))
    return rewrite.op("Slice", [inner.operand(0), starts, ends, axes])


@rule("Split")
def split_into_one(op: Op, rewrite: Rewriter) -> Value | No:
    """A split into one part is its input."""
    if len(op.results) != 1:
        return No("it has several parts")
    return op.needed(0)


RULES: tuple[Rule, ...] = (slice_of_everything, slice_of_slice, split_into_one)

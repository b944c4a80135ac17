"""Slices and what is put together of them: strided ones in a row, space moved into channels, stacks of equal parts."""

from __future__ import annotations

import numpy as np

from irc.ir import Op, Tensor, Value

from ..canonicalize.gathers import axis_of
from ..canonicalize.slices import Window, windows_of
from ..rewriter import No, Rewriter, Rule, rule

_FAR = 2**31 - 1
_BEFORE_ALL = -(2**62)


@rule("Slice")
def slice_of_strided_slice(op: Op, rewrite: Rewriter) -> Value | No:
    """Two slices are one: on an axis that both cut, of known size, places a + s·i of places b + t·i are a + s·b + s·t·i."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Slice"):
        return No("its input is no Slice")
    outer_windows, inner_windows, shape = windows_of(op), windows_of(inner), inner.needed(0).shape
    if outer_windows is None or inner_windows is None or shape is None:
        return No("its bounds are not constant", 2)
    merged = dict(inner_windows)
    for axis, window in outer_windows.items():
        below, size = merged.get(axis), shape[axis]
        if below is None:
            merged[axis] = window
        elif isinstance(size, int) and not _ends_beyond(below) and not _ends_beyond(window):
            merged[axis] = _window(range(size)[_slice(below)][_slice(window)])
        else:
            return No("both cut an axis whose size is not known, or one runs backwards from a place to one behind it", 2)
    kept = {axis: w for axis, w in merged.items() if w != Window(0, shape[axis], 1)}  # type: ignore[arg-type]  # a symbolic size equals no end
    return _sliced(inner.needed(0), kept, rewrite)


def _slice(window: Window) -> slice:
    return slice(window.start, window.end if window.end != _BEFORE_ALL else None, window.step)


def _ends_beyond(window: Window) -> bool:
    """Whether a slice runs backwards to an end far behind its start, of which kernels make nothing or something."""
    return window.step < 0 and window.end >= _FAR


def _window(places: range) -> Window:
    """The window that takes these places, with bounds that no kernel counts from the end."""
    if not places:
        return Window(0, 0, 1)
    end = places[-1] + (1 if places.step > 0 else -1)
    step = places.step if len(places) > 1 else 1
    return Window(places[0], max(end, places[0] + 1) if step == 1 else end if end >= 0 else _BEFORE_ALL, step)


def _sliced(value: Value, windows: dict[int, Window], rewrite: Rewriter) -> Value:
    if not windows:
        return value
    columns = [[w.start, w.end, axis, w.step] for axis, w in sorted(windows.items())]
    starts, ends, axes, steps = ([row[i] for row in columns] for i in range(4))
    operands = [value, *(rewrite.constant(Tensor.integers(numbers)) for numbers in (starts, ends, axes))]
    if any(step != 1 for step in steps):
        operands.append(rewrite.constant(Tensor.integers(steps)))
    return rewrite.op("Slice", operands)


@rule("Concat")
def focus(op: Op, rewrite: Rewriter) -> Value | No:
    """Every r-th pixel from each of r·r starts, put behind each other as channels, is SpaceToDepth and an order of blocks.

    Sizes need no proof: where r does not divide them, the parts differ in size and cannot be put together.
    """
    shape = op.result.shape
    if shape is None or len(shape) != 4 or op.integer("axis", 0) % 4 != 1:
        return No("it does not put channels together")
    corners = [_corner(value) for value in op.operands]
    first = corners[0]
    if first is None or any(c is None or c[0] is not first[0] or c[3] != first[3] for c in corners):
        return No("its parts are not all of every r-th pixel of one image")
    image, _, _, block = first
    order = [c[1] * block + c[2] for c in corners if c is not None]
    if sorted(order) != list(range(block * block)):
        return No("its parts are not all the pixels, each once")
    channels = None if image.shape is None else image.shape[1]
    straight = order == sorted(order)
    if not straight and not isinstance(channels, int):
        return No("its parts come in another order, and the number of channels is not known")
    moved = rewrite.op("SpaceToDepth", [image], {"blocksize": block})
    if straight:
        return moved
    assert isinstance(channels, int)
    places = [part * channels + channel for part in order for channel in range(channels)]
    return rewrite.op("Gather", [moved, rewrite.constant(Tensor.integers(places))], {"axis": 1})


def _corner(value: Value | None) -> tuple[Value, int, int, int] | None:
    """The image, the start in rows and columns and the step of a Slice of every r-th pixel in both directions."""
    op = None if value is None else value.op
    windows = windows_of(op) if op is not None and op.is_a("Slice") else None
    if op is None or windows is None or sorted(windows) != [2, 3]:
        return None
    rows, columns, shape = windows[2], windows[3], op.needed(0).shape
    block = rows.step
    if shape is None or block < 2 or columns.step != block or not (0 <= rows.start < block and 0 <= columns.start < block):
        return None
    for axis, window in windows.items():
        size = shape[axis]
        if not (window.end >= _FAR or (isinstance(size, int) and window.end >= size)):
            return None
        if isinstance(size, int) and size % block:
            return None
    return op.needed(0), rows.start, columns.start, block


@rule("Gather")
def gather_of_windows(op: Op, rewrite: Rewriter) -> Value | No:
    """Indices that count through an axis once, written as a matrix, cut the axis into its dims."""
    places, shape, axis = op.constant_operand(1), op.needed(0).shape, axis_of(op)
    if places is None or shape is None or axis is None or len(places.shape) < 2:
        return No("its indices are no constant matrix")
    if shape[axis] != places.size or [int(v) for v in places.array.reshape(-1)] != list(range(places.size)):
        return No("its indices do not count through the axis once")
    return _reshaped(op.needed(0), axis, places.shape, rewrite)


def _reshaped(value: Value, axis: int, parts: tuple[int, ...], rewrite: Rewriter) -> Value | No:
    """A value with one axis cut into several."""
    shape = value.shape or ()
    before = [d if isinstance(d, int) and d else 0 for d in shape[:axis]]
    after = [d if isinstance(d, int) else -1 for d in shape[axis + 1 :]]
    if after.count(-1) > 1 or (-1 in after and 0 in before) or 0 in after or 0 in parts:
        return No("several dims are not known")
    return rewrite.op("Reshape", [value, rewrite.constant(Tensor.integers([*before, *parts, *after]))])


@rule("Concat")
def stack_of_slices(op: Op, rewrite: Rewriter) -> Value | No:
    """Equal neighbouring parts of a value, stacked along a new axis, are the value with an axis cut in two and moved."""
    rank = len(op.result.shape or ())
    axis = op.integer("axis", 0) % rank if rank else 0
    parts = [_stacked(value, axis) for value in op.operands]
    first = parts[0]
    if first is None or len(parts) < 2:
        return No("its parts are no slices with a new dim")
    source, along, window = first
    shape, width = source.shape, window.end - window.start
    if shape is None or width < 1 or shape[along] != width * len(parts):
        return No("its parts are not the whole of a value", 2)
    for number, part in enumerate(parts):
        if (
            part is None
            or part[0] is not source
            or part[1] != along
            or part[2] != Window(number * width, (number + 1) * width, 1)
        ):
            return No("its parts are not equal neighbours of one value", 2)
    cut = _reshaped(source, along, (len(parts), width), rewrite)
    if isinstance(cut, No):
        return cut
    order = [i for i in range(rank) if i != along]
    order.insert(axis, along)
    return cut if order == sorted(order) else rewrite.op("Transpose", [cut], {"perm": tuple(order)})


def _stacked(value: Value | None, axis: int) -> tuple[Value, int, Window] | None:
    """The value, the axis and the window of a Slice whose result gets a new dim at `axis`."""
    outer = None if value is None else value.op
    if value is None or outer is None or not outer.is_a("Unsqueeze") or value.shape is None:
        return None
    axes = outer.constant_operand(1)
    if axes is None or [int(v) % len(value.shape) for v in axes.to_list()] != [axis]:
        return None
    part = part_of(outer.needed(0))
    return None if part is None else (part[0], part[1], Window(part[2], part[3], 1))


def part_of(value: Value) -> tuple[Value, int, int, int] | None:
    """The whole, the axis, the start and the end of what a Slice of one axis with step 1, or a Split, makes; nothing empty."""
    op = value.op
    if op is None or not op.is_a("Slice", "Split"):
        return None
    whole = op.needed(0)
    if op.is_a("Split"):
        axis = axis_of(op)
        sizes = [None if axis is None or r.shape is None else r.shape[axis] for r in op.results[: value.index + 1]]
        numbers = [size for size in sizes if isinstance(size, int)]
        if axis is None or len(numbers) < len(sizes) or not numbers[-1]:
            return None
        return whole, axis, sum(numbers[:-1]), sum(numbers)
    windows = windows_of(op)
    if windows is None or len(windows) != 1 or whole.shape is None:
        return None
    ((axis, window),) = windows.items()
    size = whole.shape[axis]
    if not isinstance(size, int) or window.step != 1:
        return None
    places = range(size)[window.start : window.end]
    return (whole, axis, places.start, places.stop) if places else None


@rule("Squeeze")
def squeeze_of_slice(op: Op, rewrite: Rewriter) -> Value | No:
    """Taking one place of an axis as a slice, and then the axis away, is taking that place."""
    value = op.needed(0)
    part = part_of(value) if value.op is not None and value.op.is_a("Slice") and value.has_one_use else None
    axes = op.constant_operand(1)
    if part is None or axes is None or value.shape is None:
        return No("its input is no slice of one axis, of known size, that only it uses")
    whole, axis, start, end = part
    if end - start != 1 or [int(v) % len(value.shape) for v in axes.to_list()] != [axis]:
        return No("the slice takes several places, or it takes another axis away", 2)
    place = Tensor.from_array(np.array(start, np.int64))
    return rewrite.op("Gather", [whole, rewrite.constant(place)], {"axis": axis})


RULES: tuple[Rule, ...] = (
    slice_of_strided_slice,
    focus,
    gather_of_windows,
    stack_of_slices,
    squeeze_of_slice,
)

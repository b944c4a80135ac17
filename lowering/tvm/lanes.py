"""Idioms of vectors that kernels share: all lanes to one number, transposing in registers, 2**x of what is never positive.

Law: `lanes` is a power of two that the caller chose for the target; nothing here touches memory but through its own registers.
"""

from __future__ import annotations

from collections.abc import Sequence

from .kernel import Writer, literal
from .views import View

LOG2_E = 1.4426950408889634

_EXP2 = (0.00132647, 0.00967151, 0.05550734, 0.24022242, 0.69314698, 1.0)
"""2**r on |r| <= 0.5, to 9e-8 and exactly 1 of 0, highest power first; a minimax fit of the relative error."""
_ROUNDER = 1.5 * 2**23 + 127


def extent(view: View) -> int:
    """How many elements a buffer has, at least, that a view lies in."""
    if not view.size:
        return 0
    return view.offset + sum((size - 1) * step for size, step in zip(view.shape, view.strides, strict=True) if step > 0) + 1


def merged(views: Sequence[View]) -> list[View]:
    """Views of one shape with fewer axes, if there are any: those of one element are left out, neighbours in memory are one."""
    shape, strides = list[int](), [list[int]() for _ in views]
    for axis, size in enumerate(views[0].shape):
        steps = [view.strides[axis] for view in views]
        if size == 1:
            continue
        if shape and all(own[-1] == step * size for own, step in zip(strides, steps, strict=True)):
            shape[-1] *= size
            for own, step in zip(strides, steps, strict=True):
                own[-1] = step
            continue
        shape.append(size)
        for own, step in zip(strides, steps, strict=True):
            own.append(step)
    if not shape:
        return [View((1,), (1,), view.offset) for view in views]
    return [View(tuple(shape), tuple(own), view.offset) for own, view in zip(strides, views, strict=True)]


def part(array: str, start: str | int, lanes: int) -> str:
    """`lanes` elements of a flat array from `start`."""
    return f"{array}[{start}]" if lanes == 1 else f"{array}[T.ramp({start}, 1, {lanes})]"


def held(writer: Writer, kind: str, lanes: int, expression: str) -> str:
    """The text of a vector that is computed here, outside of vectorized loops; see `Writer.value`."""
    array = part(writer.local(kind, lanes), 0, lanes)
    writer.line(f"{array} = {expression}")
    return array


def across(writer: Writer, array: str, lanes: int, kind: str, combine: str) -> str:
    """The text of the scalar that the first `lanes` elements of a register array make, by halves.

    `combine` is a format of two operands, such as `{0} + {1}`.
    """
    return f"{across_rows(writer, array, 1, lanes, kind, combine)}[0]"


def across_rows(writer: Writer, array: str, rows: int, lanes: int, kind: str, combine: str) -> str:
    """A register array whose element i is what `across` makes of row i of `array`, which holds `rows` rows of `lanes`.

    `rows` is a power of two. Rows are merged by twos where there are several, so that no lane of a step is idle.
    """
    result = writer.local(kind, rows)
    at_once = min(rows, lanes)
    for first in range(0, rows, at_once):
        vectors = [part(array, (first + row) * lanes, lanes) for row in range(at_once)]
        segments, size = 1, lanes  # a vector has so many segments, each of what is left of one row
        while size > 1:
            sources = [", ".join(pair) for pair in zip(vectors[::2], vectors[1::2], strict=True)] if vectors[1:] else vectors
            segments = 2 * segments if vectors[1:] else segments
            low = [segment * size + lane for segment in range(segments) for lane in range(size // 2)]
            high = [lane + size // 2 for lane in low]
            size //= 2
            halves = [(f"T.Shuffle([{each}], {low})", f"T.Shuffle([{each}], {high})") for each in sources]
            vectors = [held(writer, kind, segments * size, combine.format(*pair)) for pair in halves]
        writer.line(f"{part(result, first, at_once)} = {vectors[0]}")
    return result


def power_of_two(size: int) -> int:
    """The least power of two that is not below a positive number."""
    return 1 << (size - 1).bit_length()


def transposed(writer: Writer, rows: Sequence[str], kind: str) -> list[str]:
    """The texts of the columns of as many vectors as each has lanes, by log2(lanes) rounds of interleaving halves."""
    lanes = len(rows)
    half = lanes // 2
    low = [lane for pair in zip(range(half), range(lanes, lanes + half), strict=True) for lane in pair]
    high = [lane + half for lane in low]
    vectors = list(rows)
    for _ in range(lanes.bit_length() - 1):
        pairs = zip(vectors[:half], vectors[half:], strict=True)
        orders = [(a, b, order) for a, b in pairs for order in (low, high)]
        vectors = [held(writer, kind, lanes, f"T.Shuffle([{a}, {b}], {order})") for a, b, order in orders]
    return vectors


def exp2_of_negative(writer: Writer, x: str) -> str:
    """2**x in f32 of x <= 0, to 2e-7 relative; exactly 1 of 0 and 0 below -127; NaN of NaN.

    As `mathematics.exp_of_nonpositive`, without its reduction by ln 2: x less the integer next to it is exact.
    """
    x = writer.value("float32", f"T.Select(T.float32(-127.0) > {x}, T.float32(-127.0), {x})")
    shifted = writer.value("float32", f"T.fma({x}, T.float32(1), {literal(_ROUNDER, 'float32')})")
    rest = writer.value("float32", f"{x} - ({shifted} - {literal(_ROUNDER, 'float32')})")
    scale = writer.value("float32", f'T.reinterpret("float32", T.shift_left(T.reinterpret("int32", {shifted}), T.int32(23)))')
    result = literal(_EXP2[0], "float32")
    for coefficient in _EXP2[1:]:
        result = writer.value("float32", f"{result} * {rest} + {literal(coefficient, 'float32')}")
    return writer.value("float32", f"{result} * {scale}")

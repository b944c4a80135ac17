"""Windows that move over images whose channels lie side by side: pooling, and the borders that convolutions read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from irc.ir import DType

from .kernel import Kernel, Writer, literal, product, tir_name
from .products import Window
from .views import View

SHORTEST_TASK = 1 << 15
"""Elements read that are worth a task of their own."""


def filled(buffer_size: int, slabs: Sequence[View], lanes: int, dtype: DType = DType.F32, content: int = 0) -> Kernel:
    """One number in all of `slabs`, whose last axes lie side by side; its pointer is the buffer they are in."""
    writer = Writer()
    target = writer.buffer(dtype, buffer_size)
    for slab in slabs:
        with ExitStack() as loops:
            index = [loops.enter_context(writer.loop(size)) for size in slab.shape[:-1]]
            base = writer.let("int32", slab.at(*index, "0"))

            def store(first: str, count: int, base: str = base) -> None:
                with writer.loop(count, "vectorized") as lane:
                    writer.line(f"{target}[{base} + {first} + {lane}] = {literal(content, tir_name(dtype))}")

            along(writer, slab.shape[-1], lanes, store)
    return writer.kernel(1)


def pooling(data: View, data_size: int, result: View, result_size: int, window: Window, how: str, lanes: int) -> Kernel:
    """Pooling of images [batch, channels, spatial...] whose channels lie side by side in f32; pointers are data and result.

    `how` is `max`, `average` over the elements that there are, or `padded average` over the zeros around them, too.
    """
    writer = Writer()
    source, target = writer.buffer(DType.F32, data_size), writer.buffer(DType.F32, result_size)
    reads = product(result.shape) * product(window.kernel)

    def pixel(places: Sequence[str], start: str, to: str) -> None:
        def channel(first: str, count: int) -> None:
            _window(writer, (source, target), (f"{start} + {first}", f"{to} + {first}"), places, data, window, how, count)

        along(writer, result.shape[1], lanes, channel)

    return writer.kernel(each_pixel(writer, data, result, reads // SHORTEST_TASK, pixel), reads)


def each_pixel(writer: Writer, data: View, result: View, tasks: int, body: Callable[[Sequence[str], str, str], None]) -> int:
    """Loops over the pixels that a task has of `result`; returns how many tasks there are, of which about `tasks` are wanted.

    `body` gets the index of a pixel, where in `data` the image that it is of begins, and where its channels begin in `result`.
    """
    batch, _, *sizes = result.shape
    rows = batch * sizes[0]
    each = -(-rows // max(1, min(rows, 32, tasks)))
    with ExitStack() as loops:
        step = loops.enter_context(writer.loop(each))
        row = writer.let("int32", f"task * {each} + {step}")
        if rows % each:
            loops.enter_context(writer.block(f"if {row} < {rows}"))
        image = writer.let("int32", f"{row} // {sizes[0]}")
        index = [writer.let("int32", f"{row} % {sizes[0]}")]
        index += [loops.enter_context(writer.loop(size)) for size in sizes[1:]]
        to = writer.let("int32", result.at(image, "0", *index))
        body(index, writer.let("int32", f"{data.offset} + {image} * {data.strides[0]}"), to)
    return -(-rows // each)


def _window(
    writer: Writer,
    buffers: tuple[str, str],
    bases: tuple[str, str],
    places: Sequence[str],
    data: View,
    window: Window,
    how: str,
    count: int,
) -> None:
    """One window for `count` channels, the elements beyond the edges left out."""
    most = writer.local("float32", count)
    first = literal(float("-inf") if how == "max" else 0.0, "float32")
    with writer.loop(count, "vectorized") as lane:
        writer.line(f"{most}[{lane}] = {first}")
    seen = writer.local("int32", 1)
    writer.line(f"{seen}[0] = T.int32(0)")
    with ExitStack() as loops:
        base = bases[0]
        for axis, (place, extent) in enumerate(zip(places, window.kernel, strict=True)):
            inner = loops.enter_context(writer.loop(extent))
            at = f"{place} * {window.strides[axis]} + {inner} * {window.dilations[axis]} - {window.begins[axis]}"
            at = writer.let("int32", at)
            size = data.shape[2 + axis]
            if window.begins[axis] or window.ends[axis]:
                loops.enter_context(writer.block(f"if T.And({at} >= 0, {at} < {size})"))
            base = f"{base} + {at} * {data.strides[2 + axis]}"
        base = writer.let("int32", base)
        writer.line(f"{seen}[0] = {seen}[0] + 1")
        with writer.loop(count, "vectorized") as lane:
            value = writer.let("float32", f"{buffers[0]}[{base} + {lane}]")
            old = f"{most}[{lane}]"
            # What is no number stays: it is neither greater nor not.
            kept = (
                f"T.Select(T.Or({value} > {old}, {value} != {value}), {value}, {old})" if how == "max" else f"{old} + {value}"
            )
            writer.line(f"{most}[{lane}] = {kept}")
    divisor = f"T.float32({product(window.kernel)})" if how == "padded average" else f'T.Cast("float32", {seen}[0])'
    with writer.loop(count, "vectorized") as lane:
        value = f"{most}[{lane}]" if how == "max" else f"{most}[{lane}] / {divisor}"
        writer.line(f"{buffers[1]}[{bases[1]} + {lane}] = {value}")


def along(writer: Writer, size: int, lanes: int, body: Callable[[str, int], None]) -> None:
    """Whole vectors over an axis, then what is left in one that is as short."""
    full, rest = divmod(size, lanes)
    if full:
        with writer.loop(full) as step:
            body(f"{step} * {lanes}", lanes)
    if rest:
        body(str(full * lanes), rest)

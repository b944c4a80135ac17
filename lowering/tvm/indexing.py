"""Elements read and written at computed places, one after the other.

Law: an index out of range reads and writes nothing: it leaves a word in the status, which ends the run with an error. What is
written more than once is written in the order of the indices.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack

from irc.ir import DType

from .kernel import Kernel, Writer, product, tir_name
from .lanes import extent
from .views import View

SHORTEST_TASK = 1 << 14
"""Elements that are worth a task of their own."""
MOST_TASKS = 16

COMBINED: Mapping[str, Callable[[str, str], str]] = {
    "none": lambda old, new: new,
    "add": lambda old, new: f"{old} + {new}",
    "mul": lambda old, new: f"{old} * {new}",
}
"""How what is scattered meets what is there."""


def gather_elements(dtype: DType, data: View, index_dtype: DType, indices: View, axis: int) -> Kernel:
    """Result, dense and of the shape of `indices`: the elements of `data` at the same place but for `axis`.

    The pointers are data, indices, the status, and the result.
    """
    writer = Writer()
    read, given = writer.buffer(dtype, extent(data)), writer.buffer(index_dtype, extent(indices))
    status, result = writer.buffer(DType.I32, 1), writer.buffer(dtype, indices.size)
    tasks = max(1, min(indices.size, MOST_TASKS, indices.size // SHORTEST_TASK))
    each = -(-indices.size // tasks)
    with ExitStack() as blocks:
        element = _element(writer, blocks, each, indices.size)
        index = _index_of(writer, element, indices.shape)
        wanted = f"{given}[{indices.at(*index)}]"
        with _checked(writer, wanted, tir_name(index_dtype), data.shape[axis], status) as place:
            source = data.at(*(place if number == axis else text for number, text in enumerate(index)))
            writer.line(f"{result}[{element}] = {read}[{source}]")
    return writer.kernel(-(-indices.size // each))


def scatter_elements(
    dtype: DType, target: View, index_dtype: DType, indices: View, updates: View, axis: int, how: str
) -> Kernel:
    """`updates` put into `target` at the same place but for `axis`, in one task.

    The pointers are indices, updates, the status, and the target; `how` is a key of `COMBINED`.
    """
    writer = Writer()
    given, values = writer.buffer(index_dtype, extent(indices)), writer.buffer(dtype, extent(updates))
    status, result = writer.buffer(DType.I32, 1), writer.buffer(dtype, extent(target))
    with ExitStack() as blocks:
        element = _element(writer, blocks, indices.size, indices.size)
        index = _index_of(writer, element, indices.shape)
        wanted = f"{given}[{indices.at(*index)}]"
        with _checked(writer, wanted, tir_name(index_dtype), target.shape[axis], status) as place:
            to = target.at(*(place if number == axis else text for number, text in enumerate(index)))
            to = writer.let("int32", to)
            writer.line(f"{result}[{to}] = {COMBINED[how](f'{result}[{to}]', f'{values}[{updates.at(*index)}]')}")
    return writer.kernel(1)


def gather_nd(dtype: DType, data: Sequence[int], index_dtype: DType, indices: Sequence[int], batch_axes: int) -> Kernel:
    """Slices of dense data of shape `data`, at dense indices of shape `indices`, of which the last axis is a place.

    The pointers are data, indices, the status, and the result, which is dense.
    """
    writer = Writer()
    depth, count = indices[-1], product(indices[:-1])
    inner = product(data[batch_axes + depth :])
    read, given = writer.buffer(dtype, product(data)), writer.buffer(index_dtype, count * depth)
    status, result = writer.buffer(DType.I32, 1), writer.buffer(dtype, count * inner)
    each = count // product(data[:batch_axes])
    with ExitStack() as blocks:
        row = _element(writer, blocks, count, count)
        base = f"({row} // {each}) * {product(data[batch_axes:])}" if batch_axes else "0"
        place = _place(writer, blocks, given, tir_name(index_dtype), row, data[batch_axes:], depth, status)
        source = writer.let("int32", f"{base} + {place}")
        with writer.loop(inner) as step:
            writer.line(f"{result}[{row} * {inner} + {step}] = {read}[{source} + {step}]")
    return writer.kernel(1)


def scatter_nd(dtype: DType, target: Sequence[int], index_dtype: DType, indices: Sequence[int], how: str) -> Kernel:
    """Slices put into a dense target at dense indices, of which the last axis is a place, in one task.

    The pointers are indices, updates, the status, and the target.
    """
    writer = Writer()
    depth, count = indices[-1], product(indices[:-1])
    inner = product(target[depth:])
    given, values = writer.buffer(index_dtype, count * depth), writer.buffer(dtype, count * inner)
    status, result = writer.buffer(DType.I32, 1), writer.buffer(dtype, product(target))
    with ExitStack() as blocks:
        row = _element(writer, blocks, count, count)
        place = _place(writer, blocks, given, tir_name(index_dtype), row, target, depth, status)
        with writer.loop(inner) as step:
            to = f"{result}[{place} + {step}]"
            writer.line(f"{to} = {COMBINED[how](to, f'{values}[{row} * {inner} + {step}]')}")
    return writer.kernel(1)


def _element(writer: Writer, blocks: ExitStack, each: int, total: int) -> str:
    """The number of an element, in a loop over those of a task."""
    step = blocks.enter_context(writer.loop(each))
    element = writer.let("int32", f"task * {each} + {step}")
    if total % each:
        blocks.enter_context(writer.block(f"if {element} < {total}"))
    return element


def _index_of(writer: Writer, element: str, shape: Sequence[int]) -> list[str]:
    """The index of an element by its number in row-major order."""
    strides = View.dense(shape).strides
    return [
        "0" if size == 1 else writer.let("int32", f"{element} // {step} % {size}")
        for size, step in zip(shape, strides, strict=True)
    ]


@contextlib.contextmanager
def _checked(writer: Writer, wanted: str, kind: str, size: int, status: str) -> Generator[str]:
    """The place that an index means, of which negative ones count from the end, within what happens where there is one."""
    given = writer.let(kind, wanted)
    place = writer.let(kind, f"T.Select({given} < T.{kind}(0), {given} + T.{kind}({size}), {given})")
    with writer.block(f"if T.Or({place} < T.{kind}(0), {place} >= T.{kind}({size}))"):
        writer.line(f"{status}[0] = T.int32(1)")
    with writer.block("else"):
        yield writer.let("int32", f'T.Cast("int32", {place})')


def _place(
    writer: Writer, blocks: ExitStack, given: str, kind: str, row: str, shape: Sequence[int], depth: int, status: str
) -> str:
    """Where the slice begins that a row of indices means."""
    strides = View.dense(shape).strides
    place = "0"
    for number in range(depth):
        index = blocks.enter_context(_checked(writer, f"{given}[{row} * {depth} + {number}]", kind, shape[number], status))
        place = f"{place} + {index} * {strides[number]}"
    return writer.let("int32", place)

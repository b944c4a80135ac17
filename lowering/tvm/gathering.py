"""Rows of a table looked up by index, as embeddings are.

Law: an index out of range reads nothing: it leaves a word in the status, which ends the run with an error.
"""

from __future__ import annotations

from contextlib import ExitStack

from irc.ir import DType

from .kernel import Kernel, Writer, tir_name

SHORTEST_TASK = 1 << 15
"""Elements copied that are worth a task of their own."""


def gather(dtype: DType, index_dtype: DType, outer: int, table: int, count: int, inner: int, lanes: int) -> Kernel:
    """Result [outer, count, inner] of dense data [outer, table, inner] and indices, of which negative ones count from the end.

    Its pointers are data, indices, the status, and the result.
    """
    writer = Writer()
    data, indices = writer.buffer(dtype, outer * table * inner), writer.buffer(index_dtype, count)
    status = writer.buffer(DType.I32, 1)
    result = writer.buffer(dtype, outer * count * inner)
    rows = outer * count
    tasks = max(1, min(rows, 16, rows * inner // SHORTEST_TASK))
    each = -(-rows // tasks)
    kind = tir_name(index_dtype)
    with ExitStack() as blocks:
        step = blocks.enter_context(writer.loop(each))
        row = writer.let("int32", f"task * {each} + {step}")
        if rows % each:
            blocks.enter_context(writer.block(f"if {row} < {rows}"))
        given = writer.let(kind, f"{indices}[{row} % {count}]")
        wanted = writer.let(kind, f"T.Select({given} < T.{kind}(0), {given} + T.{kind}({table}), {given})")
        with writer.block(f"if T.Or({wanted} < T.{kind}(0), {wanted} >= T.{kind}({table}))"):
            writer.line(f"{status}[0] = T.int32(1)")
        with writer.block("else"):
            source = writer.let("int32", f'(({row} // {count}) * {table} + T.Cast("int32", {wanted})) * {inner}')
            target = writer.let("int32", f"{row} * {inner}")
            full, rest = divmod(inner, lanes)
            if full:
                with writer.loop(full) as step, writer.loop(lanes, "vectorized") as lane:
                    place = f"{step} * {lanes} + {lane}"
                    writer.line(f"{result}[{target} + {place}] = {data}[{source} + {place}]")
            if rest:
                with writer.loop(rest, "vectorized") as lane:
                    place = f"{full * lanes} + {lane}"
                    writer.line(f"{result}[{target} + {place}] = {data}[{source} + {place}]")
    return writer.kernel(-(-rows // each))

# pyright: basic
"""TVM's own functions of tensors as kernels of ours: a schedule for each, and then each nest of loops a function of a task.

Law: only what needs nothing of TVM's at run time becomes a kernel: no calls of its own, no threads, no memory but what fits
the stack. What a function keeps for itself between its nests becomes memory that the caller gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from .adapter import part, walk, whole
from .kernel import product

SMALL = 1 << 15
"""Elements that are not worth a task of their own."""
MOST_TASKS = 16
WIDEST = 16
"""Elements of the last axis that are computed side by side while sums are taken."""
LARGEST_ON_STACK = 1 << 16
"""Bytes that a kernel may keep for itself."""
SPATIAL, REDUCED = 0, 2
"""What TVM calls axes that are kept and axes that are summed over."""
NAME = "irc_foreign"


@dataclass(frozen=True)
class Nest:
    """A kernel: its TVMScript, with `{name}` where its name stands, its tasks, and the buffers behind its pointers.

    A buffer of at least 0 is a parameter of the function, others are the function's own, which are numbered from -1 down.
    The last one is written.
    """

    source: str
    tasks: int
    buffers: tuple[int, ...]


@dataclass(frozen=True)
class Memory:
    """Elements of one of TVM's dtypes that a function has a buffer of."""

    kind: str
    size: int


@dataclass(frozen=True)
class Function:
    """The kernels of a function in order, what its parameters are, and what memory of its own it needs."""

    nests: tuple[Nest, ...]
    parameters: tuple[Memory, ...]
    own: tuple[Memory, ...]


def nests_of(function: Any, schedule: Callable[[Any], Any]) -> Function:
    """The kernels of a function of tensors, with loops as `schedule`, such as `scheduled`, orders them.

    Raises ValueError, with a clause, for what cannot be a kernel.
    """
    tirx = whole().tirx
    lowered = _lowering()(whole().IRModule({"main": schedule(function)}))["main"]
    parameters = list(lowered.params)
    places: list[tuple[Any, int]] = [(each, number) for number, each in enumerate(parameters)]
    own: list[Memory] = []
    nests: list[Nest] = []
    for statement in _flat(lowered.body):
        if isinstance(statement, tirx.AllocBuffer):
            own.append(_memory(statement.buffer))
            places.append((statement.buffer, -len(own)))
        elif isinstance(statement, tirx.DeclBuffer):
            places.append((statement.buffer, _found(places, statement.data.args[0])))
        else:
            nests.append(_nest(statement, places))
    return Function(tuple(nests), tuple(map(_memory, parameters)), tuple(own))


def _found(places: Sequence[tuple[Any, int]], variable: Any) -> int:
    return next(number for each, number in places if each.same_as(variable))


def _memory(buffer: Any) -> Memory:
    sizes = [int(size) for size in buffer.shape]
    return Memory(str(buffer.dtype), product(sizes))


def _flat(statement: Any) -> list[Any]:
    tirx = whole().tirx
    inner = statement
    while isinstance(inner, tirx.AttrStmt):
        inner = inner.body
    if isinstance(inner, tirx.SeqStmt):  # hints around it are for loops that are one no more
        return [each for part_of_it in inner.seq for each in _flat(part_of_it)]
    return [statement]


def _nest(statement: Any, places: Sequence[tuple[Any, int]]) -> Nest:
    """A statement as a function of a task and of pointers to what it touches, the one that it writes last."""
    tvm, tirx = whole(), whole().tirx
    touched, written, inside = _touched(statement)
    outside = [each for each in touched if not any(each.same_as(other) for other in inside)]
    results = [each for each in outside if any(each.same_as(other) for other in written)]
    if len(results) != 1:
        raise ValueError("it makes several results at once")
    (result,) = results
    buffers = [*(each for each in outside if not each.same_as(result)), result]
    task = tirx.Var("task", "int32")
    body, tasks = _as_task(statement, task)
    pointers = [
        tirx.Var(f"p{number}", tvm.ir.PointerType(tvm.ir.PrimType(str(each.dtype)), "global"))
        for number, each in enumerate(buffers)
    ]
    declared = [tirx.DeclBuffer(each, data=pointer) for each, pointer in zip(buffers, pointers, strict=True)]
    function = tirx.PrimFunc([task, *pointers], tirx.SeqStmt([*declared, body]))
    attributes = {"global_symbol": NAME, "tirx.noalias": True, "s_tir": True}
    text = function.with_attr(attributes).script()
    return Nest(_source(text), tasks, tuple(_found(places, each) for each in buffers))


def _touched(statement: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """The buffers that a statement names, those it writes, and those it has for itself; each once."""
    tirx = whole().tirx
    touched: list[Any] = []
    written: list[Any] = []
    inside: list[Any] = []

    def put(into: list[Any], buffer: Any) -> None:
        if not any(buffer.same_as(other) for other in into):
            into.append(buffer)

    def visit(node: Any) -> None:
        if isinstance(node, tirx.Var) and tirx.is_buffer_var(node):
            put(touched, node)
        elif isinstance(node, tirx.BufferStore):
            put(written, node.buffer)
        elif isinstance(node, tirx.AllocBuffer):
            put(inside, node.buffer)

    walk(statement, visit)
    if sum(memory.size for memory in map(_memory, inside)) * 8 > LARGEST_ON_STACK:
        raise ValueError("it needs too much of the stack")
    return touched, written, inside


def _as_task(statement: Any, task: Any) -> tuple[Any, int]:
    """A parallel loop without the loop: its variable is the number of the task. Hints around it are inside of it then."""
    tirx = whole().tirx
    hints: list[Any] = []
    inner = statement
    while isinstance(inner, tirx.AttrStmt):
        hints.append(inner)
        inner = inner.body
    if not isinstance(inner, tirx.For):
        return inner, 1
    body = inner.body
    for hint in reversed(hints):
        body = tirx.AttrStmt(inner.loop_var, hint.attr_key, hint.value, body)
    if inner.kind != tirx.ForKind.PARALLEL:
        return tirx.For(inner.loop_var, inner.min, inner.extent, inner.kind, body), 1
    kind = str(inner.loop_var.ty.dtype)
    number = task if kind == "int32" else tirx.Cast(kind, task)
    return tirx.SeqStmt([tirx.Bind(inner.loop_var, number), body]), int(inner.extent)


def _source(text: str) -> str:
    """The text of a kernel; raises ValueError where it is not all there is, or calls what is TVM's."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    source = "\n".join(lines).replace(NAME, "{name}") + "\n"
    for sign, reason in (
        ("metadata[", "its text is not whole"),
        ("packed(", "it calls TVM's run time"),
        ("T.parallel(", "it has threads within its tasks"),
        ("while ", "it may never end"),
    ):
        if sign in source:
            raise ValueError(reason)
    # The attribute is left out of a text where it is the name that stands there anyway.
    return source.replace("T.func_attr({", 'T.func_attr({"global_symbol": "{name}", ', 1)


def scheduled(function: Any) -> Any:
    """A function with loops in an order that serves any CPU: what is pointwise within its reader, sums of several side by side.

    Sums are of one element after the other.
    """
    tvm = whole()
    schedule = tvm.s_tir.Schedule(tvm.IRModule({"main": function}))
    dlight = part("s_tir.dlight")
    blocks = dlight.normalize_prim_func(schedule)
    if blocks is None:
        return function
    dlight.try_inline(schedule, blocks)
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        _order(schedule, block)
    return schedule.mod["main"]


def _order(schedule: Any, block: Any) -> None:
    """Kept axes first, as many of them tasks as are worth it; the last within sums where a vector of it is computed."""
    loops = list(schedule.get_loops(block))
    kinds = [int(each.iter_type) for each in schedule.get(block).iter_vars]
    sizes = [int(schedule.get(loop).extent) for loop in loops]
    kept = next((place for place, kind in enumerate(kinds) if kind != SPATIAL), len(kinds))
    if len(loops) != len(kinds) or not kept or any(kind != REDUCED for kind in kinds[kept:]):
        return
    outer, reduced = loops[: kept - 1], loops[kept:]
    last, size = loops[kept - 1], sizes[kept - 1]
    width = max(each for each in range(1, WIDEST + 1) if size % each == 0)
    if reduced and width >= 4:
        last, inner = schedule.split(last, [None, width])
        schedule.reorder(last, *reduced, inner)
        schedule.vectorize(inner)
    if reduced or not outer:
        outer = [*outer, last]
    whole_loop = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
    count = int(schedule.get(whole_loop).extent)
    tasks = min(MOST_TASKS, count, product(sizes) // SMALL)
    if tasks > 1:
        even = max(each for each in range(1, tasks + 1) if count % each == 0)
        first, _ = schedule.split(whole_loop, [even if even * 2 > tasks else tasks, None])
        schedule.parallel(first)
    if reduced:
        schedule.decompose_reduction(block, reduced[0])


@cache
def _lowering() -> Any:
    """From blocks to loops over flat buffers."""
    tvm = whole()
    blocks, loops = tvm.s_tir.transform, tvm.tirx.transform
    return tvm.ir.transform.Sequential(
        [
            blocks.CanonicalizeLoop(),
            blocks.LowerInitBlock(),
            blocks.PlanAndUpdateBufferAllocationLocation(),
            blocks.ConvertBlocksToOpaque(),
            blocks.CompactBufferAllocation(),
            blocks.LowerMatchBuffer(),
            blocks.StmtSimplify(),
            blocks.AnnotateIrregularLoop(),
            blocks.LowerOpaqueBlock(),
            loops.FlattenBuffer(),
            loops.NarrowDataType(32),
            loops.StmtSimplify(),
            loops.RemoveNoOp(),
        ]
    )

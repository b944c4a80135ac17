"""A graph cut into segments, so that what is wanted of it can be had a few values at a time while every op runs once.

Law: run one after another, each on what those before it gave, the segments compute what the graph computes; what one of them
gives for looking at takes no more bytes than asked for, unless a single value does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from irc.ir import DType, Graph, Op, TensorType, Value, at, clone_op, infer

_WIDE = frozenset({DType.F32, DType.F64, DType.F16, DType.BOOL, DType.STR}) | {d for d in DType if d.is_integer and d.bits >= 8}
"""What goes through NumPy as it is."""


@dataclass(frozen=True)
class Segment:
    """Some ops as a graph of their own. `takes` and `gives` are the values of the whole behind its inputs and outputs.

    The first `shown` of what it gives are wanted; nobody needs `spent` after it.
    """

    graph: Graph
    takes: Sequence[Value]
    gives: Sequence[Value]
    shown: int
    spent: Sequence[Value]


def cut_segments(graph: Graph, wanted: Collection[Value], bytes_of: Callable[[Value], int], limit: int) -> list[Segment]:
    """The ops that the wanted values need, in segments that give at most `limit` bytes of them each.

    The wanted values are results of the graph's own ops. What is no tensor that NumPy holds is never handed on, so there a
    segment goes on beyond the limit.
    """
    ops = _needed(graph, wanted)
    last = {value: position for position, op in enumerate(ops) for value in _read(op)}
    groups = _groups(ops, set(wanted), bytes_of, limit, last)
    segments: list[Segment] = []
    for start, stop in groups:
        segments.append(_segment(graph, ops[start:stop], wanted, {v for v, p in last.items() if p >= stop}, last, stop))
    return segments


def _read(op: Op) -> list[Value]:
    """What an op reads, also inside its bodies, constants apart."""
    captured = (value for body in op.bodies for value in body.captures())
    return [value for value in (*op.operands, *captured) if value is not None and value.constant is None]


def _needed(graph: Graph, wanted: Iterable[Value]) -> list[Op]:
    """The ops that make the wanted values, in order, constants apart."""
    found = {value.op for value in wanted}
    for op in reversed(list(graph)):
        if op in found:
            found.update(value.op for value in _read(op))
    return [op for op in graph if op in found]


def _groups(
    ops: Sequence[Op], wanted: set[Value], bytes_of: Callable[[Value], int], limit: int, last: dict[Value, int]
) -> list[tuple[int, int]]:
    """Where each segment starts and stops."""
    groups: list[tuple[int, int]] = []
    start = held = 0
    stuck = -1  # until where a value is needed that cannot be handed on
    for position, op in enumerate(ops):
        own = sum(bytes_of(result) for result in op.results if result in wanted)
        if own and held and held + own > limit and stuck < position:
            groups.append((start, position))
            start, held = position, 0
        held += own
        stuck = max([stuck, *(last.get(result, -1) for result in op.results if not _can_be_handed_on(result))])
    return [*groups, (start, len(ops))] if ops else []


def _can_be_handed_on(value: Value) -> bool:
    return isinstance(value.type, TensorType) and value.type.dtype in _WIDE


def _segment(
    graph: Graph, ops: Sequence[Op], wanted: Collection[Value], later: set[Value], last: dict[Value, int], stop: int
) -> Segment:
    """Ops as a graph; `later` are the values that ops after them read."""
    own = Graph(graph.name)
    own.opsets = dict(graph.opsets)
    mapping: dict[Value, Value] = {}
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    made = {result for op in ops for result in op.results}
    takes: list[Value] = []
    for op in ops:
        for value in _all_read(op):
            if value in mapping or value in made:
                continue
            if value.op is not None and value.op.is_constant:
                own.append(clone_op(value.op, mapping))
                continue
            name = names.get(value, f"handed on {len(takes)}")
            mapping[value] = own.add_input(name, value.type, graph.defaults.get(value))
            mapping[value].content = value.content
            takes.append(value)
        own.append(clone_op(op, mapping))
    shown = [result for op in ops for result in op.results if result in wanted]
    gives = [*shown, *(v for op in ops for v in op.results if v in later and v not in wanted)]
    for number, value in enumerate(gives):
        own.add_output(_widened(own, mapping[value]) if number < len(shown) else mapping[value], f"given {number}")
    return Segment(own, takes, gives, len(shown), [v for v in (*takes, *made) if last.get(v, -1) < stop])


def _all_read(op: Op) -> list[Value]:
    captured = (value for body in op.bodies for value in body.captures())
    return [value for value in (*op.operands, *captured) if value is not None]


def _widened(graph: Graph, value: Value) -> Value:
    """A value as NumPy can hold it: f32 for the narrow floats that it has no types for."""
    if _can_be_handed_on(value):
        return value
    cast = infer.make("Cast", [value], at("observed"), attributes={"to": DType.F32.onnx_code})
    return graph.append(cast).result

"""Which engine runs which ops: convex pieces of a graph, in an order in which each finds what it takes.

Method: every op has the stage of the latest op it depends on, or the next one where the engine changes; the ops of one stage
and engine are a piece. No path leaves a piece and comes back, because stages never fall along a path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irc.ir import Graph, Op, UnknownType, UnsupportedError, Value, clone_op, cost_of
from irc.passes import operands_of

from .blocks import taker, takes_signature
from .engine import Blockwise, Engine
from .mapping import Hindrance, mapping_of
from .targets import Target

MOST_PIECES = 8
"""Pieces that a program may have without having been measured: a boundary costs a call and what engines cannot fuse over it."""
SMALLEST_SHARE = 0.02
"""The share of a graph's cost below which a piece is not worth another engine."""
LIGHT = 0.001
"""The share of a graph's cost below which an op runs wherever the ops before it do, if that engine takes it."""


@dataclass(frozen=True)
class Piece:
    """Ops that one engine runs, in order; constants belong to no piece."""

    engine: Engine
    ops: tuple[Op, ...]


@dataclass(frozen=True)
class Refusal:
    """Why an engine is not given an op."""

    op: Op
    engine: str
    reason: str

    def __str__(self) -> str:
        return f"{self.op.qualified_name} at {self.op.location}: {self.engine}: {self.reason}"


def refusals(graph: Graph, engine: Engine, target: Target) -> list[Refusal]:
    """The ops that an engine does not take, with its reasons."""
    takes = taker(graph, engine, target)
    verdicts = ((op, takes(op)) for op in graph.walk() if not op.is_constant)
    return [Refusal(op, engine.name, verdict.reason) for op, verdict in verdicts if not verdict]


def pieces_of(graph: Graph, engine: Engine, others: Sequence[Engine], target: Target) -> list[Piece]:
    """Everything in one piece where `engine` takes it; else what `others` have to run is cut off.

    Raises UnsupportedError where the engine is left with nothing worth it, or the graph cannot be cut; with its first reason.
    """
    refused = refusals(graph, engine, target)
    if not refused:
        signature = takes_signature(graph, engine, target)
        if not signature:
            raise UnsupportedError(signature.reason)
        return [Piece(engine, ())]
    pieces = partition(graph, [engine, *(each for each in others if each.name != engine.name)], target)
    if all(piece.engine is not engine for piece in pieces):
        raise UnsupportedError(f"it takes too little of the model; {refused[0]}")
    reason = why_not_cut(graph, pieces)
    if reason:
        raise UnsupportedError(f"the model cannot be cut: {reason}")
    return pieces


def partition(graph: Graph, engines: Sequence[Engine], target: Target) -> list[Piece]:
    """The pieces of a graph for `engines`, best first; where more than MOST_PIECES would be needed, one piece of the last.

    Raises UnsupportedError listing each op that no engine takes, with each engine's reason.
    """
    ops = needed_ops(graph)
    takers = _takers(graph, ops, engines, target)
    costs = {op: sum(cost_of(each).weight for each in _whole(op)) for op in ops}
    total = sum(costs.values()) or 1
    light = {op for op in ops if costs[op] < LIGHT * total}
    while True:
        pieces = _stages(ops, takers, light)
        small = [p for p in pieces if _may_move(p, takers) and _cost(p, costs) < SMALLEST_SHARE * total]
        if len(pieces) < 2 or not small:
            break
        for op in small[0].ops:  # they go to the engines behind this one
            takers[op] = [engine for engine in takers[op] if engine is not small[0].engine]
    last = engines[-1]
    if len(pieces) > MOST_PIECES and all(last in takers_of for takers_of in takers.values()):
        return [Piece(last, tuple(ops))]
    return pieces


def needed_ops(graph: Graph) -> list[Op]:
    """The ops that an output depends on, in order, constants left out."""
    needed = {value.op for value in graph.outputs}
    for op in reversed(list(graph)):
        if op in needed:
            needed.update(value.op for value in operands_of(op))
    return [op for op in graph if op in needed and not op.is_constant]


def _takers(graph: Graph, ops: Sequence[Op], engines: Sequence[Engine], target: Target) -> dict[Op, list[Engine]]:
    """The engines that take each op with its bodies, best first."""
    found: dict[Op, list[Engine]] = {}
    refused: list[str] = []
    takes = {engine: taker(graph, engine, target) for engine in engines}
    for op in ops:
        verdicts = {engine: [takes[engine](each) for each in _whole(op)] for engine in engines}
        found[op] = [engine for engine, said in verdicts.items() if all(said)]
        if not found[op]:
            reasons = (f"{engine.name}: {next(v.reason for v in said if not v)}" for engine, said in verdicts.items())
            refused.append(f"{op.qualified_name} at {op.location}: {'; '.join(reasons)}")
    if refused:
        shown = "\n  ".join(refused[:20]) + ("\n  ..." if len(refused) > 20 else "")
        raise UnsupportedError(
            f"no engine takes these ops:\n  {shown}\n", hint="replace them in the model, or register a pass that does"
        )
    return found


def _whole(op: Op) -> list[Op]:
    """An op with the ops of its bodies, constants left out."""
    inner = [each for body in op.bodies for each in body.walk() if not each.is_constant]
    return [op, *inner]


def _stages(ops: Sequence[Op], takers: Mapping[Op, Sequence[Engine]], light: set[Op]) -> list[Piece]:
    placed: dict[Op, tuple[int, Engine]] = {}
    pieces: dict[tuple[int, Engine], list[Op]] = {}
    for op in ops:
        before = [placed[v.op] for v in operands_of(op) if v.op in placed]
        choices = takers[op] if op in light else takers[op][:1]
        stage, engine = min(
            ((_stage(before, engine), engine) for engine in choices), key=lambda choice: choice[0]
        )  # of equal stages the first, which is the better engine's
        placed[op] = stage, engine
        pieces.setdefault((stage, engine), []).append(op)
    return [Piece(engine, tuple(members)) for (_, engine), members in sorted(pieces.items(), key=lambda item: item[0][0])]


def _stage(before: Sequence[tuple[int, Engine]], engine: Engine) -> int:
    return max((stage + (other is not engine) for stage, other in before), default=0)


def _may_move(piece: Piece, takers: Mapping[Op, Sequence[Engine]]) -> bool:
    return all(len(takers[op]) > 1 for op in piece.ops)


def _cost(piece: Piece, costs: Mapping[Op, int]) -> int:
    return sum(costs[op] for op in piece.ops)


def why_not_cut(graph: Graph, pieces: Sequence[Piece]) -> str:
    """Why values cannot pass between these pieces, empty where they can."""
    if len(pieces) < 2:
        return ""
    if graph.defaults:
        return "an input has a default"
    for value in _crossing(graph, pieces):
        if isinstance(value.type, UnknownType):
            return f"the type of {value} is not known"
        if value.op is not None and value.op.is_a("Constant"):
            return f"{value} is a sparse constant"
    for piece, own in zip(pieces, extract(graph, pieces), strict=True):
        mapped = mapping_of(own) if isinstance(piece.engine, Blockwise) else None
        if isinstance(mapped, Hindrance):
            return f"{piece.engine.name} would compute a piece entry by entry, and {mapped}"
    return ""


def extract(graph: Graph, pieces: Sequence[Piece]) -> list[Graph]:
    """A graph for each piece; a value that passes between them has the same name in both.

    What goes straight from an input, or from a constant, to an output goes through the last piece.
    """
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    taken = {*graph.input_names, *graph.output_names}
    crossing = _crossing(graph, pieces)
    for value in crossing:
        names.setdefault(value, _fresh(taken))
    made_in = {result: index for index, piece in enumerate(pieces) for op in piece.ops for result in op.results}
    graphs: list[Graph] = []
    for index, piece in enumerate(pieces):
        copy, mapping = _body(graph, piece, names)
        for value in (result for op in piece.ops for result in op.results):
            if value in crossing:
                copy.add_output(mapping[value], names[value])
        for value, name, kind in zip(graph.outputs, graph.output_names, graph.output_types, strict=True):
            if made_in.get(value, len(pieces) - 1) == index:
                copy.add_output(_inside(copy, value, mapping, names), name, kind)
        graphs.append(copy)
    return graphs


def _body(graph: Graph, piece: Piece, names: Mapping[Value, str]) -> tuple[Graph, dict[Value, Value]]:
    """The ops of a piece with what they take, without outputs; and the copies of their values."""
    copy, mapping = Graph(graph.name), dict[Value, Value]()
    copy.opsets, copy.metadata = dict(graph.opsets), dict(graph.metadata)
    for op in piece.ops:
        for value in operands_of(op):
            _inside(copy, value, mapping, names)
        copy.append(clone_op(op, mapping))
    return copy, mapping


def _inside(copy: Graph, value: Value, mapping: dict[Value, Value], names: Mapping[Value, str]) -> Value:
    """A value in a piece: its copy there, made from a constant or an input where there is none yet."""
    if value not in mapping:
        if value.op is not None and value.op.is_constant:
            copy.append(clone_op(value.op, mapping))
        else:
            mapping[value] = copy.add_input(names[value], value.type)
            mapping[value].content = value.content
    return mapping[value]


def _crossing(graph: Graph, pieces: Sequence[Piece]) -> dict[Value, None]:
    """The values made in one piece and used in another, in order."""
    made_in = {result: index for index, piece in enumerate(pieces) for op in piece.ops for result in op.results}
    crossing: dict[Value, None] = {}
    for index, piece in enumerate(pieces):
        for op in piece.ops:
            crossing.update((v, None) for v in operands_of(op) if made_in.get(v, index) != index)
    return crossing


def _fresh(taken: set[str]) -> str:
    """A name that neither the signature nor another value has."""
    number = len(taken)
    while f"irc:{number}" in taken:
        number += 1
    taken.add(f"irc:{number}")
    return f"irc:{number}"


__all__ = ["MOST_PIECES", "Piece", "Refusal", "extract", "needed_ops", "partition", "pieces_of", "refusals", "why_not_cut"]

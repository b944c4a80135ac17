"""`irc why --placement`: which ops each engine takes, why it is not given the others, and the pieces that come of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .output import Json, print_json, print_table

if TYPE_CHECKING:
    from irc.ir import Cost, Graph, Op
    from irc.lowering import Engine, Piece, Refusal, Target

MOST_NODES = 3
"""How many of the ops refused for one reason are named."""


@dataclass(frozen=True)
class Reason:
    """A reason, the ops refused for it, the most expensive first, and what they cost together."""

    text: str
    ops: tuple[Op, ...]
    flops: int
    bytes: int

    @property
    def kinds(self) -> Counter[str]:
        """How many ops of each name there are."""
        return Counter(op.qualified_name for op in self.ops)

    def to_json(self) -> Json:
        """As JSON."""
        nodes: list[Json] = [str(op.location) for op in self.ops]
        kinds: dict[str, Json] = dict(self.kinds)
        return {"reason": self.text, "flops": self.flops, "bytes": self.bytes, "ops": kinds, "nodes": nodes}


@dataclass(frozen=True)
class Placement:
    """What comes of a graph with one engine first: the reasons, the pieces, and why there are none or they do not go."""

    engine: Engine
    ops: int
    refused: Sequence[Refusal]
    reasons: Sequence[Reason]
    pieces: Sequence[Piece]
    obstacle: str

    @property
    def taken(self) -> int:
        """How many ops the engine takes."""
        return self.ops - len(self.refused)


def place(graph: Graph, engine: Engine, target: Target) -> Placement:
    """Where the ops of a graph go when an engine has the first choice and all others that serve the target the rest."""
    from irc.ir import UnsupportedError, cost_of
    from irc.lowering import ENGINES, MOST_PIECES, partition, refusals, takes_signature, why_not_cut

    ops = [op for op in graph.walk() if not op.is_constant]
    refused = refusals(graph, engine, target)
    reasons = _grouped(refused, {each.op: cost_of(each.op) for each in refused})
    others = [each for each in ENGINES if each is not engine and each.serves(target)]
    try:
        pieces = partition(graph, [engine, *others], target)
    except UnsupportedError as error:
        return Placement(engine, len(ops), refused, reasons, (), error.message.strip())
    obstacle = why_not_cut(graph, pieces)
    signature = takes_signature(graph, engine, target).reason
    if signature and not refused:
        obstacle = f"{engine.name} is not given the model: {signature}"
    elif obstacle:
        obstacle = f"values cannot pass between them: {obstacle}"
    elif refused and all(piece.engine is not engine for piece in pieces):
        obstacle = f"no piece is left to {engine.name}: what it takes is too little, or in more than {MOST_PIECES} pieces"
    return Placement(engine, len(ops), refused, reasons, pieces, obstacle)


def _grouped(refused: Iterable[Refusal], costs: Mapping[Op, Cost]) -> list[Reason]:
    """Equal reasons as one, the most expensive first."""
    groups: dict[str, list[Op]] = {}
    for each in refused:
        groups.setdefault(each.reason, []).append(each.op)
    reasons = [
        Reason(
            text,
            tuple(sorted(ops, key=lambda op: -costs[op].weight)),
            sum(costs[op].flops for op in ops),
            sum(costs[op].bytes for op in ops),
        )
        for text, ops in groups.items()
    ]
    return sorted(reasons, key=lambda reason: (-sum(costs[op].weight for op in reason.ops), reason.text))


def explain(graph: Graph, target_name: str, engine: str | None, node: str | None, limit: int, as_json: bool) -> None:
    """Print where the ops of an optimized graph go. Raises UsageError for a target or an engine that does not exist."""
    from irc.lowering import ENGINES, find_engine, find_target

    target = find_target(target_name)
    asked = ENGINES if engine is None else [find_engine(engine)]
    serves = {each.name: each.serves(target) for each in asked}
    placements = [place(graph, each, target) for each in asked if serves[each.name]]
    away = {name: verdict.reason for name, verdict in serves.items() if not verdict}
    if as_json:
        listed: list[Json] = [_to_json(each, node) for each in placements]
        print_json({"target": target_name, "engines": listed, "not_serving": dict[str, Json](away)})
        return
    for name, reason in away.items():
        print(f"{name} does not serve {target_name}: {reason}\n")
    if node is not None:
        _print_node(placements, graph, node)
        return
    for index, each in enumerate(placements):
        if index:
            print()
        _print(each, limit)


def _print(placement: Placement, limit: int) -> None:
    name = placement.engine.name
    print(f"{name} takes {placement.taken} of {placement.ops} ops")
    rows = [
        (
            reason.text,
            len(reason.ops),
            short(reason.flops),
            short(reason.bytes),
            ", ".join(f"{count} {kind}" for kind, count in reason.kinds.most_common()),
            _nodes(reason.ops),
        )
        for reason in placement.reasons[:limit]
    ]
    if rows:
        print_table(None, ("why not", "ops", "FLOPs", "bytes", "which", "where"), rows)
    if len(placement.reasons) > len(rows):
        print(f"{len(rows)} of {len(placement.reasons)} reasons; --limit shows more")
    if len(placement.pieces) > 1:
        print(f"pieces with {name} first:")
        costs = _piece_costs(placement.pieces)
        print_table(
            None,
            ("piece", "engine", "ops", "FLOPs", "from", "to", "takes from others"),
            [
                (index, p.engine.name, len(p.ops), short(flops), p.ops[0].location, p.ops[-1].location, _taken(p))
                for index, (p, flops) in enumerate(zip(placement.pieces, costs, strict=True))
            ],
        )
    if placement.obstacle:
        print(placement.obstacle)


def _print_node(placements: Sequence[Placement], graph: Graph, node: str) -> None:
    """What each engine says of the ops that come from one node."""
    ops = _from_node(graph, node)
    if not ops:
        print(f"'{node}' is gone: folded into constants, merged with an equal op, or not needed")
        return
    rows = [
        (each.engine.name, op.qualified_name, op.location, _verdict(each, op), _piece_of(each, op))
        for each in placements
        for op in ops
    ]
    print_table(None, ("engine", "op", "where", "verdict", "piece"), rows)


def _from_node(graph: Graph, node: str) -> list[Op]:
    return [op for op in graph.walk() if not op.is_constant and node in op.location.flatten()[0]]


def _verdict(placement: Placement, op: Op) -> str:
    return next((each.reason for each in placement.refused if each.op is op), "taken")


def _piece_of(placement: Placement, op: Op) -> str:
    """The piece that an op, or the op in whose body it is, comes to, with its engine."""
    outermost = op
    while outermost.graph is not None and outermost.graph.owner is not None:
        outermost = outermost.graph.owner
    homes = (f"{p.engine.name}, piece {n}" for n, p in enumerate(placement.pieces) if outermost in p.ops)
    return next(homes, "–")


def _nodes(ops: Sequence[Op]) -> str:
    shown = ", ".join(str(op.location) for op in ops[:MOST_NODES])
    return shown if len(ops) <= MOST_NODES else f"{shown} and {len(ops) - MOST_NODES} more"


def _piece_costs(pieces: Sequence[Piece]) -> list[int]:
    """The FLOPs of each piece, bodies included."""
    from irc.ir import cost_of

    def whole(op: Op) -> int:
        return cost_of(op).flops + sum(cost_of(each).flops for body in op.bodies for each in body.walk())

    return [sum(whole(op) for op in piece.ops) for piece in pieces]


def _taken(piece: Piece) -> str:
    """The types of what a piece takes from other pieces."""
    return ", ".join(_types(piece)) or "–"


def _types(piece: Piece) -> list[str]:
    from irc.passes import operands_of

    own = set(piece.ops)
    taken = {v: None for op in piece.ops for v in operands_of(op) if v.op is not None and v.op not in own}
    return [str(value.type) for value in taken if value.op is not None and not value.op.is_constant]


def _to_json(placement: Placement, node: str | None) -> Json:
    pieces: list[Json] = [
        {"engine": piece.engine.name, "ops": len(piece.ops), "flops": flops, "takes": list[Json](_types(piece))}
        for piece, flops in zip(placement.pieces, _piece_costs(placement.pieces), strict=True)
    ]
    kept = [each for each in placement.reasons if node is None or any(node in op.location.flatten()[0] for op in each.ops)]
    return {
        "engine": placement.engine.name,
        "version": placement.engine.version,
        "ops": placement.ops,
        "takes": placement.taken,
        "refused": [reason.to_json() for reason in kept],
        "pieces": pieces,
        "obstacle": placement.obstacle,
    }


def short(count: int) -> str:
    """A count as people read it."""
    amount = float(count)
    for unit in ("", "k", "M", "G"):
        if amount < 1000:
            return f"{amount:.0f}" if not unit else f"{amount:.1f}{unit}"
        amount /= 1000
    return f"{amount:.1f}T"

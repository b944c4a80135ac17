"""Splits: a program cut where little passes, each part on the engine that was measured to run it fastest.

Method: cuts are looked for near equal shares of the cost, where the values that are alive take the fewest bytes. The parts are
measured on each engine by themselves, and the best choice of engines is found by dynamic programming over them; a boundary
costs CROSSING.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from irc.ir import DType, Graph, IrcError, Op, TensorType, Value, cost_of, evaluate
from irc.passes import operands_of
from irc.runtime import Contestant, Manifest, NodeCount, RunError, Workload, measure, write_arrays, write_passing_folder

from ..engine import Engine
from ..engines import ENGINES
from ..partitioning import Piece, extract, needed_ops, why_not_cut
from ..signatures import input_entries, output_entries
from ..targets import Target

PARTS = 4
"""How many parts a program is cut into to be measured."""
CROSSING = 0.02
"""Milliseconds that a boundary costs: a call of an engine, and the values handed over."""
WORTH_IT = 2.0
"""Milliseconds that a program has to take for boundaries not to eat up what they gain."""
GAIN = 0.97
"""The share of the best engine's time by itself that a split has to be expected to stay under, to be built at all."""
_ROUNDS, _SECONDS = 3, 0.1
_NEAR = 0.1
_NOWHERE = 1 << 40
"""The bytes of a value at which a graph cannot be cut: its size is unknown, or it cannot be fed."""
_UNSEEN = frozenset({DType.BF16, DType.U4, DType.I4})
"""What an engine hands over to no program, since NumPy has no such numbers."""


def cuts_of(graph: Graph, parts: int = PARTS) -> list[int]:
    """The indices of ops, among those that are needed, before which the graph is cut; fewer where it is small."""
    ops = needed_ops(graph)
    costs = [cost_of(op).weight for op in ops]
    total = sum(costs) or 1
    reached = [part / total for part in accumulate(costs)]
    alive = _alive(graph, ops)
    cuts: list[int] = []
    for number in range(1, parts):
        wanted = number / parts
        near = [i for i in range(1, len(ops)) if abs(reached[i - 1] - wanted) <= _NEAR and alive[i] < _NOWHERE]
        if near:
            cuts.append(min(near, key=lambda i: (alive[i], abs(reached[i - 1] - wanted))))
    return sorted(set(cuts))


def _alive(graph: Graph, ops: Sequence[Op]) -> list[int]:
    """For each op the bytes of values made before it and used by it or after it."""
    index = {op: number for number, op in enumerate(ops)}
    last: dict[Value, int] = {}
    for number, op in enumerate(ops):
        last.update((value, number) for value in operands_of(op) if value.op in index)
    change = [0] * (len(ops) + 1)
    for value, end in last.items():
        assert value.op is not None
        size = _bytes(value)
        change[index[value.op] + 1] += size
        change[end + 1] -= size
    return list(accumulate(change))


def _bytes(value: Value) -> int:
    kind = value.type
    if not isinstance(kind, TensorType) or kind.shape is None or kind.dtype in _UNSEEN:
        return _NOWHERE
    count = 1
    for dim in kind.shape:
        count *= dim if isinstance(dim, int) else 1
    return count * max(kind.dtype.bits, 8) // 8


def pieces_at(graph: Graph, ends: Sequence[int], engines: Sequence[Engine]) -> list[Piece]:
    """The graph in pieces that end before these ops, by index, and at the end; neighbours of one engine are joined."""
    ops = needed_ops(graph)
    bounds = [0, *ends, len(ops)]
    pieces: list[Piece] = []
    for start, end, engine in zip(bounds, bounds[1:], engines, strict=False):
        if pieces and pieces[-1].engine is engine:
            pieces[-1] = Piece(engine, (*pieces[-1].ops, *ops[start:end]))
        else:
            pieces.append(Piece(engine, tuple(ops[start:end])))
    return pieces


@dataclass(frozen=True)
class Split:
    """Where a graph is cut and which engine runs each part; `expected` milliseconds."""

    ends: tuple[int, ...]
    engines: tuple[Engine, ...]
    expected: float

    @property
    def name(self) -> str:
        """`openvino to op 120, then onnxruntime`; the same for equal splits."""
        steps = [f"{engine.name} to op {end}" for engine, end in zip(self.engines, self.ends, strict=False)]
        return ", ".join((*steps, f"then {self.engines[-1].name}"))


_STEP = re.compile(r"(?P<engine>\w+) to op (?P<end>\d+)\Z")


def parse_split(name: str) -> Split | None:
    """The split of a name, without what it is expected to take; None for a text that is none."""
    *steps, last = name.split(", ")
    found = [_STEP.match(step) for step in steps]
    known = {engine.name: engine for engine in ENGINES}
    names = [*(match["engine"] for match in found if match), last.removeprefix("then ")]
    if not steps or None in found or not last.startswith("then ") or not set(names) <= known.keys():
        return None
    return Split(tuple(int(match["end"]) for match in found if match), tuple(known[each] for each in names), 0.0)


def best_split(
    graph: Graph,
    engines: Sequence[Engine],
    target: Target,
    feeds: Mapping[str, Any],
    folder: Path,
    threads: int | None,
) -> Split | None:
    """The split that is expected to be fastest, None where one engine is. Raises EngineFailure and IrcError as engines do."""
    ends = cuts_of(graph)
    if not ends or len(engines) < 2:
        return None
    pieces = pieces_at_each(graph, ends, engines[0])
    if why_not_cut(graph, pieces):
        return None
    parts = extract(graph, pieces)
    times = [dict(_times(part, engines, target, fed, folder, threads)) for part, fed in _fed(parts, feeds)]
    chosen, expected = _cheapest(times, engines)
    alone = min(sum(part.get(engine.name, float("inf")) for part in times) for engine in engines)
    if len({engine.name for engine in chosen}) < 2 or expected > GAIN * alone:
        return None
    joined = [(end, engine) for end, engine, after in zip(ends, chosen, chosen[1:], strict=False) if engine is not after]
    return Split(tuple(end for end, _ in joined), (*(engine for _, engine in joined), chosen[-1]), expected)


def pieces_at_each(graph: Graph, ends: Sequence[int], engine: Engine) -> list[Piece]:
    """The graph in pieces at every end, all of one engine."""
    ops = needed_ops(graph)
    bounds = [0, *ends, len(ops)]
    return [Piece(engine, tuple(ops[start:end])) for start, end in pairwise(bounds)]


def _fed(parts: Sequence[Graph], feeds: Mapping[str, Any]) -> Iterator[tuple[Graph, dict[str, Any]]]:
    """Each part with what it is fed, which the reference makes."""
    values = dict(feeds)
    for part in parts:
        fed = {name: values[name] for name in part.input_names}
        yield part, fed
        values.update(zip(part.output_names, evaluate(part, fed), strict=True))


def _times(
    part: Graph, engines: Sequence[Engine], target: Target, fed: Mapping[str, Any], folder: Path, threads: int | None
) -> Iterator[tuple[str, float]]:
    """Milliseconds of a part on each engine that runs it, all of them taking turns."""
    inputs = folder / "part.npz"
    write_arrays(inputs, fed)
    field: list[Contestant] = []
    for engine in engines:
        place = folder / f"part-{engine.name}-{len(list(folder.iterdir()))}.irc"
        try:
            files = engine.lower(part, target, 2)
        except (IrcError, RunError):
            continue  # this engine does not run this part
        options = {**engine.settings(2, target)[0], **files.options, **({} if threads is None else {"threads": threads})}
        manifest = Manifest(
            engine=engine.name,
            engine_options=options,
            inputs=input_entries(part),
            outputs=output_entries(part),
            nodes=NodeCount(0, 0),
        )
        write_passing_folder(place, manifest, files.to_runtime().to_chunks())
        field.append(Contestant(engine.name, place))
    for measurement in measure(field, Workload(inputs=inputs, rounds=_ROUNDS, seconds=_SECONDS)):
        yield measurement.name, measurement.p50


def _cheapest(times: Sequence[Mapping[str, float]], engines: Sequence[Engine]) -> tuple[list[Engine], float]:
    """The engine for each part that makes the sum of times and crossings smallest, and the sum."""
    never = float("inf")
    reached: dict[str, tuple[float, list[Engine]]] = {
        engine.name: (times[0].get(engine.name, never), [engine]) for engine in engines
    }
    for part in times[1:]:
        ways: dict[str, tuple[float, list[Engine]]] = {}
        for engine in engines:
            before = min(
                ((cost + (CROSSING if name != engine.name else 0.0), way) for name, (cost, way) in reached.items()),
                key=lambda each: each[0],
            )
            ways[engine.name] = before[0] + part.get(engine.name, never), [*before[1], engine]
        reached = ways
    total, way = min(reached.values(), key=lambda each: each[0])
    return way, total

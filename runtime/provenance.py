"""Which nodes of `model.onnx` an engine's own node does the work of: engines fuse, rename and insert nodes, tensors keep names.

A node of the engine's graph that has no counterpart at all stays without one; nothing is guessed from how names look alike,
except the `_nchwc` that ONNX Runtime adds to the name of the tensor that a node in blocked layout stands for.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Container, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

Known = TypeVar("Known")

LOCATION_KEY = "irc.location"
HISTORY_KEY = "irc.history"
_BLOCKED = re.compile(r"(.+)_nchwc(?:_token_\d+)?")


@dataclass(frozen=True, slots=True)
class Provenance:
    """A node that the engine was given, and what it says of its past.

    `origins` are names or source lines in the model that was compiled, of an op fused from several all of them, the first
    being what the op is named after; `rewrites` made it out of them, the last one first, and there are none where the op
    stands as it was captured.
    """

    name: str
    op: str
    origins: tuple[str, ...]
    rewrites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """A node of a graph, with the names of the tensors it takes and makes, left out ones not among them."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Steps:
    """A graph to trace in: its nodes in an order of execution, and the names of its initializers."""

    nodes: tuple[Step, ...]
    initializers: frozenset[str]


def read_steps(graph: GraphProto) -> Steps:
    """The nodes of an ONNX graph and of the bodies in it."""
    graphs = list(_graphs(graph))
    nodes = tuple(
        Step(node.name, node.op_type, tuple(filter(None, node.input)), tuple(filter(None, node.output)))
        for each in graphs
        for node in each.node
    )
    return Steps(nodes, frozenset(initializer.name for each in graphs for initializer in each.initializer))


def read_sources(graph: GraphProto) -> dict[str, Provenance]:
    """What each node of `model.onnx` says of its past, by node name; a node that says nothing is its own origin."""
    return {node.name: _source(node) for each in _graphs(graph) for node in each.node if node.name}


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    pending = [graph]
    while pending:
        one = pending.pop()
        yield one
        for node in one.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _source(node: NodeProto) -> Provenance:
    properties = {entry.key: entry.value for entry in node.metadata_props}
    history = _history(properties.get(HISTORY_KEY, ""))
    origins = history.get("origins") or (properties.get(LOCATION_KEY) or node.name,)
    return Provenance(node.name, node.op_type, origins, history.get("rewrites", ()))


def _history(text: str) -> dict[str, tuple[str, ...]]:
    """The lists of texts in a node's history; empty where there is none, or none that this release can read."""
    try:
        value: object = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    lists = cast("dict[str, object]", value)
    return {key: tuple(map(str, cast("list[object]", each))) for key, each in lists.items() if isinstance(each, list)}


def trace_back(given: Steps, made: Steps) -> list[tuple[Step, ...]]:
    """The nodes of `given` whose work each node of `made` does, in their order; none for a node of which nothing is known.

    A node that kept its name is that node, whatever it absorbed besides. Another one does all that serves only the tensors
    it makes, back to what the engine's graph still has, the node that makes them first. What the engine inserted, reorderings
    above all, counts to what it feeds, and to what feeds it where that is unknown too.
    """
    by_name = {node.name: node for node in given.nodes if node.name}
    regions = _Regions(given.nodes)
    found: dict[int, tuple[Step, ...]] = {}
    for index, node in enumerate(made.nodes):
        blocked = _BLOCKED.fullmatch(node.name)
        if node.name in by_name:
            found[index] = (by_name[node.name],)
        elif blocked is not None and blocked[1] in regions.producers:
            found[index] = regions.activated(blocked[1], node.op)
    same = {id(each): each for steps in found.values() for each in steps}
    still_there = {output for node in (*made.nodes, *same.values()) for output in node.outputs} | made.initializers
    for index, node in enumerate(made.nodes):
        region = () if index in found else regions.behind(node.outputs, still_there, same)
        if region:
            found[index] = region
    spread(made.nodes, found)
    return [found.get(index, ()) for index in range(len(made.nodes))]


class _Regions:
    """Parts of the graph that the engine was given, found from the tensors that they make."""

    def __init__(self, nodes: Sequence[Step]) -> None:
        self.producers = {output: node for node in nodes for output in node.outputs}
        self._users: dict[str, set[int]] = defaultdict(set)
        for node in nodes:
            for name in node.inputs:
                self._users[name].add(id(node))

    def activated(self, name: str, op: str) -> tuple[Step, ...]:
        """The node that makes `name`, and the `op` in front of it where it is a mere activation of that."""
        last = self.producers[name]
        before = self.producers.get(last.inputs[0]) if last.inputs else None
        if last.op.endswith(op) or before is None or not before.op.endswith(op) or self._serves_others(before, {id(last)}):
            return (last,)
        return last, before

    def behind(self, names: Sequence[str], still_there: Container[str], same: Container[int]) -> tuple[Step, ...]:
        """The nodes that make `names`, and those that serve these only and make nothing that is `still_there`; nearest first.

        Behind a node that is there itself, one of `same`, nothing is looked for: what it makes is only moved.
        """
        region: dict[int, Step] = {}
        pending = list(names)
        for name in pending:  # grows on the way: a node comes up again with each of its users
            node = self.producers.get(name)
            if node is None or id(node) in region:
                continue
            if name not in names and (name in still_there or self._serves_others(node, region.keys())):
                continue
            region[id(node)] = node
            if id(node) not in same:
                pending.extend(node.inputs)
        return tuple(region.values())

    def _serves_others(self, node: Step, users: Set[int]) -> bool:
        return any(self._users[output] - users for output in node.outputs)


def spread(nodes: Sequence[Step], found: dict[int, tuple[Known, ...]]) -> None:
    """Give a node that stands for nothing what its first known user stands for, else what its first known producer does."""
    users: dict[str, tuple[Known, ...]] = {}
    for index in range(len(nodes) - 1, -1, -1):
        known = [users[name] for name in nodes[index].outputs if name in users]
        if index not in found and known:
            found[index] = known[0]
        if index in found:
            users.update(dict.fromkeys(nodes[index].inputs, found[index]))
    makers: dict[str, tuple[Known, ...]] = {}
    for index, node in enumerate(nodes):
        known = [makers[name] for name in node.inputs if name in makers]
        if index not in found and known:
            found[index] = known[0]
        if index in found:
            makers.update(dict.fromkeys(node.outputs, found[index]))

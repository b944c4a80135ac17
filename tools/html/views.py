"""One drawing for each graph: its boxes (inputs, captured values, ops but no constants, outputs) and their edges."""

from __future__ import annotations

from dataclasses import dataclass, field

from irc.ir import Graph, Op, Value

from .boxes import Label, end_label, op_label
from .geometry import Layout, Net
from .layout import lay_out

INPUT, CAPTURE, OP, OUTPUT = range(4)


@dataclass(frozen=True, slots=True)
class Node:
    """A box: what it stands for, and the value or op that is; an output is known by its index."""

    sort: int
    subject: Value | Op | int
    label: Label


@dataclass(slots=True)
class View:
    """A graph as boxes and edges, laid out."""

    graph: Graph
    nodes: list[Node]
    captures: list[Value]
    layout: Layout


@dataclass(slots=True)
class _Wiring:
    """Who makes and who uses each value within one graph, as numbers of boxes."""

    maker: dict[Value, int] = field(default_factory=dict[Value, int])
    users: dict[Value, dict[int, None]] = field(default_factory=dict[Value, dict[int, None]])

    def use(self, value: Value | None, box: int) -> None:
        if value is not None and value in self.maker:
            self.users.setdefault(value, {})[box] = None


def captured_values(graph: Graph) -> dict[Graph, list[Value]]:
    """For each graph the values from outside that it or a body inside it uses, constants left out."""
    captured: dict[Graph, dict[Value, None]] = {each: {} for each in graph.graphs()}

    def note(value: Value | None, user: Graph | None) -> None:
        if value is None or value.constant is not None:
            return
        home = value.op.graph if value.op is not None else value.graph
        while user is not None and user is not home and value not in captured[user]:
            captured[user][value] = None
            user = user.owner.graph if user.owner is not None else None

    for each in captured:
        for output in each.outputs:
            note(output, each)
    for op in graph.walk():
        for operand in op.operands:
            note(operand, op.graph)
    return {each: list(values) for each, values in captured.items()}


def view_of(graph: Graph, names: dict[Value, str], captured: dict[Graph, list[Value]], operands: dict[Op, list[str]]) -> View:
    """The drawing of one graph."""
    nodes: list[Node] = []
    wiring = _Wiring()
    captures = captured[graph]
    for sort, values in ((INPUT, graph.inputs), (CAPTURE, captures)):
        for value in values:
            wiring.maker[value] = len(nodes)
            nodes.append(Node(sort, value, end_label(names[value], value.type)))
    ends = len(nodes)
    for op in graph:
        if op.is_constant:
            continue
        box = len(nodes)
        nodes.append(Node(OP, op, op_label(op, operands[op])))
        for value in op.operands:
            wiring.use(value, box)
        for body in op.bodies:
            for value in captured[body]:
                wiring.use(value, box)
        for result in op.results:
            wiring.maker[result] = box
    for index, value in enumerate(graph.outputs):
        wiring.use(value, len(nodes))
        nodes.append(Node(OUTPUT, index, end_label(f"%{graph.output_names[index]}", graph.output_types[index])))
    numbers = {value: number for number, value in enumerate(wiring.maker)}
    nets = [Net(numbers[value], wiring.maker[value], tuple(users)) for value, users in wiring.users.items()]
    return View(graph, nodes, captures, lay_out([node.label.box for node in nodes], nets, range(ends)))

"""Everything the page shows, as one JSON value: facts, signature, ops, values, constants and the drawings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from irc.ir import Graph, Op, Value, dims

from .boxes import named_bodies
from .formals import operand_names, result_names
from .kinds import Kind, kind_of
from .placing import Placing
from .reading import Reading, read
from .statistics import statistics_of
from .views import View, captured_values, view_of

Json: TypeAlias = "str | int | Sequence[Json] | Mapping[str, Json]"

LONGEST_TEXT = 4 << 20
LONGEST_ATTRIBUTE = 4_000
MOST_ORIGINS = 200


def page_data(graph: Graph, title: str, facts: Mapping[str, str], placing: Placing) -> dict[str, Json]:
    """What the page's script reads; the same graph gives the same value."""
    return _Collector(graph, placing).collect(title, facts)


class _Table:
    """Strings and their numbers, because types, locations and op names repeat."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __getitem__(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


class _Collector:
    def __init__(self, graph: Graph, placing: Placing) -> None:
        self.graph = graph
        self.placing = placing
        self.engines = {name: number for number, name in enumerate(placing.names())}
        self.reading: Reading = read(graph)
        self.strings = _Table()
        self.graphs = list(graph.graphs())
        self.view_numbers = {each: number for number, each in enumerate(self.graphs)}
        self.ops = list(graph.walk())
        self.op_numbers = {op: number for number, op in enumerate(self.ops)}
        self.operands = {op: operand_names(op, graph.opsets) for op in self.ops}
        values = [value for each in self.graphs for value in each.inputs]
        values += [result for op in self.ops for result in op.results]
        self.values = values
        self.value_numbers = {value: number for number, value in enumerate(values)}
        self.fed = _fed_by_constants(self.ops)

    def collect(self, title: str, facts: Mapping[str, str]) -> dict[str, Json]:
        captured = captured_values(self.graph)
        views = [view_of(each, self.reading.names, captured, self.operands) for each in self.graphs]
        text, cut = self._text()
        return {
            "title": title,
            "facts": [[name, text] for name, text in (self._facts() | dict(facts)).items()],
            "kinds": [[kind.key, kind.label] for kind in Kind],
            "engines": list(self.engines),
            "tables": [[each.title, list(each.columns), [list(row) for row in each.rows]] for each in self.placing.tables],
            "histogram": self._histogram(),
            "ops": [self._op(op) for op in self.ops],
            "values": [self._value(value) for value in self.values],
            "views": [self._view(view) for view in views],
            "text": text,
            "cut": cut,
            "lines": len(self.reading.lines),
            "strings": list(self.strings.numbers),  # last: everything above adds to it
        }

    def _facts(self) -> dict[str, str]:
        tensors = {id(op.value): op.value for op in self.ops if op.is_constant}
        tensors |= {id(t): t for each in self.graphs for t in each.defaults.values()}
        constants = sum(op.is_constant for op in self.ops)
        facts = {
            "graph": self.graph.name,
            "ops": f"{len(self.ops) - constants:,}",
            "constants": f"{constants:,}",
            "parameters": f"{sum(t.size for t in tensors.values()):,}",
            "weights": bytes_text(sum(t.byte_count for t in tensors.values())),
        }
        if len(self.graphs) > 1:
            facts["bodies"] = f"{len(self.graphs) - 1:,}"
        for domain, version in sorted(self.graph.opsets.items()):
            facts[f"opset of {domain}"] = str(version)
        return facts | {f"metadata {name}": _cut(text) for name, text in sorted(self.graph.metadata.items())}

    def _histogram(self) -> Json:
        counts: dict[str, int] = {}
        kinds: dict[str, str] = {}
        for op in self.ops:
            if not op.is_constant:
                counts[op.qualified_name] = counts.get(op.qualified_name, 0) + 1
                kinds.setdefault(op.qualified_name, kind_of(op).key)
        ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
        return [[self.strings[name], count, kinds[name]] for name, count in ranked]

    def _op(self, op: Op) -> Json:
        assert op.graph is not None
        origins, rewrites = op.location.flatten()
        data: dict[str, Json] = {
            "name": self.strings[op.qualified_name],
            "kind": (Kind.CONSTANT_FED if op in self.fed else kind_of(op)).key,
            "view": self.view_numbers[op.graph],
            "line": self.reading.line_of[op],
            "origins": [self.strings[origin] for origin in origins[:MOST_ORIGINS]],
            "results": [self.value_numbers[result] for result in op.results],
        }
        if len(origins) > MOST_ORIGINS:
            data["unlisted"] = len(origins) - MOST_ORIGINS
        if rewrites:
            data["rewrites"] = [self.strings[rewrite] for rewrite in rewrites]
        if op.is_constant:
            return data | self._constant(op)
        if op in self.placing.engines:
            data["engine"] = self.engines[self.placing.engines[op]]
            data["piece"] = self.strings[self.placing.pieces.get(op, "")]
        if op.operands:
            data["operands"] = [-1 if v is None else self.value_numbers[v] for v in op.operands]
            data["operandNames"] = [self.strings[name] for name in self.operands[op]]
        data["resultNames"] = [self.strings[name] for name in result_names(op, self.graph.opsets)]
        attributes = self.reading.attributes[op]
        if attributes:
            data["attributes"] = [[name, _cut(text)] for name, text in attributes]
        bodies: list[Json] = [[name, self.view_numbers[body]] for name, body in named_bodies(op)]
        return data | ({"bodies": bodies} if bodies else {})

    def _constant(self, op: Op) -> dict[str, Json]:
        data: dict[str, Json] = {"bytes": bytes_text(op.value.byte_count), "data": _cut(self.reading.data[op])}
        figures = statistics_of(op.value)
        return data | ({"figures": [[name, text] for name, text in figures]} if figures else {})

    def _value(self, value: Value) -> Json:
        """Name, type, maker (an op, or -1 - the number of the graph it is an input of), and what it is known to hold."""
        home = value.graph
        maker = self.op_numbers[value.op] if value.op is not None else -1 - self.view_numbers[home or self.graph]
        data: list[Json] = [self.reading.names[value], self.strings[str(value.type)], maker]
        if value.content is not None:
            data.append(self.strings[f"[{', '.join(map(dims.text, value.content))}]"])
        return data

    def _view(self, view: View) -> Json:
        graph, layout = view.graph, view.layout
        owner = graph.owner
        within = graph.inputs + view.captures + [r for op in graph if not op.is_constant for r in op.results]
        numbers = [self.value_numbers[value] for value in within]
        nodes: list[Json] = []
        for index, node in enumerate(view.nodes):
            subject = node.subject
            if isinstance(subject, Value):
                subject = self.value_numbers[subject]
            elif isinstance(subject, Op):
                subject = self.op_numbers[subject]
            box = node.label.box
            place = [
                node.sort,
                subject,
                layout.rows[index],
                layout.lefts[index],
                layout.tops[index],
                box.width,
                box.height,
            ]
            nodes.append([*place, node.label.title, [[name, text] for name, text in node.label.rows]])
        outputs = zip(graph.output_names, graph.output_types, graph.outputs, strict=True)
        return {
            "name": graph.name,
            "owner": -1 if owner is None else self.op_numbers[owner],
            "attribute": "" if owner is None else next(n for n, body in named_bodies(owner) if body is graph),
            "inputs": [self.value_numbers[value] for value in graph.inputs],
            "overridable": [self.value_numbers[value] for value in graph.inputs if value in graph.defaults],
            "captures": [self.value_numbers[value] for value in view.captures],
            "outputs": [[name, self.strings[str(type)], self.value_numbers[v]] for name, type, v in outputs],
            "width": layout.width,
            "height": layout.height,
            "rows": [[top, bottom] for top, bottom in zip(layout.row_tops, layout.row_bottoms, strict=True)],
            "nodes": nodes,
            "gaps": [
                [n for s in gap for n in (numbers[s.value], s.start, s.top, s.end, int(s.arrives))] for gap in layout.gaps
            ],
            "edges": [[numbers[line.value], *line.start, *line.end] for line in layout.lines],
        }

    def _text(self) -> tuple[str, int]:
        """The text form and how many of its lines are left out."""
        length = 0
        for number, line in enumerate(self.reading.lines):
            length += len(line) + 1
            if length > LONGEST_TEXT:
                return "\n".join(self.reading.lines[:number]), len(self.reading.lines) - number
        return "\n".join(self.reading.lines), 0


def _fed_by_constants(ops: list[Op]) -> set[Op]:
    """The ops that no input reaches: their operands are constants or come from ops like them."""
    fed: set[Op] = set()
    for op in ops:
        makers = [value.op for value in op.operands if value is not None]
        if makers and not op.bodies and all(m is not None and (m.is_constant or m in fed) for m in makers):
            fed.add(op)
    return fed


def _cut(text: str) -> str:
    if len(text) <= LONGEST_ATTRIBUTE:
        return text
    return f"{text[:LONGEST_ATTRIBUTE]} … and {len(text) - LONGEST_ATTRIBUTE:,} more characters"


def bytes_text(count: int) -> str:
    """A number of bytes as people read it, four digits of it."""
    if count < 1024:
        return f"{count} B"
    size, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.4g} {unit}"

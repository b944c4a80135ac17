"""What the text form says of each op: the names it gives values, how it writes attributes, and on which line.

The page shows the same words beside the text itself, so they are read from it instead of being made a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from irc.ir import Graph, Op, Value
from irc.ir.text import print_graph

_STRING = r'"(?:\\.|[^"\\])*"'
_NAME = rf"%(?:{_STRING}|[A-Za-z0-9_.$/-]+)"
_RESULTS = re.compile(rf"\s*({_NAME}(?:, {_NAME})*) = ")
_ONE_NAME = re.compile(_NAME)
_TOKEN = re.compile(rf"{_STRING}|[(\[{{<]|[)\]}}>]|, ")
_PARENTHESIS = re.compile(rf"{_STRING}|\(")
_EQUALS = re.compile(rf"{_STRING}| = ")
_ATTRIBUTE = re.compile(rf"({_STRING}|[^=\"]+)=")


@dataclass(slots=True)
class Reading:
    """A graph's text by line; of each op its line and attributes, of each value its name, of each constant its data."""

    lines: list[str]
    line_of: dict[Op, int] = field(default_factory=dict[Op, int])
    names: dict[Value, str] = field(default_factory=dict[Value, str])
    attributes: dict[Op, list[tuple[str, str]]] = field(default_factory=dict[Op, list[tuple[str, str]]])
    data: dict[Op, str] = field(default_factory=dict[Op, str])


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of its own inside an op with bodies: one of the op's other attributes, or mere punctuation."""

    owner: Op | None = None


def read(graph: Graph) -> Reading:
    """Print a graph and find its ops and values in the text."""
    reading = Reading(print_graph(graph).removesuffix("\n").split("\n"))
    position = 0
    pending: list[Iterator[Graph | Op | _Line]] = [iter((graph,))]
    while pending:
        step = next(pending[-1], None)
        if step is None:
            pending.pop()
            continue
        text = reading.lines[position]
        match step:
            case Graph():
                _read_header(step, text, reading)
                pending.append(_inside_graph(step))
            case Op():
                reading.line_of[step] = position
                _read_op(step, text, reading)
                if step.bodies:
                    pending.append(_inside_op(step))
            case _Line(owner):
                if owner is not None:
                    reading.attributes[owner].append(_attribute(text.strip().removesuffix(",")))
        position += 1
    assert position == len(reading.lines), "the text form has other lines than this module expects"
    return reading


def _inside_graph(graph: Graph) -> Iterator[Graph | Op | _Line]:
    yield from graph
    yield _Line()  # return …
    yield _Line()  # }


def _inside_op(op: Op) -> Iterator[Graph | Op | _Line]:
    for value in op.attributes.values():
        if isinstance(value, Graph):
            yield value
        elif isinstance(value, tuple) and any(isinstance(item, Graph) for item in value):
            yield _Line()  # name=[
            yield from (item for item in value if isinstance(item, Graph))
            yield _Line()  # ]
        else:
            yield _Line(op)
    yield _Line()  # } : types @location


def _read_header(graph: Graph, text: str, reading: Reading) -> None:
    entries, _ = _entries(text, _opening(text, 0))
    for value, entry in zip(graph.inputs, entries, strict=True):
        reading.names[value] = _first_name(entry)


def _read_op(op: Op, text: str, reading: Reading) -> None:
    match = _RESULTS.match(text)
    if match is not None:
        for value, name in zip(op.results, _ONE_NAME.findall(match[1]), strict=True):
            reading.names[value] = name
    start = match.end() if match else 0
    if op.is_constant:
        found = next((m for m in _EQUALS.finditer(text, start) if m[0] == " = "), None)
        reading.data[op] = text[found.end() :] if found else ""
        return
    reading.attributes[op] = []
    _, end = _entries(text, _opening(text, start))
    if not op.bodies and text.startswith(" {", end):
        entries, _ = _entries(text, end + 1)
        reading.attributes[op] = [_attribute(entry) for entry in entries]


def _first_name(entry: str) -> str:
    match = _ONE_NAME.match(entry)
    return match[0] if match else entry


def _attribute(entry: str) -> tuple[str, str]:
    match = _ATTRIBUTE.match(entry)
    return (match[1], entry[match.end() :]) if match else (entry, "")


def _opening(text: str, start: int) -> int:
    """Where the first parenthesis outside a string stands."""
    return next(m.start() for m in _PARENTHESIS.finditer(text, start) if m[0] == "(")


def _entries(text: str, start: int) -> tuple[list[str], int]:
    """What stands between the bracket at `start` and the one that closes it, split at commas; and where that ends."""
    entries: list[str] = []
    depth, begin = 0, start + 1
    for match in _TOKEN.finditer(text, start):
        token = match[0]
        if token in "([{<":
            depth += 1
        elif token in ")]}>":
            depth -= 1
            if depth == 0:
                last = text[begin : match.start()]
                return ([*entries, last] if entries or last else []), match.end()
        elif token == ", " and depth == 1:
            entries.append(text[begin : match.start()])
            begin = match.end()
    raise AssertionError(f"unbalanced brackets in the text form: {text[start : start + 80]}")

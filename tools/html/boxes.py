"""What stands inside each box, and so how large it is: a title and rows of small text in fonts of known width."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from irc.ir import Graph, Op, Type

from .geometry import Box
from .statistics import shortened

TITLE_HEIGHT, ROW_HEIGHT, PADDING = 22, 15, 5
TITLE_CHARACTER, ROW_CHARACTER = 7.6, 6.62
NARROWEST, LONGEST_TEXT, MOST_CONSTANTS = 64, 34, 4
BODY, RESULT = "▸", "→"


@dataclass(frozen=True, slots=True)
class Label:
    """The title of a box and the rows under it; a row is a name, which may be empty, and a text."""

    title: str
    rows: list[tuple[str, str]]

    @property
    def box(self) -> Box:
        """A box into which the label fits."""
        widths = [len(self.title) * TITLE_CHARACTER]
        widths += [(len(name) + bool(name) + len(text)) * ROW_CHARACTER for name, text in self.rows]
        height = TITLE_HEIGHT + (len(self.rows) * ROW_HEIGHT + PADDING if self.rows else 0)
        return Box(max(NARROWEST, round(max(widths)) + 18) // 2 * 2, height)


def op_label(op: Op, operand_names: list[str]) -> Label:
    """An op by its name, its bodies, its constant operands and the type of its first result.

    The rows for bodies come first: the page counts on it to tell which one was clicked.
    """
    constants: list[tuple[str, str]] = []
    for name, value in zip(operand_names, op.operands, strict=True):
        if value is not None and value.constant is not None:
            constants.append((name, shortened(value.constant) or _cut(str(value.type))))
    if len(constants) > MOST_CONSTANTS:
        constants[MOST_CONSTANTS - 1 :] = [("", f"and {len(constants) - MOST_CONSTANTS + 1} more constants")]
    rows = [(BODY, _cut(f"{name} ({_size(body)})")) for name, body in named_bodies(op)] + constants
    if op.results:
        more = f" and {len(op.results) - 1} more" if len(op.results) > 1 else ""
        rows.append((RESULT, _cut(str(op.results[0].type)) + more))
    return Label(_cut(op.qualified_name), rows)


def end_label(name: str, type: Type) -> Label:
    """An input, an output or a captured value by its name and type."""
    return Label(_cut(name), [("", _cut(str(type)))])


def named_bodies(op: Op) -> Iterator[tuple[str, Graph]]:
    """An op's bodies with the attributes that hold them; those of a list are numbered."""
    for name, value in op.attributes.items():
        if isinstance(value, Graph):
            yield name, value
        elif isinstance(value, tuple):
            yield from ((f"{name}[{i}]", item) for i, item in enumerate(value) if isinstance(item, Graph))


def _size(body: Graph) -> str:
    count = sum(not op.is_constant for op in body)
    return "1 op" if count == 1 else f"{count:,} ops"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"

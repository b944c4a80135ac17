"""Where an op came from: the model's own names or source lines, and the rewrites in between; no op is without one."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SOURCE = re.compile(r"(?:(?P<file>.+\.py|<.+>):(?P<line>\d+))?(?: ?\((?P<module>[^()]+)\))?(?: (?P<node>\w+))?")


@dataclass(frozen=True, slots=True, eq=False)
class Location:
    """Origins and rewrites of one op, kept as a tree so that a union costs the same however long the history is.

    `origin` is an ONNX node name, or the text of a `SourceOrigin` for a model from torch; `rewrite` is the pass or rule
    that made the op out of `parents`.
    """

    origin: str = ""
    rewrite: str = ""
    parents: tuple[Location, ...] = ()

    def flatten(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """All distinct origins and all distinct rewrites, each in order of first appearance."""
        origins: dict[str, None] = {}
        rewrites: dict[str, None] = {}
        seen: set[int] = set()
        pending: list[Location] = [self]
        while pending:
            location = pending.pop()
            if id(location) in seen:
                continue
            seen.add(id(location))
            if location.origin:
                origins.setdefault(location.origin)
            if location.rewrite:
                rewrites.setdefault(location.rewrite)
            pending.extend(reversed(location.parents))
        return tuple(origins), tuple(rewrites)

    @property
    def name(self) -> str:
        """The first origin: the short answer to "which op of my model is this?"."""
        location = self
        while not location.origin and location.parents:
            location = location.parents[0]
        return location.origin

    def __str__(self) -> str:
        origins, rewrites = self.flatten()
        shown = ", ".join(origins[:3]) + (f" and {len(origins) - 3} more" if len(origins) > 3 else "")
        return shown + (f" via {', '.join(rewrites)}" if rewrites else "")


def at(origin: str) -> Location:
    """The location of something that stands in the model under this name."""
    return Location(origin=origin)


def via(rewrite: str, *parents: Location) -> Location:
    """The location of what `rewrite` made out of ops at `parents`."""
    distinct = tuple(dict.fromkeys(parents))
    if len(distinct) == 1 and distinct[0].rewrite == rewrite:
        return distinct[0]
    return Location(rewrite=rewrite, parents=distinct)


@dataclass(frozen=True, slots=True)
class SourceOrigin:
    """Where an op stands in a program's source: `model.py:41 (stem.conv1) conv2d_3` is file, line, module and node.

    `file` is "" and `line` 0 where no line is known, `module` is "" for the outermost module, `node` is what the tracer
    called the op and "" where it did not. At least the line or the module is known.
    """

    file: str = ""
    line: int = 0
    module: str = ""
    node: str = ""

    @property
    def text(self) -> str:
        """The origin as a location holds it; `parse_origin` reads it back."""
        parts = (f"{self.file}:{self.line}" if self.file else "", f"({self.module})" if self.module else "", self.node)
        return " ".join(part for part in parts if part)


def parse_origin(text: str) -> SourceOrigin | None:
    """The source an origin tells, or None for the plain name of an ONNX node."""
    found = _SOURCE.fullmatch(text)
    if found is None or not (found["file"] or found["module"]):
        return None
    return SourceOrigin(found["file"] or "", int(found["line"] or 0), found["module"] or "", found["node"] or "")

"""Where an op came from: the model's own names or source lines, and the rewrites in between; no op is without one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Location:
    """Origins and rewrites of one op, kept as a tree so that a union costs the same however long the history is.

    `origin` is an ONNX node name, or `file.py:41 (module.path)` for a model from torch; `rewrite` is the pass or rule that
    made the op out of `parents`.
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

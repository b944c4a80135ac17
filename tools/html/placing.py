"""What a page says of where ops run: the engine and piece of each, and tables beside the drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from irc.ir import Op


@dataclass(frozen=True)
class Table:
    """A table of texts with a title; every row has a text for each column."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Placing:
    """The engine that runs each op, the name of the piece it is in, and tables; empty for a graph that is not placed."""

    engines: Mapping[Op, str] = field(default_factory=dict[Op, str])
    pieces: Mapping[Op, str] = field(default_factory=dict[Op, str])
    tables: Sequence[Table] = ()

    def names(self) -> list[str]:
        """The engines, in the order of the ops."""
        return list(dict.fromkeys(self.engines.values()))

"""The pieces of a layered drawing: what is to be placed, and where it lies in the end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle to be placed."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Net:
    """A value on its way from the box that makes it to boxes that use it; a source stands before its targets."""

    value: int
    source: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of an edge across the gap below one row; it starts at `top`, which may lie above that gap."""

    value: int
    start: int
    top: int
    end: int
    arrives: bool


@dataclass(frozen=True, slots=True)
class Line:
    """An edge too long to get lanes of its own, from the bottom of one box straight to the top of another."""

    value: int
    start: tuple[int, int]
    end: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies: of each box its row, left and top; of each row its top, bottom, and the gap below it."""

    rows: list[int]
    lefts: list[int]
    tops: list[int]
    row_tops: list[int]
    row_bottoms: list[int]
    gaps: list[list[Segment]]
    lines: list[Line]
    width: int
    height: int


@dataclass(slots=True)
class Mesh:
    """Boxes and, numbered after them, points of lanes; an edge joins two items of neighbouring rows.

    `down` holds (lower item, net) and `up` (upper item, net); `unrouted` holds the (net, target) that got no lane.
    """

    rows: list[int]
    down: list[list[tuple[int, int]]]
    up: list[list[tuple[int, int]]]
    unrouted: list[tuple[int, int]]

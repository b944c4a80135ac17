"""Straightens what should be straight: lanes, and chains of boxes that have only each other, as far as there is room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from .geometry import Mesh

Distance = Callable[[int, int], float]
"""How far the centres of two neighbours in a row must be apart."""


def straighten(rows: Sequence[Sequence[int]], mesh: Mesh, centers: list[float], count: int, distance: Distance) -> None:
    """Give the items of each strand one common centre wherever their neighbours leave room, longest strand first."""
    left: dict[int, int] = {}
    right: dict[int, int] = {}
    for row in rows:
        for first, second in pairwise(row):
            right[first], left[second] = second, first
    for strand in sorted(_strands(mesh, count), key=len, reverse=True):
        run: list[int] = []
        low, high = float("-inf"), float("inf")
        for item in strand:
            least = centers[left[item]] + distance(left[item], item) if item in left else float("-inf")
            most = centers[right[item]] - distance(item, right[item]) if item in right else float("inf")
            if run and max(low, least) > min(high, most):
                _align(run, low, high, centers)
                run, low, high = [], float("-inf"), float("inf")
            run.append(item)
            low, high = max(low, least), min(high, most)
        _align(run, low, high, centers)


def _align(run: list[int], low: float, high: float, centers: list[float]) -> None:
    middle = sorted(centers[item] for item in run)[len(run) // 2]
    for item in run:
        centers[item] = min(max(middle, low), high)


def _strands(mesh: Mesh, count: int) -> list[list[int]]:
    """Maximal paths downwards: along a lane, or between boxes that have no other neighbour in that direction."""
    below: dict[int, int] = {}
    for item in range(len(mesh.rows)):
        for lower, _ in mesh.down[item]:
            alone = len(mesh.down[item]) == 1 and len(mesh.up[lower]) == 1
            if alone or (item >= count and lower >= count):
                below[item] = lower
    starts = below.keys() - below.values()
    strands: list[list[int]] = []
    for start in sorted(starts):
        strand = [start]
        while strand[-1] in below:
            strand.append(below[strand[-1]])
        strands.append(strand)
    return strands

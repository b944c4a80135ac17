"""Where the items of ordered rows lie: near their neighbours, never overlapping, lanes nearly straight."""

from __future__ import annotations

from collections.abc import Sequence

from .geometry import Box, Layout, Line, Mesh, Net, Segment
from .strands import straighten

LANE = 2
SPACE = 22
MARGIN = 24
SHORTEST_GAP, LONGEST_GAP = 34, 130
STRAIGHT = 12.0
PORT_STEP = 16
MANY_ITEMS = 30_000


def place(boxes: Sequence[Box], nets: Sequence[Net], mesh: Mesh, rows: Sequence[Sequence[int]]) -> Layout:
    """Give ordered rows their coordinates."""
    count = len(boxes)
    widths = [box.width for box in boxes] + [LANE] * (len(mesh.rows) - count)
    centers = _centers(widths, mesh, rows, count)
    leftmost = min((c - w / 2 for c, w in zip(centers, widths, strict=True)), default=0.0)
    middles = [round(center - leftmost) + MARGIN for center in centers]
    lefts = [middles[box] - boxes[box].width // 2 for box in range(count)]

    tops = [0] * count
    row_tops: list[int] = []
    row_bottoms: list[int] = []
    y = MARGIN
    for row in rows:
        height = max((boxes[item].height for item in row if item < count), default=0)
        for item in row:
            if item < count:
                tops[item] = y
        row_tops.append(y)
        row_bottoms.append(y + height)
        y += height + _gap(row, mesh, middles)
    starts, ends = _ports(boxes, mesh, middles)
    gaps: list[list[Segment]] = []
    for index, row in enumerate(rows):
        segments: list[Segment] = []
        for item in row:
            top = tops[item] + boxes[item].height if item < count else row_tops[index]
            for lower, number in mesh.down[item]:
                start = starts.get((item, number), middles[item])
                end = ends.get((lower, number), middles[lower])
                segments.append(Segment(nets[number].value, start, top, end, lower < count))
        gaps.append(segments)
    lines = [
        Line(nets[n].value, (middles[s], tops[s] + boxes[s].height), (middles[target], tops[target]))
        for n, target in mesh.unrouted
        for s in (nets[n].source,)
    ]
    width = max((m + w // 2 for m, w in zip(middles, widths, strict=True)), default=0) + MARGIN
    height = (row_bottoms[-1] if row_bottoms else 0) + MARGIN
    return Layout(mesh.rows[:count], lefts, tops, row_tops, row_bottoms, gaps, lines, width, height)


def _centers(widths: Sequence[int], mesh: Mesh, rows: Sequence[Sequence[int]], count: int) -> list[float]:
    centers = [0.0] * len(widths)
    for row in rows:
        x = -sum(widths[item] + SPACE for item in row) / 2
        for item in row:
            centers[item] = x + widths[item] / 2
            x += widths[item] + SPACE
    for _ in range(10 if len(widths) < MANY_ITEMS else 4):
        for row in rows:
            _settle(row, mesh.up, mesh.up, widths, centers, count)
        for row in reversed(rows):
            _settle(row, mesh.down, mesh.down, widths, centers, count)
    for row in rows:
        _settle(row, mesh.up, mesh.down, widths, centers, count)
    straighten(rows, mesh, centers, count, lambda first, second: _distance(widths, count, first, second))
    return centers


def _distance(widths: Sequence[int], count: int, first: int, second: int) -> float:
    """How far the centres of neighbours must be apart; lanes may lie closer to each other than boxes."""
    between = SPACE if first < count or second < count else SPACE // 2
    return (widths[first] + widths[second]) / 2 + between


def _settle(
    row: Sequence[int],
    first: list[list[tuple[int, int]]],
    second: list[list[tuple[int, int]]],
    widths: Sequence[int],
    centers: list[float],
    count: int,
) -> None:
    """Move a row's items as near as they get to the mean of their neighbours, keeping order and distance.

    Least squares under `next - previous >= distance`: after subtracting the distances it is isotonic regression, which
    pooling adjacent violators solves in one pass.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, length
    offsets: list[float] = []
    offset = 0.0
    previous = -1
    for item in row:
        if previous >= 0:
            offset += _distance(widths, count, previous, item)
        previous = item
        offsets.append(offset)
        wish, weight = _wish(item, first[item], centers, count)
        if first is not second:
            other_wish, other_weight = _wish(item, second[item], centers, count)
            wish = (wish * weight + other_wish * other_weight) / (weight + other_weight)
            weight += other_weight
        mean, length = wish - offset, 1
        while pools and pools[-1][0] > mean:
            other_mean, other_weight, other_length = pools.pop()
            mean = (mean * weight + other_mean * other_weight) / (weight + other_weight)
            weight += other_weight
            length += other_length
        pools.append((mean, weight, length))
    index = 0
    for mean, _, length in pools:
        for _ in range(length):
            centers[row[index]] = mean + offsets[index]
            index += 1


def _wish(item: int, near: list[tuple[int, int]], centers: list[float], count: int) -> tuple[float, float]:
    """Where an item would like to be and how much; a lane that goes on as a lane wants to be straight above all."""
    if not near:
        return centers[item], 0.01
    total = weight = 0.0
    for other, _ in near:
        each = STRAIGHT if item >= count and other >= count else 1.0
        total += centers[other] * each
        weight += each
    return total / weight, weight


def _gap(row: Sequence[int], mesh: Mesh, middles: Sequence[int]) -> int:
    """The height below a row: more where an edge has far to go sideways, so that it does not run flat."""
    widest = max((abs(middles[item] - middles[lower]) for item in row for lower, _ in mesh.down[item]), default=0)
    return min(SHORTEST_GAP + widest // 12, LONGEST_GAP)


Ports = dict[tuple[int, int], int]


def _ports(boxes: Sequence[Box], mesh: Mesh, middles: Sequence[int]) -> tuple[Ports, Ports]:
    """Where each net leaves and enters each box: spread along its edge in the order of the far ends."""
    starts: Ports = {}
    ends: Ports = {}
    for box in range(len(boxes)):
        for near, ports in ((mesh.down[box], starts), (mesh.up[box], ends)):
            far: dict[int, list[int]] = {}
            for other, number in near:
                far.setdefault(number, []).append(middles[other])
            if len(far) < 2:
                continue
            ranked = sorted(far, key=lambda number, far=far: (sum(far[number]) / len(far[number]), number))
            step = min(PORT_STEP, (boxes[box].width - 16) / (len(ranked) - 1))
            for rank, number in enumerate(ranked):
                ports[box, number] = middles[box] + round((rank - (len(ranked) - 1) / 2) * step)
    return starts, ends

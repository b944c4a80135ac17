"""A layered drawing: boxes in rows from what is made first to what is made last, every edge leading downwards.

Longest-path layers, lanes for values that pass layers by, rows ordered by barycentres. All steps are iterative and
linear in the boxes, edges and lanes, up to the sorting of rows; the number of lanes is bounded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from .coordinates import place
from .geometry import Box, Layout, Mesh, Net

SMALL, MEDIUM = 4_000, 40_000
LANES_PER_BOX, SPARE_LANES = 4, 4_000


def lay_out(boxes: Sequence[Box], nets: Sequence[Net], anchors: Collection[int] = ()) -> Layout:
    """Place boxes, which come in an order where a net's source stands before its targets.

    `anchors` are where a reader starts. What none of them reaches is placed as low as its users allow.
    """
    rows = layers(len(boxes), nets, anchors)
    mesh = route(rows, nets)
    return place(boxes, nets, mesh, order(mesh))


def layers(count: int, nets: Sequence[Net], anchors: Collection[int] = ()) -> list[int]:
    """The row of each box: as high as its operands allow, or lower where that makes no edge longer."""
    into = [0] * count
    leaving: list[list[Net]] = [[] for _ in range(count)]
    for net in nets:
        leaving[net.source].append(net)
        for target in net.targets:
            into[target] += 1
    rows = [0] * count
    reached = [box in anchors for box in range(count)]
    for box in range(count):
        for net in leaving[box]:
            for target in net.targets:
                rows[target] = max(rows[target], rows[box] + 1)
                reached[target] |= reached[box]
    # What hangs from one thread is let down to where it is needed, so that side branches lie beside their users.
    for box in reversed(range(count)):
        if leaving[box] and (into[box] <= len(leaving[box]) or not reached[box]):
            rows[box] = min(rows[target] for net in leaving[box] for target in net.targets) - 1
    used = sorted(set(rows))
    dense = dict(zip(used, range(len(used)), strict=True))
    return [dense[row] for row in rows]


def route(rows: Sequence[int], nets: Sequence[Net]) -> Mesh:
    """Give each net one lane through the rows it passes, the short nets first as far as the budget reaches."""
    mesh = Mesh(list(rows), [[] for _ in rows], [[] for _ in rows], [])
    budget = LANES_PER_BOX * len(rows) + SPARE_LANES

    def join(upper: int, lower: int, number: int) -> None:
        mesh.down[upper].append((lower, number))
        mesh.up[lower].append((upper, number))

    def lane(row: int) -> int:
        mesh.rows.append(row)
        mesh.down.append([])
        mesh.up.append([])
        return len(mesh.rows) - 1

    spans = [max((rows[t] for t in net.targets), default=rows[net.source]) - rows[net.source] for net in nets]
    for number in sorted(range(len(nets)), key=lambda each: spans[each]):
        net, top = nets[number], rows[nets[number].source]
        affordable = spans[number] - 1 <= budget
        last = top + spans[number] - 1 if affordable else top
        budget -= max(last - top, 0)
        points = [net.source]
        for row in range(top + 1, last + 1):
            points.append(lane(row))
            join(points[-2], points[-1], number)
        for target in net.targets:
            if rows[target] - top <= len(points):
                join(points[rows[target] - top - 1], target, number)
            else:
                mesh.unrouted.append((number, target))
    return mesh


def order(mesh: Mesh) -> list[list[int]]:
    """The items of each row from left to right, with few crossings."""
    rows = _first_order(mesh)
    count = len(mesh.rows)
    sweeps = 12 if count < SMALL else 5 if count < MEDIUM else 2
    positions = [0.0] * count
    for row in rows:
        _number(row, positions)
    best, fewest = [list(row) for row in rows], _crossings(rows, mesh, positions)
    for _ in range(sweeps):
        for row in rows:
            _sort(row, mesh.up, positions)
        for row in reversed(rows):
            _sort(row, mesh.down, positions)
        crossings = _crossings(rows, mesh, positions)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    return best


def _first_order(mesh: Mesh) -> list[list[int]]:
    """Rows in the order of a walk in depth from the top, which keeps what belongs together side by side."""
    count = len(mesh.rows)
    rows: list[list[int]] = [[] for _ in range(max(mesh.rows, default=-1) + 1)]
    seen = bytearray(count)
    for root in range(count):
        if mesh.up[root] or seen[root]:
            continue
        pending = [root]
        while pending:
            item = pending.pop()
            if seen[item]:
                continue
            seen[item] = 1
            rows[mesh.rows[item]].append(item)
            pending.extend(lower for lower, _ in reversed(mesh.down[item]) if not seen[lower])
    return rows


def _number(row: list[int], positions: list[float]) -> None:
    for position, item in enumerate(row):
        positions[item] = float(position)


def _sort(row: list[int], neighbours: list[list[tuple[int, int]]], positions: list[float]) -> None:
    keys: dict[int, float] = {}
    for item in row:
        near = neighbours[item]
        keys[item] = sum(positions[other] for other, _ in near) / len(near) if near else positions[item]
    row.sort(key=keys.__getitem__)
    _number(row, positions)


def _crossings(rows: list[list[int]], mesh: Mesh, positions: list[float]) -> int:
    """How many pairs of edges cross, counted gap by gap with a Fenwick tree."""
    total = 0
    for upper, lower in pairwise(rows):
        tree = [0] * (len(lower) + 1)
        passed = 0
        for item in upper:
            ends = sorted(int(positions[other]) for other, _ in mesh.down[item])
            for end in ends:
                index, before = end + 1, 0
                while index:
                    before += tree[index]
                    index &= index - 1
                total += passed - before
            for end in ends:
                index = end + 1
                while index <= len(lower):
                    tree[index] += 1
                    index += index & -index
            passed += len(ends)
    return total

"""The cheapest cut of a small network, by Dinic's method (E. A. Dinic, 1970): shortest paths first, a level at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field


@dataclass
class Network:
    """Nodes are numbered from 0, the source, and 1, the sink; an edge may be cut at its cost."""

    edges_of: list[list[int]] = field(default_factory=lambda: [[], []])
    heads: list[int] = field(default_factory=list[int])
    room: list[int] = field(default_factory=list[int])
    numbers: dict[Hashable, int] = field(default_factory=dict[Hashable, int])

    def node(self, key: Hashable) -> int:
        """The number of the node called `key`, which is made when it is new."""
        if key not in self.numbers:
            self.numbers[key] = self.fresh()
        return self.numbers[key]

    def fresh(self) -> int:
        """The number of a new node."""
        self.edges_of.append([])
        return len(self.edges_of) - 1

    def edge(self, tail: int, head: int, cost: int) -> None:
        """An edge that costs something to cut when `tail` is on the source's side and `head` on the sink's."""
        self.edges_of[tail].append(len(self.heads))
        self.heads.append(head)
        self.room.append(cost)
        self.edges_of[head].append(len(self.heads))
        self.heads.append(tail)
        self.room.append(0)

    def source_side(self) -> set[int]:
        """The nodes on the source's side of the cheapest cut, as few as possible."""
        while True:
            levels = self._levels()
            if levels[1] < 0:
                return {node for node, level in enumerate(levels) if level >= 0}
            nexts = [0] * len(self.edges_of)
            while self._push(levels, nexts):
                pass

    def _levels(self) -> list[int]:
        levels = [-1] * len(self.edges_of)
        levels[0] = 0
        pending = deque([0])
        while pending:
            node = pending.popleft()
            for edge in self.edges_of[node]:
                head = self.heads[edge]
                if self.room[edge] and levels[head] < 0:
                    levels[head] = levels[node] + 1
                    pending.append(head)
        return levels

    def _push(self, levels: list[int], nexts: list[int]) -> bool:
        """Fill one path from source to sink; whether there was one."""
        path: list[int] = []
        node = 0
        while node != 1:
            edges = self.edges_of[node]
            while nexts[node] < len(edges):
                edge = edges[nexts[node]]
                if self.room[edge] and levels[self.heads[edge]] == levels[node] + 1:
                    break
                nexts[node] += 1
            if nexts[node] < len(edges):
                path.append(edges[nexts[node]])
                node = self.heads[path[-1]]
            elif not path:
                return False
            else:
                node = self.heads[path.pop() ^ 1]
                nexts[node] += 1
        least = min(self.room[edge] for edge in path)
        for edge in path:
            self.room[edge] -= least
            self.room[edge ^ 1] += least
        return True

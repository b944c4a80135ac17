"""One arena for all buffers of a program: each has its place in it for as long as it is needed.

Law: buffers that are needed at the same time do not overlap. The arena is never smaller than the largest live set, the bytes
needed at one time; equal spans in the same order get equal places.

Method: greedy by size (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020): one after the
other, each in the first or the smallest gap that holds it, in several orders: the largest first, those of the fullest steps
first, and others. Then always the one that can begin lowest. The best is kept; where it takes more than the largest live set,
a local search goes on from the best few: what lies at the top is placed earlier, or what is in its way elsewhere.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

ALIGNMENT = 64
"""Bytes at a multiple of which every buffer begins: a cache line, and a vector of AVX-512."""

STARTS = 6
MOST_TRIALS = 1_000
MOST_PLACED = 60_000
"""Of the local search: the placings it goes on from, the orders it tries, and how many buffers it places in all of them."""
NEAR, MORE = 1.05, 8
"""Where more than so many times the largest live set is needed, so many times as much is tried, until it is less."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Span:
    """How long something is needed, from the `first` step to the `last`, and its bytes."""

    first: int
    last: int
    byte_count: int

    def meets(self, other: Span) -> bool:
        """Whether both are needed at some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Arena(Generic[Key]):
    """Where everything begins, in bytes, how many bytes that takes, and the bytes of the largest live set."""

    offsets: Mapping[Key, int]
    byte_count: int
    largest_live_set: int


def arena_of(spans: Mapping[Key, Span]) -> Arena[Key]:
    """A place for each of `spans`."""
    if not spans:
        return Arena({}, 0, 0)
    problem = _Problem([Span(each.first, each.last, _aligned(each.byte_count)) for each in spans.values()])
    best = _best(problem.placings(1), problem.peak)
    if best.byte_count > NEAR * problem.peak:
        best = min(best, _best(problem.placings(MORE), NEAR * problem.peak), key=lambda each: each.byte_count)
    return Arena(dict(zip(spans, best.offsets, strict=True)), best.byte_count, problem.peak)


def _best(placings: Iterator[_Placing], enough: float) -> _Placing:
    """The smallest of them, or the first that is small enough."""
    best = next(placings)
    for placing in placings:
        if best.byte_count <= enough:
            break
        best = placing if placing.byte_count < best.byte_count else best
    return best


def largest_live_set(spans: Mapping[Key, Span]) -> int:
    """The most bytes that are needed at one step."""
    return max(_loads(list(spans.values())), default=0)


@dataclass(frozen=True, slots=True)
class _Placing:
    """Where each begins if they are placed in this order, in the first gap or in the smallest; and where the last one ends."""

    order: Sequence[int]
    first_gap: bool
    offsets: Sequence[int]
    byte_count: int


class _Problem:
    """Spans by number, those that each of them meets, and the bytes of the largest live set."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.sizes = [span.byte_count for span in spans]
        self.met = _met(spans)
        self.loads = _loads(spans)
        self.peak = max(self.loads)

    def placings(self, effort: int) -> Iterator[_Placing]:
        """One after the other, those that cost least first; later ones go on from the best so far, `effort` times as long."""
        found: list[_Placing] = []
        orders = self._orders()
        for order in orders:
            for first_gap in (False, True):
                found.append(self._placed(order, first_gap))
                yield found[-1]
        for order in orders:
            found.append(self._lowest(order))
            yield found[-1]
        trials = effort * min(MOST_TRIALS, MOST_PLACED // len(self.spans)) // STARTS
        chance = random.Random(0)
        for start in sorted(found, key=lambda each: each.byte_count)[:STARTS]:
            yield from self._search(start, trials, chance)

    def _orders(self) -> list[list[int]]:
        """Orders to place in, the larger or the longer or what is needed in fuller steps first."""
        spans, sizes = self.spans, self.sizes
        lengths = [span.last - span.first + 1 for span in spans]
        begins = [span.first for span in spans]
        loads = [max(self.loads[span.first : span.last + 1]) for span in spans]
        ranks = (
            [(-size, begin) for size, begin in zip(sizes, begins, strict=True)],
            [(-load, -size) for load, size in zip(loads, sizes, strict=True)],
            [(-load, -length, -size) for load, length, size in zip(loads, lengths, sizes, strict=True)],
            [(-size * length, begin) for size, length, begin in zip(sizes, lengths, begins, strict=True)],
            [(-length, -size) for length, size in zip(lengths, sizes, strict=True)],
            [(begin, -size) for begin, size in zip(begins, sizes, strict=True)],
        )
        return [sorted(range(len(spans)), key=rank.__getitem__) for rank in ranks]

    def _placed(self, order: Sequence[int], first_gap: bool) -> _Placing:
        """Each in a gap that holds it between those placed already that it meets, else above them."""
        offsets = [-1] * len(self.spans)
        for own in order:
            size = self.sizes[own]
            best, least, end = -1, -1, 0
            for begin, other in sorted((offsets[each], self.sizes[each]) for each in self.met[own] if offsets[each] >= 0):
                gap = begin - end
                if gap >= size and (least < 0 or gap < least):
                    best, least = end, gap
                    if first_gap:
                        break
                end = max(end, begin + other)
            offsets[own] = end if best < 0 else best
        return self._placing(order, first_gap, offsets)

    def _lowest(self, order: Sequence[int]) -> _Placing:
        """Always the one that can begin lowest above those placed already, of several the first in `order`."""
        ranks = [0] * len(order)
        for rank, own in enumerate(order):
            ranks[own] = rank
        floors, offsets = [0] * len(order), [-1] * len(order)
        waiting = [(0, rank, own) for rank, own in enumerate(order)]
        while waiting:
            floor, _, own = heapq.heappop(waiting)
            if offsets[own] >= 0 or floor < floors[own]:
                continue
            offsets[own], end = floor, floor + self.sizes[own]
            for other in self.met[own]:
                if offsets[other] < 0 and floors[other] < end:
                    floors[other] = end
                    heapq.heappush(waiting, (end, ranks[other], other))
        return self._placing(sorted(order, key=offsets.__getitem__), True, offsets)

    def _search(self, placing: _Placing, trials: int, chance: random.Random) -> Iterator[_Placing]:
        """One of those at the top is placed earlier, or one it meets elsewhere; what is no worse is gone on from."""
        for _ in range(trials):
            order = list(placing.order)
            ends = [placing.offsets[own] + self.sizes[own] for own in order]
            index = chance.choice([i for i, end in enumerate(ends) if end == placing.byte_count])
            met = self.met[order[index]]
            if met and chance.random() < 0.5:
                order.remove(own := chance.choice(met))
                order.insert(chance.randrange(len(order) + 1), own)
            else:
                order.insert(chance.randrange(index + 1), order.pop(index))
            other = self._placed(order, placing.first_gap != (chance.random() < 0.1))
            placing = other if other.byte_count <= placing.byte_count else placing
            yield placing

    def _placing(self, order: Sequence[int], first_gap: bool, offsets: Sequence[int]) -> _Placing:
        ends = (offset + size for offset, size in zip(offsets, self.sizes, strict=True))
        return _Placing(order, first_gap, offsets, max(ends))


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _loads(spans: Sequence[Span]) -> list[int]:
    """The bytes that are needed at each step."""
    changes = [0] * (max((span.last for span in spans), default=-1) + 2)
    for span in spans:
        changes[span.first] += span.byte_count
        changes[span.last + 1] -= span.byte_count
    return list(accumulate(changes))


def _met(spans: Sequence[Span]) -> list[list[int]]:
    """The numbers of the spans that each span meets: of two that meet, the later begins while the earlier is needed."""
    met: list[list[int]] = [[] for _ in spans]
    alive: list[int] = []
    for own in sorted(range(len(spans)), key=lambda number: spans[number].first):
        alive = [other for other in alive if spans[other].last >= spans[own].first]
        for other in alive:
            met[other].append(own)
            met[own].append(other)
        alive.append(own)
    return met

"""The order of calls: where a graph leaves a choice, the one with which fewer bytes are needed at one time.

Law: a call stays behind all that fill what it reads, and calls that fill one buffer stay in their order. The order is only
changed where that makes the largest live set smaller: in the order given, what was made last is still in the caches.

Method: a list scheduler (Coffman and Graham's, with bytes for priorities): of the calls whose operands are there, always the
one after which the least is alive.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence

from .memory import Span, largest_live_set
from .places import Buffer, Call, Storage, lifetimes

MOST_COMPARED = 32
"""Calls that are compared at a time, those that come first in the order given; so the work is proportional to the calls."""


def in_low_order(calls: Sequence[Call]) -> list[Call]:
    """The calls in the order given, or in a better one."""
    other = _scheduled(calls)
    return other if live_bytes(other) < live_bytes(calls) else list(calls)


def live_bytes(calls: Sequence[Call]) -> int:
    """The bytes of the largest live set of calls in this order."""
    return largest_live_set({buffer: Span(*span, buffer.byte_count) for buffer, span in lifetimes(calls).items()})


def _scheduled(calls: Sequence[Call]) -> list[Call]:
    groups = _groups(calls)
    touched = [list(dict.fromkeys(b for c in group for b in c.buffers if b.storage is Storage.ARENA)) for group in groups]
    waits_for, followers = _dependencies(groups)
    uses = Counter(buffer for buffers in touched for buffer in buffers)
    alive: set[Buffer] = set()

    def growth(number: int) -> tuple[int, int]:
        """The bytes by which more is alive after a group; of several the first in the order given."""
        made = sum(buffer.byte_count for buffer in touched[number] if buffer not in alive)
        return made - sum(buffer.byte_count for buffer in touched[number] if uses[buffer] == 1), number

    ready = sorted(number for number, count in enumerate(waits_for) if not count)
    order: list[Call] = []
    while ready:
        number = min(ready[:MOST_COMPARED], key=growth)
        ready.remove(number)
        order += groups[number]
        alive.update(touched[number])
        uses.subtract(touched[number])
        for follower in followers[number]:
            waits_for[follower] -= 1
            if not waits_for[follower]:
                bisect.insort(ready, follower)
    assert len(order) == len(calls), "every buffer is filled before it is read"
    return order


def _groups(calls: Sequence[Call]) -> list[tuple[Call, ...]]:
    """The calls one by one, but one that reads nothing, as those that zero borders, with the next that touches its buffer."""
    held: dict[Buffer, tuple[Call, ...]] = {}
    groups: list[tuple[Call, ...]] = []
    for call in calls:
        group = (*(each for buffer in dict.fromkeys(call.buffers) for each in held.pop(buffer, ())), call)
        if len(call.buffers) == 1:
            held[call.result] = group
        else:
            groups.append(group)
    return [*groups, *held.values()]


def _dependencies(groups: Sequence[tuple[Call, ...]]) -> tuple[list[int], list[list[int]]]:
    """How many groups each group waits for, and those that wait for it, by number."""
    last: dict[Buffer, int] = {}
    before: list[set[int]] = []
    for number, group in enumerate(groups):
        before.append({last[buffer] for call in group for buffer in call.buffers if buffer in last})
        last.update((buffer, number) for call in group for buffer in call.written)
    followers: list[list[int]] = [[] for _ in groups]
    for number, found in enumerate(before):
        for each in found:
            followers[each].append(number)
    return [len(found) for found in before], followers

"""Slots: the elements along the axes of values, numbered, and which of them can only be taken away together.

A slot is one index of one axis of one value. Law: when a whole class of tied slots is taken away, every op still fits its
operands, and what is left is computed as before, but for what it took from the slots that are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irc.ir import Op, Value

Indices = NDArray[np.int64]
Place = tuple[Value, int]
"""A value and one of its axes, counted from 0."""

LARGEST = 1 << 18
"""Longer axes are samples of a sound or words of a language, and would only cost time."""
NONE: Indices = np.empty(0, np.int64)


class Slots:
    """All slots seen so far, their ties, and which must stay; places are numbered in the order they are first asked for."""

    def __init__(self) -> None:
        self.places: list[Place] = []
        self.starts: list[int] = []
        self.count = 0
        self._numbers: dict[Place, int] = {}
        self._left: list[Indices] = []
        self._right: list[Indices] = []
        self._kept: list[Indices] = []
        self._keepers: list[Op | None] = []

    def of(self, value: Value, axis: int) -> Indices:
        """The slots of an axis; none where its size is not known, or 1, which nothing can be taken from, or too large."""
        size = value.shape[axis] if value.shape is not None else None
        if not isinstance(size, int) or not 1 < size <= LARGEST:
            return NONE
        number = self._numbers.get((value, axis))
        if number is None:
            number = self._numbers[value, axis] = len(self.places)
            self.places.append((value, axis))
            self.starts.append(self.count)
            self.count += size
        return np.arange(self.starts[number], self.starts[number] + size)

    def tie(self, first: Indices, second: Indices) -> None:
        """Each slot of the one goes with the slot of the other at the same position."""
        self._left.append(first)
        self._right.append(second)

    def keep(self, slots: Indices, keeper: Op | None = None) -> None:
        """These stay, and whatever is tied to them, because of an op, or else of the signature."""
        if slots.size:
            self._kept.append(slots)
            self._keepers.append(keeper)

    def keep_value(self, value: Value) -> None:
        """Nothing of this value is taken away."""
        for axis in range(len(value.shape or ())):
            self.keep(self.of(value, axis))

    def classes(self) -> tuple[Indices, NDArray[np.bool_]]:
        """For each slot the smallest slot tied to it, and whether it must stay."""
        labels = components(self.count, _joined(self._left), _joined(self._right))
        stays = np.zeros(self.count, np.bool_)
        stays[labels[_joined(self._kept)]] = True
        return labels, stays[labels]

    def keepers(self, labels: Indices) -> dict[int, Op | None]:
        """Of each class that must stay the first op that wants it to, None where it is the signature."""
        found: dict[int, Op | None] = {}
        for slots, keeper in zip(self._kept, self._keepers, strict=True):
            for label in np.unique(labels[slots]).tolist():
                found.setdefault(label, keeper)
        return found


def _joined(parts: Sequence[Indices]) -> Indices:
    return np.concatenate(parts) if parts else NONE


def components(count: int, first: Indices, second: Indices) -> Indices:
    """The connected components of a graph of `count` nodes: for each node the smallest node of its own.

    Each round hangs the larger root of every edge on the smaller and shortens all paths, so few rounds are needed.
    """
    labels = np.arange(count)
    while first.size:
        a, b = labels[first], labels[second]
        apart = a != b
        first, second, a, b = first[apart], second[apart], a[apart], b[apart]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while True:
            shorter = labels[labels]
            if np.array_equal(shorter, labels):
                break
            labels = shorter
    return labels


@dataclass
class Ties:
    """What one op says of the slots of its operands and results; an axis it says nothing of must stay whole."""

    slots: Slots
    op: Op
    told: set[Place]

    def same(self, first: Place | None, second: Place | None) -> None:
        """Index by index; where the sizes differ or one is not known, both stay."""
        if first is None or second is None:
            return
        a, b = self.slots.of(*first), self.slots.of(*second)
        self.told.update((first, second))
        if a.size == b.size:
            self.slots.tie(a, b)
        else:
            self.slots.keep(a, self.op)
            self.slots.keep(b, self.op)

    def pick(self, whole: Place, chosen: Indices, part: Place) -> None:
        """Index i of `part` goes with index `chosen[i]` of `whole`."""
        a, b = self.slots.of(*whole), self.slots.of(*part)
        self.told.update((whole, part))
        if a.size and b.size == chosen.size:
            self.slots.tie(a[chosen], b)
        else:  # a part of one element has no slots, so what it is taken from stays
            self.slots.keep(a[chosen] if a.size else a, self.op)
            self.slots.keep(b, self.op)

    def blocks(self, *places: Place | None, count: int) -> None:
        """Each axis consists of `count` blocks; block i of one goes as a whole with block i of all others."""
        found = [self.slots.of(*place) for place in places if place is not None]
        self.told.update(place for place in places if place is not None)
        if any(not slots.size or slots.size % count for slots in found) or count < 2:
            for slots in found:
                self.slots.keep(slots, self.op)
            return
        first = found[0].reshape(count, -1)[:, 0]
        for slots in found:
            self.slots.tie(np.repeat(first, slots.size // count), slots)

    def free(self, *places: Place) -> None:
        """Anything may be taken from these, as far as this op is concerned."""
        self.told.update(places)

    def keep(self, *places: Place) -> None:
        """These stay whole."""
        for place in places:
            self.told.add(place)
            self.slots.keep(self.slots.of(*place), self.op)

    def keep_untold(self, values: Iterable[Value]) -> None:
        """What the op's row said nothing of stays whole."""
        for value in values:
            for axis in range(len(value.shape or ())):
                if (value, axis) not in self.told:
                    self.slots.keep(self.slots.of(value, axis), self.op)

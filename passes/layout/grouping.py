"""How a Reshape and a permutation change places: dims that a Reshape joins or splits together move as a block."""

from __future__ import annotations

from collections.abc import Sequence

from irc.ir import Dim

from ..permutations import Permutation

Group = tuple[list[int], list[int]]


def groups_of(before: Sequence[Dim], after: Sequence[Dim]) -> list[Group] | None:
    """The smallest blocks of neighbouring dims that a Reshape turns into each other, in order; None where that is not known.

    Dims of size 1 of either side that no block needs are blocks of their own, with nothing on the other side.
    """
    groups: list[Group] = []
    i = j = 0
    while i < len(before) or j < len(after):
        if i < len(before) and j < len(after) and before[i] is not None and before[i] == after[j]:
            groups.append(([i], [j]))
            i, j = i + 1, j + 1
        elif i < len(before) and before[i] == 1:
            groups.append(([i], []))
            i += 1
        elif j < len(after) and after[j] == 1:
            groups.append(([], [j]))
            j += 1
        else:
            group = _group(before, after, i, j)
            if group is None:
                return None
            groups.append(group)
            i, j = group[0][-1] + 1, group[1][-1] + 1
    return groups


def _group(before: Sequence[Dim], after: Sequence[Dim], i: int, j: int) -> Group | None:
    """The block that starts at these dims: both sides grow until their sizes agree."""
    left: list[int] = []
    right: list[int] = []
    have, want = 1, 1
    while not left or not right or have != want:
        side, dims, start = (left, before, i) if not left or (right and have < want) else (right, after, j)
        index = start + len(side)
        size = dims[index] if index < len(dims) else None
        if not isinstance(size, int) or size == 0:
            return None
        side.append(index)
        if side is left:
            have *= size
        else:
            want *= size
    return left, right


def flip_of_groups(given: Sequence[Dim], other: Sequence[Dim], permutation: Permutation) -> Permutation | None:
    """The permutation of one side of a Reshape that goes with a permutation of the other, or None if it tears a block apart.

    Dims of size 1 on the other side that no block holds stay with the block in front of them.
    """
    groups = groups_of(given, other)
    if groups is None:
        return None
    home = {i: number for number, (inside, _) in enumerate(groups) for i in inside}
    order: list[int] = []
    seen: list[int] = []
    for axis in permutation:
        number = home[axis]
        if number not in order:
            order.append(number)
        seen.append(axis)
    for number in order:
        inside = groups[number][0]
        places = [seen.index(axis) for axis in inside]
        if places != list(range(places[0], places[0] + len(places))):
            return None
    # Blocks with nothing on the given side follow the one in front of them.
    loose: dict[int, list[int]] = {}
    front = -1
    for number, (inside, outside) in enumerate(groups):
        if inside:
            front = number
        else:
            loose.setdefault(front, []).extend(outside)
    result = list(loose.get(-1, []))
    for number in order:
        result += [*groups[number][1], *loose.get(number, [])]
    return tuple(result)

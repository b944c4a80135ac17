"""Permutations of dims, as Transpose has them: dim i of the result is dim p[i] of the operand."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeAlias, TypeVar

from irc.ir import Dim, Op

Permutation: TypeAlias = "tuple[int, ...]"
T = TypeVar("T")


def permutation_of(transpose: Op) -> Permutation | None:
    """The permutation of a Transpose, also where it is left to reverse the dims, or None when the rank is unknown."""
    written = transpose.integers("perm")
    if written is not None:
        return written
    shape = transpose.needed(0).shape
    return None if shape is None else tuple(reversed(range(len(shape))))


def is_identity(permutation: Permutation) -> bool:
    """Whether nothing moves."""
    return permutation == tuple(range(len(permutation)))


def inverse(permutation: Permutation) -> Permutation:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def compose(outer: Permutation, inner: Permutation) -> Permutation:
    """The permutation of Transpose(Transpose(x, inner), outer)."""
    return tuple(inner[i] for i in outer)


def permuted(items: Sequence[T], permutation: Permutation) -> list[T]:
    """What is listed by dim, in the order the dims have afterwards."""
    return [items[i] for i in permutation]


def without(permutation: Permutation, gone: Collection[int]) -> Permutation:
    """The permutation of the dims that stay when those in `gone` are taken away before."""
    kept = [i for i in range(len(permutation)) if i not in gone]
    return tuple(kept.index(i) for i in permutation if i not in gone)


def extended(permutation: Permutation, added: Collection[int]) -> Permutation:
    """The permutation of more dims: those in `added` (as counted among all) stay at their places, the others move."""
    rank = len(permutation) + len(added)
    kept = [i for i in range(rank) if i not in added]
    order = [kept[i] for i in permutation]
    for axis in sorted(added):
        order.insert(axis, axis)
    return tuple(order)


def swaps_last(permutation: Permutation) -> bool:
    """Whether it swaps the last two dims and leaves the others."""
    count = len(permutation)
    return count >= 2 and permutation == (*range(count - 2), count - 1, count - 2)


def moves_elements(permutation: Permutation, shape: Sequence[Dim]) -> bool:
    """Whether a value of this shape is rearranged in memory; moving dims of size 1 is only another shape."""
    moved = [i for i in permutation if shape[i] != 1]
    return moved != sorted(moved)

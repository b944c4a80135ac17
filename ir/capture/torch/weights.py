"""Weights of a compiled graph of torch.compile: which they were, and whether they still are what they were.

Law: a change that PyTorch counts is noticed at the next call. Writing through `.data` or NumPy is not counted.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter, is_, itemgetter
from typing import Any

import torch

_version, _address = attrgetter("_version"), torch.Tensor.data_ptr


class Snapshot:
    """The weights a program was compiled with, and how they were then: told apart by identity, memory and version.

    Looking takes about a quarter of a microsecond for each.
    """

    def __init__(self, weights: tuple[torch.Tensor, ...]) -> None:
        self._weights = weights
        self._versions = tuple(map(_version, weights))
        self._addresses = tuple(map(_address, weights))

    def has(self, weights: tuple[Any, ...]) -> bool:
        """Whether these are the same tensors."""
        return all(map(is_, weights, self._weights))

    def holds(self, weights: tuple[Any, ...]) -> bool:
        """Whether these are the same tensors, unchanged."""
        return (
            all(map(is_, weights, self._weights))
            and tuple(map(_version, weights)) == self._versions
            and tuple(map(_address, weights)) == self._addresses
        )


def select(places: Sequence[int]) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """A function that takes the elements at these places, as fast as Python can."""
    if not places:
        return lambda _: ()
    if len(places) == 1:
        (only,) = places
        return lambda values: (values[only],)
    return itemgetter(*places)

"""Groups of channels that are cut alike, and how much each channel matters.

A channel is a class of tied slots that need not stay; channels whose slots lie along the same axes form a group.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irc.ir import Op, Tensor, Value

from .slots import Indices, Place, Slots

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Group:
    """Channels that are cut alike: the class of each, in order, and the axes they lie along."""

    labels: Indices
    places: tuple[Place, ...]

    @property
    def ops(self) -> list[Op]:
        """The ops that make what the channels lie along, in the order they were seen."""
        makers = dict.fromkeys(value.op for value, _ in self.places if value.op is not None and not value.op.is_constant)
        return list(makers)

    @property
    def weights(self) -> list[Place]:
        """The axes of constant matrices and filters among them."""
        return [(value, axis) for value, axis in self.places if _weight(value) is not None]


def _weight(value: Value) -> Tensor | None:
    tensor = value.constant
    return tensor if tensor is not None and len(tensor.shape) >= 2 and tensor.dtype.is_float else None


def groups_of(slots: Slots, labels: Indices, stays: NDArray[np.bool_]) -> list[Group]:
    """The groups of at least two channels that some weight has, in the order of their first slots."""
    lengths = np.diff([*slots.starts, slots.count])
    home: Indices = np.repeat(np.arange(len(slots.places)), lengths)
    count = max(len(slots.places), 1)
    pairs: Indices = np.unique(labels[~stays] * count + home[~stays])
    classes: Indices = pairs // count
    places: Indices = pairs % count
    bounds: list[int] = [*np.flatnonzero(np.diff(classes, prepend=-1)).tolist(), classes.size]
    alike: dict[bytes, list[int]] = {}
    for start, end in itertools.pairwise(bounds):
        alike.setdefault(places[start:end].tobytes(), []).append(int(classes[start]))
    found: list[Group] = []
    for key, members in alike.items():
        numbers: list[int] = np.frombuffer(key, np.int64).tolist()
        group = Group(np.array(members), tuple(slots.places[i] for i in numbers))
        if len(members) > 1 and group.weights and group.ops:
            found.append(group)
    return found


def scores_of(slots: Slots, labels: Indices, groups: Sequence[Group], order: int) -> list[Scores]:
    """For each group how much each of its channels matters: norms of order 1 or 2 of its slices of all weights, summed.

    The norms of one weight are divided by their mean, so that no layer outweighs the others. A batch normalization behind a
    filter scales what it makes, and so its norm.
    """
    members = np.unique(np.concatenate([group.labels for group in groups])) if groups else np.empty(0, np.int64)
    total = np.zeros(members.size)
    for value, axis in dict.fromkeys(place for group in groups for place in group.weights):
        own = labels[slots.of(value, axis)]
        norms = _slice_norms(value, axis, order)
        free = np.isin(own, members)
        sums = np.zeros(members.size)
        np.add.at(sums, np.searchsorted(members, own[free]), norms[free] ** order)
        present = np.unique(np.searchsorted(members, own[free]))
        norm = sums[present] ** (1.0 / order)
        total[present] += norm / max(float(norm.mean()), 1e-30)
    return [total[np.searchsorted(members, group.labels)] for group in groups]


def _slice_norms(value: Value, axis: int, order: int) -> Scores:
    tensor = value.constant
    assert tensor is not None
    rows = np.moveaxis(tensor.array, axis, 0).reshape(tensor.shape[axis], -1).astype(np.float64)
    norms = np.linalg.norm(rows, ord=order, axis=1)
    return norms * _gain(value.users, axis, norms.size)


def _gain(users: Iterable[Op], axis: int, size: int) -> Scores | float:
    """What a batch normalization makes of each filter of a convolution it alone follows."""
    for op in users:
        if not op.is_a("Conv") or axis != 0 or not op.result.has_one_use or not op.result.users:
            continue
        (user,) = op.result.users
        scale, variance = user.constant_operand(1), user.constant_operand(4) if user.is_a("BatchNormalization") else None
        if scale is not None and variance is not None and scale.shape == variance.shape == (size,):
            epsilon = user.attributes.get("epsilon", 1e-5)
            assert isinstance(epsilon, float)
            return np.abs(scale.array.astype(np.float64)) / np.sqrt(variance.array.astype(np.float64) + epsilon)
    return 1.0


LEAST_KEPT = 0.1
"""The share of a group that stays however little it matters beside other groups."""


def least_in_each(scores: Sequence[Scores], share: float) -> list[int]:
    """How many channels of each group are the lowest `share` of it."""
    return [int(share * score.size) for score in scores]


def least_of_all(scores: Sequence[Scores], share: float) -> list[int]:
    """How many channels of each group are among the lowest `share` of all, each measured by the mean of its group."""
    if not scores:
        return []
    relative = [score / max(float(score.mean()), 1e-30) for score in scores]
    everything = np.sort(np.concatenate(relative))
    bar = everything[int(share * everything.size)]
    most = [score.size - int(np.ceil(LEAST_KEPT * score.size)) for score in scores]
    return [min(int((score < bar).sum()), limit) for score, limit in zip(relative, most, strict=True)]

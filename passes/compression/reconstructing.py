"""Pruning with data: which channels the others can stand in for, and weights that make up for those that are gone.

With G = X^T X of what a product reads, x_gone is nearly A x_kept with A = G_gk G_kk^-1, so that W_kept + W_gone A reads what is
kept almost as W read all. The channels to cut are those with which least is lost then (Hassibi and Stork, "Optimal Brain
Surgeon", 1993; He et al., "Channel Pruning", 2017).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irc.ir import Graph, Value

from ..precision.sites import Site, sites
from .cutting import Cut
from .grouping import Group, Scores
from .slots import Indices, Slots

Matrix = NDArray[np.float64]
Grams = Mapping[Value, Matrix]
DAMPING = 1e-4
"""What is added to the diagonal of G, in units of its mean: what was not seen must not be trusted to depend."""


def grams_wanted(graph: Graph) -> dict[Value, int]:
    """The values whose X^T X pruning can use, with the axis X lies along: what contractions with constant weights read."""
    return {site.data: site.data_axis for site in sites(graph) if _is_plain(site)}


def _is_plain(site: Site) -> bool:
    weights = site.weights
    return site.is_weighted and weights.has_one_use and site.op.integer("group", 1) == 1 and len(weights.shape or ()) >= 2


def _readers(graph: Graph, grams: Grams) -> list[tuple[Site, Matrix]]:
    """The sites that read a value whose G is known, with the damped G."""
    found: list[tuple[Site, Matrix]] = []
    for site in sites(graph):
        gram = grams.get(site.data)
        size = (site.data.shape or ())[site.data_axis] if site.data.shape else None
        if gram is not None and _is_plain(site) and gram.shape == (size, size) and np.isfinite(gram).all():
            damping = DAMPING * max(float(np.trace(gram)) / len(gram), 1e-30)
            found.append((site, gram + damping * np.eye(len(gram))))
    return found


def _rows(site: Site) -> Matrix:
    """The weights of a product as [..., read channels] in f64."""
    tensor = site.weights.constant
    assert tensor is not None
    return np.moveaxis(tensor.array.astype(np.float64), site.summed_axis, -1)


def compensated(graph: Graph, cut: Cut, grams: Grams) -> dict[Value, Matrix]:
    """For weights that read a value which loses channels: what they become, still of their full size."""
    found: dict[Value, Matrix] = {}
    for site, gram in _readers(graph, grams):
        kept = cut.of(site.data, site.data_axis)
        if kept is None or not kept.size:
            continue
        gone = np.setdiff1d(np.arange(len(gram)), kept)
        stand_in = np.linalg.solve(gram[np.ix_(kept, kept)], gram[np.ix_(kept, gone)])
        rows = _rows(site).copy()
        rows[..., kept] += rows[..., gone] @ stand_in.T
        found[site.weights] = np.moveaxis(rows, -1, site.summed_axis)
    return found


@dataclass
class _Reader:
    """One product in the course of elimination: W^T W and G^-1 [channels, channels], and the channels of each unit."""

    squares: Matrix
    inverse: Matrix
    energy: float
    units: Indices

    def losses(self) -> Scores:
        """The squared error of the product when one unit goes and the others make up for it, relative to its energy."""
        if self.units.shape[1] == 1:
            channels = self.units[:, 0]
            return np.diag(self.squares)[channels] / np.maximum(np.diag(self.inverse)[channels], 1e-30) / self.energy
        found: list[float] = []
        for unit in self.units:
            own = np.ix_(unit, unit)
            found.append(float(np.trace(np.linalg.solve(self.inverse[own], self.squares[own]))))
        return np.array(found) / self.energy

    def eliminate(self, units: Indices) -> None:
        """Let the others make up for some units: W becomes W (I - E K) with K = (G^-1)_ss^-1 (G^-1)_s."""
        channels = self.units[units].reshape(-1)
        own = self.inverse[np.ix_(channels, channels)]
        taken = np.linalg.solve(own, self.inverse[channels])
        self.inverse = self.inverse - self.inverse[:, channels] @ taken
        self.squares = self.squares - self.squares[:, channels] @ taken
        self.squares = self.squares - taken.T @ self.squares[channels]


def scores_with_data(
    graph: Graph, slots: Slots, labels: Indices, groups: Sequence[Group], plain: Sequence[Scores], grams: Grams, share: float
) -> list[Scores]:
    """For each group how much is lost with each channel when the least goes first; `plain` where nothing is known.

    So many that at least `share` of each group are gone are taken one after the other, the rest by what it would cost next.
    """
    readers = _readers(graph, grams)
    found: list[Scores] = []
    for group, fallback in zip(groups, plain, strict=True):
        own = [reader for site, gram in readers if (reader := _reader(site, gram, group, slots, labels)) is not None]
        found.append(_eliminated(own, share) if own else fallback)
    return found


def _reader(site: Site, gram: Matrix, group: Group, slots: Slots, labels: Indices) -> _Reader | None:
    if (site.data, site.data_axis) not in group.places:
        return None
    own = labels[slots.of(site.data, site.data_axis)]
    order = np.argsort(own, kind="stable")
    inside = order[np.isin(own[order], group.labels)]
    weights = _rows(site).reshape(-1, len(gram))
    squares = weights.T @ weights
    inverse = np.linalg.inv(gram).astype(np.float64)
    return _Reader(squares, inverse, max(float(np.sum(squares * gram)), 1e-30), inside.reshape(group.labels.size, -1))


ROUNDS = 32
"""In about so many rounds a group is eliminated; a large one loses several channels in each."""


def _eliminated(readers: list[_Reader], share: float) -> Scores:
    """What is lost in all with each channel when they go one after the other, the least first; in blocks each by itself."""
    count = len(readers[0].units)
    if any(reader.units.shape[1] > 1 for reader in readers):
        return _together(readers)
    scores, left, lost = np.zeros(count), np.arange(count), 0.0
    at_once = -(-count // ROUNDS)
    while left.size > (1.0 - share) * count:
        losses = _together(readers)[left]
        weakest = np.argsort(losses, kind="stable")[:at_once]
        scores[left[weakest]] = lost + np.cumsum(losses[weakest])
        lost += float(losses[weakest].sum())
        for reader in readers:
            reader.eliminate(left[weakest])
        left = np.delete(left, weakest)
    scores[left] = lost + _together(readers)[left]
    return scores


def _together(readers: list[_Reader]) -> Scores:
    return np.sum([reader.losses() for reader in readers], axis=0)

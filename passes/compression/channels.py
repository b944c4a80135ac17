"""Structured pruning: channels are taken out of the graph for good, together with all that hangs on them.

Law: without data, the smaller graph answers as the original does with zeros in its constants wherever they were cut. Li et al.,
"Pruning Filters for Efficient ConvNets", 2017; groups as in Fang et al., "DepGraph: Towards Any Structural Pruning", 2023.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from irc.ir import Graph, UsageError, Value, cost_of

from ..base import Application, Context, Contract, LimitReached, Pass
from ..precision.sites import sites
from .cutting import Cut, apply, settle_targets
from .grouping import LEAST_KEPT, Group, Scores, groups_of, least_in_each, least_of_all, scores_of
from .linking import linked
from .reconstructing import Grams, compensated, scores_with_data
from .slots import NONE, Indices, Place, Slots
from .vectors import share, unshare
from .weights import fold

NORMS = {"l1": 1, "l2": 2}
RANKINGS = {"group": least_in_each, "global": least_of_all}


@dataclass(frozen=True)
class PrunedGroup:
    """Channels that were cut alike: what makes them, how many there were, which are kept, and the ops they pass through."""

    name: str
    size: int
    kept: tuple[int, ...]
    ops: tuple[str, ...]


@dataclass(frozen=True)
class Pruning:
    """What was pruned: `kept` tells for each constant, by name and axis, which of its indices are left, in order.

    A network in another framework is pruned alike by taking these indices of its parameters. `flops` and `parameters` are
    those before and after, with 1 for open dims.
    """

    groups: tuple[PrunedGroup, ...] = ()
    kept: Mapping[str, Mapping[int, tuple[int, ...]]] = field(default_factory=dict[str, dict[int, tuple[int, ...]]])
    flops: tuple[int, int] = (0, 0)
    parameters: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, object]:
        """The same as plain data; axes are texts there."""
        return {
            "groups": [{"name": g.name, "size": g.size, "kept": list(g.kept), "ops": list(g.ops)} for g in self.groups],
            "kept": {name: {str(axis): list(k) for axis, k in axes.items()} for name, axes in self.kept.items()},
            "flops": list(self.flops),
            "parameters": list(self.parameters),
        }


@dataclass(frozen=True)
class PruneChannels(Pass, name="prune-channels", contract=Contract.LOSSY):
    """Take the least important `share` of all channels out of the graph for good.

    What hangs on a channel goes with it. Importance is the `norm` (l1 or l2) of a channel's filters and of the weights that
    read it. `ranking` compares the channels of a `group` with each other, or all (`global`). What is kept of a group is rounded
    up to a multiple of `multiple`.
    """

    share: float = 0.5
    norm: str = "l2"
    ranking: str = "group"
    multiple: int = 1

    def __post_init__(self) -> None:
        """Raises UsageError for an option out of its range."""
        if not 0.0 <= self.share < 1.0:
            raise UsageError(f"share is {self.share}, which no channels are", hint="give at least 0 and less than 1")
        if self.norm not in NORMS:
            raise UsageError(f"there is no norm '{self.norm}'", hint=f"it is one of {', '.join(NORMS)}")
        if self.ranking not in RANKINGS:
            raise UsageError(f"there is no ranking '{self.ranking}'", hint=f"it is one of {', '.join(RANKINGS)}")
        if self.multiple < 1:
            raise UsageError(f"multiple is {self.multiple}", hint="give at least 1, which rounds nothing")

    def run(self, graph: Graph, context: Context) -> None:
        """Prune the outermost graph; each group that loses channels counts as one rewrite."""
        self.prune(graph, context, {})

    def prune(self, graph: Graph, context: Context, grams: Grams) -> Pruning:
        """The same, and what was done. Raises LimitReached when that is all the rewrite limit allows.

        `grams` has X^T X of some of `grams_wanted`; by these the channels go that others can stand in for, and the weights that
        read them make up for it.
        """
        before = _sizes(graph)
        fold(graph, context)
        settle_targets(graph, self.name)
        shared = unshare(graph)
        slots = linked(graph)
        labels, stays = slots.classes()
        self._remark(graph, slots, labels, stays, context)
        found = groups_of(slots, labels, stays)
        scores = scores_of(slots, labels, found, NORMS[self.norm])
        scores = scores_with_data(graph, slots, labels, found, scores, grams, self._most) if grams else scores
        removed, stop = self._granted(self._chosen(found, scores), context)
        gone = [group.labels[positions] for group, positions in removed]
        cut = Cut(self.name, _kept(slots, np.isin(labels, np.concatenate([NONE, *gone]))))
        groups, kept = tuple(_described(group, positions) for group, positions in removed), _names(cut)
        apply(cut, graph, compensated(graph, cut, grams))
        share(shared)
        if stop is not None:
            raise stop
        after = _sizes(graph)
        return Pruning(groups, kept, (before[0], after[0]), (before[1], after[1]))

    def _remark(self, graph: Graph, slots: Slots, labels: Indices, stays: NDArray[np.bool_], context: Context) -> None:
        """Say of each product with constant weights all of whose channels stay which op needs them."""
        if not context.remark:
            return
        keepers = slots.keepers(labels)
        for site in sites(graph):
            own = slots.of(site.weights, site.channel_axis) if site.channel_axis is not None else NONE
            if own.size and stays[own].all():
                keeper = keepers[int(labels[own[0]])]
                reason = f"{keeper.qualified_name} at {keeper.location.name} needs" if keeper else "the signature has"
                context.miss(self.name, site.op, f"{reason} all of its channels")

    @property
    def _most(self) -> float:
        """The largest share that a group may lose."""
        return self.share if self.ranking == "group" else 1.0 - LEAST_KEPT

    def _chosen(self, groups: list[Group], scores: list[Scores]) -> list[tuple[Group, Indices]]:
        """The groups that lose something, each with the positions of the channels it loses."""
        found: list[tuple[Group, Indices]] = []
        for group, score, count in zip(groups, scores, RANKINGS[self.ranking](scores, self.share), strict=True):
            left = -(-max(score.size - count, 1) // self.multiple) * self.multiple
            if left < score.size:
                found.append((group, np.sort(np.argsort(score, kind="stable")[: score.size - left])))
        return found

    def _granted(
        self, wanted: list[tuple[Group, Indices]], context: Context
    ) -> tuple[list[tuple[Group, Indices]], LimitReached | None]:
        """What is not refused, up to the rewrite limit, and that limit where it was reached."""
        granted: list[tuple[Group, Indices]] = []
        for group, positions in wanted:
            if context.refuses(Application(self.name, self.contract, group.ops[0], (), ())):
                continue
            try:
                context.take(self.name)
            except LimitReached as limit:
                return granted, limit
            granted.append((group, positions))
        return granted, None


def prune_channels(
    graph: Graph,
    share: float = 0.5,
    *,
    norm: str = "l2",
    ranking: str = "group",
    multiple: int = 1,
    grams: Grams | None = None,
) -> Pruning:
    """Prune the channels of a graph in place, as the pass `prune-channels` does, and tell what is left of each constant.

    `grams` has X^T X [channels, channels] of values that `grams_wanted(graph)` names with the axis of their channels: then
    those channels go that the others can stand in for, and the weights behind them are made to. Raises UsageError for an option
    out of its range.
    """
    return PruneChannels(share, norm, ranking, multiple).prune(graph, Context(), grams or {})


def _kept(slots: Slots, gone: NDArray[np.bool_]) -> dict[Place, Indices]:
    """For each axis that loses slots the indices that stay."""
    kept: dict[Place, Indices] = {}
    for place, (start, end) in zip(slots.places, itertools.pairwise([*slots.starts, slots.count]), strict=True):
        lost = gone[start:end]
        if lost.any():
            kept[place] = np.flatnonzero(~lost)
    return kept


def _names(cut: Cut) -> dict[str, dict[int, tuple[int, ...]]]:
    """What is kept of each constant by its name; of several of one name, which are vectors that were equal, nothing is told."""
    owners: dict[str, dict[Value, None]] = {}
    for value, _ in cut.kept:
        if value.constant is not None and value.name:
            owners.setdefault(value.name, {})[value] = None
    found: dict[str, dict[int, tuple[int, ...]]] = {}
    for (value, axis), indices in cut.kept.items():
        if len(owners.get(value.name, ())) == 1 and value.constant is not None:
            found.setdefault(value.name, {})[axis] = tuple(indices.tolist())
    return found


def _described(group: Group, lost: Indices) -> PrunedGroup:
    left = np.setdiff1d(np.arange(group.labels.size), lost)
    ops = [op.location.name for op in group.ops]
    return PrunedGroup(ops[0], group.labels.size, tuple(left.tolist()), tuple(dict.fromkeys(ops)))


def _sizes(graph: Graph) -> tuple[int, int]:
    """Operations, and elements of constants that are used."""
    ops = list(graph.walk())
    return sum(cost_of(op).flops for op in ops), sum(op.value.size for op in ops if op.is_constant and not op.is_dead)

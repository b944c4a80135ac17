"""What data tell compressions: how the channels that products read hang together, and what is made of that.

Law: what is known is known of the graph that was observed and, by the order of its sites, of its copies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from irc.ir import Graph
from irc.passes import Context, Contract, Pass, grams_wanted
from irc.passes.compression import LowRank, PruneChannels
from irc.passes.precision import Site, sites

from ..calibration import Calibration
from .knowledge import Array
from .learning import Tell, gram_observers, observable, show

SPAN = 2
"""How many vectors a channel must have been seen, for directions that were not to be taken for ones that never are."""


@dataclass(frozen=True)
class Seen:
    """X^T X [channels, channels] of what a site reads, and how many vectors that were."""

    gram: Array
    rows: int

    @property
    def spans(self) -> bool:
        """Whether about all that the data can be was seen."""
        return self.rows >= SPAN * len(self.gram)


def seen_by_sites(graph: Graph, samples: Calibration, tell: Tell) -> list[Seen | None]:
    """What each site of a graph reads, where that can be told. Raises UsageError for samples on which it does not run."""
    wanted = grams_wanted(graph)
    found = gram_observers(site for site in observable(graph) if site.data in wanted)
    show(graph, {value: [each] for value, each in found.items()}, samples, tell, "channels")
    seen = {value: Seen(each.matrix, each.rows) for value, each in found.items() if each.matrix is not None}
    return [seen.get(site.data) for site in sites(graph)]


Informed = Callable[[Pass, Graph, Context, Sequence[tuple[Site, Seen]]], None]


def _prune(one: Pass, graph: Graph, context: Context, known: Sequence[tuple[Site, Seen]]) -> None:
    assert isinstance(one, PruneChannels)
    one.prune(graph, context, {site.data: seen.gram for site, seen in known})


def _factorize(one: Pass, graph: Graph, context: Context, known: Sequence[tuple[Site, Seen]]) -> None:
    assert isinstance(one, LowRank)
    fitting = [(site, seen) for site, seen in known if seen.spans and _rows(site) == len(seen.gram)]
    one.factorize(graph, context, {site.weights: seen.gram for site, seen in fitting})


def _rows(site: Site) -> int:
    """The rows of a site's weights as a matrix: the channels that are read, for a convolution times the size of its filters."""
    tensor = site.weights.constant
    return 0 if tensor is None or site.channel_axis is None else tensor.size // tensor.array.shape[site.channel_axis]


INFORMED: dict[type[Pass], Informed] = {PruneChannels: _prune, LowRank: _factorize}
"""The compressions that make something of data."""


@dataclass(frozen=True)
class WithData(Pass, name="with-data", contract=Contract.LOSSY):
    """A compression that is told what the sites of its graph read; others do without."""

    one: Pass = field(default_factory=Pass)
    seen: Sequence[Seen | None] = ()

    def run(self, graph: Graph, context: Context) -> None:
        """Compress the graph, which is one that was observed, or a copy of it."""
        informed = INFORMED.get(type(self.one))
        if informed is None or not self.seen:
            self.one.run(graph, context)
            return
        pairs = zip(sites(graph), self.seen, strict=True)
        informed(self.one, graph, context, [(site, seen) for site, seen in pairs if seen is not None])

    def __str__(self) -> str:
        return str(self.one)


__all__ = ["INFORMED", "Seen", "WithData", "seen_by_sites"]

"""Checks each rewrite on the region it touches, before it is done: what gives other answers there does not happen.

A difference counts only when it lasts as the region is deepened, because a rule may rely on what made its inputs (Relu of a
Relu); equal regions are checked once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from irc.ir import EvaluationError, Graph, Op, Value, evaluate, schema

from ..base import Application, Contract, operands_of
from .activations import Activations
from .feeds import feeds_of
from .judging import Gap, apart, tolerance
from .regions import Region, Regions
from .sides import Sides

DEEPENING = (1, 2, 4, 8, 16)
"""Levels of makers taken in, one after another, while a difference lasts."""
WHOLE_TOLERANCE = 1e-4
"""Relative L2 distance between the outputs of whole graphs that a pass may come to; no less than what one op may."""
DEEPEST = 500
"""Ops beyond which a region is not deepened: what still differs there is believed."""


@dataclass(frozen=True)
class Undone:
    """A rewrite that was refused because it changes answers: which, where, by how much (infinite: not in numbers), on what."""

    rewrite: str
    location: str
    distance: float
    what: str
    inputs: str

    @property
    def text(self) -> str:
        """For people: `rule X at conv1: off by 3.2e-01 (relative L2) on made-up inputs`."""
        return f"{self.rewrite} at {self.location}: {self.what} on {self.inputs}"


@dataclass(frozen=True)
class _Verdict:
    """What one region says: a gap and the feed that showed it, or that both sides agree, or that nothing could be run."""

    gap: Gap | None = None
    label: str = ""
    informed: bool = True


@dataclass
class RegionChecker:
    """A `Checker` that evaluates both sides of every application with the reference.

    `make_feeds` gives inputs for the captured graph by name, or None where there are none; `label` says what they are.
    """

    make_feeds: Callable[[Graph], Mapping[str, Any] | None] = lambda graph: None
    label: str = "made-up inputs"
    undone: list[Undone] = field(default_factory=list[Undone])
    checked: int = 0
    evaluated: int = 0
    unknown: int = 0
    _known: dict[Hashable, _Verdict] = field(default_factory=dict[Hashable, _Verdict])
    _activations: Activations | None = None
    _feeds: Mapping[str, Any] | None = None
    _answers: list[Any] = field(default_factory=list[Any])

    def begin(self, graph: Graph) -> None:
        """Start on a captured graph; called again when the passes are replayed on a fresh copy of it."""
        # All is evaluated before anything is rewritten, because it belongs to the values as captured.
        self._feeds = self.make_feeds(graph)
        self._activations = Activations(graph, self._feeds)
        random = _random_outputs(graph)
        self._answers = [None if value in random else self._activations.of(value) for value in graph.outputs]

    def refuse(self, application: Application) -> str | None:
        """Why the two sides differ, or None where they agree or cannot be evaluated."""
        if self._activations is None:
            self._activations = Activations(Graph(), None)
        self.checked += 1
        verdict = self._verdict(application, self._activations)
        if verdict.gap is None:
            self.unknown += not verdict.informed
            for old, new in zip(application.old, application.new, strict=True):
                self._activations.hand_on(old, new)
            return None
        found = Undone(
            application.rewrite, str(application.root.location), verdict.gap.distance, verdict.gap.text, verdict.label
        )
        if found not in self.undone:
            self.undone.append(found)
        return f"it would change the answer: {found.what} on {found.inputs}"

    def refuse_graph(self, graph: Graph) -> str | None:
        """How the outputs differ from those of the captured graph on real inputs; None where they do not, or there are none."""
        if self._feeds is None:
            return None
        try:
            answers = evaluate(graph, self._feeds)
        except EvaluationError as error:
            return f"the reference no longer runs the graph: {error.message}"
        for name, wanted, got in zip(graph.output_names, self._answers, answers, strict=True):
            gap = apart(wanted, got, finite_inputs=False) if wanted is not None else Gap(0.0, "")
            if gap.distance > max(WHOLE_TOLERANCE, tolerance(wanted)):
                return f"it changed the answer: output '{name}' is {gap.text} on {self.label}"
        return None

    def _verdict(self, application: Application, activations: Activations) -> _Verdict:
        if not application.old:
            return _Verdict()
        if application.contract is Contract.LOSSY or _draws(application.root):
            return _Verdict(informed=False)
        regions = Regions(application)
        region = regions.current()
        if region.identical:
            return _Verdict()
        if region.key is not None and region.key in self._known:
            return self._known[region.key]
        verdict = self._settled(regions, region, activations)
        if region.key is not None:
            self._known[region.key] = verdict
        return verdict

    def _settled(self, regions: Regions, region: Region, activations: Activations) -> _Verdict:
        """The verdict of the deepest region that says something; agreement anywhere settles it.

        A difference on made-up inputs is no more than a suspicion where no deeper region can be run.
        """
        contract = regions.application.contract
        last = verdict = _Verdict(informed=False)
        for levels in (*DEEPENING, 0):
            verdict = self._compared(region, activations, contract)
            last = verdict if verdict.informed else last
            settled = verdict.informed and verdict.gap is None
            if settled or not levels or regions.size > DEEPEST or not regions.deepen(levels):
                break
            region = regions.current()
            if region.identical:
                return _Verdict()
        return last if verdict.informed or last.label == self.label else verdict

    def _compared(self, region: Region, activations: Activations, contract: Contract) -> _Verdict:
        self.evaluated += 1
        sides = Sides(region)
        informed = False
        for feed in feeds_of(region, activations, contract, self.label):
            try:
                old = sides.old(feed.arrays)
            except EvaluationError:
                continue  # the old side fails on it, so it says nothing
            informed = True
            try:
                new = sides.new(feed.arrays)
            except EvaluationError as error:
                return _Verdict(Gap(float("inf"), f"the replacement fails ({error.message})"), feed.label)
            for index, (wanted, got) in enumerate(zip(old, new, strict=True)):
                gap = sides.gap(index, wanted, got, feed, contract)
                if gap is not None:
                    return _Verdict(gap, feed.label)
        return _Verdict(informed=informed)


def _random_outputs(graph: Graph) -> set[Value]:
    """The outputs that depend on random numbers."""
    tainted: set[Value] = set()
    for op in graph:
        if _draws(op) or any(v in tainted for v in operands_of(op)):
            tainted.update(op.results)
    return tainted


def _draws(op: Op) -> bool:
    return schema.of(op) is not None and not schema.is_deterministic(op)

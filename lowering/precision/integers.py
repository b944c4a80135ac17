"""What integers of 8 bits need to know: a balanced model, ranges of its values, and weights that are rounded for its data.

Law: the balanced model computes what the model computes, up to rounding; an improvement, balancing among them, is kept only
where it makes the error on a few of the samples smaller.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import TypeAlias

import numpy as np

from irc.ir import Graph, Op, Value, clone_graph
from irc.passes.precision import (
    ANY_TOGETHER,
    LEAST_GAIN,
    Form,
    IntegerWeights,
    Range,
    Site,
    covariance,
    equalize,
    gain,
    integer_weights,
    patterns,
    rounded_weights,
    smooth,
    source_of,
    wanted_results,
    wanted_values,
    why_not_dynamic,
    why_not_quantized,
)

from ..calibration import METHODS, Calibration, ChannelExtremes, ChannelMoments, Histogram, Observer, SampleExtents
from .judge import Judge
from .knowledge import NOTHING, Array, Knowledge
from .learning import TIMES_OBSERVED, Tell, gram_observers, observable, show
from .lessons import Channels, Lesson, Notebook
from .lowered import as_asked, with_forms
from .metrics import METRICS

Improvement: TypeAlias = "tuple[str, Callable[[Knowledge], Knowledge]]"
FIRST_METHOD = "mse"
MOST_JUDGED = 4
"""Samples that improvements are judged on."""
BETTER = 0.98
"""The share of the error that an improvement has to stay under."""
WIDEST_ROUNDED = 1536
"""Above it, rounding weights together takes longer than it is worth."""


@dataclass(frozen=True)
class Balanced:
    """A model that computes the same, in which channels are of like size where that helps, and what is known of it."""

    model: Graph
    knowledge: Knowledge


@dataclass(frozen=True)
class _Learning:
    """What all steps share: samples, a judge of a few of them, who hears of it, when it ends, how weights are held together."""

    samples: Calibration
    judge: Judge
    tell: Tell
    deadline: float
    together: int

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self.deadline


@dataclass(frozen=True)
class _Balance:
    """A copy of a model, the channels it is balanced by if that helps, and its nearest weights where these had to be found.

    It `is_settled` where there was time to see.
    """

    graph: Graph
    channels: Channels | None = None
    nearest: Mapping[Value, IntegerWeights] = field(default_factory=dict[Value, IntegerWeights])
    is_settled: bool = True


def learn_integers(
    model: Graph,
    samples: Calibration,
    tell: Tell,
    deadline: float = inf,
    together: int = ANY_TOGETHER,
    notebook: Notebook | None = None,
) -> Balanced:
    """A copy of a model, which stays as it is, balanced where that helps, and what is known of it.

    After `deadline`, a time of `time.monotonic`, no more improvements are tried. Neighbouring weights are held `together`. What
    is in the `notebook` is not learnt again; where time is short, what half as many samples told is good enough.
    Raises UsageError for samples on which the model does not run.
    """
    notebook = notebook or Notebook(model)
    fewest = len(samples) if deadline == inf else (len(samples) + 1) // 2
    balance, begun = None, None
    if kept := notebook.recall(fewest, lambda channels: _rebuilt(model, channels)):
        graph, begun = kept
        tell(f"integers: learnt before, error {begun.error:.2e}")
        if begun.is_whole:
            return Balanced(graph, begun.known)
        balance = _Balance(graph, begun.channels)
    judge = Judge(model, list(samples.evenly(MOST_JUDGED)), METRICS["l2"])
    learning = _Learning(samples, judge, tell, deadline, together)
    balance = balance or _balanced(model, learning)
    known = NOTHING
    for lesson in _lessons(balance, begun, learning):
        known = lesson.known
        if balance.is_settled:
            notebook.keep(balance.graph, lesson)
    return Balanced(balance.graph, known)


def _lessons(balance: _Balance, begun: Lesson | None, learning: _Learning) -> Iterator[Lesson]:
    """What is known of a balanced model, better and better, from where it was begun."""
    graph, count = balance.graph, len(learning.samples)
    chosen = quantizable(graph)
    seen = _Seen(chosen, [*wanted_values(graph, chosen), *wanted_results(graph, chosen)])
    show(graph, seen.observers, learning.samples, learning.tell, "ranges")

    def error(knowledge: Knowledge) -> float:
        return _error(graph, knowledge, learning.judge)

    if begun is None:
        known = _first(graph, chosen, seen, balance.nearest or _nearest(chosen, learning.together))
        begun = Lesson(count, balance.channels, known, error(known))
    begun = replace(begun, samples=min(begun.samples, count))
    yield from improved(begun, _improvements(seen, chosen, begun.known), error, learning.tell, learning.deadline)


def _first(graph: Graph, chosen: Sequence[Site], seen: _Seen, nearest: Mapping[Value, IntegerWeights]) -> Knowledge:
    """What is known before any improvement."""
    ranges = seen.ranges(FIRST_METHOD)
    results = {value: ranges.pop(value) for value in wanted_results(graph, chosen)}
    return Knowledge(ranges, seen.means, weights=nearest, results=results)


def _error(graph: Graph, knowledge: Knowledge, judge: Judge) -> float:
    return judge.of_graph(with_forms(graph, as_asked(graph, Form.INT8, knowledge), knowledge)).error


def quantizable(graph: Graph) -> list[Site]:
    """The sites that 8 bits can be had for."""
    return [site for site in observable(graph) if not why_not_quantized(site)]


def _balanced(model: Graph, learning: _Learning) -> _Balance:
    """A copy of a model, equalized and smoothed where that makes the error smaller and there is time to see."""
    unsettled = _Balance(clone_graph(model), is_settled=False)
    takes = TIMES_OBSERVED * (len(learning.samples) + 2 * MOST_JUDGED) * learning.judge.seconds
    if time.monotonic() + takes > learning.deadline:
        return unsettled
    channels = _channels_of(model, learning.samples, learning.tell)
    plain, balanced = clone_graph(model), clone_graph(model)
    if not _balance(balanced, channels.of_copy(model, balanced)):
        return _Balance(plain)
    if learning.is_over:
        return unsettled
    before, after = (_nearest(quantizable(graph), learning.together) for graph in (plain, balanced))
    least, found = _error_at_first(plain, before, learning), _error_at_first(balanced, after, learning)
    learning.tell(f"channels balanced: error {found:.2e} against {least:.2e}")
    return _Balance(balanced, channels, after) if found < BETTER * least else _Balance(plain, None, before)


def _error_at_first(graph: Graph, nearest: Mapping[Value, IntegerWeights], learning: _Learning) -> float:
    """The error of a graph with ranges of a few samples and corrected biases, which help without balance as well."""
    chosen = quantizable(graph)
    seen = _Seen(chosen, wanted_values(graph, chosen), widest=0)
    show(graph, seen.observers, learning.samples.evenly(MOST_JUDGED), learning.tell, "ranges")
    known = Knowledge(seen.ranges(FIRST_METHOD), seen.means, weights=nearest, corrects_biases=True)
    return _error(graph, known, learning.judge)


def _rebuilt(model: Graph, channels: Channels | None) -> Graph:
    """A copy of a model, balanced by channels of its own values."""
    copy = clone_graph(model)
    if channels is not None:
        _balance(copy, channels.of_copy(model, copy))
    return copy


def _channels_of(graph: Graph, samples: Calibration, tell: Tell) -> Channels:
    """How large the channels are that sites read."""
    axes = _axes(quantizable(graph))
    extremes = {value: ChannelExtremes(axis) for value, axis in axes.items()}
    moments = {value: ChannelMoments(axis) for value, axis in axes.items()}
    show(graph, {value: [extremes[value], moments[value]] for value in axes}, samples, tell, "channels")
    largest = {value: each.magnitude for value, each in extremes.items() if each.low is not None}
    return Channels(largest, {value: moments[value].squares for value in largest})


def _balance(graph: Graph, channels: Channels) -> bool:
    """Equalize and smooth a graph, in place; whether anything changed."""
    equalized = equalize(quantizable(graph), channels.largest, channels.squares)
    smoothed = smooth(quantizable(graph), channels.largest, channels.squares)
    return bool(equalized or smoothed)


def _axes(chosen: Iterable[Site]) -> dict[Value, int]:
    """The axis of channels of each value that is data of sites, all of which sum over the same one."""
    axes: dict[Value, set[int]] = {}
    for site in chosen:
        axes.setdefault(site.data, set()).add(site.data_axis)
    return {value: next(iter(several)) for value, several in axes.items() if len(several) == 1}


class _Seen:
    """What observers see of the values of sites: histograms, means, how far samples reach, and how data hang together.

    That last is seen of data of up to `widest` channels.
    """

    def __init__(self, chosen: Sequence[Site], wanted: Sequence[Value], widest: int = WIDEST_ROUNDED) -> None:
        self._histograms = {value: Histogram() for value in wanted}
        self._extents = {source_of(site.data): SampleExtents() for site in chosen if not why_not_dynamic(site)}
        self._moments = {value: ChannelMoments(axis) for value, axis in _axes(chosen).items()}
        self._grams = gram_observers((site for site in chosen if site.is_weighted), widest)

    @property
    def observers(self) -> Mapping[Value, Sequence[Observer]]:
        """Everything that is to see a value."""
        found: dict[Value, list[Observer]] = {}
        several: tuple[Mapping[Value, Observer], ...] = (self._histograms, self._extents, self._moments, self._grams)
        for each in several:
            for value, observer in each.items():
                found.setdefault(value, []).append(observer)
        return found

    def ranges(self, method: str) -> dict[Value, Range]:
        """The range of each value, chosen by a method."""
        return {value: METHODS[method](each) for value, each in self._histograms.items()}

    def varying(self, chosen: Sequence[Site], ranges: Mapping[Value, Range]) -> dict[Op, float]:
        """The ops of patterns whose data are worth a range in each run, with what that gains, over all sites of a pattern."""
        found: dict[Op, float] = {}
        for alike in patterns(chosen).values():
            seen = [(self._extents.get(source), ranges.get(source)) for source in (source_of(site.data) for site in alike)]
            gains = [gain(own, each.widths, each.squares) for each, own in seen if each is not None and own is not None]
            mean = float(np.sqrt(np.mean(np.square(gains)))) if len(gains) == len(alike) else 0.0
            if mean >= LEAST_GAIN:
                found.update({site.op: mean for site in alike})
        return found

    @property
    def means(self) -> dict[Value, Array]:
        """The mean of each channel of data."""
        return {value: each.means for value, each in self._moments.items() if each.count}

    def spread(self, site: Site) -> Array | None:
        """The covariance of the data of a site, where it is known.

        Of few samples it says more than is true, so it is drawn towards that of channels which have nothing to do with each
        other, the more the fewer there are (shrinkage, Ledoit and Wolf 2004).
        """
        gram, moments = self._grams.get(site.data), self._moments.get(site.data)
        if gram is None or gram.matrix is None or moments is None or not gram.rows or gram.axis != site.data_axis:
            return None
        found = covariance(gram.matrix, moments.means, gram.rows)
        shrinkage = min(1.0, len(found) / gram.rows)
        return (1.0 - shrinkage) * found + shrinkage * np.diag(np.diag(found))


def _constants(chosen: Iterable[Site]) -> dict[Value, list[Site]]:
    """The sites of each constant weight that all of them read by the same channels."""
    found: dict[Value, list[Site]] = {}
    for site in chosen:
        if site.is_weighted:
            found.setdefault(site.weights, []).append(site)
    return {value: several for value, several in found.items() if len({site.channel_axis for site in several}) == 1}


def _nearest(chosen: Iterable[Site], together: int) -> dict[Value, IntegerWeights]:
    found: dict[Value, IntegerWeights] = {}
    for value, (first, *_) in _constants(chosen).items():
        if value.constant is not None:
            found[value] = integer_weights(value.constant, first.channel_axis, first.summed_axis, together)
    return found


def _rounded(chosen: Iterable[Site], nearest: Mapping[Value, IntegerWeights], seen: _Seen) -> dict[Value, IntegerWeights]:
    """Weights rounded for the data of the one site that reads them."""
    found: dict[Value, IntegerWeights] = {}
    for value, (site, *others) in _constants(chosen).items():
        spread = None if others or value not in nearest else seen.spread(site)
        if spread is not None:
            found[value] = rounded_weights(site, nearest[value], spread)
    return found


def improved(
    lesson: Lesson, improvements: Iterable[Improvement], error: Callable[[Knowledge], float], tell: Tell, deadline: float
) -> Iterator[Lesson]:
    """The lesson, and again after each improvement that it has not judged; after the last one it is whole."""
    yield lesson
    for name, improve in improvements:
        if name in lesson.judged:
            continue
        if time.monotonic() >= deadline:
            return
        known = improve(lesson.known)
        found = error(known)
        tell(f"{name}: error {found:.2e} against {lesson.error:.2e}")
        if found < BETTER * lesson.error:
            lesson = replace(lesson, known=known, error=found)
        lesson = replace(lesson, judged=(*lesson.judged, name))
        yield lesson
    yield replace(lesson, is_whole=True)


def _improvements(seen: _Seen, chosen: Sequence[Site], first: Knowledge) -> Iterator[Improvement]:
    def rounded_too(known: Knowledge) -> Mapping[Value, IntegerWeights]:
        return {**known.weights, **_rounded(chosen, first.weights, seen)}

    varying = seen.varying(chosen, seen.ranges(FIRST_METHOD))
    if varying:
        yield f"ranges of {len(varying)} products anew in each run", lambda known: replace(known, varying=varying)
    for method in METHODS:
        if method != FIRST_METHOD:
            ranges = {value: found for value, found in seen.ranges(method).items() if value in first.ranges}
            yield f"ranges by {method}", lambda known, ranges=ranges: replace(known, ranges=ranges)
    yield "biases corrected", lambda known: replace(known, corrects_biases=True)
    # Weights are rounded for what is left when the mean is right, which the biases have to see to.
    yield "weights rounded together", lambda known: replace(known, weights=rounded_too(known), corrects_biases=True)

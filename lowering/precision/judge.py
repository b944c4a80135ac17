"""The judge of a search: the model in f32 and inputs held back, against which graphs and programs are measured."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import stdev
from typing import Any, TypeAlias

from irc.ir import Graph, evaluator_of, trim_heap
from irc.runtime import Program, physical_cores

from ..verification import random_outputs
from .metrics import METRICS, Answers, Metric

Feeds: TypeAlias = "Mapping[str, Any]"


@dataclass(frozen=True)
class Judged:
    """The relative L2 error of answers, and their loss by the metric that was asked for.

    `doubt` is the standard error of that loss over the samples: about how far it is from that on samples like them. Of a single
    sample it is not known, nor of a user's metric, which is of all samples together; there it is 0.
    """

    error: float
    loss: float
    doubt: float = 0.0


class Judge:
    """Says how far answers are from those of one graph on the same inputs; `seconds` is what one of them takes about."""

    def __init__(self, graph: Graph, feeds: Sequence[Feeds], metric: Metric) -> None:
        """`graph` is the model in f32. Raises EvaluationError where the reference does not run it on `feeds`."""
        self.metric = metric
        self._feeds = feeds
        random = random_outputs(graph)
        self._names = [name for name in graph.output_names if name not in random]
        begin = time.monotonic()
        self._wanted = self._answers(graph)
        self.seconds = (time.monotonic() - begin) / max(1, len(feeds))

    def of_graph(self, graph: Graph) -> Judged:
        """How far the reference of another graph is off. Raises EvaluationError where it does not run."""
        return self._judged(self._answers(graph))

    def of_program(self, program: Program) -> Judged:
        """How far a program is off. Raises EngineFailure where it fails."""
        return self._judged([self._known(program.run(feeds)) for feeds in self._feeds])

    def _judged(self, got: Answers) -> Judged:
        error = METRICS["l2"].loss(self._wanted, got)
        loss = error if self.metric is METRICS["l2"] else self.metric.loss(self._wanted, got)
        return Judged(error, loss, self._doubt(got) if isfinite(loss) else 0.0)

    def _doubt(self, got: Answers) -> float:
        """The standard error of the mean of what each sample loses."""
        if len(got) < 2 or self.metric not in METRICS.values():
            return 0.0
        losses = [self.metric.loss([a], [b]) for a, b in zip(self._wanted, got, strict=True)]
        return stdev(losses) / sqrt(len(losses))

    def _answers(self, graph: Graph) -> Answers:
        found = [self._known(dict(zip(graph.output_names, each, strict=True))) for each in answers_of(graph, self._feeds)]
        trim_heap()  # the reference has had all weights once more
        return found

    def _known(self, outputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {name: outputs[name] for name in self._names}


def answers_of(graph: Graph, feeds: Iterable[Feeds]) -> list[list[Any]]:
    """What the reference makes of each of the feeds, in one session. Raises EvaluationError where it does not run."""
    evaluator = evaluator_of(graph, physical_cores())
    return [evaluator.run(each) for each in feeds]

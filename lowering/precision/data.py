"""The data of a search: samples to learn from, and samples held back to judge by.

Law: what is wrong with the data is said before any work is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from irc.ir import Graph
from irc.runtime import read_inputs

from ..calibration import Calibration, Sample, read_calibration
from ..job import Job
from ..signatures import input_entries

MOST_LEARNT = 128
"""Samples that ranges are found from."""
MOST_HELD = 8
"""Samples held back that a distance is measured on; a share, such as accuracy, is measured on all."""


@dataclass(frozen=True)
class Data:
    """Samples to learn from, those held back with what lies beside them, what they are, and what to know of them."""

    learnt: Calibration
    held: Sequence[Sample]
    origin: str
    warnings: Sequence[str]

    @property
    def feeds(self) -> list[Mapping[str, Any]]:
        """What is held back, as the model is fed."""
        return [each.feeds for each in self.held]

    @property
    def labels(self) -> list[Mapping[str, Any]]:
        """What lies beside the samples held back."""
        return [each.labels for each in self.held]


def read_data(graph: Graph, job: Job) -> Data:
    """The data that the options give, else what came with the model, else made-up ones.

    Raises UsageError for what does not fit the model.
    """
    options, entries = job.options, input_entries(graph)

    def progress(done: int, whole: int) -> None:
        for instrument in job.instruments:
            instrument.heard(f"reading sample {done}" + (f" of {whole}" if whole else ""))

    given = options.calib
    if given is None and options.inputs is not None:
        given = [read_inputs(entries, options.inputs)]
    elif given is None and job.examples is not None:
        given = [job.examples]
    calibration = read_calibration(given, entries, graph=graph, progress=progress)
    learnt, held = calibration.split()
    counted = callable(options.metric) or options.metric == "top1"
    held = held if counted else held.evenly(MOST_HELD)
    warnings = [each for each in dict.fromkeys((learnt.warning, held.warning)) if each]
    return Data(learnt.evenly(MOST_LEARNT), list(held.samples()), f"{len(held)} of {calibration.origin}", warnings)

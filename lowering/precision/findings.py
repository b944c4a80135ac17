"""What a search has found out, kept in the cache after every step, so that one that was cut off goes on where it was.

Law: a finding is kept under all that it depends on: the model with its weights, the samples, the machine and the versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from irc.ir import Graph
from irc.passes.precision import Form
from irc.runtime import ArtifactError, parse_object, read_entry, write_entry

from ..job import Job
from ..tuning.records import key_of
from .judge import Judged
from .knowledge import Knowledge


@dataclass
class Findings:
    """Errors by `pattern|form`; by engine milliseconds of runs by form or selection, and of patterns by `pattern|form`.

    What the model loses as a whole with the forms of its sites, `judged`, and what programs of selections lose by engine and
    selection, `programs`, are not kept: it may be by another metric next time.
    """

    key: str
    errors: dict[str, float] = field(default_factory=dict[str, float])
    times: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    learnt: str = ""
    judged: dict[tuple[Form, ...], Judged] = field(default_factory=dict[tuple[Form, ...], Judged], compare=False)
    programs: dict[tuple[str, str], Judged] = field(default_factory=dict[tuple[str, str], Judged], compare=False)

    def keep(self) -> None:
        """Keep everything; a cache that cannot be written is no hindrance."""
        write_entry(self.key, json.dumps({"errors": self.errors, "times": self.times, "learnt": self.learnt}).encode())

    def learn(self, knowledge: Knowledge) -> None:
        """Forget errors of integers, and times with ranges of each run, that were found while something else was known."""
        known = list(knowledge.ranges.values()), knowledge.corrects_biases, list(knowledge.varying.values())
        state = hashlib.sha256(repr(known).encode())
        for weights in knowledge.weights.values():
            state.update(weights.steps.tobytes())
        if state.hexdigest() != self.learnt:
            self.learnt = state.hexdigest()
            forms = {Form.INT8.value, Form.DYNAMIC_INT8.value}
            self.errors = {name: error for name, error in self.errors.items() if name.rpartition("|")[2] not in forms}
            for times in self.times.values():
                for name in [each for each in times if Form.DYNAMIC_INT8.value in each.split("|")]:
                    del times[name]


def named(pattern: str, form: Form) -> str:
    """The key of a pattern in a form."""
    return f"{pattern}|{form.value}"


def conversions_in(pattern: str, form: str) -> str:
    """The key of the number of kernels of a pattern that only convert, where all is in a form."""
    return f"{pattern}|{form}|conversions"


def digest_of(forms: Mapping[str, Form]) -> str:
    """The key of a selection of forms by pattern."""
    text = repr(sorted((pattern, form.value) for pattern, form in forms.items()))
    return f"selection {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def recall(model: Graph, job: Job, samples: Iterable[Mapping[str, Any]]) -> Findings:
    """What was found before for the same, whatever the budget was, or nothing."""
    several = list(samples)
    digest = hashlib.sha256(key_of(model, replace(job.options, tune_budget=0.0), job.target, several[0]).encode())
    for op in model.walk():
        if op.is_constant:
            digest.update(op.value.digest.encode())
    for feeds in several:
        for name in sorted(feeds):
            digest.update(name.encode() + np.asarray(feeds[name]).tobytes())
    key = f"precision-{digest.hexdigest()[:32]}.json"
    entry = read_entry(key)
    return Findings(key) if entry.content is None else _read(entry.content, key)


def _read(content: bytes, key: str) -> Findings:
    try:
        fields = parse_object(content, key)
        errors = _numbers(fields.values("errors"))
        times = {name: _numbers(each) for name, each in fields.values("times").items() if isinstance(each, dict)}
        learnt = fields.text("learnt")
        fields.finish()
    except ArtifactError:  # it is found again
        return Findings(key)
    return Findings(key, errors, times, learnt)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, int | float)}

"""A graph in, the fastest program out, within a budget of seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from irc.ir import Graph, IrcError, clone_graph
from irc.passes import registry
from irc.runtime import Decision, Program, RunError

from ..block_checks import at_block_sizes
from ..compiled import Compiled, Timing
from ..job import Job
from ..verification import Agreement, Probe, allowing, check, probe_of
from .building import Builder, Built
from .candidates import KERNELS_OF_LOWER_PRECISION, first_candidates, named
from .records import Record, keep, key_of, recall
from .search import Search, why_not_measurable


def tune(graph: Graph, job: Job) -> Compiled | str:
    """The fastest program of a graph, which is left as it is, or why nothing can be measured.

    The budget counts from when the model was opened. Raises UsageError for inputs that do not fit the model.
    """
    options, target, captured_in = job.options, job.target, job.captured_in
    deadline = time.monotonic() - captured_in + options.tune_budget
    pristine = clone_graph(graph)
    probe = allowing(probe_of(pristine, options.inputs, job.examples), job.allowance)
    reason = why_not_measurable(probe)
    if reason or isinstance(probe, str):
        return reason
    known = registry(options.load)
    builder = Builder(pristine, options, target, known, job.instruments, job.source, job.strictest)
    key = key_of(pristine, options, target, probe.feeds)
    record, note = recall(key)
    if record is not None:
        known = _from(record, builder, job, pristine, probe)
        if known is not None:
            return known
        note = "what was measured before does not hold any more, so it was measured again"
    preferred = KERNELS_OF_LOWER_PRECISION if job.allowance else ()
    candidates = first_candidates(options, target, preferred)
    found = Search(builder, pristine, probe, deadline, job.instruments).run(candidates)
    if isinstance(found, str):
        return found
    start = time.perf_counter()
    built = _decided(found.built, found.decisions)
    try:
        program = built.load()
    except RunError as error:
        return f"{built.candidate.name} ran in a process of its own, but not in this one: {error.message}"
    agreement = found.agreement
    in_blocks = at_block_sizes(probe, pristine, built.graph, [built.candidate.engine], target)
    if isinstance(in_blocks, Probe) and in_blocks.more:
        agreement = check(program, pristine, in_blocks)
        if not agreement.agrees:
            program.close()
            return f"{built.candidate.name} won, but with another number of entries it {agreement.sentence}"
    kept = found.note or keep(key, Record(built.candidate.name, found.decisions, built.candidate.setting))
    notes = [each for each in (note, kept) if each]
    return _compiled(built, program, agreement, found.decisions, notes, captured_in, time.perf_counter() - start)


def _from(record: Record, builder: Builder, job: Job, graph: Graph, probe: Probe) -> Compiled | None:
    """The winner of an earlier search, where it can still be built and still has the right answers."""
    candidate = named(record.winner, job.options, job.target)
    if candidate is None:
        return None
    try:
        candidate = replace(candidate, name=record.winner, setting=record.setting)
        built = _decided(builder.build(candidate), record.decisions)
        start = time.perf_counter()
        program = built.load()
    except (IrcError, RunError):  # it is searched again, and what is wrong is said there
        return None
    in_blocks = at_block_sizes(probe, graph, built.graph, [built.candidate.engine], job.target)
    agreement = check(program, graph, in_blocks if isinstance(in_blocks, Probe) else probe)
    if not agreement.agrees:
        program.close()
        return None
    return _compiled(built, program, agreement, record.decisions, [], job.captured_in, time.perf_counter() - start)


def _decided(built: Built, decisions: Sequence[Decision]) -> Built:
    return replace(built, manifest=replace(built.manifest, decisions=tuple(decisions)))


def _compiled(
    built: Built,
    program: Program,
    agreement: Agreement,
    decisions: Sequence[Decision],
    notes: Sequence[str],
    captured_in: float,
    loaded_in: float,
) -> Compiled:
    timing = Timing(captured_in, built.passes_took, built.lowering_took, loaded_in)
    return Compiled(program, built.graph, built.records, timing, agreement, notes, built.forms, decisions=decisions)

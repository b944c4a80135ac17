"""What the sites of a model take on an engine: its kernels are timed in a run, and each is traced back to the sites it is for.

Law: programs that are compared are timed in turns, and a pattern's time is the least of its turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from irc.ir import Graph, IrcError, cost_of
from irc.passes import Contract, registry
from irc.passes.precision import patterns, sites
from irc.runtime import EngineFailure, Profile, Program, RunError

from ..engine import Engine
from ..job import Job
from ..tuning.building import Builder
from ..tuning.candidates import Candidate

Origins: TypeAlias = "Mapping[str, Sequence[str]]"
TURNS = 2
SECONDS = 0.6
"""How long a program runs in a turn."""
FEWEST_RUNS, MOST_RUNS = 4, 200
CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "FakeQuantize", "Convert"})
"""Ops that do nothing but change a precision; most engines let other kernels do their work."""


@dataclass(frozen=True)
class Times:
    """Milliseconds of a whole run, and of the kernels of each pattern; how many kernels of each do nothing but convert."""

    whole: float
    by_pattern: Mapping[str, float]
    conversions: Mapping[str, int] = field(default_factory=dict[str, int])


def origins_of(model: Graph) -> Origins:
    """The patterns whose sites have an origin, by origin; most have one."""
    found: dict[str, dict[str, None]] = {}
    for name, alike in patterns(sites(model)).items():
        for site in alike:
            for origin in site.op.location.flatten()[0]:
                found.setdefault(origin, {})[name] = None
    return {origin: tuple(names) for origin, names in found.items()}


def build(graph: Graph, engine: Engine, job: Job) -> Program | str:
    """The program of a graph on an engine, by rules, or why there is none."""
    options = replace(job.options, engine=engine.name, precision=None)
    setting = engine.settings(2, job.target)[0]
    try:
        builder = Builder(graph, options, job.target, registry(options.load), (), None, Contract.LOSSY)
        return builder.build(Candidate(engine.name, engine, setting)).load()
    except (IrcError, RunError) as error:
        return error.message


def timed_in_turns(programs: Sequence[Program], feeds: Mapping[str, Any], model: Graph) -> list[Times]:
    """The times of programs made of one model. Raises EngineFailure where one fails.

    Where an engine keeps no times of kernels, as on a GPU, the whole is shared out by the arithmetic of the sites.
    """
    origins = origins_of(model)
    runs = [_runs(program, feeds) for program in programs]
    turns: list[list[Times]] = [[] for _ in programs]
    for _ in range(TURNS):
        for index, program in enumerate(programs):
            try:
                turns[index].append(times_of(program.profile(dict(feeds), runs[index]), origins))
            except EngineFailure:
                turns[index].append(_shared_out(program, feeds, runs[index], model))
    return [_least(each) for each in turns]


def _runs(program: Program, feeds: Mapping[str, Any]) -> int:
    program.run(feeds)
    begin = time.perf_counter()
    program.run(feeds)
    return max(FEWEST_RUNS, min(MOST_RUNS, int(SECONDS / max(time.perf_counter() - begin, 1e-6))))


def _shared_out(program: Program, feeds: Mapping[str, Any], runs: int, model: Graph) -> Times:
    took: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        program.run(feeds)
        took.append(time.perf_counter() - begin)
    whole = 1e3 * statistics.median(took)
    flops = {name: sum(cost_of(site.op).flops for site in alike) for name, alike in patterns(sites(model)).items()}
    total = sum(flops.values()) or 1
    return Times(whole, {name: whole * each / total for name, each in flops.items()})


def times_of(profile: Profile, origins: Origins) -> Times:
    """A profile by patterns: a kernel for several of them counts to each alike, one for none only to the whole."""
    found: dict[str, float] = {}
    conversions: dict[str, int] = {}
    for kernel in profile.kernels:
        known = (origins.get(origin, ()) for source in kernel.sources for origin in source.origins)
        several = list(dict.fromkeys(name for names in known for name in names))
        for name in several:
            found[name] = found.get(name, 0.0) + kernel.ms / len(several)
            if kernel.op in CONVERSIONS:
                conversions[name] = conversions.get(name, 0) + 1
    return Times(profile.run_ms, found, conversions)


def _least(turns: Iterable[Times]) -> Times:
    each = list(turns)
    names = {name for times in each for name in times.by_pattern}
    least = {name: min(times.by_pattern.get(name, 0.0) for times in each) for name in sorted(names)}
    return Times(min(times.whole for times in each), least, each[0].conversions)

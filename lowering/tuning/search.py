"""The search of O3: candidates are built, race in processes of their own, and the fastest with the right answers is kept.

Law: whatever happens on the way, an interrupt included, the result is a program that was checked against the reference, and
the report has every candidate with its time, its error, and why it lost.
"""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from irc.ir import Graph, IrcError
from irc.passes import Instrument
from irc.runtime import (
    FEWEST_ROUNDS,
    Contestant,
    Decision,
    EngineFailure,
    Fate,
    Race,
    RunError,
    Runner,
    Workload,
    no_scratch,
    scratch_folder,
    write_arrays,
    write_passing_folder,
)

from ..engine import Tunable
from ..verification import Agreement, Probe, check_answers
from .building import Builder, Built
from .candidates import SHORT, Candidate, alternatives, split_candidate, with_one_thread
from .kernels import Bench, KernelSearch
from .splits import WORTH_IT

ROUND_SECONDS = 0.25
"""How long a candidate runs in a turn; three times at least."""


@dataclass(frozen=True)
class Found:
    """The candidate that won, what the check said of it, and what became of all, in the order they were tried."""

    built: Built
    agreement: Agreement
    decisions: Sequence[Decision]
    note: str = ""


def why_not_measurable(probe: Probe | str) -> str:
    """Why programs cannot be run on the probe in another process, empty when they can."""
    if isinstance(probe, str):
        return probe
    if all(is_plain(value) for value in (*probe.feeds.values(), *probe.answers)):
        return ""
    return "it takes or gives what is no array of numbers"


def is_plain(value: object) -> bool:
    """Whether a value is an array of numbers, which another process can be given."""
    return isinstance(value, np.ndarray) and value.dtype.kind in "biufc"  # pyright: ignore[reportUnknownMemberType]


FOR_KERNELS = 0.6
"""The share of what is left of the time that the last turns leave for trying the kernels of who is ahead in other ways."""

INTERRUPTED = "the search was interrupted, and the best so far is kept"

SPLIT_BUILDS = 4
"""How many times the longest build a split may take: its parts on each engine, to be measured, and then the whole."""


class Search:
    """One search for the fastest program of a graph."""

    def __init__(
        self, builder: Builder, graph: Graph, probe: Probe, deadline: float, instruments: Sequence[Instrument]
    ) -> None:
        """`graph` is as captured, `probe` what it answers; at `deadline`, a time of `time.monotonic`, the search is over."""
        self._builder = builder
        self._graph = graph
        self._probe = probe
        self._deadline = deadline
        self._instruments = instruments
        self._built: dict[str, Built] = {}
        self._agreements: dict[str, Agreement] = {}
        self._places: dict[str, Path] = {}
        self._longest: dict[str, float] = {}

    def run(self, candidates: Iterator[Candidate]) -> Found | str:
        """The best of `candidates` and of the alternatives to those still in after them; or why there is none."""
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(scratch_folder("tuning"))
                inputs = self._write_inputs(folder)
            except EngineFailure as error:
                return str(error)
            workload = Workload(inputs=inputs, seconds=ROUND_SECONDS)
            note = ""
            with Race(workload, self._judge, folder, self._deadline) as race:
                try:
                    self._hold(race, candidates, folder)
                except KeyboardInterrupt:
                    if race.best is None:
                        raise
                    note = self._interrupted()
                winner = race.best
                if winner is None:
                    return _why_nobody(race.runners)
                found = self._found(race, winner.name, note)
            return found if note else self._with_kernels(found, workload, folder)

    def _interrupted(self) -> str:
        self._tell(INTERRUPTED)
        return INTERRUPTED

    def _with_kernels(self, found: Found, workload: Workload, folder: Path) -> Found:
        """What was found, its kernels in the ways that are fastest, where its engine has a choice and there is time."""
        built = found.built
        bench = Bench(
            self._builder,
            self._agreement,
            self._tell,
            workload,
            folder,
            self._deadline,
            self._longest[built.candidate.engine.name],
        )
        search = KernelSearch(bench, built, self._places[built.candidate.name])
        note, chosen = "", None
        try:
            chosen = search.run()
        except KeyboardInterrupt:
            note = self._interrupted()
        decisions = [*found.decisions, *search.decisions]
        if chosen is None:
            return replace(found, decisions=decisions, note=note)
        decisions = [
            replace(each, fate=Fate.SLOWER.value) if each.candidate == built.candidate.name else each for each in decisions
        ]
        return Found(chosen.built, chosen.agreement, decisions)

    def _write_inputs(self, folder: Path) -> Path:
        inputs = folder / "inputs.npz"
        try:
            write_arrays(inputs, dict(self._probe.feeds))
        except OSError as error:
            raise no_scratch(folder.parent, error) from error
        return inputs

    def _tell(self, event: str) -> None:
        for instrument in self._instruments:
            instrument.heard(event)

    def _hold(self, race: Race, candidates: Iterator[Candidate], folder: Path) -> None:
        for candidate in candidates:
            self._enter(race, candidate, folder)
        for name in [runner.name for runner in race.still_in]:
            built = self._built.get(name)  # it may have left meanwhile
            for candidate in alternatives(built.candidate, built.applied) if built is not None else ():
                self._enter(race, candidate, folder)
        self._try_one_thread(race, folder)
        self._try_split(race, folder)
        best = self._built.get(race.best.name) if race.best is not None else None
        race.finish(FOR_KERNELS * race.time_left if best is not None and isinstance(best.candidate.engine, Tunable) else 0.0)

    def _try_one_thread(self, race: Race, folder: Path) -> None:
        """Let those still in enter once more on one thread, where a run is short and nobody said how many to use."""
        best = race.best
        if best is None or (best.milliseconds or SHORT) >= SHORT or self._builder.has_threads:
            return
        for built in [self._built[runner.name] for runner in race.still_in if runner.name in self._built]:
            self._enter(race, with_one_thread(built.candidate), folder)

    def _try_split(self, race: Race, folder: Path) -> None:
        """Let the best split enter, where the program is long enough for one to pay and there is time to measure its parts."""
        best = race.best
        longest = max(self._longest.values(), default=0.0)
        if best is None or (best.milliseconds or 0.0) < WORTH_IT or race.time_left < SPLIT_BUILDS * longest:
            return
        self._tell("measuring parts")
        parts = folder / "parts"
        parts.mkdir()
        try:
            split = self._builder.split(self._probe.feeds, parts)
        except (IrcError, RunError) as error:
            race.absent("split", Fate.FAILED, error.message)
            return
        finally:
            shutil.rmtree(parts, ignore_errors=True)
        if split is not None:
            self._enter(race, split_candidate(split), folder)

    def _enter(self, race: Race, candidate: Candidate, folder: Path) -> None:
        """Build a candidate and let it take its first turn, where there is time to build it as long as its engine ever took.

        And for as many turns after it as a verdict needs: a candidate that is built last must not keep the others from theirs.
        """
        engine = candidate.engine.name
        others = max(self._longest.values(), default=0.0)
        longest = self._longest.get(engine) or max(others, self._builder.seconds_to_build(candidate))
        if race.runners and race.time_left < longest + FEWEST_ROUNDS * race.turn_seconds:
            race.absent(candidate.name, Fate.UNMEASURED)
            return
        begin = time.monotonic()
        self._tell(f"building {candidate.name}")
        try:
            built = self._builder.build(candidate)
            place = folder / f"{len(race.runners)}.irc"
            write_passing_folder(place, built.manifest, built.to_chunks())
        except (IrcError, RunError) as error:
            cause = error.__cause__
            refused = no_scratch(folder.parent, cause) if isinstance(cause, OSError) else None
            race.absent(candidate.name, Fate.FAILED, str(refused) if refused else error.message)
            return
        finally:
            self._longest[engine] = max(self._longest.get(engine, 0.0), time.monotonic() - begin)
        self._built[candidate.name], self._places[candidate.name] = built, place
        runner = race.enter(Contestant(candidate.name, place))
        if runner.fate is Fate.AS_FAST:
            race.turn()
        self._forget(race)
        self._tell(", ".join(f"{each.name} {each.milliseconds:.3g} ms" for each in race.still_in if each.milliseconds))

    def _forget(self, race: Race) -> None:
        """Let go of the files of those who left."""
        names = {runner.name for runner in race.still_in}
        self._built = {name: built for name, built in self._built.items() if name in names}
        for name in self._places.keys() - names:
            shutil.rmtree(self._places.pop(name), ignore_errors=True)

    def _judge(self, contestant: Contestant, outputs: Path) -> str:
        agreement = self._agreement(contestant, outputs)
        self._agreements[contestant.name] = agreement
        return "" if agreement.agrees else f"it {agreement.sentence}"

    def _agreement(self, contestant: Contestant, outputs: Path) -> Agreement:
        """What the check says of the outputs that a contestant left. Raises EngineFailure."""
        try:
            with np.load(outputs, allow_pickle=False) as arrays:
                answers: Mapping[str, Any] = {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise EngineFailure("what it answered cannot be read back") from error
        return check_answers(answers, self._graph, self._probe)

    def _found(self, race: Race, winner: str, note: str) -> Found:
        decisions: list[Decision] = []
        for runner in race.runners:
            agreement = self._agreements.get(runner.name)
            error = None if agreement is None else agreement.distance
            fate = Fate.WON if runner.name == winner else runner.fate
            if fate is Fate.AS_FAST and not runner.times:
                fate = Fate.UNMEASURED
            decisions.append(Decision(runner.name, runner.milliseconds, error, fate.value, runner.why))
        return Found(self._built[winner], self._agreements[winner], decisions, note)


def _why_nobody(runners: Sequence[Runner]) -> str:
    """Why no candidate is left, from what became of all."""
    failed = next((each for each in runners if each.fate is Fate.FAILED), None)
    reasons = ["no candidate has the right answers"] if any(each.fate is Fate.WRONG for each in runners) else []
    if failed is not None:
        reasons.append(f"{failed.name} failed: {failed.why}")
    return "; ".join(reasons) or "no candidate was ready within the budget (give more with --tune-budget)"

"""The winner's kernels in other ways: each is tried in place, and keeps what was clearly fastest for it.

Method: in a trial every kernel that counts is made in its next other way, so there are as many programs to build as ways,
however many kernels there are. A trial takes turns with the usual program, each in a process of its own, and kernels are
compared within a turn. What is chosen is then measured as a whole.

Law: a program is only replaced by one whose answers were checked, and that was certainly faster as a whole.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from irc.ir import IrcError
from irc.runtime import (
    FEWEST_ROUNDS,
    LIBRARY_FILE,
    NATIVE_PLAN_FILE,
    Contestant,
    Decision,
    Fate,
    NativePlan,
    RunError,
    Timed,
    Verdict,
    Workload,
    compare,
    write_passing_folder,
)

from ..engine import Tunable
from ..verification import Agreement
from .building import Builder, Built
from .candidates import Candidate, with_measured_kernels

T = TypeVar("T")

TURNS = 5
"""Turns of a trial; one more than a verdict needs, as one may be disturbed."""
LAST_TURNS = 8
"""Turns in which what was chosen has to show that it is faster as a whole."""
COUNTS = 0.01
"""The share of the time of all kernels from which on a kernel is worth a trial."""
MOST_KERNELS = 48
"""Kernels that are tried, those that take longest."""
BUILT_IN_PART = 0.5
"""The share of the longest build so far that a trial takes at least: only some kernels are made otherwise."""
KNOWN = 0.4
"""The share of the time of a build that it takes where its kernels are in the cache."""
RUNS_A_TURN = 4
"""Runs that a turn has at least, the one in front included."""


@dataclass(frozen=True)
class Tried:
    """A way of a kernel: milliseconds of a run that it took in each turn, and what the usual way took in the same turns."""

    key: str
    way: str
    times: Sequence[float]
    usual_way: str
    usual_times: Sequence[float]


def choose(tried: Sequence[Tried]) -> dict[str, Tried]:
    """For each kernel, by its key, the way that was fastest of those clearly faster than the usual one, if any was."""
    best: dict[str, tuple[float, Tried]] = {}
    for each in tried:
        found = compare(each.way, each.times, each.usual_way, each.usual_times)
        if found.verdict is Verdict.FASTER and found.ratio > best.get(each.key, (0.0, each))[0]:
            best[each.key] = found.ratio, each
    return {key: each for key, (_, each) in best.items()}


def keys_that_count(times: Mapping[str, float], everything: float) -> list[str]:
    """The keys of the kernels that take a share of COUNTS of `everything`, longest first."""
    longest = sorted(times, key=lambda key: (-times[key], key))
    return [key for key in longest[:MOST_KERNELS] if times[key] >= COUNTS * everything]


def is_faster(times: Sequence[float], usual: Sequence[float]) -> bool:
    """Whether a program is faster than the usual one by paired turns, for certain, by however little."""
    return compare("", times, "", usual).low > 1.0


def in_turns(usual: Callable[[], T], other: Callable[[], T], count: int, until: float = math.inf) -> list[tuple[T, T]]:
    """What both say in each turn; who begins changes, as who comes after the other may find the machine warm, or busy.

    After `until`, a time of `time.monotonic`, there are no more turns than a verdict needs.
    """
    turns: list[tuple[T, T]] = []
    for number in range(count):
        if number >= FEWEST_ROUNDS and time.monotonic() > until:
            break
        if number % 2:
            late = other()
            turns.append((usual(), late))
        else:
            turns.append((usual(), other()))
    return turns


def ways_of(built: Built) -> dict[str, tuple[str, str]]:
    """The key and the way of each kernel of a program that could be made otherwise, by its name, in all pieces of it."""
    files = (part.files for part in (built.files, *built.files.parts.values()))
    plans = [NativePlan.from_bytes(b"".join(own[NATIVE_PLAN_FILE])) for own in files if LIBRARY_FILE in own]
    parted = {step.kernel: step.way.partition(" ") for plan in plans for step in plan.steps if step.way}
    return {kernel: (key, way) for kernel, (key, _, way) in parted.items()}


def by_key(times: Mapping[str, float], ways: Mapping[str, tuple[str, str]]) -> dict[str, float]:
    """Times of kernels, summed up for those of one key."""
    summed: dict[str, float] = {}
    for kernel, milliseconds in times.items():
        if kernel in ways:
            summed[ways[kernel][0]] = summed.get(ways[kernel][0], 0.0) + milliseconds
    return summed


@dataclass(frozen=True)
class Chosen:
    """The program of the kernels that were chosen, and what the check said of it."""

    built: Built
    agreement: Agreement


@dataclass(frozen=True)
class Bench:
    """Where programs are measured: what builds them, what checks their answers, and until when; `seconds` a build takes."""

    builder: Builder
    check: Callable[[Contestant, Path], Agreement]
    tell: Callable[[str], None]
    workload: Workload
    folder: Path
    deadline: float
    seconds: float


class KernelSearch:
    """One search for the fastest ways of the kernels of a program; `decisions` tells of all that was tried."""

    def __init__(self, bench: Bench, usual: Built, place: Path) -> None:
        """`place` is the artifact of the `usual` program."""
        self._bench = bench
        self._usual = usual
        self._place = place
        self._ways = ways_of(usual)
        self._build_seconds = bench.seconds
        self._start_seconds = 0.0
        self._run_seconds = 0.0
        self.decisions: list[Decision] = []

    def run(self) -> Chosen | None:
        """The program with the ways that were chosen, if it is faster."""
        candidate, engine = self._usual.candidate, self._usual.candidate.engine
        if not isinstance(engine, Tunable) or not self._ways:
            return None
        first = replace(candidate, name=f"{candidate.name}, other kernels 1")
        if self._seconds_left < self._trial_seconds:
            self._note(first, Fate.UNMEASURED)
            return None
        try:
            with self._timed(candidate.name, self._place) as (usual, _):
                best = choose(list(self._tried(engine, usual)))
        except RunError as error:
            self._failed(first, error, self._bench.deadline)
            return None
        return self._whole(engine, best) if best else None

    @property
    def _seconds_left(self) -> float:
        """Seconds until what was chosen has to be built, of kernels that are there by then, and measured."""
        last = KNOWN * self._build_seconds + self._measuring(LAST_TURNS, 2)
        return self._bench.deadline - time.monotonic() - last

    @property
    def _trial_seconds(self) -> float:
        return BUILT_IN_PART * self._build_seconds + self._measuring(TURNS, 1)

    def _measuring(self, turns: int, starts: int) -> float:
        """Seconds that two programs take for their turns, of which so many have to start."""
        turn = max(self._bench.workload.seconds + 2 * self._run_seconds, RUNS_A_TURN * self._run_seconds)
        return starts * self._start_seconds + 2 * turns * turn

    def _tried(self, engine: Tunable, usual: Timed) -> Iterator[Tried]:
        """Every other way of the kernels that count, while there is time."""
        took = usual.kernels()
        self._run_seconds = sum(took.values()) / 1e3
        keys = keys_that_count(by_key(took, self._ways), sum(took.values()))
        for number in range(1, engine.trials + 1) if keys else ():
            until = time.monotonic() + self._seconds_left
            name = f"{self._usual.candidate.name}, other kernels {number}"
            candidate = replace(self._usual.candidate, name=name, engine=engine.trial(number, keys, until))
            if self._seconds_left < self._trial_seconds:
                self._note(candidate, Fate.UNMEASURED)
                return
            try:
                found = self._trial(candidate, usual, keys)
            except (IrcError, RunError) as error:
                if self._failed(candidate, error, until):
                    return
                continue
            if found is None:
                return
            yield from found

    def _trial(self, candidate: Candidate, usual: Timed, keys: Sequence[str]) -> list[Tried] | None:
        """Kernels in another way beside the usual program; None where none of them has another. Raises as engines do."""
        with self._built(candidate) as (built, place):
            ways = ways_of(built)
            own, usual_ways = dict(ways.values()), dict(self._ways.values())
            changed = [key for key in keys if own.get(key, usual_ways[key]) != usual_ways[key]]
            if not changed:
                return None
            with self._timed(candidate.name, place) as (trial, agreement):
                if not agreement.agrees:
                    self._note(candidate, Fate.WRONG, agreement=agreement)
                    return []
                turns = in_turns(usual.kernels, trial.kernels, TURNS)
        whole, usual_whole = [sum(took.values()) for _, took in turns], [sum(took.values()) for took, _ in turns]
        self._run_seconds = max(self._run_seconds, max(whole) / 1e3, max(usual_whole) / 1e3)
        slower = compare(candidate.name, whole, "", usual_whole).verdict is Verdict.SLOWER
        self._note(candidate, Fate.SLOWER if slower else Fate.AS_FAST, "", statistics.median(whole), agreement)
        times = [(by_key(took, self._ways), by_key(own_took, ways)) for took, own_took in turns]
        return [
            Tried(key, own[key], [after[key] for _, after in times], usual_ways[key], [before[key] for before, _ in times])
            for key in changed
        ]

    def _whole(self, engine: Tunable, best: Mapping[str, Tried]) -> Chosen | None:
        """The program with all that was chosen, if it is faster than the usual one."""
        usual_name = self._usual.candidate.name
        candidate = with_measured_kernels(self._usual.candidate, engine.chosen({key: each.way for key, each in best.items()}))
        try:
            with (
                self._built(candidate) as (built, place),
                self._timed(usual_name, self._place) as (usual, _),
                self._timed(candidate.name, place) as (program, agreement),
            ):
                if not agreement.agrees:
                    self._note(candidate, Fate.WRONG, agreement=agreement)
                    return None
                turns = in_turns(usual.run, program.run, LAST_TURNS, self._bench.deadline - self._measuring(1, 1))
        except (IrcError, RunError) as error:
            self._failed(candidate, error, self._bench.deadline)
            return None
        times, usual_times = [own for _, own in turns], [own for own, _ in turns]
        slower = Fate.SLOWER if is_faster(usual_times, times) else Fate.AS_FAST
        fate = Fate.WON if is_faster(times, usual_times) else slower
        why = f"{len(best)} {'kernel is' if len(best) == 1 else 'kernels are'} made otherwise"
        self._note(candidate, fate, why, statistics.median(times), agreement)
        if fate is not Fate.WON:
            return None
        self.decisions += [_of_kernel(each) for each in best.values()]
        return Chosen(built, agreement)

    @contextmanager
    def _built(self, candidate: Candidate) -> Generator[tuple[Built, Path]]:
        """A program, and its artifact for as long as the block runs. Raises what building does."""
        self._bench.tell(f"building {candidate.name}")
        begin, place = time.monotonic(), self._bench.folder / "kernels.irc"
        try:
            built = self._bench.builder.build(candidate)
            write_passing_folder(place, built.manifest, built.to_chunks())
            self._build_seconds = max(self._build_seconds, time.monotonic() - begin)
            yield built, place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _timed(self, name: str, place: Path) -> Generator[tuple[Timed, Agreement]]:
        """A program in a process of its own, and what the check says of its answers. Raises EngineFailure."""
        outputs = self._bench.folder / "outputs.npz"
        begin, contestant = time.monotonic(), Contestant(name, place)
        with Timed(contestant, self._bench.workload, outputs, self._bench.deadline) as timed:
            agreement = self._bench.check(contestant, outputs)
            outputs.unlink()
            self._start_seconds = max(self._start_seconds, time.monotonic() - begin)
            yield timed, agreement

    def _failed(self, candidate: Candidate, error: IrcError | RunError, until: float) -> bool:
        """Note a failure; whether it was one for want of time."""
        late = time.monotonic() >= until
        self._note(candidate, Fate.UNMEASURED if late else Fate.FAILED, "" if late else error.message)
        return late

    def _note(
        self,
        candidate: Candidate,
        fate: Fate,
        why: str = "",
        milliseconds: float | None = None,
        agreement: Agreement | None = None,
    ) -> None:
        if agreement is not None and not agreement.agrees:
            why = f"it {agreement.sentence}"
        error = None if agreement is None else agreement.distance
        self.decisions.append(Decision(candidate.name, milliseconds, error, fate.value, why))


SHORT = 32
"""Letters of a way that the report has."""
KEPT = "kept"
"""What became of a way of a kernel that was chosen."""


def _of_kernel(each: Tried) -> Decision:
    usual = statistics.median(each.usual_times)
    name = f"kernel {each.key} as {_short(each.way)}"
    return Decision(name, statistics.median(each.times), None, KEPT, f"{usual:.3f} ms as {_short(each.usual_way)}")


def _short(way: str) -> str:
    """A way for people to read; the setting has all of it."""
    return way if len(way) <= SHORT else f"{way[: SHORT - 1]}…"


__all__ = [
    "Bench",
    "Chosen",
    "KernelSearch",
    "Tried",
    "by_key",
    "choose",
    "in_turns",
    "is_faster",
    "keys_that_count",
    "ways_of",
]

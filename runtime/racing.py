"""A race for the fastest of several programs: a process each, in turns, losers leave as soon as it is certain that they lose.

Law: who is left never depends on who was measured in a good minute, because times are only compared within a turn. No wait
outlasts the deadline, whatever a contestant does: there the turn that is on does not count.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from .errors import EngineFailure
from .measuring import Contestant, Round, Workload, arguments
from .strict_json import Fields
from .verdict import FEWEST_ROUNDS, Verdict, compare
from .workers import Late, Worker, no_interrupt

HOPELESS = 1.5
"""How many times the best one's shortest turn a contestant may take in two. One would not do:
the first of a program of 8 ms has been seen to take 18."""
LEAD = 0.9
"""The share of the leader's time that who has hardly run has to stay under, to be ahead of it."""
MOST_ROUNDS = 16
"""Turns after which those still in are as fast as each other, for all that can be told."""
SHARE = 0.5
"""The part of the time left that a later contestant may take until it is ready: one that hangs does not end the race."""
SLOWEST_START = 3.0
"""How many times as long as the slowest so far it may take in any case."""
PATIENCE = 10.0
"""How many times as long as expected a turn may take before its contestant is given up."""


class Fate(Enum):
    """How a contestant left the race; the value is how it is printed."""

    WON = "won"
    AS_FAST = "no slower beyond noise"
    SLOWER = "slower"
    WRONG = "wrong"
    FAILED = "failed"
    UNMEASURED = "no time was left"


@dataclass(slots=True)
class Runner:
    """A contestant in a race: its times in milliseconds, a median for each turn, and what became of it.

    `why` says more about a fate: what failed, or how far the answers are off.
    """

    name: str
    fate: Fate = Fate.UNMEASURED
    why: str = ""
    times: list[float] = field(default_factory=list[float])

    @property
    def milliseconds(self) -> float | None:
        """The median over its turns, None before the first."""
        return statistics.median(self.times) if self.times else None


_FEWEST_RUNS = 4
"""Runs that a turn has at least, the one in front included."""


@dataclass(frozen=True, slots=True)
class _Start:
    """How long a contestant took to load and to run once, in seconds."""

    loading: float
    first_run: float

    @staticmethod
    def from_json(fields: Fields) -> _Start:
        load, first = (fields.optional_number(name) or 0.0 for name in ("load_ms", "first_run_ms"))
        return _Start(load / 1e3, first / 1e3)


Judge = Callable[[Contestant, Path], str]
"""Says what is wrong with the outputs that a contestant left in an `.npz` file, and nothing where they are right."""


class Race:
    """A race in which contestants may enter while it is on; as a context manager it leaves no process behind."""

    def __init__(self, workload: Workload, judge: Judge, folder: Path, deadline: float) -> None:
        """`folder` is for the outputs; `deadline` is a time of `time.monotonic` at which the race is over."""
        self._workload = workload
        self._judge = judge
        self._folder = folder
        self._deadline = deadline
        self._stack = ExitStack()
        self._workers: list[Worker] = []
        self._running: dict[str, Worker] = {}
        self._started: dict[str, _Start] = {}
        self._longest_start = 0.0
        self._cut = False
        self.runners: list[Runner] = []

    def __enter__(self) -> Race:
        self._stack.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        for worker in self._workers:
            worker.kill()
        self._stack.close()

    @property
    def time_left(self) -> float:
        """Seconds until the race has to end, so that at the deadline its winner is loaded; 0 when it is over."""
        loading = max((self._started[each].loading for each in self._running), default=0.0)
        return 0.0 if self._cut else max(0.0, self._deadline - loading - time.monotonic())

    @property
    def still_in(self) -> list[Runner]:
        """Who has not left, in the order they entered."""
        return [each for each in self.runners if each.name in self._running]

    @property
    def best(self) -> Runner | None:
        """Who is ahead: whose median is lower than that of whoever was ahead before, over the turns that these two shared.

        Who has run longest comes first; who entered first where none has run yet. Over fewer turns than a verdict needs it has
        to be lower by LEAD: who enters late must not win by one lucky turn.
        """
        ahead: Runner | None = None
        for each in sorted(self.still_in, key=lambda runner: -len(runner.times)):
            if ahead is None:
                ahead = each
                continue
            lead = 1.0 if min(len(each.times), len(ahead.times)) >= FEWEST_ROUNDS else LEAD
            if _median_beside(each, ahead) < lead * _median_beside(ahead, each):
                ahead = each
        return ahead

    @property
    def turn_seconds(self) -> float:
        """How long a turn of everyone still in takes, by what their first runs took."""
        return sum(self._expected(runner) for runner in self.still_in)

    def _expected(self, runner: Runner) -> float:
        return self._workload.seconds + _FEWEST_RUNS * self._started[runner.name].first_run

    def enter(self, contestant: Contestant) -> Runner:
        """Let a contestant load, run once and be judged.

        The first may take all the time there is. Without any it is not started, and stays unmeasured.
        """
        runner = Runner(contestant.name)
        self.runners.append(runner)
        patience = min(self._workload.timeout, self._patience_at_start())
        if not patience:
            return runner
        begin = time.monotonic()
        outputs = self._folder / f"outputs-{len(self.runners)}.npz"
        try:
            with no_interrupt():  # until the process is among those that end with the race
                worker = Worker(contestant.name, [*arguments(contestant, self._workload), "--outputs", str(outputs)])
                self._workers.append(self._stack.enter_context(worker))
        except EngineFailure as error:
            runner.fate, runner.why = Fate.FAILED, error.message
            return runner
        try:
            start = _Start.from_json(worker.answer(patience))
            self._longest_start = max(self._longest_start, time.monotonic() - begin)
            wrong = self._judge(contestant, outputs)
        except Late:
            self._leave(runner, worker, Fate.UNMEASURED, f"it was not ready within {patience:.2g} s")
            return runner
        except EngineFailure as error:
            self._leave(runner, worker, Fate.FAILED, error.message)
            return runner
        finally:
            outputs.unlink(missing_ok=True)
        if wrong:
            self._leave(runner, worker, Fate.WRONG, wrong)
            return runner
        self._running[runner.name] = worker
        self._started[runner.name] = start
        runner.fate = Fate.AS_FAST
        return runner

    def _patience_at_start(self) -> float:
        left = self.time_left
        return max(SHARE * left, min(left, SLOWEST_START * self._longest_start)) if self._running else left

    def absent(self, name: str, fate: Fate, why: str = "") -> None:
        """Note someone who did not come to the start."""
        self.runners.append(Runner(name, fate, why))

    def turn(self) -> None:
        """One turn of everyone still in, after which those who certainly lose leave; without effect at the deadline."""
        taken: list[tuple[Runner, float]] = []
        for runner in self.still_in:
            worker = self._running[runner.name]
            patience = min(PATIENCE * max(1.0, self._expected(runner)), self._workload.timeout)
            worker.ask("go")
            left = self.time_left
            try:
                measured = Round.from_json(worker.answer(min(patience, left)))
            except EngineFailure as error:
                if isinstance(error, Late) and left < patience:
                    self._cut = True  # nobody is asked again: its answer to this turn is still to come
                    return
                self._leave(runner, worker, Fate.FAILED, error.message)
                continue
            taken.append((runner, measured.p50))
        for runner, milliseconds in taken:
            runner.times.append(milliseconds)
        self._drop_losers()

    def finish(self, spare: float = 0.0) -> None:
        """Turns until one is left, or nothing more can be told, or no more than `spare` seconds are left."""
        for _ in range(MOST_ROUNDS):
            if len(self.still_in) < 2 or self.time_left <= spare:
                return
            self.turn()

    def _drop_losers(self) -> None:
        best = self.best
        for runner in self.still_in:
            if best is not None and runner is not best and _loses(runner, best):
                self._leave(runner, self._running[runner.name], Fate.SLOWER)

    def _leave(self, runner: Runner, worker: Worker, fate: Fate, why: str = "") -> None:
        runner.fate, runner.why = fate, why
        self._running.pop(runner.name, None)
        worker.kill()


def _median_beside(runner: Runner, other: Runner) -> float:
    """The median over the turns that it shared with the other one, infinite where there are none."""
    together = min(len(runner.times), len(other.times))
    return statistics.median(runner.times[-together:]) if together else math.inf


def _loses(runner: Runner, best: Runner) -> bool:
    together = min(len(runner.times), len(best.times))
    if not together:
        return False
    mine, its = runner.times[-together:], best.times[-together:]
    if together >= 2 and min(mine) > HOPELESS * min(its):
        return True
    if together < FEWEST_ROUNDS:
        return False
    return compare(runner.name, mine, best.name, its).verdict is Verdict.SLOWER


__all__ = ["Fate", "Judge", "Race", "Runner"]

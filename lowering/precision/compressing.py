"""Compressions, one after another, each on the best so far: kept where within the bound and faster, or, if asked, smaller.

Law: a step that is not kept leaves the graph as it was, and the report says why; errors are those against the original model.
At O3 no step is kept that is slower than the original, whatever it makes smaller.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from irc.ir import EvaluationError, Graph, IrcError, clone_graph, cost_of
from irc.passes import Contract, PassManager
from irc.runtime import EngineFailure, PrecisionRow, RunError

from ..by_rules import compile_by_rules
from ..engines import choose_engine
from ..job import Job
from ..options import CompileOptions
from ..tuning.candidates import usable_engines
from .data import MOST_LEARNT, Data
from .informing import INFORMED, Seen, WithData, seen_by_sites
from .judge import Judge, Judged
from .keeping import Rule
from .learning import Tell
from .lowered import optimized
from .steps import Step, Strength, steps_of
from .tries import IN_F32, Try, byte_count, closed, timed

COMPRESSED = "compressed"
"""What the program is called in which everything is that was kept."""
FOR_STEPS = 0.25
"""The share of the budget of O3 that may be over when another step begins."""

FOR_DATA, TIMES_OBSERVED, FEWEST_LEARNT = 0.3, 8, 4
"""The share of a step's time for learning from samples, of which each takes about as long as so many runs, and a few always."""


@dataclass(frozen=True)
class Compressed:
    """What compression came to: the graph with what was kept, None where nothing was; a row for each step; and notes.

    `met` says whether everything that was said to be so strong is within the bound. `original` and `best` are the programs that
    were compared, closed by now, with the times of the same turns where they were timed.
    """

    graph: Graph | None
    rows: Sequence[PrecisionRow]
    met: bool
    original: Try
    best: Try
    notes: Sequence[str] = ()

    def with_times(self, one: Try) -> Try:
        """A program that was made like one of those that were compared, with its times."""
        like = next((each for each in (self.original, self.best) if each.name == one.name), None)
        return one if like is None else replace(one, times=like.times)


@dataclass(frozen=True)
class Candidate:
    """A graph, what was done to it last, how far it is from the original, and the arithmetic in it."""

    text: str
    graph: Graph
    judged: Judged
    multiply_adds: int


class Refused(Exception):  # noqa: N818  that a step does not pay is no error
    """A step that is not kept; `row` says why, and `unmet` that it was to be so strong, and is beyond the bound then."""

    def __init__(self, row: PrecisionRow, *, unmet: bool = False) -> None:
        super().__init__(row.fate)
        self.row, self.unmet = row, unmet


def _row(text: str, fate: str, judged: Judged | None = None, tried: Try | None = None) -> PrecisionRow:
    if tried is not None:
        return replace(tried.row(fate), name=text)
    return PrecisionRow(text, judged and judged.error, judged and judged.loss, None, None, fate)


def plain(options: CompileOptions) -> CompileOptions:
    """The options of a program by itself: nothing is asked of its precision, and nothing of compression."""
    bounds = replace(options, max_error=None, max_drop=None, metric=None, calib=None)
    return replace(bounds, precision=None, compress=None, smaller=False, block_size=None)


def compress(graph: Graph, job: Job, data: Data, judge: Judge, limit: float, tell: Tell) -> Compressed:
    """Try what the options name on a graph, which stays as it is. Raises as compiling the graph by rules does."""
    return _Compression(graph, job, data, judge, limit, tell).run()


class _Compression:
    """The steps of one compilation: the original program, and the best so far."""

    def __init__(self, graph: Graph, job: Job, data: Data, judge: Judge, limit: float, tell: Tell) -> None:
        options = job.options
        self._graph, self._job, self._data = graph, job, data
        self._judge, self._limit, self._tell = judge, limit, tell
        self._is_tuned = options.opt_level >= 3
        # Without a budget nothing is timed, and what is left to find needs the reference alone.
        self._ends = (
            time.monotonic() + (FOR_STEPS if self._is_tuned else 1.0) * options.tune_budget if options.tune_budget else inf
        )
        self._step_ends = self._ends
        self._engine = options.engine
        self._notes: list[str] = []
        self._unmeasured = self._why_unmeasured()
        self._programs: list[Try] = []
        """The original, and the best so far where that is another."""
        self._rows: list[PrecisionRow] = []
        self._met = True

    def _why_unmeasured(self) -> str:
        """Why nothing can be timed, empty where it can."""
        if not self._job.options.tune_budget:
            return "--tune-budget is 0"
        runs = choose_engine(self._job.options, self._job.target).runs(self._job.target)
        return "" if runs else runs.reason

    def run(self) -> Compressed:
        """All steps."""
        first = self._start()
        self._programs = [self._original()]
        try:
            kept = self._kept(first, steps_of(self._job.options.compress or ""))
        finally:
            for each in self._programs:
                each.compiled.program.close()
        if self._unmeasured:
            self._notes.append(f"no step of compression was timed: {self._unmeasured}")
        graph = None if kept is first else kept.graph
        return Compressed(graph, self._rows, self._met, self._programs[0], self._programs[-1], self._notes)

    def _kept(self, kept: Candidate, steps: Sequence[Step]) -> Candidate:
        """What is left of a graph after all steps."""
        for index, step in enumerate(steps):
            try:
                left = self._ends - time.monotonic()
                if index and left <= 0:
                    raise Refused(_row(step.text, "no time was left"))
                self._step_ends = self._ends - left * (1 - 1 / (len(steps) - index)) if left < inf else inf
                found = self._strongest(step, kept.graph)
                self._race(found, kept)
                kept = found
            except Refused as refused:
                self._met = self._met and not refused.unmet
                self._rows.append(refused.row)
        return kept

    def _start(self) -> Candidate:
        """The graph that is compressed: as the level leaves it, since rules that compute with weights want to see those."""
        graph = optimized(self._graph, replace(self._job.options, opt_level=2))
        return Candidate(IN_F32, graph, Judged(0.0, 0.0), _multiply_adds(graph))

    # Candidates

    def _strongest(self, step: Step, base: Graph) -> Candidate:
        """The strongest that is within the bound, by halving. Raises Refused where none is, or where none changes anything."""
        seen = self._seen(step, base)
        refused: list[Refused] = []

        def strongest(low: int, high: int) -> Candidate | None:
            if low >= high or (refused and self._is_over):
                return None
            middle = (low + high) // 2
            self._tell(f"compressing by {step.strengths[middle].text}")
            try:
                found = self._within(step, step.strengths[middle], base, seen)
            except Refused as why:
                refused.append(why)
                is_known = why.row.loss is not None  # what changes nothing may be too weak for that, or too strong
                return strongest(low, middle) if is_known else strongest(middle + 1, high) or strongest(low, middle)
            return found if self._is_over else strongest(middle + 1, high) or found

        found = strongest(0, len(step.strengths))
        if found is None:
            raise max(reversed(refused), key=lambda each: each.row.loss is not None)
        return found

    @property
    def _is_over(self) -> bool:
        """Whether the time of a step is."""
        return time.monotonic() >= self._step_ends

    def _seen(self, step: Step, base: Graph) -> Sequence[Seen | None]:
        if type(step.strengths[0].one) not in INFORMED:
            return ()
        left = FOR_DATA * (self._step_ends - time.monotonic()) / (TIMES_OBSERVED * max(self._judge.seconds, 1e-3))
        count = MOST_LEARNT if left > MOST_LEARNT else max(FEWEST_LEARNT, int(left))
        return seen_by_sites(base, self._data.learnt.evenly(count), self._tell)

    def _within(self, step: Step, strength: Strength, base: Graph, seen: Sequence[Seen | None]) -> Candidate:
        """A copy of the graph, compressed. Raises Refused where it is beyond the bound, and where nothing is changed."""
        found = self._compressed(step, strength, base, seen)
        if seen and not found.judged.loss <= self._limit:  # too few samples say less than none
            found = min(found, self._compressed(step, strength, base, ()), key=lambda each: each.judged.loss)
        judged = found.judged
        if not judged.loss <= self._limit:
            more = ", and no time was left to try less" if step.is_free and self._is_over else ""
            fate = f"{judged.loss:.1e} is beyond the bound of {self._limit:.1e}{more}"
            raise Refused(_row(strength.text, fate, judged), unmet=not step.is_free)
        return found

    def _compressed(self, step: Step, strength: Strength, base: Graph, seen: Sequence[Seen | None]) -> Candidate:
        manager = PassManager([WithData(strength.one, seen)], disabled=self._job.options.disable, strictest=Contract.LOSSY)
        graph = manager.run(clone_graph(base), lambda: base)
        record = manager.records[0]
        if record.failure is not None or not record.changes:
            raise Refused(_row(step.text, "it changes nothing" if record.failure is None else f"it failed: {record.failure}"))
        return Candidate(strength.text, graph, self._judged(graph), _multiply_adds(graph))

    def _judged(self, graph: Graph) -> Judged:
        try:
            return self._judge.of_graph(graph)
        except EvaluationError:
            return Judged(inf, inf)

    # Programs

    def _original(self) -> Try:
        """The program of the original, on the engine that is fastest for it where there is a choice."""
        made: dict[str | None, Try] = {}
        failure: IrcError | RunError | None = None
        for engine in self._engines():
            if made and self._is_over:
                break
            try:
                made[engine] = self._made(f"{IN_F32} {engine or ''}".strip(), self._graph, Judged(0.0, 0.0), engine)
            except (IrcError, RunError) as error:
                failure = error
        if not made:
            assert failure is not None
            raise failure
        timed = self._timed(list(made.values())) if len(made) > 1 else list(made.values())
        best = min(timed, key=lambda each: each.milliseconds or inf)
        self._engine = next(engine for engine, each in made.items() if each.compiled is best.compiled)
        closed(timed, best)
        return replace(best, name=IN_F32, judged=self._of_program(best))

    def _of_program(self, one: Try) -> Judged:
        """How far the program of the original is off by itself; not at all, where it does not run here."""
        try:
            return self._judge.of_program(one.compiled.program)
        except EngineFailure:
            return one.judged

    def _engines(self) -> Sequence[str | None]:
        if not self._is_tuned or self._engine is not None or self._unmeasured:
            return [self._engine]
        return [each.name for each in usable_engines(self._job.target)]

    def _made(self, name: str, graph: Graph, judged: Judged, engine: str | None) -> Try:
        """A graph, which stays as it is, compiled by rules. Raises as that does."""
        self._tell(f"building {name}")
        options = replace(plain(self._job.options), opt_level=2, engine=engine)
        compiled = compile_by_rules(clone_graph(graph), self._job.beside(options))
        return Try(name, compiled, judged, byte_count(compiled))

    def _timed(self, tries: Sequence[Try]) -> list[Try]:
        """Programs with their times, unless nothing can be timed."""
        if self._unmeasured:
            return list(tries)
        self._tell(f"timing {', '.join(each.name for each in tries)}")
        found, self._unmeasured = timed(tries, self._data.feeds[0])
        return found

    def _race(self, found: Candidate, kept: Candidate) -> None:
        """Put the program of a graph in place of the best so far. Raises Refused where it is not kept."""
        try:
            tried = self._made(found.text.partition("{")[0], found.graph, found.judged, self._engine)
        except (IrcError, RunError) as error:
            raise Refused(_row(found.text, f"it could not be compiled: {error}", found.judged)) from error
        *self._programs, tried = self._timed([*self._programs, tried])
        original, best = self._programs[0], self._programs[-1]
        rule = Rule(self._job.options.smaller, never_slower=self._is_tuned)
        is_kept, fate = rule.decide(tried, best, original, saves_work=found.multiply_adds < kept.multiply_adds)
        row = _row(found.text, fate, tried=tried)
        if not is_kept:
            tried.compiled.program.close()
            raise Refused(row)
        self._rows.append(replace(row, fate=f"taken: {fate}"))
        if best is not original:
            best.compiled.program.close()
        self._programs = [original, replace(tried, name=COMPRESSED)]


def _multiply_adds(graph: Graph) -> int:
    return sum(cost_of(op).flops for op in graph.walk())


__all__ = ["COMPRESSED", "Compressed", "compress", "plain"]

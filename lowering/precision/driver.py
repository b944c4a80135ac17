"""From a graph in f32 to a program in the precision asked for, beside the one in f32, and the better of the two.

Law: a program out of bounds is kept only where none is within them, and none that is slower than the one in f32 by measuring.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from irc.ir import EvaluationError, Graph, UnsupportedError, UsageError, clone_graph
from irc.passes import op_count
from irc.passes.precision import Form
from irc.runtime import EngineFailure, PrecisionChoice, PrecisionReport, PrecisionRow

from ..compiled import Compiled
from ..engine import Wish, Wishing
from ..engines import choose_engine
from ..job import Job
from ..tuning.candidates import usable_engines
from ..verification import random_outputs
from .compressing import COMPRESSED, Compressed, compress, plain
from .data import Data, read_data
from .findings import recall
from .judge import Judge, Judged
from .knowledge import NOTHING, Knowledge
from .learning import TIMES_OBSERVED
from .learnt import learn
from .lowered import Forms, as_asked, everywhere, in_f32, integer_forms, optimized, streamed_forms, with_forms
from .metrics import METRICS, metric_of
from .options import DEFAULT_ERROR, INT4_BLOCK, Precision
from .report import choices_of
from .search import Search, Subject
from .tries import IN_F32, Try, byte_count, chosen, closed, timed

FOR_EACH, FOR_EACH_BESIDE_SEARCH, FOR_SEARCH = 0.45, 0.22, 0.43
"""The share of the budget of O3 that each of two programs may take, by themselves and beside a search, and that this may."""
LEFT_ALONE, LEFT = 0.8, 0.55
"""What compression leaves of the budget of O3 to the programs after it: two, or one more with a precision."""
AT_ONCE = (Form.BF16,)
"""Forms that need nothing to be known of the model."""
FOR_LEARNING = 0.4
"""The part of the time that is left to a search that may go into learning what integers need."""
FEWEST_LEARNT = 4
"""Samples that are learnt from at least."""
MOST_SENSED = 2
"""Samples that the error of each kind of contraction by itself is measured on."""

AS_FAR = 1.5
"""How many times as far from the graph in lower precision its program may be as that is from the one in f32."""

Compile = Callable[[Graph, Job], Compiled]
"""Compiles a graph in the precision that it has; the graph is changed on the way."""


def compile_lowered(graph: Graph, job: Job, compile: Compile) -> Compiled:
    """The program of a graph, which stays as it is, in the precision that the options ask for, or in f32 where that is better.

    Raises UsageError for bad data and metrics before any work is done, and as `compile` does.
    """
    work = _Work(graph, job, compile)
    forms, choices = work.decided()
    return work.compiled(forms, choices)


class _Work:
    """A compilation in lower precision: the model, the data, and the judge."""

    def __init__(self, graph: Graph, job: Job, compile: Compile) -> None:
        options = job.options
        self._asked = options.precision
        self._limit = options.max_drop if options.max_drop is not None else options.max_error
        if self._limit is None and (self._asked is Precision.AUTO or options.compress is not None):
            self._limit = DEFAULT_ERROR
        self._graph, self._job, self._compile = graph, job, compile
        metric_of(options.metric)
        self._data: Data = read_data(graph, job)
        self._judge = self._near = _judge(graph, job, self._data)
        self._base = graph
        self._compressed = self._compress()
        self._began = time.monotonic()
        wide = in_f32(self._base, None if self._asked is None else self._asked.form)
        self._is_widened = wide is not self._base
        self._model = optimized(wide, replace(options, opt_level=2))
        self._measures = options.opt_level >= 3 and options.tune_budget > 0
        self._knowledge = self._for_options(NOTHING)
        self._others: Sequence[PrecisionRow] = ()
        self._notes = list(_remarks(graph, is_widened=self._is_widened))
        self._name = IN_F32 if self._asked is None else self._asked.value
        self._missed: list[PrecisionRow] = []
        self._ready: Graph | None = None  # what was judged already: weights of 4 bits take minutes to find
        self._share = FOR_EACH_BESIDE_SEARCH if self._asked is Precision.AUTO else FOR_EACH

    def _compress(self) -> Compressed | None:
        """What compression came to, where it is asked for; what is left of the budget is for the programs after it."""
        if self._job.options.compress is None or self._limit is None:
            return None
        found = compress(self._graph, self._job, self._data, self._judge, self._limit, self._tell)
        if found.graph is not None:
            self._base = found.graph
            self._near = self._judge if self._asked is None else Judge(found.graph, self._data.feeds, METRICS["l2"])
        left = LEFT_ALONE if self._asked is None else LEFT
        options = replace(self._job.options, tune_budget=left * self._job.options.tune_budget)
        self._job = replace(self._job, options=options)
        return found

    def decided(self) -> tuple[Forms, Sequence[PrecisionChoice]]:
        """The form of each site of the model, and what to tell of each pattern."""
        if self._asked is None:
            return everywhere(self._model, Form.F32), []
        form = self._asked.form
        if form is None:
            return self._searched()
        self._model, known = learn(self._model, {form}, self._data.learnt, self._tell, self._wishes())
        self._knowledge = self._for_options(known)
        forms = as_asked(self._model, form, self._knowledge)
        if self._limit is None:
            return forms, choices_of(self._model, forms, form, self._knowledge)
        lowered = with_forms(self._model, forms, self._knowledge)
        judged = self._judge.of_graph(lowered)
        if judged.loss > self._limit:
            return self._in_part(form, judged, self._limit)
        self._ready = lowered
        return forms, choices_of(self._model, forms, form, self._knowledge)

    def _in_part(self, form: Form, judged: Judged, limit: float) -> tuple[Forms, Sequence[PrecisionChoice]]:
        """What can be had of a form within a bound that it does not keep everywhere; nothing where nothing is measured."""
        fate = f"{judged.loss:.1e} is beyond the bound of {limit:.1e}"
        row = PrecisionRow(self._name, judged.error, judged.loss, None, None, fate)
        self._missed = [row]
        if not self._measures or not usable_engines(self._job.target):
            nothing = everywhere(self._model, Form.F32)
            told = choices_of(self._model, nothing, form, self._knowledge)
            return nothing, [replace(each, why=each.why or f"{form.value}: all together are beyond the bound") for each in told]
        self._name, self._share = f"{self._name} in part", FOR_EACH_BESIDE_SEARCH
        forms = integer_forms(self._knowledge) if form is Form.INT8 else (form,)
        outcome = self._search(time.monotonic() + FOR_SEARCH * self._job.options.tune_budget)(forms).run()
        return outcome.forms, outcome.choices

    def _for_options(self, known: Knowledge) -> Knowledge:
        """What is known, with what the options and the engine wish."""
        return replace(known, wishes=self._wishes(), block_size=self._job.options.block_size or INT4_BLOCK)

    def _wishes(self) -> frozenset[Wish]:
        """What the engine wishes that runs the program, or of those that race the one with most kernels of lower precision."""
        options, target = self._job.options, self._job.target
        races = usable_engines(target) if self._measures and options.engine is None else ()
        engine = races[-1] if races else choose_engine(options, target)
        return engine.wishes(target) if isinstance(engine, Wishing) else frozenset()

    def _searched(self) -> tuple[Forms, Sequence[PrecisionChoice]]:
        """What `auto` finds: the fastest selection within the bound, all in a share of the budget."""
        if not usable_engines(self._job.target):
            self._notes.append(f"nothing is lowered: no program for {self._job.target.name} can be timed here")
            return everywhere(self._model, Form.F32), []
        ends = self._began + FOR_SEARCH * self._job.options.tune_budget
        search = self._search(ends)
        # First what needs nothing to be known, so that there is something when the time is over.
        at_once = (*(AT_ONCE if self._job.target.multiplies_bf16 else ()), *streamed_forms(self._model))
        outcome = search(at_once).run_on_first()
        if time.monotonic() < ends:
            self._learn_until(ends)
            outcome = search((*at_once, *integer_forms(self._knowledge))).run()
        if not outcome.is_timed:
            way_out = "run it again, which goes on from there, or give --tune-budget more seconds"
            self._notes.append(f"nothing is lowered: the time was over before any program was timed ({way_out})")
        self._others = outcome.rows
        return outcome.forms, outcome.choices

    def _search(self, ends: float) -> Callable[[Sequence[Form]], Search]:
        """Searches over forms until a time of `time.monotonic`, of which each goes on from what was found before."""
        few = list(self._data.learnt.evenly(MOST_SENSED))
        findings = recall(self._model, self._job, [*few, *self._data.feeds])
        sensing = Judge(self._base, few, METRICS["l2"])

        def search(forms: Sequence[Form]) -> Search:
            assert self._limit is not None
            if Form.INT8 in forms:
                findings.learn(self._knowledge)
            feeds = self._data.feeds[0]
            subject = Subject(self._model, self._knowledge, forms, feeds, sensing, self._judge, self._limit)
            return Search(subject, self._job, findings, ends, self._tell)

        return search

    def _learn_until(self, ends: float) -> None:
        """Learn what integers need from as many samples as there is time for."""
        left = ends - time.monotonic()
        count = max(FEWEST_LEARNT, int(FOR_LEARNING * left / (TIMES_OBSERVED * max(self._judge.seconds, 1e-3))))
        stops = time.monotonic() + FOR_LEARNING * left
        self._model, known = learn(self._model, {Form.INT8}, self._data.learnt, self._tell, self._wishes(), count, stops)
        self._knowledge = self._for_options(known)

    def _tell(self, event: str) -> None:
        for instrument in self._job.instruments:
            instrument.heard(event)

    def compiled(self, forms: Forms, choices: Sequence[PrecisionChoice]) -> Compiled:
        """The program that is kept, with its report."""
        notes = [*self._data.warnings, *self._notes, *(self._compressed.notes if self._compressed else ())]
        tries = self._lowered(forms, notes)
        if self._base is not self._graph and (self._measures or not any(map(self._is_within, tries))):
            own = self._job.beside(self._job.options) if tries else self._job
            tries.append(self._try(COMPRESSED, clone_graph(self._base), own))
        if self._measures or not any(map(self._is_within, tries)):
            tries.append(self._try(IN_F32, clone_graph(self._graph), self._job.beside(self._job.options)))
        if len(tries) > 1 and self._measures:
            tries, reason = timed(tries, self._data.feeds[0])
            notes += [f"nothing was timed: {reason}"] if reason else []
        kept, fates = chosen(tries, self._limit, by_speed_alone=self._is_for_speed)
        closed(tries, kept)
        report = self._report(tries, kept, fates, choices)
        return _told(kept.compiled, report, notes, op_count(self._graph))

    @property
    def _is_for_speed(self) -> bool:
        """Whether a program has to be faster than f32 to be kept."""
        is_unnamed = self._asked is None and not self._job.options.smaller
        return is_unnamed or self._asked is Precision.AUTO or bool(self._missed)

    def _lowered(self, forms: Forms, notes: list[str]) -> list[Try]:
        """The program with these forms, if any is lower than f32; why `auto` has none goes to `notes`."""
        is_widened = self._is_widened and self._asked is Precision.AUTO  # f32 may be faster than what the model came in
        if all(form is Form.F32 for form in forms) and not is_widened:
            return []
        try:
            lowered = with_forms(self._model, forms, self._knowledge) if self._ready is None else self._ready
            return [self._try(self._name, lowered, self._job)]
        except (UnsupportedError, EngineFailure) as error:
            if not self._missed and self._asked is not Precision.AUTO:
                raise
            notes.append(f"what was found to be faster in lower precision could not be compiled: {error.message}")
            return []

    def _try(self, name: str, graph: Graph, job: Job) -> Try:
        """A graph compiled and judged; its own precision is what it has."""
        options = plain(job.options)
        options = replace(options, tune_budget=self._share * options.tune_budget)
        own = {IN_F32: self._graph, COMPRESSED: self._base}.get(name)
        given = clone_graph(graph) if own is None else own
        # Where a number falls between two steps, rounding decides, and layers later answers are as far apart as by lowering.
        allowance = AS_FAR * self._near.of_graph(given).error if own is None else 0.0
        compiled = self._compile(graph, replace(job, options=options, captured_in=0.0, allowance=allowance))
        return Try(name, compiled, self._judged(compiled, given), byte_count(compiled))

    def _judged(self, compiled: Compiled, graph: Graph) -> Judged:
        """How far a program is off; of one that does not run here, what it was made of."""
        try:
            return self._judge.of_program(compiled.program)
        except EngineFailure:
            return self._judge.of_graph(graph)

    def _is_within(self, one: Try) -> bool:
        return self._limit is None or one.judged.loss <= self._limit

    def _report(
        self, tries: Sequence[Try], kept: Try, fates: Mapping[str, str], choices: Sequence[PrecisionChoice]
    ) -> PrecisionReport:
        # What was asked for by name is what has to be within the bound; of `auto` and of f32 only what is kept.
        by_name = self._asked not in (None, Precision.AUTO)
        met = not self._missed and self._is_within(tries[0] if by_name else kept)
        steps, compared, text = (), (), ""
        if self._compressed is not None:
            met = met and self._compressed.met
            steps, compared, text = self._compressed.rows, self._beside(tries), self._job.options.compress or ""
            tries = tries if self._measures else [self._compressed.with_times(each) for each in tries]
        rows = (*steps, *self._missed, *(each.row(fates[each.name]) for each in tries), *compared, *self._others)
        word = IN_F32 if self._asked is None else self._asked.value
        name, origin = self._judge.metric.name, self._data.origin
        return PrecisionReport(word, name, self._limit, met, origin, tuple(rows), tuple(choices), text)

    def _beside(self, tries: Sequence[Try]) -> list[PrecisionRow]:
        """The original that compressions were compared with, where it is not among the programs."""
        if self._compressed is None or any(each.name == IN_F32 for each in tries):
            return []
        return [self._compressed.original.row("not compressed")]


def _remarks(graph: Graph, *, is_widened: bool) -> Iterator[str]:
    """What to know of a report."""
    if is_widened:
        yield "the model is in 16 bits; f32 in the report is the model as it came"
    if random := sorted(random_outputs(graph)):
        yield f"not compared, because they depend on random numbers: {', '.join(random)}"


def _judge(graph: Graph, job: Job, data: Data) -> Judge:
    """The judge of a model. Raises UsageError where the reference does not run it on the data."""
    try:
        return Judge(graph, data.feeds, metric_of(job.options.metric, data.labels))
    except EvaluationError as error:
        place = data.held[0].place if data.held else None
        raise UsageError(error.message, location=place, hint="give samples on which the model runs") from error


def _told(compiled: Compiled, report: PrecisionReport, notes: Sequence[str], ops_before: int) -> Compiled:
    program = compiled.program
    nodes = program.manifest.nodes
    nodes = None if nodes is None else replace(nodes, before=ops_before)
    program = program.saying(replace(program.manifest, precision=report, nodes=nodes))
    return replace(compiled, program=program, precision=report, notes=[*notes, *compiled.notes])


__all__ = ["compile_lowered"]

"""The search of `--precision auto`: what each form of each kind of contraction saves on an engine, what it costs in error, and
the selection of them that is fastest within the bound.

Law: all numbers are measured, times on the kernels of the engine, errors with the reference; when the time is over, what was
found so far decides. What does not pay stays in f32, and the report says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, sqrt

from irc.ir import EvaluationError, Graph
from irc.passes.precision import Form, Site, patterns, sites
from irc.runtime import EngineFailure, PrecisionChoice, PrecisionRow, Program

from ..engine import Engine
from ..job import Job
from ..tuning.candidates import usable_engines
from .findings import Findings, conversions_in, digest_of, named
from .judge import Feeds, Judge, Judged
from .knowledge import Knowledge
from .learning import Tell
from .lowered import Forms, everywhere, why_not, with_forms
from .reasons import choice, why_unknown
from .savings import Savings
from .selecting import Option, fastest, saved_by, select, with_neighbours
from .timing import Times, build, timed_in_turns

HOPELESS = 2.0
"""How many times as long as on the fastest engine f32 may take for lower forms to be tried."""
MOST_CHECKS = 6
"""How many selections are looked at as a whole, to find the fastest within the bound."""
DOUBTS = 1.0
"""How many standard errors of its loss a selection stays below the bound, since other inputs may lose more."""
MOST_ROUNDS = 3
"""How often selections are chosen anew on an engine whose programs lose more than their graphs."""
NEAR = 1.1
"""Bounds nearer to each other than this are one."""

Selection = Mapping[str, Option]


@dataclass(frozen=True)
class Subject:
    """What is searched: the model to lower and what is known of it, the forms to try, a sample to time on, and who judges.

    `sensing` judges single patterns on samples to learn from, `judge` selections on those held back.
    """

    model: Graph
    knowledge: Knowledge
    forms: Sequence[Form]
    feeds: Feeds
    sensing: Judge
    judge: Judge
    limit: float


@dataclass(frozen=True)
class Outcome:
    """The form of each site, what to tell of each pattern, the milliseconds it is expected to save, and what else was run.

    Where nothing `is_timed`, there was no time for it.
    """

    forms: Forms
    choices: Sequence[PrecisionChoice]
    saved: float = 0.0
    rows: Sequence[PrecisionRow] = ()
    is_timed: bool = True


class Search:
    """One search for the fastest precision of a model."""

    def __init__(self, subject: Subject, job: Job, findings: Findings, deadline: float, tell: Tell) -> None:
        """At `deadline`, a time of `time.monotonic`, the search is over."""
        self._subject, self._job, self._findings = subject, job, findings
        self._deadline, self._tell = deadline, tell
        self._limit = subject.limit  # of what graphs may lose, below the bound where programs lose more
        self._groups = patterns(sites(subject.model))
        refused = [(name, f) for name, alike in self._groups.items() for f in subject.forms if self._refuses(alike, f)]
        self._savings = Savings(findings, self._groups, subject.forms, refused)

    def run(self) -> Outcome:
        """The best selection on any engine that is usable, as far as there is time for one after the other."""
        found = self._found(self._engines(), self._best_on)
        return replace(found, rows=list(self._uniform_rows()))

    def run_on_first(self) -> Outcome:
        """What is expected to be best on the engine with most kernels of lower precision, without what is only told."""
        return self._found(self._engines()[:1], self._expected_on)

    def _found(self, engines: Sequence[Engine], best_on: Callable[[Engine], Selection]) -> Outcome:
        taken: dict[str, Selection] = {}
        for engine in engines:
            if taken and self._is_over:
                break
            self._time(engine)
            if not self._is_within(fastest(self._options(engine))):
                self._sense()
            taken[engine.name] = best_on(engine)
        outcomes = [self._outcome(engine, taken[engine.name]) for engine in engines if engine.name in taken]
        best = max(outcomes, key=lambda each: each.saved, default=self._nothing())
        is_timed = any(self._findings.times.values()) or not self._groups
        return replace(best if best.saved > 0 else self._nothing(), is_timed=is_timed)

    @property
    def _is_over(self) -> bool:
        return time.monotonic() >= self._deadline

    def _engines(self) -> list[Engine]:
        """Those with most kernels of lower precision first: they get the time, where there is too little for all."""
        asked = self._job.options.engine
        return [each for each in reversed(usable_engines(self._job.target)) if asked is None or each.name == asked]

    # Time

    def _time(self, engine: Engine) -> None:
        """What each pattern takes in f32 and in each form that the engine runs."""
        known = self._findings.times.setdefault(engine.name, {})
        missing = [form for form in self._subject.forms if form.value not in known]
        own, best = self._savings.whole(engine.name), self._fastest_in_f32()
        if missing and (own is None or best is None or own < HOPELESS * best):
            graphs = {form.value: self._uniform(form) for form in (Form.F32, *missing)}
            for name, times in self._timed(engine, graphs).items():
                known[name] = times.whole
                known.update({f"{pattern}|{name}": ms for pattern, ms in times.by_pattern.items()})
                known.update({conversions_in(pattern, name): count for pattern, count in times.conversions.items()})
            self._findings.keep()

    def _time_selections(self, engine: Engine, taken: Sequence[Selection]) -> None:
        """What whole runs take with selections, beside f32 in the same turns, and what their programs lose."""
        known, judged = self._findings.times[engine.name], self._findings.programs
        missing = {_name(each): each for each in taken if _name(each) not in known or (engine.name, _name(each)) not in judged}
        if not missing:
            return
        graphs = {name: self._graph(self._forms(each)) for name, each in missing.items()}

        def judge(name: str, program: Program) -> None:
            judged[engine.name, name] = self._subject.judge.of_program(program)

        found = self._timed(engine, {Form.F32.value: self._subject.model, **graphs}, judge)
        if found:
            same = known[Form.F32.value] / found.pop(Form.F32.value).whole  # machines have faster and slower minutes
            known.update({name: same * times.whole for name, times in found.items()})
            self._findings.keep()

    def _timed(
        self, engine: Engine, graphs: Mapping[str, Graph], see: Callable[[str, Program], None] = lambda name, program: None
    ) -> dict[str, Times]:
        """The times of graphs on an engine, the first of which has to be among them; none where there is none beside it.

        What is to `see` the programs sees all but the first.
        """
        built: dict[str, Program] = {}
        try:
            for name, graph in graphs.items():
                if self._is_over:
                    break
                self._tell(f"building {name} on {engine.name}")
                program = build(graph, engine, self._job)
                if isinstance(program, Program):
                    built[name] = program
                elif not built:
                    break
            if len(built) < 2:
                return {}
            self._tell(f"timing {', '.join(built)} on {engine.name}")
            times = timed_in_turns(list(built.values()), self._subject.feeds, self._subject.model)
            for name, program in list(built.items())[1:]:
                see(name, program)
            return dict(zip(built, times, strict=True))
        except EngineFailure:  # what does not run is not chosen
            return {}
        finally:
            for program in built.values():
                program.close()

    def _fastest_in_f32(self) -> float | None:
        return min((whole for name in self._findings.times if (whole := self._savings.whole(name)) is not None), default=None)

    # Graphs

    def _refuses(self, alike: Sequence[Site], form: Form) -> bool:
        """Whether none of the sites of a pattern can have a form."""
        return all(why_not(site, form, self._subject.knowledge) for site in alike)

    def _graph(self, forms: Forms) -> Graph:
        return with_forms(self._subject.model, forms, self._subject.knowledge)

    def _uniform(self, form: Form) -> Graph:
        return self._graph(self._everywhere(form))

    def _forms(self, taken: Mapping[str, Option]) -> list[Form]:
        return self._forms_of({pattern: option.form for pattern, option in taken.items()})

    def _forms_of(self, chosen: Mapping[str, Form]) -> list[Form]:
        """The form of each site, in order."""
        own: dict[object, Form] = {}
        for pattern, form in chosen.items():
            for site in self._groups[pattern]:
                own[site.op] = Form.F32 if why_not(site, form, self._subject.knowledge) else form
        return [own.get(site.op, Form.F32) for site in sites(self._subject.model)]

    # Errors

    def _sense(self) -> None:
        """The error that each pattern makes by itself, those first that save most.

        Of a form that is within the bound everywhere no single error is found: each pattern has its share of the whole.
        """
        forms = [form for form in self._subject.forms if self._may_lose(self._everywhere(form)) > self._subject.limit]
        wished = {(pattern, form): self._savings.most(pattern, form) for pattern in self._groups for form in forms}
        missing = [each for each, saved in wished.items() if saved > 0 and named(*each) not in self._findings.errors]
        for pattern, form in sorted(missing, key=lambda each: -wished[each]):
            if self._is_over:
                return
            self._tell(f"the error of {pattern} in {form.value}")
            judged = self._judged(self._subject.sensing, self._forms_of({pattern: form}))
            self._findings.errors[named(pattern, form)] = judged.error
            self._findings.keep()

    def _judged(self, judge: Judge, forms: Forms) -> Judged:
        """What forms lose, which is infinite where the reference does not run them."""
        try:
            return judge.of_graph(self._graph(forms))
        except EvaluationError:
            return Judged(inf, inf)

    def _as_a_whole(self, forms: Forms) -> Judged:
        """What forms lose on the samples held back."""
        known = self._findings.judged
        key = tuple(forms)
        if key not in known:
            lowered = sum(form is not Form.F32 for form in forms)
            self._tell(f"checking {lowered} contractions in lower precision as a whole")
            known[key] = self._judged(self._subject.judge, forms)
        return known[key]

    def _may_lose(self, forms: Forms) -> float:
        """What forms lose, and what other inputs may lose more."""
        judged = self._as_a_whole(forms)
        return judged.loss + DOUBTS * judged.doubt

    def _everywhere(self, form: Form) -> Forms:
        return everywhere(self._subject.model, form, self._subject.knowledge)

    def _options(self, engine: Engine) -> list[Option]:
        """All options on an engine, those whose error is not known with their share of what was found of their form."""
        found = self._savings.options(engine.name)
        known = {form: self._findings.judged.get(tuple(self._everywhere(form))) for form in self._subject.forms}
        count = {form: sum(each.form is form for each in found) for form in known}
        shares = {
            form: judged.error / sqrt(count[form]) for form, judged in known.items() if judged is not None and count[form]
        }
        return [replace(each, share=shares.get(each.form, inf)) for each in found]

    def _loss(self, taken: Selection) -> float:
        """What a selection may lose as a whole."""
        return self._may_lose(self._forms(taken))

    def _is_within(self, taken: Selection) -> bool:
        return not taken or self._loss(taken) <= self._limit

    # Selecting

    def _best_on(self, engine: Engine) -> Selection:
        """The selection that takes least on an engine, of those that are within the bound as a whole."""
        self._limit = self._subject.limit
        for _ in range(MOST_ROUNDS):
            within = self._candidates(engine)
            self._time_selections(engine, within)
            good = [each for each in within if self._program_loss(engine, each) <= self._subject.limit]
            if good or not within or self._is_over:
                return self._fastest(engine, good)
            self._limit *= min(self._loss(each) / self._program_loss(engine, each) for each in within)
        return {}

    def _program_loss(self, engine: Engine, taken: Selection) -> float:
        """What the program of a selection may lose, 0 where there was no time for one."""
        judged = self._findings.programs.get((engine.name, _name(taken)))
        return 0.0 if judged is None else judged.loss + DOUBTS * judged.doubt

    def _expected_on(self, engine: Engine) -> Selection:
        """As `_best_on`, by what is known: no program of a selection is made."""
        return self._fastest(engine, self._candidates(engine))

    def _fastest(self, engine: Engine, within: Sequence[Selection]) -> Selection:
        return max(within, key=lambda each: self._saved(engine, each)) if within else {}

    def _candidates(self, engine: Engine) -> list[Selection]:
        """Selections within the bound that may be the fastest on an engine."""
        options = self._options(engine)
        best = self._within(options)
        candidates = [best, with_neighbours(best, options)]
        candidates += [{each.pattern: each for each in options if each.form is form} for form in self._subject.forms]
        return [each for each in _distinct(candidates) if each and self._is_within(each)]

    def _within(self, options: Sequence[Option]) -> Selection:
        """The selection that saves most and is within the bound, found by narrowing down what its parts may come to."""
        everything = fastest(options)
        if self._is_within(everything):
            return everything
        best: Selection = {}
        limit, low, high = self._limit, 0.0, inf
        bound = limit
        for _ in range(MOST_CHECKS):
            taken = select(options, bound)
            if not taken or self._is_over:
                break
            loss = self._loss(taken)
            if loss <= limit:
                low, best = bound, max(best, taken, key=saved_by)
            else:
                high = bound
            following = _next_bound(bound, limit, loss, low, high)
            if following is None:
                break
            bound = following
        return best

    def _saved(self, engine: Engine, taken: Selection) -> float:
        """Milliseconds that a selection saves: measured where it was, else added up."""
        whole, own = self._savings.whole(engine.name), self._whole_of(engine, taken)
        return saved_by(taken) if whole is None or own is None else whole - own

    def _whole_of(self, engine: Engine, taken: Selection) -> float | None:
        """What a whole run takes with a selection, where that or the same form everywhere was timed."""
        timed, forms = self._savings.whole(engine.name, _name(taken)), self._forms(taken)
        uniform = (form for form in self._subject.forms if forms == self._everywhere(form))
        return next((self._savings.whole(engine.name, form.value) for form in uniform), None) if timed is None else timed

    def _outcome(self, engine: Engine, taken: Selection) -> Outcome:
        own, best = self._savings.whole(engine.name), self._fastest_in_f32()
        behind = inf if own is None or best is None else own - best
        return Outcome(self._forms(taken), self._choices(engine, taken), self._saved(engine, taken) - behind)

    # Telling

    def _nothing(self) -> Outcome:
        engines = self._engines()
        best = min(engines, key=lambda each: self._savings.whole(each.name) or inf, default=None)
        return Outcome(self._forms({}), [] if best is None else self._choices(best, {}))

    def _choices(self, engine: Engine, taken: Selection) -> list[PrecisionChoice]:
        options = self._options(engine)
        found: list[PrecisionChoice] = []
        for pattern, alike in self._groups.items():
            timed = {form: self._savings.whole(engine.name, form.value) is not None for form in self._subject.forms}
            unknown = {form: why_unknown(alike[0], form, self._subject.knowledge, timed[form]) for form in self._subject.forms}
            found.append(choice(pattern, alike, taken, options, unknown, self._subject.knowledge))
        return found

    def _uniform_rows(self) -> Iterator[PrecisionRow]:
        """What the model takes in one form everywhere, on the engine that is fastest for it."""
        for form in self._subject.forms:
            wholes = {name: each[form.value] for name, each in self._findings.times.items() if form.value in each}
            if not wholes or self._is_over:
                continue
            engine = min(wholes, key=wholes.__getitem__)
            judged = self._as_a_whole(self._everywhere(form))
            fate = "beyond the bound" if judged.loss > self._subject.limit else "timed by rules, to compare"
            yield PrecisionRow(f"{form.value} everywhere, {engine}", judged.error, judged.loss, wholes[engine], None, fate)


def _name(taken: Selection) -> str:
    """What a selection is called among findings."""
    return digest_of({pattern: option.form for pattern, option in taken.items()})


def _distinct(taken: Sequence[Selection]) -> list[Selection]:
    return list({_name(each): each for each in taken}.values())


def _next_bound(bound: float, limit: float, loss: float, low: float, high: float) -> float | None:
    """The next bound for the parts of a selection whose loss as a whole was found; None where there is nothing between."""
    if low and high / low < NEAR:
        return None
    wished = 0.97 * bound * limit / loss if 0 < loss < inf else 2 * bound if loss <= 0 else bound / 2
    if not low < wished < high:
        wished = sqrt(low * high) if low and high < inf else wished
    return wished if low < wished < high else None

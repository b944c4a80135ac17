"""One graph for one engine, by rules: optimized, lowered and checked.

Law: where the program answers otherwise than its model, less and less is done until it is right; a wrong one is never given
out, and one that was not checked says why.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from irc.ir import Graph, UnsupportedError, clone_graph
from irc.passes import Context, op_count, registry
from irc.runtime import EngineFailure, NodeCount, OptionValue, Program

from .attempts import Attempt, attempts
from .block_checks import at_block_sizes
from .compiled import Compiled, Timing
from .engine import Native
from .engines import choose_engine, rest_of, settings_of
from .job import Job
from .loading import Loaded, Lowered, Settle, elsewhere, load
from .managers import pass_manager, rewrite_checker
from .manifests import manifest_of
from .options import CompileOptions
from .partitioning import Piece, pieces_of
from .plans import lower_pieces
from .strict import refused, without_fallback
from .targets import find_target
from .verification import Agreement, Probe, Verify, probing

PLAN_SETTINGS: Sequence[Mapping[str, OptionValue]] = ({},)
"""The settings of a program in several pieces: each piece has its own."""


def compile_by_rules(graph: Graph, job: Job, probe: Probe | str | None = None) -> Compiled:
    """The program of a graph, which is changed on the way; `probe` says what to check by, or why not, where that is known.

    Raises IrcError for what is wrong with model or options, EngineFailure when the engine fails or its answers stay wrong.
    """
    work = _Work(graph, job, probe)
    wrong: list[Agreement] = []
    for attempt in attempts(job.options, work.applied):
        lowered = work.lower(attempt)
        unchecked = work.why_unchecked(lowered)
        if unchecked is not None:
            return work.with_rewrites(work.compiled(lowered, work.elsewhere(lowered), Agreement(True, unknown=unchecked), 0.0))
        start = time.perf_counter()
        loaded = work.load(lowered)
        if loaded.program is not None:
            program = work.in_place(loaded.program, lowered)
            work.tell(attempt, loaded, wrong)
            compiled = work.compiled(lowered, program, loaded.agreement, time.perf_counter() - start)
            return work.with_rewrites(compiled)
        wrong.append(loaded.agreement)
    hint = "compile with --no-verify to have it anyway"
    raise EngineFailure(f"the engine's answers are wrong: it {wrong[-1].sentence}", hint=hint)


class _Work:
    """A compilation as far as it has come: the graph, the passes that made it what it is, and what there is to say."""

    def __init__(self, graph: Graph, job: Job, probe: Probe | str | None) -> None:
        options = job.options
        self._job = job
        self._graph = graph
        self._engine = choose_engine(options, job.target)
        self._runs = self._engine.runs(job.target)
        self._here = job.target if self._runs else find_target("cpu")  # answers are checked by the kernels that are here
        settings_of(self._engine, options.opt_level, self._here)  # it says what is wrong with the level before anything is done
        self._settle: Settle = partial(without_fallback, self._engine, self._here) if options.strict else dict
        self._ops_before = op_count(graph)
        pristine = self._pristine = clone_graph(graph) if _is_checked(options) else None
        self._probe = probe
        self._answered: Callable[[], Probe | str] | None = None
        if pristine is not None and probe is None:
            self._answered = probing(pristine, options.inputs, job.examples, job.allowance)
        self._known, self._checker = registry(options.load), rewrite_checker(options, job.examples)
        self._manager = self._asked_for = pass_manager(options, self._known, job.instruments, self._checker)
        self._is_optimized = False
        self._notes: list[str] = []

    def applied(self) -> Iterable[str]:
        """The rewrites made by the passes that were asked for."""
        return self._asked_for.totals.keys()

    def lower(self, attempt: Attempt) -> Lowered:
        """The graph as files; it is optimized first, and again where the attempt asks for that."""
        job, options = self._job, self._job.options
        start = time.perf_counter()
        self._optimize(attempt)
        optimized = time.perf_counter()
        graph = self._graph
        checker = self._checker if attempt.anew is None else None
        forms = Context(disabled=options.disable, strictest=job.strictest, checker=checker)
        pieces = self._pieces()
        engines = [piece.engine for piece in pieces]
        if len(pieces) > 1:
            files = lower_pieces(graph, pieces, job.target, attempt.lowered_as, options.engine_options, forms)
            settings = PLAN_SETTINGS
        else:
            files = engines[0].lower(graph, job.target, attempt.lowered_as, forms)
            settings = settings_of(engines[0], options.opt_level, self._here)
        records = self._manager.records
        manifest = manifest_of(graph, options, engines, files, records, job.source)
        manifest = replace(manifest, nodes=NodeCount(self._ops_before, len(files.op_names)))
        took = optimized - start, time.perf_counter() - optimized
        return Lowered(graph, engines, settings, manifest, files, records, forms.counts, *took)

    def _optimize(self, attempt: Attempt) -> None:
        if self._is_optimized and attempt.anew is None:
            return
        pristine = self._pristine
        if attempt.anew is not None and pristine is not None:
            self._graph = clone_graph(pristine)
            self._manager = pass_manager(attempt.anew, self._known, strictest=attempt.strictest)
        self._graph = self._manager.run(self._graph, None if pristine is None else lambda: clone_graph(pristine))
        self._is_optimized = True

    def _pieces(self) -> list[Piece]:
        """The graph in one piece, unless the engine leaves some of it to another, or all of it where there is too little."""
        others = [] if self._job.options.strict else rest_of(self._engine)
        if not others:
            return [Piece(self._engine, ())]
        try:
            return pieces_of(self._graph, self._engine, others, self._job.target)
        except UnsupportedError as error:
            self._notes.append(f"{others[-1].name} runs it instead of {self._engine.name}: {error.message}")
            return [Piece(others[-1], ())]

    def why_unchecked(self, lowered: Lowered) -> str | None:
        """Why the files run on the target alone, where that is not here; None where they can be checked here."""
        native = next((engine for engine in lowered.engines if isinstance(engine, Native)), None)
        return None if native is None or self._runs else native.why_not_elsewhere(self._job.target)

    def load(self, lowered: Lowered) -> Loaded:
        """The program, checked against the graph as it was. Raises UnsupportedError where `strict` is why it cannot be."""
        probe = self._probe
        if probe is None:
            probe = "not asked for" if self._answered is None else self._answered()
        if self._pristine is not None:
            probe = at_block_sizes(probe, self._pristine, lowered.graph, lowered.engines, self._job.target)
        self._probe = probe
        try:
            return load(lowered, self._settle, self._pristine, probe)
        except EngineFailure as error:
            options, files = self._job.options, lowered.files
            own = {**lowered.settings[0], **files.options, **options.engine_options}
            named = refused(self._engine, self._here, lowered.manifest, files, own) if options.strict else None
            if named is None:
                raise
            raise named from error

    def in_place(self, program: Program, lowered: Lowered) -> Program:
        """A checked program as it is where the target is here, else the one for where that is."""
        if self._runs:
            return program
        program.close()
        self._notes.append(f"its answers were checked on the CPU here: {self._runs.reason}")
        return self.elsewhere(lowered)

    def elsewhere(self, lowered: Lowered) -> Program:
        """The program for a target that is not here."""
        return elsewhere(lowered, self._engine, self._job.target, self._job.options, self._runs.reason)

    def tell(self, attempt: Attempt, loaded: Loaded, wrong: Sequence[Agreement]) -> None:
        """Note what was left out because of answers that were `wrong`, and what was found while loading."""
        if wrong:
            blame = "" if self._job.options.has_own_passes else "; please report this"
            self._notes.append(f"{attempt.without}, because otherwise the program {wrong[0].sentence}{blame}")
        self._notes.extend(loaded.notes)

    def compiled(self, lowered: Lowered, program: Program, agreement: Agreement, loading_took: float) -> Compiled:
        """What came of it."""
        timing = Timing(self._job.captured_in, lowered.passes_took, lowered.lowering_took, loading_took)
        return Compiled(program, lowered.graph, lowered.records, timing, agreement, self._notes, lowered.forms)

    def with_rewrites(self, compiled: Compiled) -> Compiled:
        """The same with what is known of each rewrite, where each was checked."""
        checker = self._checker
        if checker is None:
            return compiled
        return replace(compiled, undone=checker.undone, unchecked=checker.unknown, checked=checker.checked)


def _is_checked(options: CompileOptions) -> bool:
    """Whether the finished program is compared with its model."""
    asked = options.opt_level >= 2 or options.has_own_passes or options.inputs is not None
    return options.verify is Verify.REWRITES or (options.verify is Verify.ANSWERS and asked)


__all__ = ["compile_by_rules"]

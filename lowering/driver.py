"""From a model to a program: capture, specialize, optimize, choose an engine, lower, and write down what was decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from irc.ir import Graph, UnsupportedError, capture, clone_graph, specialize
from irc.passes import PASSES, Context, Contract, Instrument, op_count, registry
from irc.runtime import EngineFailure, Fate, Manifest, NodeCount, OptionValue, Program
from irc.runtime import EngineFiles as RuntimeFiles
from irc.runtime import Source as SourceEntry

from .block_checks import at_block_sizes
from .compiled import Compiled, Timing
from .defaults import FROM_LEVEL, for_closed, given_probe, overriding_probe, without_defaults
from .engine import Engine, EngineFiles, Native
from .engines import ENGINES, configured, find_engine, rest_of, settings_of
from .managers import pass_manager, rewrite_checker
from .manifests import Model, manifest_of, source_of
from .options import CompileOptions
from .partition import Piece, pieces_of
from .plans import lower_pieces
from .strict import refused, without_fallback
from .targets import Target, find_target
from .tuning import tune
from .variants import Overriding, Sizes, let_go, rebuilt, resized, split_dims, variant_graphs, with_variants
from .verification import Agreement, Probe, Verify, check, probing

NOTHING = "O0"

PLAN_SETTINGS: Sequence[Mapping[str, OptionValue]] = ({},)
"""The settings of a program in several pieces: each piece has its own."""

Settle = Callable[[Mapping[str, OptionValue]], Mapping[str, OptionValue]]
"""What is done to the options of an engine at last."""


def compile_model(model: Model, options: CompileOptions, instruments: Sequence[Instrument] = ()) -> Compiled:
    """Compile an ONNX model. Raises IrcError for what is wrong with model or options, EngineFailure when the engine fails."""
    _choose_engine(options, find_target(options.target))
    start = time.perf_counter()
    graph = capture(model)
    source, captured = source_of(model), time.perf_counter() - start
    return compile_graph(graph, options, instruments, source=source, captured_in=captured)


def compile_graph(
    graph: Graph,
    options: CompileOptions,
    instruments: Sequence[Instrument] = (),
    *,
    source: SourceEntry | None = None,
    captured_in: float = 0.0,
    examples: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile a captured graph, which is changed on the way. Raises as `compile_model` does.

    `examples` are arrays by input name, to check and measure with where the options give no inputs. At O3 candidates are
    measured, which `instruments` hear of; else, and where nothing can be measured, one is compiled by rules.
    """
    target = find_target(options.target)
    dims, variants = split_dims(options.dims)
    options = replace(options, dims=dims)
    specialize(graph, dims, options.shapes)
    closed = without_defaults(graph, options, [name for sizes in variants for name in sizes])
    overriding: Overriding | None = None
    start = time.perf_counter()
    if isinstance(closed, Graph):
        given = given_probe(graph, options, examples)
        probe = overriding_probe(graph, given)
        overriding = let_go(_compile_overriding(graph, options, target, source, examples, probe))
        options, examples = for_closed(closed, options, examples, given)
        graph = closed
    graphs = variant_graphs(graph, variants)
    spent = captured_in + time.perf_counter() - start  # counts against the budget of O3
    compiled = _compile_all_sizes(graph, options, target, instruments, source, spent, examples)
    compiled = replace(compiled, timing=replace(compiled.timing, capture=captured_in))
    if closed and isinstance(closed, str):
        compiled = replace(compiled, notes=[closed, *compiled.notes])
    if not variants and overriding is None:
        return compiled

    def each() -> Iterator[tuple[Sizes, Compiled]]:
        for sizes, own in zip(variants, graphs, strict=True):
            feeds = resized(own, options, examples)
            yield sizes, _compile_like(compiled, own, replace(options, inputs=None), target, source, feeds)

    def load(manifest: Manifest, files: RuntimeFiles) -> Program:
        runs = _choose_engine(options, target).runs(target)
        return Program.from_files(manifest, files) if runs else Program.elsewhere(manifest, files, runs.reason)

    return with_variants(compiled, each(), overriding, load)


def _compile_overriding(
    graph: Graph,
    options: CompileOptions,
    target: Target,
    source: SourceEntry | None,
    examples: Mapping[str, Any] | None,
    probe: Probe | str,
) -> Compiled:
    """A graph with its inputs that have defaults, by rules: on the engine asked for where it takes it, else on the usual one.

    Raises UnsupportedError where another engine would be needed, and that is refused.
    """
    engine = _choose_engine(options, target)
    usual = next(each for each in ENGINES if each.serves(target))
    own = replace(options, opt_level=FROM_LEVEL, strict=options.strict and engine is not usual)
    try:
        return _compile(clone_graph(graph), own, (), source, 0.0, examples, probe)
    except (UnsupportedError, EngineFailure) as error:
        reason = _in_a_line(error.message)
        if options.strict and isinstance(error, UnsupportedError):
            hint = "compile without --strict, or without --engine"
            raise UnsupportedError(f"{engine.name} runs no calls that override a default: {reason}", hint=hint) from error
        if options.strict or engine is usual:
            raise
    threads = {name: value for name, value in options.engine_options.items() if name == "threads"}
    compiled = _compile(graph, replace(own, engine=usual.name, engine_options=threads), (), source, 0.0, examples, probe)
    return replace(compiled, notes=[f"it runs on {usual.name}: {reason}", *compiled.notes])


def _in_a_line(message: str) -> str:
    """A message with the first of the lines that it lists."""
    first, *listed = (line.strip() for line in message.strip().splitlines())
    more = f", and {len(listed) - 1} more" if len(listed) > 1 else ""
    return " ".join([first, *listed[:1]]) + more


def _compile_like(
    general: Compiled,
    graph: Graph,
    options: CompileOptions,
    target: Target,
    source: SourceEntry | None,
    examples: Mapping[str, Any] | None,
) -> Compiled:
    """A variant: by what won where candidates were measured and where that answers right here too; else by rules."""
    won = next((each.candidate for each in general.decisions if each.fate == Fate.WON.value), None)
    again = None if won is None else rebuilt(won, graph, options, target, source, examples)
    return again or _compile(graph, options, (), source, 0.0, examples)


def _compile_all_sizes(
    graph: Graph,
    options: CompileOptions,
    target: Target,
    instruments: Sequence[Instrument],
    source: SourceEntry | None,
    captured_in: float,
    examples: Mapping[str, Any] | None,
) -> Compiled:
    if options.opt_level < 3 or not options.tune_budget:
        return _compile(graph, options, instruments, source, captured_in, examples)
    engine = _choose_engine(options, target)
    runs = engine.runs(target)
    tuned = tune(graph, options, target, instruments, source, captured_in, examples) if runs else runs.reason
    if isinstance(tuned, Compiled):
        return tuned
    compiled = _compile(graph, options, instruments, source, captured_in, examples)
    known = any(note.endswith(tuned) for note in compiled.notes)
    return replace(compiled, notes=["nothing was measured" + ("" if known else f": {tuned}"), *compiled.notes])


def _compile(
    graph: Graph,
    options: CompileOptions,
    instruments: Sequence[Instrument],
    source: SourceEntry | None,
    captured_in: float,
    examples: Mapping[str, Any] | None,
    probe: Probe | str | None = None,
) -> Compiled:
    """Compile for one engine. Where the program answers otherwise than the model, less and less is done until it is right."""
    target = find_target(options.target)
    engine = _choose_engine(options, target)
    runs = engine.runs(target)
    here = target if runs else find_target("cpu")  # answers are checked by the kernels that are here
    settings_of(engine, options.opt_level, here)  # it says what is wrong with the level before anything is done
    before = op_count(graph)
    settled: Settle = partial(without_fallback, engine, here) if options.strict else dict
    own_passes = options.passes is not None or bool(options.load)
    asked = options.opt_level >= 2 or own_passes or options.inputs is not None
    checks = options.verify is Verify.REWRITES or (options.verify is Verify.ANSWERS and asked)
    pristine = clone_graph(graph) if checks else None
    answered = None if pristine is None or probe is not None else probing(pristine, options.inputs, examples)
    agreement = Agreement(False)
    notes: list[str] = []
    known, checker = registry(options.load), rewrite_checker(options, examples)
    manager = asked_for = pass_manager(options, known, instruments, checker)
    first: Agreement | None = None
    for attempt in _attempts(options, own_passes, lambda: asked_for.totals.keys()):
        start = time.perf_counter()
        if attempt.anew is not None and pristine is not None:
            graph = clone_graph(pristine)
            manager = pass_manager(attempt.anew, known, strictest=attempt.strictest)
        if attempt.anew is not None or first is None:
            graph = manager.run(graph, None if pristine is None else lambda: clone_graph(pristine))
        optimized = time.perf_counter()
        forms = Context(disabled=options.disable, checker=checker if attempt.anew is None else None)
        pieces = _pieces(graph, engine, options, target, notes)
        if len(pieces) > 1:
            files = lower_pieces(graph, pieces, target, attempt.lowered_as, options.engine_options, forms)
        else:
            files = pieces[0].engine.lower(graph, target, attempt.lowered_as, forms)
        settings = settings_of(pieces[0].engine, options.opt_level, here) if len(pieces) == 1 else PLAN_SETTINGS
        lowered = time.perf_counter()
        manifest = manifest_of(graph, options, [piece.engine for piece in pieces], files, manager.records, source)
        manifest = replace(manifest, nodes=NodeCount(before, len(files.op_names)))
        native = next((piece.engine for piece in pieces if isinstance(piece.engine, Native)), None)
        if native is not None and not runs:
            program = _for(target, engine, options, manifest, files, runs.reason)
            timing = Timing(captured_in, optimized - start, lowered - optimized, 0.0)
            unchecked = Agreement(True, unknown=native.why_not_elsewhere(target))
            return Compiled(program, graph, manager.records, timing, unchecked, notes, forms.counts)
        if probe is None:
            probe = "not asked for" if answered is None else answered()
        if pristine is not None:
            probe = at_block_sizes(probe, pristine, graph, [piece.engine for piece in pieces], target)
        try:
            program, agreement, said = _load(manifest, files, settings, settled, pristine, probe)
        except EngineFailure as error:
            own = {**settings[0], **files.options, **options.engine_options}
            named = refused(engine, here, manifest, files, own) if options.strict else None
            if named is None:
                raise
            raise named from error
        if program is not None and not runs:
            program.close()
            program = _for(target, engine, options, program.manifest, files, runs.reason)
            notes.append(f"its answers were checked on the CPU here: {runs.reason}")
        if program is not None:
            if first is not None:
                blame = "" if own_passes else "; please report this"
                notes.append(f"{attempt.without}, because otherwise the program {first.sentence}{blame}")
            timing = Timing(captured_in, optimized - start, lowered - optimized, time.perf_counter() - lowered)
            notes.extend(said)
            compiled = Compiled(program, graph, manager.records, timing, agreement, notes, forms.counts)
            if checker is None:
                return compiled
            return replace(compiled, undone=checker.undone, unchecked=checker.unknown, checked=checker.checked)
        first = first or agreement
    raise EngineFailure(
        f"the engine's answers are wrong: it {agreement.sentence}", hint="compile with --no-verify to have it anyway"
    )


def _pieces(graph: Graph, engine: Engine, options: CompileOptions, target: Target, notes: list[str]) -> list[Piece]:
    """The graph in one piece, unless the engine leaves some of it to another, or all of it where there is too little."""
    others = [] if options.strict else rest_of(engine)
    if not others:
        return [Piece(engine, ())]
    try:
        return pieces_of(graph, engine, others, target)
    except UnsupportedError as error:
        notes.append(f"{others[-1].name} runs it instead of {engine.name}: {error.message}")
        return [Piece(others[-1], ())]


MOST_SUSPECTS = 16
"""How many rewrites are left out one at a time to find the one that changes answers."""


@dataclass(frozen=True)
class _Attempt:
    """One way to compile: the level whose forms lowering uses, and the options and contract to run the passes `anew` with.

    `without` says what it leaves out.
    """

    lowered_as: int
    without: str = ""
    anew: CompileOptions | None = None
    strictest: Contract | None = None


def _attempts(options: CompileOptions, own_passes: bool, applied: Callable[[], Iterable[str]]) -> Iterator[_Attempt]:
    """What to try, best first; `applied` tells which rewrites the passes have made."""
    yield _Attempt(options.opt_level)
    suspects = sorted(applied())
    plain = min(options.opt_level, 1)
    if options.opt_level >= 2:
        yield _Attempt(plain, "the engine's own ops were left out")
    if options.opt_level >= 2 and not own_passes:
        loose = {n for kind in PASSES for n, contract, _ in kind.rewrites() if contract is Contract.REASSOCIATING}
        for name in [name for name in suspects if name in loose][:MOST_SUSPECTS]:
            anew = replace(options, disable=options.disable | {name})
            yield _Attempt(options.opt_level, f"the rewrite '{name}' was left out", anew)
        yield _Attempt(plain, "the rewrites that reassociate were left out", options, Contract.EXACT)
    if suspects:
        yield _Attempt(plain, "the passes were left out", replace(options, passes=NOTHING), Contract.EXACT)


def _choose_engine(options: CompileOptions, target: Target) -> Engine:
    """The engine asked for, or the usual one. Raises UnsupportedError where it does not serve the target."""
    engine = ENGINES[0] if options.engine is None else find_engine(options.engine)
    serves = engine.serves(target)
    if serves:
        return configured(engine, options.engine_options)
    others = [each.name for each in ENGINES if each.serves(target)]
    hint = f"use --engine {others[0]}" if others else "use --target cpu"
    raise UnsupportedError(f"{engine.name} does not serve the target {target.name}: {serves.reason}", hint=hint)


def _for(
    target: Target, engine: Engine, options: CompileOptions, checked: Manifest, files: EngineFiles, reason: str
) -> Program:
    """The program for a target that is not here, with the settings that rules choose for it."""
    settings = {**engine.settings(options.opt_level, target)[0], **files.options, **options.engine_options}
    settled = without_fallback(engine, target, settings) if options.strict else settings
    return Program.elsewhere(replace(checked, engine_options=settled), files.to_runtime(), reason)


def _load(
    manifest: Manifest,
    files: EngineFiles,
    settings: Sequence[Mapping[str, OptionValue]],
    settled: Settle,
    pristine: Graph | None,
    probe: Probe | str,
) -> tuple[Program | None, Agreement, list[str]]:
    """The first setting under which the engine takes the model and answers as the reference does.

    Returns no program when the engine takes the model but answers otherwise under every setting.
    Raises EngineFailure when it takes it under none.
    """
    notes: list[str] = []
    failures: list[EngineFailure] = []
    agreement = Agreement(False)
    for index, setting in enumerate(settings):
        program = _build(manifest, files, setting, settled)
        if isinstance(program, EngineFailure):
            failures.append(program)
            notes.append(f"the engine refused the model with {_shown(setting)}: {program.message}")
            continue
        if pristine is None or isinstance(probe, str):
            return program, Agreement(True, unknown=str(probe)), notes
        agreement = check(program, pristine, probe)
        if agreement.agrees:
            return program, agreement, notes
        program.close()
        if index == 0 and not _agrees_at_best(manifest, files, settings[-1], settled, pristine, probe):
            break
        notes.append(f"with {_shown(setting)} it {agreement.sentence}")
    if len(failures) == len(settings):
        raise failures[0]
    return None, agreement, notes


def _build(
    manifest: Manifest, files: EngineFiles, setting: Mapping[str, OptionValue], settled: Settle
) -> Program | EngineFailure:
    try:
        options = settled({**setting, **files.options, **manifest.engine_options})
        return Program.from_files(replace(manifest, engine_options=options), files.to_runtime())
    except EngineFailure as error:
        return error


def _agrees_at_best(
    manifest: Manifest,
    files: EngineFiles,
    safest: Mapping[str, OptionValue],
    settled: Settle,
    pristine: Graph,
    probe: Probe,
) -> bool:
    """Whether the engine's safest setting gives the right answers; if not, the fault is not the engine's."""
    program = _build(manifest, files, safest, settled)
    if isinstance(program, EngineFailure):
        return True
    with program:
        return check(program, pristine, probe).agrees


def _shown(setting: Mapping[str, OptionValue]) -> str:
    without = setting.get("disabled_optimizers", ())
    names = f" without {', '.join(without)}" if isinstance(without, tuple) and without else ""
    return f"optimization={setting.get('optimization')}{names}"


__all__ = ["compile_graph", "compile_model"]

"""From a model to a program: capture, specialize, optimize, choose an engine, lower, and write down what was decided."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from irc.ir import Graph, UsageError, capture, clone_graph, closest, specialize
from irc.ir.capture import file_digest
from irc.passes import (
    LEVELS,
    PASSES,
    Context,
    Contract,
    Instrument,
    PassManager,
    PassRecord,
    RegionChecker,
    Registry,
    Undone,
    op_count,
    registry,
)
from irc.runtime import EngineFailure, Manifest, NodeCount, OptionValue, Placement, Program
from irc.runtime import PassRecord as PassEntry
from irc.runtime import Source as SourceEntry

from .engine import Engine, EngineFiles
from .engines import ENGINES, find_engine
from .signatures import input_entries, output_entries
from .targets import find_target
from .verification import EXAMPLES, GIVEN, MADE_UP, Agreement, Probe, Verify, check, probe_of

Model: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto"


NOTHING = "O0"


@dataclass(frozen=True)
class CompileOptions:
    """How to compile: every field is a flag of `irc compile`, described there; `inputs` is an `.npz` file to verify with."""

    target: str = "cpu"
    opt_level: int = 2
    engine: str | None = None
    passes: str | None = None
    load: tuple[str, ...] = ()
    disable: frozenset[str] = frozenset()
    rewrite_limit: int | None = None
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    shapes: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict[str, tuple[int | None, ...]])
    verify: Verify = Verify.ANSWERS
    inputs: Path | None = None
    engine_options: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])


@dataclass(frozen=True)
class Timing:
    """Seconds spent in each part of a compilation."""

    capture: float
    passes: float
    lower: float
    load: float


@dataclass(frozen=True)
class Compiled:
    """A compiled model: the program, the graph it was lowered from, and what happened on the way.

    `forms` counts the engine's own rewrites, by name. `checked` rewrites were looked at before they were done; `undone` are
    those found to change answers, and therefore not done; of `unchecked` ones nothing could be said, because the reference
    runs neither side.
    """

    program: Program
    graph: Graph
    records: Sequence[PassRecord]
    timing: Timing
    agreement: Agreement
    notes: Sequence[str] = ()
    forms: Mapping[str, int] = field(default_factory=dict[str, int])
    undone: Sequence[Undone] = ()
    unchecked: int = 0
    checked: int = 0

    @property
    def failures(self) -> list[PassRecord]:
        """The passes that were rolled back."""
        return [record for record in self.records if record.failure is not None]


def compile_model(model: Model, options: CompileOptions, instruments: Sequence[Instrument] = ()) -> Compiled:
    """Compile an ONNX model. Raises IrcError for what is wrong with model or options, EngineFailure when the engine fails."""
    find_target(options.target)
    _choose_engine(options)
    start = time.perf_counter()
    graph = capture(model)
    return compile_graph(graph, options, instruments, source=_source(model), captured_in=time.perf_counter() - start)


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

    `examples` are arrays by input name, to check with where the options give no inputs. Where the program answers otherwise
    than the model, less and less is done to it until it answers right.
    """
    target, engine = find_target(options.target), _choose_engine(options)
    specialize(graph, options.dims, options.shapes)
    before = op_count(graph)
    own_passes = options.passes is not None or bool(options.load)
    asked = options.opt_level >= 2 or own_passes or options.inputs is not None
    checks = options.verify is Verify.REWRITES or (options.verify is Verify.ANSWERS and asked)
    pristine = clone_graph(graph) if checks else None
    probe: Probe | str | None = None
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
        files = engine.lower(graph, target, attempt.lowered_as, forms)
        lowered = time.perf_counter()
        manifest = _manifest(graph, options, engine, manager.records, NodeCount(before, len(files.op_names)), source)
        if probe is None:
            probe = probe_of(pristine, options.inputs, examples) if pristine is not None else "not asked for"
        program, agreement, said = _load(manifest, files, engine.settings(options.opt_level), pristine, probe)
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


def rewrite_checker(options: CompileOptions, examples: Mapping[str, Any] | None = None) -> RegionChecker | None:
    """What checks each rewrite where that is asked for, on inputs as `probe_of` has them; it raises UsageError as that does."""
    if options.verify is not Verify.REWRITES:
        return None

    probes: list[Probe | str] = []

    def feeds(graph: Graph) -> Mapping[str, object] | None:
        # Made once, on the graph as captured: of the optimized one the reference may have no kernels.
        if not probes:
            probes.append(probe_of(graph, options.inputs, examples))
        return None if isinstance(probes[0], str) else probes[0].feeds

    return RegionChecker(feeds, GIVEN if options.inputs is not None else MADE_UP if examples is None else EXAMPLES)


def pass_manager(
    options: CompileOptions,
    known: Registry,
    instruments: Sequence[Instrument] = (),
    checker: RegionChecker | None = None,
    strictest: Contract | None = None,
) -> PassManager:
    """The manager for the pipeline that the options name: `passes` where given, else the level's own.

    `strictest` is the loosest contract allowed, by default the level's.

    Raises UsageError for a name to disable that does not exist, and for a pass whose contract the level does not allow.
    """
    names = {name for kind in known.passes.values() for name in (kind.name, *(r[0] for r in kind.rewrites()))}
    names.update(form.name for engine in ENGINES for form in engine.forms)
    for name in sorted(options.disable - names):
        hint = closest(name, sorted(names)) or "`irc passes --rewrites` lists them"
        raise UsageError(f"there is no pass or rewrite '{name}' to disable", hint=hint)
    passes = LEVELS[f"O{options.opt_level}"] if options.passes is None else known.pipeline(options.passes)
    allowed = Contract.EXACT if options.opt_level <= 1 else Contract.REASSOCIATING
    for one in passes:
        if one.contract > allowed:
            hint = "use -O2" if one.contract is Contract.REASSOCIATING else "no level runs what changes answers"
            raise UsageError(f"pass '{one.name}' is {one.contract.text}, which O{options.opt_level} does not allow", hint=hint)
    return PassManager(
        passes,
        instruments,
        disabled=options.disable,
        rewrite_limit=options.rewrite_limit,
        strictest=allowed if strictest is None else strictest,
        checker=checker,
    )


def _choose_engine(options: CompileOptions) -> Engine:
    return ENGINES[0] if options.engine is None else find_engine(options.engine)


def _load(
    manifest: Manifest,
    files: EngineFiles,
    settings: Sequence[Mapping[str, OptionValue]],
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
        program = _build(manifest, files, setting)
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
        if index == 0 and not _agrees_at_best(manifest, files, settings[-1], pristine, probe):
            break
        notes.append(f"with {_shown(setting)} it {agreement.sentence}")
    if len(failures) == len(settings):
        raise failures[0]
    return None, agreement, notes


def _build(manifest: Manifest, files: EngineFiles, setting: Mapping[str, OptionValue]) -> Program | EngineFailure:
    try:
        options = {**setting, **files.options, **manifest.engine_options}
        return Program.from_files(replace(manifest, engine_options=options), files.files, files.weights)
    except EngineFailure as error:
        return error


def _agrees_at_best(
    manifest: Manifest, files: EngineFiles, safest: Mapping[str, OptionValue], pristine: Graph, probe: Probe
) -> bool:
    """Whether the engine's safest setting gives the right answers; if not, the fault is not the engine's."""
    program = _build(manifest, files, safest)
    if isinstance(program, EngineFailure):
        return True
    with program:
        return check(program, pristine, probe).agrees


def _shown(setting: Mapping[str, OptionValue]) -> str:
    without = setting.get("disabled_optimizers", ())
    names = f" without {', '.join(without)}" if isinstance(without, tuple) and without else ""
    return f"optimization={setting.get('optimization')}{names}"


def _manifest(
    graph: Graph,
    options: CompileOptions,
    engine: Engine,
    records: Sequence[PassRecord],
    nodes: NodeCount,
    source: SourceEntry | None,
) -> Manifest:
    return Manifest(
        engine=engine.name,
        engine_options=options.engine_options,
        inputs=input_entries(graph),
        outputs=output_entries(graph),
        dims_must_agree=tuple(sorted(graph.assumed_dims)),
        target=options.target,
        opt_level=options.opt_level,
        source=source,
        versions={"irc": _irc_version(), engine.name: engine.version, "onnx": onnx.__version__},
        # Times differ from run to run and an artifact must not, so they stay out of it.
        passes=tuple(PassEntry(_remarked(r), None, r.changes) for r in records),
        placement=(Placement(engine.name, nodes.after),),
        nodes=nodes,
    )


def _remarked(record: PassRecord) -> str:
    """A pass as the manifest names it, with what was not done of it."""
    if record.failure is not None:
        return f"{record.text} (rolled back)"
    return f"{record.text} (undone: {', '.join(sorted(record.refused))})" if record.refused else record.text


def _source(model: Model) -> SourceEntry:
    if isinstance(model, onnx.ModelProto):
        return SourceEntry("model", hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())
    if isinstance(model, bytes):
        return SourceEntry("model", hashlib.sha256(model).hexdigest())
    path = Path(model)
    return SourceEntry(path.name, file_digest(path))


def _irc_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("irc-compiler")
    except metadata.PackageNotFoundError:
        return "source"


__all__ = ["CompileOptions", "Compiled", "Timing", "compile_graph", "compile_model", "pass_manager", "rewrite_checker"]

"""From files to a program: the first settings under which the engine takes them and answers as the reference does.

Law: a program whose answers were compared and are wrong is closed here; none is let out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from irc.ir import Graph
from irc.passes import PassRecord
from irc.runtime import EngineFailure, Manifest, OptionValue, Program

from .engine import Engine, EngineFiles
from .options import CompileOptions
from .strict import without_fallback
from .targets import Target
from .verification import Agreement, Probe, check

Settings = Mapping[str, OptionValue]
Settle = Callable[[Settings], Settings]
"""What is done to the options of an engine at last."""


@dataclass(frozen=True)
class Lowered:
    """A graph as files, the engines of its pieces, and the settings to try; times in seconds."""

    graph: Graph
    engines: Sequence[Engine]
    settings: Sequence[Settings]
    manifest: Manifest
    files: EngineFiles
    records: Sequence[PassRecord]
    forms: Mapping[str, int]
    passes_took: float
    lowering_took: float


@dataclass(frozen=True)
class Loaded:
    """The program, or None where it answers otherwise than the reference under every setting; how it does, and what to say."""

    program: Program | None
    agreement: Agreement
    notes: Sequence[str] = field(default_factory=list[str])


def load(lowered: Lowered, settle: Settle, reference: Graph | None, probe: Probe | str) -> Loaded:
    """The program under the first setting that is taken and right; with no reference, or a reason for no probe, that is taken.

    Raises EngineFailure when the engine takes the model under no setting.
    """
    notes: list[str] = []
    failures: list[EngineFailure] = []
    agreement = Agreement(False)
    for index, setting in enumerate(lowered.settings):
        program = _build(lowered, setting, settle)
        if isinstance(program, EngineFailure):
            failures.append(program)
            notes.append(f"the engine refused the model with {_shown(setting)}: {program.message}")
            continue
        if reference is None or isinstance(probe, str):
            return Loaded(program, Agreement(True, unknown=str(probe)), notes)
        agreement = check(program, reference, probe)
        if agreement.agrees:
            return Loaded(program, agreement, notes)
        program.close()
        if index == 0 and not _agrees_at_best(lowered, settle, reference, probe):
            break
        notes.append(f"with {_shown(setting)} it {agreement.sentence}")
    if len(failures) == len(lowered.settings):
        raise failures[0]
    return Loaded(None, agreement, notes)


def _build(lowered: Lowered, setting: Settings, settle: Settle) -> Program | EngineFailure:
    manifest, files = lowered.manifest, lowered.files
    try:
        options = settle({**setting, **files.options, **manifest.engine_options})
        return Program.from_files(replace(manifest, engine_options=options), files.to_runtime())
    except EngineFailure as error:
        return error


def _agrees_at_best(lowered: Lowered, settle: Settle, reference: Graph, probe: Probe) -> bool:
    """Whether the engine's safest setting gives the right answers; if not, the fault is not the engine's."""
    program = _build(lowered, lowered.settings[-1], settle)
    if isinstance(program, EngineFailure):
        return True
    with program:
        return check(program, reference, probe).agrees


def _shown(setting: Settings) -> str:
    without = setting.get("disabled_optimizers", ())
    names = f" without {', '.join(without)}" if isinstance(without, tuple) and without else ""
    return f"optimization={setting.get('optimization')}{names}"


def elsewhere(lowered: Lowered, engine: Engine, target: Target, options: CompileOptions, reason: str) -> Program:
    """The program for a target that is not here, with the settings that rules choose for it."""
    settings = {**engine.settings(options.opt_level, target)[0], **lowered.files.options, **options.engine_options}
    settled = without_fallback(engine, target, settings) if options.strict else settings
    return Program.elsewhere(replace(lowered.manifest, engine_options=settled), lowered.files.to_runtime(), reason)

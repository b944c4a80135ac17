"""`irc bisect`: the first rewrite, or optimization of the engine, that breaks an answer or the speed, and how to see it."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .bench import DurationFlag, RoundsFlag
from .bisection import LEVELS, Found, Optimizations, Step, Trial, search, search_speed
from .judges import AnswerJudge, CommandJudge, SpeedJudge, Workshop, engine_optimizers
from .options import compile_options, engine_settings
from .output import Failure, Json, note, print_json

if TYPE_CHECKING:
    from irc.lowering import CompileOptions, Probe
    from irc.passes import Applied, PassRecord
    from irc.runtime import OptionValue

MaxErrorFlag = Annotated[
    float | None,
    typer.Option("--max-error", min=0, help="Bad is a larger relative L2 distance; default: what `irc compile` refuses."),
]
CheckFlag = Annotated[
    str | None,
    typer.Option("--check", metavar="CMD", help="Bad is where this command fails; {} is the artifact, as is $IRC_ARTIFACT."),
]
SlowerFlag = Annotated[
    float | None,
    typer.Option("--slower-than", metavar="RATIO", min=1, help="Bad is a run that takes more than so many times as long."),
]


@dataclass(frozen=True)
class _Case:
    """What is bisected, in the words of the user."""

    model: Path
    trust_pickle: bool
    inputs: Path | None
    max_error: float | None
    check: str | None
    slower_than: float | None
    common: tuple[str, ...]

    @property
    def opened(self) -> list[str]:
        """The model, and what is needed to open it."""
        return [str(self.model), *(["--trust-pickle"] if self.trust_pickle else [])]


def bisect_command(
    model: flags.ModelArgument,
    inputs: flags.VerifyInputsFlag = None,
    max_error: MaxErrorFlag = None,
    check: CheckFlag = None,
    slower_than: SlowerFlag = None,
    target: flags.TargetFlag = "cpu",
    engine: flags.EngineFlag = None,
    level: flags.LevelFlag = 2,
    passes: flags.PassesFlag = None,
    load: flags.LoadFlag = None,
    disable: flags.DisableFlag = None,
    dim: flags.DimFlag = None,
    shape: flags.ShapeFlag = None,
    threads: flags.ThreadsFlag = None,
    engine_option: flags.EngineOptionFlag = None,
    rounds: RoundsFlag = 5,
    duration: DurationFlag = 0.2,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Find the first rewrite, or engine optimization, that breaks the answer or the speed, and print how to see it."""
    from irc.ir import UsageError, clone_graph, specialize
    from irc.lowering import Verify, find_engine, find_target, pass_manager, settings_of
    from irc.passes import registry

    from .models import open_model

    given = [n for n, v in (("--max-error", max_error), ("--check", check), ("--slower-than", slower_than)) if v is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different ideas of bad", hint="give one of them")
    if check is not None and inputs is not None:
        raise UsageError("--check runs a command, which has its own inputs", hint="leave out --inputs")
    options = compile_options(
        target=target,
        engine=engine,
        level=level,
        passes=passes,
        load=load,
        disable=disable,
        dim=dim,
        shape=shape,
        inputs=inputs,
        settings=engine_settings(threads, engine_option=engine_option),
    )
    find_target(target)
    manager = pass_manager(options, registry(options.load))
    graph = open_model(model, trust_pickle).graph()
    specialize(graph, options.dims, options.shapes)
    manager.trace = True
    manager.run(clone_graph(graph))
    total = sum(record.changes for record in manager.records)
    settings = {**settings_of(find_engine(engine or "onnxruntime"), level, find_target(target))[0], **options.engine_options}
    workshop = Workshop(graph, replace(options, verify=Verify.NOTHING, inputs=None, dims={}, shapes={}))
    common = _common_flags(target, engine, level, passes, load, disable, dim, shape, threads, engine_option)
    case = _Case(model, trust_pickle, inputs, max_error, check, slower_than, common)
    with tempfile.TemporaryDirectory(prefix="irc-bisect-") as folder:
        finder = _Finder(workshop, total, settings, Path(folder))
        if slower_than is not None:
            found, sizes = finder.by_speed(slower_than, inputs, rounds, duration), None
        elif check is not None:
            found, sizes = finder.by_command(check), None
        else:
            found, sizes = finder.by_answer(options, max_error)
    _report(_Report(case, found, total, manager.applied, manager.records, workshop.made, sizes), as_json)


@dataclass(frozen=True)
class _Finder:
    """Searches by one idea of bad or another."""

    workshop: Workshop
    total: int
    settings: Mapping[str, OptionValue]
    folder: Path

    @property
    def engine(self) -> Optimizations:
        """What the engine may do with the settings it is given."""
        disabled = self.settings.get("disabled_optimizers", ())
        return Optimizations(
            str(self.settings.get("optimization", LEVELS[-1])),
            disabled if isinstance(disabled, tuple) else (),
            lambda trial: engine_optimizers(self.workshop, trial, self.folder),
            self.workshop.forms,
        )

    def by_answer(self, options: CompileOptions, max_error: float | None) -> tuple[Found | None, list[str] | None]:
        """By the answers on given or made-up inputs; also the flags with which `irc compare` makes up the same."""
        from irc.ir import UsageError
        from irc.lowering import probe_of

        probe = probe_of(self.workshop.graph, options.inputs)
        if isinstance(probe, str):
            raise UsageError(f"no inputs can be made up: {probe}", hint="give some with --inputs FILE.npz")
        judge = AnswerJudge(self.workshop, probe, max_error)
        return search(judge, self.total, self.engine), _sizes(self.workshop, probe)

    def by_command(self, command: str) -> Found | None:
        """By what the user's command says."""
        return search(CommandJudge(self.workshop, command, self.folder), self.total, self.engine)

    def by_speed(self, ratio: float, inputs: Path | None, rounds: int, duration: float) -> Found | None:
        """By the time of a run: the rewrites against none, and the engine's optimizations against none."""
        from irc.runtime import Workload

        workload = Workload(inputs=inputs, rounds=rounds, seconds=duration)
        plain = SpeedJudge(self.workshop, ratio, workload, self.folder, Trial(0))
        unoptimized = Trial(self.total, {"optimization": LEVELS[0]})
        return search_speed(plain, replace(plain, baseline=unoptimized), self.total, self.engine)


def _sizes(workshop: Workshop, probe: Probe) -> list[str] | None:
    """`--dim` flags for the sizes of made-up inputs; None where an open dim has no name."""
    from irc.ir import SymbolicDim

    flags_: dict[str, None] = {}
    for name, value in zip(workshop.graph.input_names, workshop.graph.inputs, strict=True):
        if name not in probe.feeds:
            continue
        for dim, size in zip(value.shape or (), probe.feeds[name].shape, strict=True):
            if not isinstance(dim, int):
                if not isinstance(dim, SymbolicDim) or dim.plain_name is None:
                    return None
                flags_[f"{dim.plain_name}={size}"] = None
    return [text for flag in flags_ for text in ("--dim", flag)]


def _common_flags(
    target: str,
    engine: str | None,
    level: int,
    passes: str | None,
    load: list[str] | None,
    disable: list[str] | None,
    dim: list[str] | None,
    shape: list[str] | None,
    threads: int | None,
    engine_option: list[str] | None,
) -> tuple[str, ...]:
    """The flags that every command repeats, those at their defaults left out."""
    single = (("--target", target if target != "cpu" else None), ("--engine", engine), ("--threads", threads))
    repeated = (("--load", load), ("--disable-pass", disable), ("--dim", dim), ("--shape", shape))
    words = [f"-O{level}"] if level != 2 else []
    words += ["-p", passes] if passes is not None else []
    words += [word for flag, value in single if value is not None for word in (flag, str(value))]
    several = (*repeated, ("--engine-option", engine_option))
    words += [word for flag, values in several for value in values or () for word in (flag, value)]
    return tuple(words)


@dataclass(frozen=True)
class _Report:
    """What was found, in words and in JSON."""

    case: _Case
    found: Found | None
    total: int
    applied: Sequence[Applied]
    records: Sequence[PassRecord]
    trials: int
    sizes: list[str] | None

    def describe(self, step: Step) -> str:
        """The step, named."""
        if step.form:
            return f"the engine's form '{step.form}'"
        if step.rewrite is None:
            name = f"optimization '{step.optimizer}' at" if step.optimizer else "optimization"
            return f"the engine's {name} level '{step.level}'"
        place = self.place(step)
        where = f" at {place.location}" if place.location else ""
        return f"rewrite {step.rewrite} of {self.total}, '{place.rewrite}'{where}, in pass '{self.pass_of(step.rewrite)}'"

    def place(self, step: Step) -> Applied:
        """The rewrite of a step."""
        assert step.rewrite is not None
        return self.applied[step.rewrite - 1]

    def pass_of(self, number: int) -> str:
        """The pass in which a rewrite is done."""
        for record in self.records:
            number -= record.changes
            if number <= 0:
                return record.name
        return ""

    def command(self, trial: Trial, name: str) -> str:
        """The command that makes the program of a trial and shows whether it is bad."""
        case = self.case
        words = ["irc", "compile", *case.opened, *case.common, "--no-verify"]
        words += ["--rewrite-limit", str(trial.rewrites), *_setting_flags(trial.settings)]
        words += [word for form in trial.disabled for word in ("--disable-pass", form)] + ["-o", f"{name}.irc"]
        return f"{shlex.join(words)} && {self._check(case, f'{name}.irc')}"

    def _check(self, case: _Case, artifact: str) -> str:
        if case.check is not None:
            return f"IRC_ARTIFACT={artifact} sh -c {shlex.quote(case.check.replace('{}', artifact))}"
        if case.slower_than is not None:
            against = ("--against", "good.irc") if artifact != "good.irc" else ()
            inputs = () if case.inputs is None else ("--inputs", str(case.inputs))
            return shlex.join(["irc", "bench", artifact, *against, *inputs])
        words = ["irc", "compare", *case.opened, artifact]
        words += ["--inputs", str(case.inputs)] if case.inputs is not None else ["--trials", "1", *(self.sizes or ())]
        words += ["--tolerance", f"{case.max_error:g}"] if case.max_error is not None else []
        return shlex.join(words)


def _setting_flags(settings: Mapping[str, OptionValue]) -> list[str]:
    words: list[str] = []
    for name, value in settings.items():
        text = ":".join(value) if isinstance(value, tuple) else str(value)
        words += ["--engine-option", f"{name.replace('_', '-')}={text}"]
    return words


def _report(report: _Report, as_json: bool) -> None:
    """Print what was found. Raises Failure where something was."""
    found = report.found
    if as_json:
        print_json(_to_json(report))
    elif found is None:
        print(f"nothing to find: all {report.total} rewrites and the engine's optimizations are good")
    elif not found.steps:
        print("it is bad with no rewrites and none of the engine's optimizations, so none of these is the cause")
        print(f"with everything: {found.symptom}")
    else:
        for step in found.steps:
            print(f"first bad: {report.describe(step)}")
            print(f"with it: {step.symptom}")
            print(f"good: {report.command(step.good, 'good')}")
            print(f"bad:  {report.command(step.bad, 'bad')}")
    if found is None:
        return
    if not all(step.alone for step in found.steps):
        note("it is not the only one: badness comes and goes with other steps")
    if len(found.steps) > 1:
        note("neither is bad without the other: the engine errs on what the rewrite has made")
    if not found.steps:
        raise Failure(
            "the cause is neither a rewrite nor an optimization",
            "look at the model, the inputs or the check; from O2 on the engine also has forms of its own for ops",
        )
    first = found.steps[0]
    raise Failure(f"what breaks it is {report.describe(first)}", _way_out(report, first))


def _way_out(report: _Report, step: Step) -> str:
    """The flag that leaves a step out."""
    if step.rewrite is not None:
        return f"--disable-pass {report.place(step).rewrite} leaves it out"
    if step.form:
        return f"--disable-pass {step.form} leaves it out"
    return f"{shlex.join(_setting_flags(step.good.settings))} leaves it out"


def _to_json(report: _Report) -> dict[str, Json]:
    found = report.found
    steps: list[Json] = []
    for step in found.steps if found is not None else ():
        place = report.place(step) if step.rewrite is not None else None
        entry: dict[str, Json] = {
            "number": step.rewrite,
            "rewrite": None if place is None else place.rewrite,
            "location": None if place is None else place.location,
            "pass": None if step.rewrite is None else report.pass_of(step.rewrite),
            "engine_form": step.form or None,
            "engine_level": step.level or None,
            "engine_optimization": step.optimizer or None,
            "symptom": step.symptom,
            "alone": step.alone,
            "good": report.command(step.good, "good"),
            "bad": report.command(step.bad, "bad"),
        }
        steps.append(entry)
    symptom = None if found is None else found.symptom
    return {"found": found is not None, "symptom": symptom, "steps": steps, "rewrites": report.total, "trials": report.trials}

"""`irc compile`: a model into an artifact, with a line on what was done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from . import flags
from .output import Json, check_file, check_folder, note, print_json, print_table, seconds, size

if TYPE_CHECKING:
    from irc.lowering import Agreement, Compiled, CompiledVariant, CompileOptions
    from irc.passes import Instrument, PassRecord, Undone
    from irc.runtime import Decision, OptionValue, Placement

OutputFlag = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write; default: MODEL with .irc.")
]
SpinFlag = Annotated[bool | None, typer.Option("--spin/--no-spin", help="Whether idle engine threads wait busily.")]
ProviderFlag = Annotated[
    list[str] | None,
    typer.Option("--provider", metavar="NAME", help="ONNX Runtime execution providers, in order; repeatable."),
]


def compile_command(
    model: flags.ModelArgument,
    output: OutputFlag = None,
    target: flags.TargetFlag = "cpu",
    engine: flags.EngineFlag = None,
    level: flags.LevelFlag = 2,
    tune_budget: flags.BudgetFlag = 60.0,
    passes: flags.PassesFlag = None,
    load: flags.LoadFlag = None,
    disable: flags.DisableFlag = None,
    rewrite_limit: flags.LimitFlag = None,
    dim: flags.SizesFlag = None,
    shape: flags.ShapeFlag = None,
    threads: flags.ThreadsFlag = None,
    spin: SpinFlag = None,
    provider: ProviderFlag = None,
    engine_option: flags.EngineOptionFlag = None,
    strict: flags.StrictFlag = False,
    verify: flags.VerifyFlag = None,
    inputs: flags.VerifyInputsFlag = None,
    dump_ir: flags.DumpFlag = None,
    print_after: flags.PrintAfterFlag = None,
    stats: flags.StatsFlag = False,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Compile a model into an artifact that runs anywhere irc's runtime is installed.

    MODEL may also be a PyTorch program: FILE.py:NAME, a function that returns (module, example_inputs), or a .pt2 file.
    """
    from .factories import default_place, is_torch_model
    from .models import open_model

    options = compile_options(
        target,
        engine,
        level,
        passes,
        load,
        disable,
        rewrite_limit,
        dim,
        shape,
        threads,
        spin,
        provider,
        verify,
        inputs,
        engine_option,
        tune_budget,
        strict,
    )
    place = output or (default_place(model) if is_torch_model(model) else model.with_suffix(".irc"))
    _check_place(model, place)
    watching = instruments(dump_ir, print_after, options.load)
    opened = open_model(model, trust_pickle)
    compiled = opened.compile(options, watching)
    compiled.program.save(place)
    warn_of_failures(compiled)
    if as_json:
        print_json(_summary(compiled, opened.notes, place))
        return
    nodes = compiled.program.manifest.nodes
    assert nodes is not None
    parts = compiled.timing
    total = parts.capture + parts.passes + parts.lower
    print(f"{place}: {nodes.before} ops became {nodes.after} in {seconds(total)}, {size(place.stat().st_size)}")
    placed = _placed(compiled.program.manifest.placement)
    print(f"placement: {placed}; target {options.target}, level O{options.opt_level}, engine ready in {seconds(parts.load)}")
    if level >= 2 or compiled.agreement.unknown != "not asked for":
        print(f"answers: {compiled.agreement.sentence}")
    for each in compiled.variants:
        print(f"variant {each.name}: {_placed(each.placement)}; {each.agreement.sentence}")
    if compiled.overriding is not None:
        own = compiled.overriding
        print(f"{own.name}: {_placed(own.placement)}; {own.agreement.sentence}")
    if verify:
        print(f"rewrites: {_checked(compiled)}")
    if compiled.decisions:
        print_decisions(compiled.decisions)
    if stats:
        print_statistics(compiled.records)


DECISION_COLUMNS = ("candidate", "ms", "error", "what became of it")


def _placed(placement: Sequence[Placement]) -> str:
    return ", ".join(f"{each.ops} ops on {each.engine}" for each in placement)


def print_decisions(decisions: Sequence[Decision]) -> None:
    """A line for each candidate that was considered: its time, its error, and what became of it."""
    print_table(None, DECISION_COLUMNS, decision_rows(decisions))


def decision_rows(decisions: Sequence[Decision]) -> list[tuple[str, ...]]:
    """The candidates that were considered, as rows of DECISION_COLUMNS."""
    return [
        (
            each.candidate,
            "–" if each.milliseconds is None else f"{each.milliseconds:.3f}",
            "–" if each.error is None else f"{each.error:.1e}",
            f"{each.fate}: {each.why}" if each.why else each.fate,
        )
        for each in decisions
    ]


def decisions_json(decisions: Sequence[Decision]) -> list[Json]:
    """The candidates that were considered, as JSON."""
    return [each.to_json() for each in decisions]


def _checked(compiled: Compiled) -> str:
    done = sum(record.changes for record in compiled.records) + sum(compiled.forms.values())
    unknown = f" ({compiled.unchecked} of them the reference could not run)" if compiled.unchecked else ""
    return f"{done} checked and done{unknown}, {len(compiled.undone) or 'nothing'} undone"


def _check_place(model: Path, place: Path) -> None:
    """Refuse a place where the artifact cannot or should not go. Raises UsageError."""
    from irc.ir import UsageError

    if place.suffix == ".onnx":
        hint = "name it .irc; `irc opt MODEL -o FILE.onnx` writes an ONNX model"
        raise UsageError(f"'{place}' ends in .onnx, but what is written is an artifact", hint=hint)
    check_file(place, "-o", *([model] if model.is_file() else []))


def compile_options(
    target: str = "cpu",
    engine: str | None = None,
    level: int = 2,
    passes: str | None = None,
    load: list[str] | None = None,
    disable: list[str] | None = None,
    rewrite_limit: int | None = None,
    dim: list[str] | None = None,
    shape: list[str] | None = None,
    threads: int | None = None,
    spin: bool | None = None,
    provider: list[str] | None = None,
    verify: bool | None = None,
    inputs: Path | None = None,
    engine_option: list[str] | None = None,
    tune_budget: float = 60.0,
    strict: bool = False,
) -> CompileOptions:
    """The options that the flags stand for. Raises UsageError for a text that is no shape, dim or setting of an engine."""
    from irc.ir import UsageError, parse_dims, parse_shapes
    from irc.lowering import CompileOptions, Verify

    if inputs is not None and verify is False:
        raise UsageError("--no-verify checks nothing, so --inputs has no use", hint="leave one of them out")
    if inputs is not None and not inputs.is_file():
        raise UsageError(f"there is no file '{inputs}'", hint="--inputs takes an .npz file")
    engine_options = {
        **_settings(engine_option or []),
        **({} if threads is None else {"threads": threads}),
        **({} if spin is None else {"spin": spin}),
        **({} if not provider else {"providers": tuple(provider)}),
    }
    return CompileOptions(
        target=target,
        opt_level=level,
        engine=engine,
        passes=passes,
        load=tuple(load or ()),
        disable=frozenset(disable or ()),
        rewrite_limit=rewrite_limit,
        dims=parse_dims(dim or []),
        shapes=parse_shapes(shape or []),
        verify={None: Verify.ANSWERS, True: Verify.REWRITES, False: Verify.NOTHING}[verify],
        inputs=inputs,
        engine_options=engine_options,
        tune_budget=tune_budget,
        strict=strict,
    )


def _settings(texts: list[str]) -> dict[str, OptionValue]:
    """Settings of ONNX Runtime from `name=value` texts; several values are joined by `:`. Raises UsageError."""
    from dataclasses import fields

    from irc.ir import UsageError, closest
    from irc.runtime import ArtifactError, OnnxRuntimeOptions

    known = {each.name.replace("_", "-"): each.default for each in fields(OnnxRuntimeOptions) if each.name != "config"}
    found: dict[str, OptionValue] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or name not in known:
            hint = closest(name, list(known)) or f"it has {', '.join(known)}"
            raise UsageError(f"'{text}' is no setting NAME=VALUE of the engine", hint=hint)
        found[name.replace("-", "_")] = _setting(known[name], value)
    try:
        OnnxRuntimeOptions.from_manifest(found)
    except ArtifactError as error:
        raise UsageError(error.message, hint="`irc bisect` shows settings that work") from error
    return found


def _setting(default: object, text: str) -> OptionValue:
    if isinstance(default, tuple):
        return tuple(part for part in text.split(":") if part)
    if isinstance(default, bool):
        return {"true": True, "false": False}.get(text, text)
    return int(text) if default is None and text.isdigit() else text


def instruments(dump_ir: Path | None, print_after: list[str] | None, load: tuple[str, ...]) -> Sequence[Instrument]:
    """The instruments that the flags ask for; printed IR goes to stderr. Raises UsageError for a pass that does not exist."""
    from irc.ir import UsageError, closest
    from irc.passes import DumpIR, PrintAfter, registry

    known = ["all", *(registry(load).passes if print_after else ())]
    for name in print_after or ():
        if name not in known:
            hint = closest(name, known) or "`irc passes` lists them"
            raise UsageError(f"there is no pass '{name}' to print the IR after", hint=hint)
    chosen: list[Instrument] = []
    if dump_ir is not None:
        check_folder(dump_ir, "--dump-ir")
        chosen.append(DumpIR(dump_ir))
    if print_after:
        chosen.append(PrintAfter(frozenset(print_after), lambda text: print(text, end="", file=sys.stderr)))
    return chosen


def warn_of_failures(compiled: Compiled) -> None:
    """Say on stderr which passes were rolled back, which rewrites undone, and what the engine refused."""
    warn_of_undone(compiled.undone)
    for record in compiled.failures:
        note(f"pass '{record.text}' was rolled back and left out: {record.failure}")
    for remark in compiled.notes:
        note(remark)


def warn_of_undone(undone: Sequence[Undone]) -> None:
    """Say on stderr which rewrites were undone, a line each."""
    for each in undone:
        note(f"undone: {each.text}")


def undone_json(undone: Sequence[Undone]) -> list[Json]:
    """The rewrites that were undone, as JSON."""
    return [
        {"rewrite": u.rewrite, "location": u.location, "distance": u.distance, "what": u.what, "inputs": u.inputs}
        for u in undone
    ]


def print_statistics(records: Sequence[PassRecord], file: TextIO | None = None) -> None:
    """A line a pass: time, rewrites, ops before and after; on stdout unless `file` is given."""
    rows = [
        (
            r.text,
            f"{r.seconds * 1e3:.1f}",
            r.changes,
            r.ops_before,
            r.ops_after,
            "rolled back" if r.failure else _rewrites(r),
        )
        for r in records
    ]
    print_table(None, ("pass", "ms", "rewrites", "ops before", "after", "which"), rows, file)


def _rewrites(record: PassRecord) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(record.rewrites.items(), key=lambda item: -item[1]))


def records_json(records: Sequence[PassRecord]) -> list[Json]:
    """The records of all passes as JSON."""
    return [
        {
            "pass": r.text,
            "seconds": r.seconds,
            "rewrites": dict[str, Json](r.rewrites),
            "ops_before": r.ops_before,
            "ops_after": r.ops_after,
            "failure": r.failure,
        }
        for r in records
    ]


def _agreement_json(agreement: Agreement) -> dict[str, Json]:
    return {
        "agrees": agreement.agrees,
        "output": agreement.output,
        "distance": agreement.distance,
        "unknown": agreement.unknown,
        "inputs": agreement.inputs,
    }


def _variant_json(variant: CompiledVariant) -> dict[str, Json]:
    return {
        "dims": dict[str, Json](variant.dims),
        "placement": [each.to_json() for each in variant.placement],
        "agreement": _agreement_json(variant.agreement),
    }


def _summary(compiled: Compiled, notes: Sequence[str], place: Path) -> dict[str, Json]:
    manifest, timing = compiled.program.manifest, compiled.timing
    assert manifest.nodes is not None
    return {
        "artifact": str(place),
        "bytes": place.stat().st_size,
        "target": manifest.target,
        "opt_level": manifest.opt_level,
        "ops": {"before": manifest.nodes.before, "after": manifest.nodes.after},
        "seconds": {"capture": timing.capture, "passes": timing.passes, "lower": timing.lower, "load": timing.load},
        "placement": [each.to_json() for each in manifest.placement],
        "agreement": _agreement_json(compiled.agreement),
        "variants": [_variant_json(each) for each in compiled.variants],
        "overriding": None if compiled.overriding is None else _variant_json(compiled.overriding),
        "passes": records_json(compiled.records),
        "undone": undone_json(compiled.undone),
        "unchecked": compiled.unchecked,
        "decisions": decisions_json(compiled.decisions),
        "notes": list[Json]([*notes, *compiled.notes]),
    }

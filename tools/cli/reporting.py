"""What is told of a compilation: lines for people, and the same as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from .output import Json, note, print_table, seconds, size
from .precision import precision_json, print_precision

if TYPE_CHECKING:
    from irc.lowering import Agreement, Compiled, CompiledVariant, CompileOptions
    from irc.passes import PassRecord, Undone
    from irc.runtime import Decision, Manifest, Placement

    from .kept import Told

DECISION_COLUMNS = ("candidate", "ms", "error", "what became of it")


def print_compiled(compiled: Compiled, options: CompileOptions, place: Path, spent: float) -> None:
    """What became of a model whose artifact is at `place` after so many seconds: where its ops are, its answers, and so on."""
    print(_first_line(compiled.program.manifest, place, f"in {seconds(spent)}"))
    print_details(compiled, options)


def print_taken(manifest: Manifest, told: Told, place: Path) -> None:
    """The same of a model whose artifact came from the cache."""
    print(_first_line(manifest, place, f"(taken from the cache; compiling took {seconds(told.seconds)})"))
    print(told.lines, end="")


def _first_line(manifest: Manifest, place: Path, how: str) -> str:
    nodes = manifest.nodes
    assert nodes is not None
    return f"{place}: {nodes.before} ops became {nodes.after} {how}, {size(place.stat().st_size)}"


def print_details(compiled: Compiled, options: CompileOptions) -> None:
    """What is told of a compilation beside where its artifact is."""
    from irc.lowering import Verify

    placed = _placed(compiled.program.manifest.placement)
    ready = f"engine ready in {seconds(compiled.timing.load)}"
    print(f"placement: {placed}; target {options.target}, level O{options.opt_level}, {ready}")
    if options.opt_level >= 2 or compiled.agreement.unknown != "not asked for":
        print(f"answers: {compiled.agreement.sentence}")
    for each in compiled.variants:
        print(f"variant {each.name}: {_placed(each.placement)}; {each.agreement.sentence}")
    if compiled.overriding is not None:
        own = compiled.overriding
        print(f"{own.name}: {_placed(own.placement)}; {own.agreement.sentence}")
    if options.verify is Verify.REWRITES:
        print(f"rewrites: {_checked(compiled)}")
    if compiled.decisions:
        print_decisions(compiled.decisions)
    if compiled.precision is not None:
        print_precision(compiled.precision)


def _placed(placement: Sequence[Placement]) -> str:
    return ", ".join(f"{each.ops} ops on {each.engine}" for each in placement)


def _checked(compiled: Compiled) -> str:
    done = sum(record.changes for record in compiled.records) + sum(compiled.forms.values())
    unknown = f" ({compiled.unchecked} of them the reference could not run)" if compiled.unchecked else ""
    return f"{done} checked and done{unknown}, {len(compiled.undone) or 'nothing'} undone"


def compiled_json(compiled: Compiled, notes: Sequence[str], place: Path) -> dict[str, Json]:
    """The same as JSON, with what the capture had to say."""
    manifest, timing = compiled.program.manifest, compiled.timing
    assert manifest.nodes is not None
    return {
        "artifact": str(place),
        "bytes": place.stat().st_size,
        "cached": False,
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
        "precision": precision_json(compiled.precision),
        "notes": list[Json]([*notes, *compiled.notes]),
    }


def taken_json(told: Told, place: Path) -> dict[str, Json]:
    """The same of a model whose artifact came from the cache; the seconds are those that it took to compile."""
    return {**told.values, "artifact": str(place), "bytes": place.stat().st_size, "cached": True}


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

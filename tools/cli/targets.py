"""`irc targets`: what irc compiles for, which of it is this machine, and which engines serve it."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .output import Json, note, print_json, print_table, size

if TYPE_CHECKING:
    from irc.lowering import Target

NameArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[TARGET…]", help="Only these, in full; a TOML file is one, too.")
]
MeasureFlag = Annotated[
    bool, typer.Option("--measure", help="Measure what this machine computes and moves at most, and keep it in the cache.")
]


def targets_command(target: NameArgument = None, measure: MeasureFlag = False, as_json: flags.JsonFlag = False) -> None:
    """List what irc compiles for, which of it is this machine, and the engines that serve it; or describe targets."""
    from irc.lowering import FAMILIES, TARGETS, find_target

    names = target or (TARGETS if as_json else FAMILIES)
    for name in names:
        find_target(name)  # a wrong one is refused before anything is measured
    if measure:
        _measure()
    found = [find_target(name) for name in names]
    if as_json:
        print_json([_as_json(each) for each in found])
        return
    if target:
        for index, each in enumerate(found):
            print("\n" * (index > 0) + each.name)
            _print_facts(each)
        return
    rows = [
        (each.name, "yes" if each.is_here else f"no: {each.not_here}", _engines(each, versions=False), headline(each))
        for each in found
    ]
    print_table(None, ("target", "here", "engines", "what it is"), rows)
    print("\nthis machine")
    _print_facts(found[0])
    print("\nmore")
    for family in FAMILIES:
        start = f"  {family + ':…':<12}"
        names = " ".join(_details(family))
        print(textwrap.fill(names, 118, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False))
    print(f"  {'FILE.toml':<12}a description of your own; docs/targets.md shows one")


def headline(target: Target) -> str:
    """A target in half a line."""
    which = "any" if target.cores is None else "some"
    kind = "NVIDIA GPU" if target.kind == "cuda" else f"{target.architecture} processor"
    words = [target.processor or f"{which} {kind}"]
    if target.cores is not None:
        words.append(f"{target.cores} cores")
    if target.compute_capability is not None:
        words.append(f"sm_{target.compute_capability[0]}{target.compute_capability[1]}")
    if len(target.features) > 1 and target.kind == "cpu":
        words.append(f"{target.architecture} up to {target.features[-1]}")
    return ", ".join(words)


def _details(family: str) -> list[str]:
    from irc.lowering import TARGETS

    return [name.partition(":")[2] for name in TARGETS if name.startswith(f"{family}:")]


def _measure() -> None:
    from irc.runtime import measure_limits

    if sys.stderr.isatty():
        note("measuring this machine for about two seconds")
    kept = measure_limits()
    if kept.note:
        note(kept.note)


def _engines(target: Target, *, versions: bool) -> str:
    """The engines that serve a target; of one that is here, what they lack to run on it."""
    from irc.lowering import ENGINES

    words: list[str] = []
    for engine in ENGINES:
        runs = engine.runs(target)
        if engine.serves(target):
            lacks = f" (cannot run here: {runs.reason})" if target.is_here and not runs else ""
            words.append(f"{engine.name}{f' {engine.version}' if versions else ''}{lacks}")
    return ", ".join(words) or "–"


def _print_facts(target: Target) -> None:
    """All that is known of a target, a line each."""
    for name, value in _facts(target):
        print(f"  {name:<20}{value}")


def _facts(target: Target) -> list[tuple[str, str]]:
    caches = target.caches
    sizes = [("L1d", caches.l1d), ("L2", caches.l2), ("L3", caches.l3)]
    known = ", ".join(f"{name} {size(count)}" for name, count in sizes if count is not None)
    capability = target.compute_capability
    facts = [
        ("here", "yes" if target.is_here else f"no: {target.not_here}"),
        ("engines", _engines(target, versions=True)),
        ("processor", target.processor),
        ("architecture", target.architecture),
        ("compute capability", "" if capability is None else f"{capability[0]}.{capability[1]}"),
        ("multiprocessors", _number(target.multiprocessors)),
        ("instruction sets" if target.kind == "cpu" else "tensor cores", " ".join(target.features)),
        ("cores", _number(target.cores)),
        ("caches", known),
        ("memory", "" if target.memory is None else size(target.memory)),
        ("at most", _limits(target)),
    ]
    return [(name, value) for name, value in facts if value]


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _limits(target: Target) -> str:
    limits = target.limits
    if limits is None:
        return "not measured yet: irc targets --measure" if target.name == "cpu" else ""
    parts = [
        "" if limits.gflops is None else f"{limits.gflops:.1f} GFLOP/s in f32",
        "" if limits.bandwidth is None else f"{limits.bandwidth:.1f} GB/s to and from memory",
    ]
    return ", ".join(filter(None, parts))


def _as_json(target: Target) -> Json:
    from irc.lowering import ENGINES

    capability, limits, caches = target.compute_capability, target.limits, target.caches
    engines: list[Json] = []
    for engine in ENGINES:
        if engine.serves(target):
            runs = engine.runs(target)
            engines.append({"name": engine.name, "version": engine.version, "runs": bool(runs), "reason": runs.reason})
    return {
        "name": target.name,
        "kind": str(target.kind),
        "here": target.is_here,
        "not_here": target.not_here,
        "architecture": target.architecture,
        "processor": target.processor,
        "features": list[Json](target.features),
        "cores": target.cores,
        "caches": {"l1d": caches.l1d, "l2": caches.l2, "l3": caches.l3},
        "limits": None if limits is None else {"gflops": limits.gflops, "bandwidth": limits.bandwidth},
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "multiprocessors": target.multiprocessors,
        "memory": target.memory,
        "engines": engines,
    }

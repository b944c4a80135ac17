"""`irc profile`: what a run spends where, by module, source line, op or rewrite; as a tree, as JSON, as a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .attribution import Attribution, Branch, By, attribute, rows, tree
from .output import Json, check_file, print_json, print_table, size, write_whole

if TYPE_CHECKING:
    from irc.runtime import Kernel, Part, Passed, Profile

ByFlag = Annotated[
    str, typer.Option("--by", metavar="WHAT", help="module, line, op, or rule: the last rewrite that made an op.")
]
TraceFlag = Annotated[
    Path | None, typer.Option("--trace", metavar="FILE", help="Write a trace of one run, for ui.perfetto.dev.")
]
RunsFlag = Annotated[int, typer.Option("--runs", min=1, max=10_000, help="Runs to measure, after two that do not count.")]
DepthFlag = Annotated[int | None, typer.Option("--depth", min=1, metavar="N", help="How deep to print the tree.")]
LeastFlag = Annotated[
    float, typer.Option("--least", min=0, max=100, metavar="PERCENT", help="Print only what takes so much of a run.")
]


def profile_command(
    model: flags.AnyModelArgument,
    by: ByFlag = By.MODULE.value,
    trace: TraceFlag = None,
    runs: RunsFlag = 20,
    inputs: flags.InputFlag = None,
    archive: flags.InputsFlag = None,
    dim: flags.DimFlag = None,
    seed: flags.SeedFlag = 0,
    level: flags.LevelFlag = 2,
    threads: flags.ThreadsFlag = None,
    trust_pickle: flags.TrustFlag = False,
    depth: DepthFlag = None,
    least: LeastFlag = 1.0,
    as_json: flags.JsonFlag = False,
) -> None:
    """Show where a run spends its time; inputs that are not given are made up; what is no artifact is compiled first."""
    from .feeds import one_size_each, random_feeds, read_feeds
    from .models import open_program
    from .options import compile_options, engine_settings

    chosen, sizes = _by(by), one_size_each(dim or [])
    if trace is not None:
        check_file(trace, "--trace", model)
    program, examples = open_program(model, compile_options(level=level, settings=engine_settings(threads)), trust_pickle)
    with program:
        given = read_feeds(inputs or [], archive, program.inputs) or ({} if sizes else examples)
        profile = program.profile(random_feeds(program.inputs, seed, sizes, given), runs)
    to = {kernel: attribute(kernel) for kernel in profile.kernels}
    separator = _separator(profile)
    if trace is not None:
        from .tracing import trace_file

        write_whole(trace, trace_file(profile, to, model.name, separator))
    if as_json:
        print_json(_to_json(profile, to, chosen, separator))
        return
    _print(model, profile, tree(profile, to, chosen), chosen, separator, depth, least)
    if trace is not None:
        print(f"{trace}: {len(profile.calls)} calls of kernels; open it in ui.perfetto.dev")


def _by(text: str) -> By:
    """What `--by` names. Raises UsageError."""
    from irc.ir import UsageError, closest

    known = [each.value for each in By]
    if text not in known:
        raise UsageError(f"time cannot be summed up by '{text}'", hint=closest(text, known) or f"--by takes {', '.join(known)}")
    return By(text)


def _separator(profile: Profile) -> str:
    """What stands between the names of modules: the dot of Python where the model tells source lines, else ONNX's slash."""
    from irc.ir import parse_origin

    origins = (origin for kernel in profile.kernels for source in kernel.sources for origin in source.origins)
    return "." if any(parse_origin(origin) is not None for origin in origins) else "/"


def _print(model: Path, profile: Profile, root: Branch, by: By, separator: str, depth: int | None, least: float) -> None:
    whole = max(profile.run_ms, profile.kernels_ms)
    unknown = profile.unknown_ms / profile.kernels_ms if profile.kernels_ms else 0.0
    print(
        f"{model}: {profile.run_ms:.3f} ms a run, {profile.kernels_ms:.3f} of it in {len(profile.kernels)} kernels, "
        f"{100 * unknown:.1f} % of that not attributed; {profile.runs} runs on {_count(profile.threads, 'thread')}"
    )

    def numbers(branch: Branch) -> tuple[str, ...]:
        return f"{branch.ms:.3f}", f"{100 * branch.ms / whole:.1f}", str(branch.kernels)

    def join(outer: str, inner: str) -> str:
        return inner if by is By.LINE else f"{outer}{separator}{inner}"

    listed = rows(root, join, depth, least / 100 * whole, numbers)
    between = whole - profile.kernels_ms
    listed.append(("(between kernels)", f"{between:.3f}", f"{100 * between / whole:.1f}", ""))
    print_table(None, (by.value, "ms", "%", "kernels"), listed)
    if profile.parts:
        print()
        _print_parts(profile, whole)


def _print_parts(profile: Profile, whole: float) -> None:
    """A row for each part of a program of several, with what passes over its boundaries."""
    kernels: dict[str, list[float]] = {}
    for kernel in profile.kernels:
        kernels.setdefault(kernel.part, []).append(kernel.ms)

    def values(passed: Sequence[Passed]) -> str:
        return ", ".join(f"{p.name} ({size(p.bytes)})" if p.bytes is not None else p.name for p in passed) or "–"

    listed = [
        (
            p.name,
            p.engine,
            f"{p.run_ms:.3f}",
            f"{100 * p.run_ms / whole:.1f}",
            len(own),
            f"{sum(own):.3f}",
            values(p.takes),
            values(p.makes),
        )
        for p in profile.parts
        for own in (kernels.get(p.name, []),)
    ]
    print_table(None, ("piece", "engine", "ms", "%", "kernels", "in them", "takes", "makes"), listed)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _to_json(profile: Profile, to: Mapping[Kernel, Attribution], by: By, separator: str) -> dict[str, Json]:
    kernels: list[Json] = [_kernel_to_json(kernel, to[kernel], separator) for kernel in profile.kernels]
    return {
        "engine": profile.engine,
        "threads": profile.threads,
        "runs": profile.runs,
        "run_ms": profile.run_ms,
        "kernels_ms": profile.kernels_ms,
        "not_attributed_ms": profile.unknown_ms,
        "by": by.value,
        "tree": tree(profile, to, by).to_json()["children"],
        "kernels": kernels,
        "pieces": [_part_to_json(part) for part in profile.parts],
    }


def _part_to_json(part: Part) -> dict[str, Json]:
    def values(passed: Sequence[Passed]) -> list[Json]:
        return [{"name": each.name, "bytes": each.bytes} for each in passed]

    boundary: dict[str, Json] = {"takes": values(part.takes), "makes": values(part.makes)}
    return {"piece": part.name, "engine": part.engine, "run_ms": part.run_ms, **boundary}


def _kernel_to_json(kernel: Kernel, where: Attribution, separator: str) -> dict[str, Json]:
    return {
        "name": kernel.name,
        "op": kernel.op,
        "implementation": kernel.implementation,
        "piece": kernel.part,
        "ms": kernel.ms,
        "calls": kernel.calls,
        "attributed": bool(kernel.sources),
        "module": separator.join(where.module or ()),
        "line": where.line,
        "rule": where.rule,
        "origins": [origin for source in kernel.sources for origin in source.origins],
        "inputs": list(kernel.inputs),
        "outputs": list(kernel.outputs),
    }

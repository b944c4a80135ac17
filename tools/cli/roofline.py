"""`irc bench --roofline`: how near each kernel of a program comes to the limit of this machine that binds it.

Law: a share is the time that the limit allows over the time taken, and the limit is the later of two: the arithmetic of a step
at the GFLOP/s that the program's own threads reach with multiply-adds on registers, measured between its runs, or the bytes
that it touches at the machine's measured bandwidth (Williams, Waterman and Patterson, "Roofline", 2009). A share may be above
100 %: bytes that still are in a cache come faster, and Winograd's convolutions need fewer operations than are counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .memory import native_plans, what
from .output import Json, note, print_json, print_table, size

if TYPE_CHECKING:
    from irc.runtime import Limits, NativePlan, NativeStep

COLUMNS = ("step", "what it computes", "tasks", "ms", "%", "MFLOP", "GFLOP/s", "bytes", "limit", "share %")
TIMEOUT = 600.0
SURE = 1.1
"""The share of a limit that says that the limit is wrong: NumPy's BLAS, which measures it, is not quite perfect."""


@dataclass(frozen=True)
class Roof:
    """What this machine does at most with the threads that are used: FLOP a millisecond, bytes a millisecond."""

    flops: float
    byte_count: float

    def needs(self, flops: float, byte_count: float) -> tuple[float, str]:
        """The least milliseconds for so much work, and the limit that says so."""
        arithmetic, bandwidth = flops / self.flops, byte_count / self.byte_count
        return (arithmetic, "arithmetic") if arithmetic >= bandwidth else (bandwidth, "bandwidth")


@dataclass(frozen=True)
class Line:
    """A step, or the whole: the milliseconds it takes, the work it does, and the milliseconds that the limit allows."""

    name: str
    tasks: int
    ms: float
    flops: int
    byte_count: int
    least: float
    limit: str

    @property
    def share(self) -> float:
        """The share of the limit."""
        return self.least / self.ms if self.ms else 0.0

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.flops / self.ms / 1e6 if self.ms else 0.0

    def to_json(self) -> dict[str, Json]:
        """As JSON."""
        return {
            "name": self.name,
            "tasks": self.tasks,
            "ms": self.ms,
            "flops": self.flops,
            "gflops": self.gflops,
            "bytes": self.byte_count,
            "limit": self.limit,
            "share": self.share,
        }


@dataclass(frozen=True)
class Roofline:
    """What was measured: the steps by number, the whole, all milliseconds in kernels, of other engines too, and with what."""

    steps: Sequence[tuple[str, Line]]
    whole: Line
    kernels_ms: float
    threads: int
    runs: int
    limits: Limits


def roofline(artifact: Path, feeds: Mapping[str, Any], seconds: float, threads: int | None, title: str) -> Roofline:
    """Measure the steps of an artifact on these inputs. Raises UnsupportedError where none of its kernels are ours."""
    from irc.ir import UnsupportedError
    from irc.runtime import NVIDIA, open_artifact

    plans = {name: plan for name, plan in native_plans(open_artifact(artifact)) if plan.architecture != NVIDIA}
    if not plans:
        message = f"--roofline needs to know the work of each kernel, and '{title}' runs on other engines"
        raise UnsupportedError(message, hint="compile it with --engine tvm; `irc profile` has the times of other engines")
    measured = _measured(artifact, feeds, seconds, threads)
    limits = replace(_limits(), gflops=float(measured["gflops"]))
    used = int(measured["threads"])
    roof = Roof((limits.gflops or 1.0) * 1e6, (limits.bandwidth or 1.0) * 1e6)
    pieces = cast("dict[str, list[float]]", measured["pieces"])
    calls = {name: [int(each) for each in often] for name, often in cast("dict[str, list[float]]", measured["calls"]).items()}
    ran = {name: plan for name, plan in plans.items() if name in pieces}
    steps = [
        _line(f"{name}/{number}" if name else str(number), step, often, ms, roof)
        for name, plan in ran.items()
        for number, (step, ms, often) in enumerate(zip(plan.steps, pieces[name], calls[name], strict=True))
        if often
    ]
    whole = _whole([(plan, calls[name]) for name, plan in ran.items()], float(measured["run_ms"]), roof)
    return Roofline(steps, whole, sum(map(sum, pieces.values())), used, int(measured["runs"]), limits)


def print_roofline(found: Roofline, title: str, as_json: bool) -> None:
    """Print a row for each step, then the whole."""
    whole, limits = found.whole, found.limits
    if as_json:
        known: dict[str, Json] = {"gflops": limits.gflops, "bandwidth": limits.bandwidth}
        steps: list[Json] = [{"step": name, **each.to_json()} for name, each in found.steps]
        print_json({"threads": found.threads, "runs": found.runs, "limits": known, "steps": steps, "whole": whole.to_json()})
        return
    rows = [_row(name, each, whole.ms) for name, each in found.steps]
    other = found.kernels_ms - sum(each.ms for _, each in found.steps)
    for name, ms in (("(other engines)", other), ("(between kernels)", whole.ms - found.kernels_ms)):
        if ms > 1e-6:
            rows.append(("", name, "", f"{ms:.3f}", f"{100 * ms / whole.ms:.1f}", *[""] * (len(COLUMNS) - 5)))
    rows.append(_row("all", whole, whole.ms))
    print_table(None, COLUMNS, rows)
    print(
        f"{title}: {whole.ms:.3f} ms a run, {whole.gflops:.1f} GFLOP/s, {100 * whole.share:.1f} % of the limit by "
        f"{whole.limit}; {found.threads} threads, {found.runs} runs"
    )
    print(f"limits: {limits.gflops:.1f} GFLOP/s in f32 on these threads, {limits.bandwidth} GB/s")
    print("more is data that caches have, and convolutions that take fewer operations than the direct ones that are counted")


def _line(name: str, step: NativeStep, often: int, ms: float, roof: Roof) -> tuple[str, Line]:
    """A step that a run does so often, all of it together."""
    flops, passed = step.flops * often, step.byte_count * often
    least, limit = roof.needs(flops, passed)
    return name, Line(what(step), step.tasks * often, ms, flops, passed, least, limit)


def _whole(plans: Sequence[tuple[NativePlan, Sequence[int]]], ms: float, roof: Roof) -> Line:
    """All plans, with how often each step is done."""
    from irc.runtime import FIRST_VALUE

    steps = [pair for plan, calls in plans for pair in zip(plan.steps, calls, strict=True)]
    flops = sum(step.flops * often for step, often in steps)
    passed = sum(plan.constants + sum(plan.sizes(plan.entries(calls))[FIRST_VALUE:]) for plan, calls in plans)
    least, limit = roof.needs(flops, passed)
    return Line("the whole model", sum(step.tasks * often for step, often in steps), ms, flops, passed, least, limit)


def _row(name: str, each: Line, run_ms: float) -> tuple[str, ...]:
    return (
        name,
        each.name,
        str(each.tasks),
        f"{each.ms:.3f}",
        f"{100 * each.ms / run_ms:.1f}",
        f"{each.flops / 1e6:.1f}",
        f"{each.gflops:.1f}",
        size(each.byte_count),
        each.limit,
        f"{100 * each.share:.1f}",
    )


def _limits() -> Limits:
    """What this machine does at most, measured now: of an earlier measurement the larger figures stay."""
    from irc.runtime import measure_limits

    if sys.stderr.isatty():
        note("measuring this machine for about two seconds")
    found = measure_limits()
    if found.note:
        note(found.note)
    assert found.limits is not None, "measuring finds some or fails"
    return found.limits


def _measured(artifact: Path, feeds: Mapping[str, Any], seconds: float, threads: int | None) -> dict[str, Any]:
    """What the process that measures says."""
    from irc.runtime import run_child

    from .feeds import write_archive

    with tempfile.TemporaryDirectory(prefix="irc-roofline-") as folder:
        inputs = Path(folder, "inputs.npz")
        write_archive(inputs, feeds)
        words = [str(artifact.resolve()), str(inputs), str(seconds), *([] if threads is None else [str(threads)])]
        said = run_child("irc.tools.cli.stepping", *words, timeout=TIMEOUT + seconds)
    return cast("dict[str, Any]", json.loads(said.splitlines()[-1]))

"""What compiling a module costs beyond eager: peak memory by the size of its weights, seconds, and the overhead of a call.

    python -m benchmarks.torch_cost [MODEL ...] [--level 2]

A process a model. Memory is the peak of `irc.compile` above what the process held after an eager run, by the bytes of
parameters and buffers: resident pages, those of mapped files included. Weights that wait on a disk count while they are mapped
in; the system's cache of that file, which it can drop, does not. The overhead is the time of `program(x)` beyond the engine's
own call on the same arrays, for models whose call takes less than a millisecond: in a longer one it cannot be told from chance.
"""

# pyright: basic
from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

MEMORY, OVERHEAD = 1.6, 15.0
"""The bars: peak above eager by the size of the weights, and microseconds a call."""


def main() -> None:
    """Measure every model and print a table; ends with 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work(arguments.models[0], arguments.level)
        return
    from .torch_speed import _names

    table = Table(box=None)
    for column in ("model", "weights MiB", "peak above eager MiB", "by weights", "seconds", "us a call"):
        table.add_column(column, justify="left" if column == "model" else "right")
    missed = False
    for model in arguments.models or _names():
        command = [sys.executable, "-m", "benchmarks.torch_cost", model, "--worker", "--level", str(arguments.level)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])
        share = found["peak"] / found["weights"]
        # What any process needs for the compiler itself is nothing that a small model's weights can be compared with.
        overhead = found["overhead"]
        missed |= (found["weights"] > 64 and share > MEMORY) or (overhead is not None and overhead > OVERHEAD)
        numbers = [found["weights"], found["peak"], share, found["seconds"], overhead]
        table.add_row(model, *("–" if n is None else f"{n:.2f}" if n < 10 else f"{n:.1f}" for n in numbers))
    Console(width=120).print(table)
    sys.exit(int(missed))


def _work(model: str, level: int) -> None:
    import torch

    import irc

    from . import zoo

    with torch.inference_mode():
        irc.compile(*zoo.mlp(), opt_level=level)  # the compiler's own modules are loaded before anything is measured
        module, inputs = getattr(zoo, model)()
        module(*inputs)
        weights = sum(each.numel() * each.element_size() for each in (*module.parameters(), *module.buffers())) / 2**20
        held = _resident()
        _forget_peak()
        start = time.perf_counter()
        program = irc.compile(module, inputs, opt_level=level)
        seconds = time.perf_counter() - start
        peak = _peak() - held
        overhead = _overhead(program, inputs)
    print(json.dumps({"weights": weights, "peak": peak, "seconds": seconds, "overhead": overhead}))


def _overhead(program: object, inputs: tuple[object, ...]) -> float | None:
    """Microseconds of a call beyond the engine's: medians of rounds that take turns, on the fastest third of the calls."""
    inner = program.program  # type: ignore[attr-defined]
    feeds = {entry.name: tensor.numpy() for entry, tensor in zip(inner.inputs, inputs, strict=True)}  # type: ignore[attr-defined]
    checked = inner._check(feeds)
    if _fast_third(lambda: inner._execute(checked)) > 1e-3:
        return None
    whole, engine = [], []
    for _ in range(7):
        engine.append(_fast_third(lambda: inner._execute(checked)))
        whole.append(_fast_third(lambda: program(*inputs)))  # type: ignore[operator]
    return (statistics.median(whole) - statistics.median(engine)) * 1e6


def _fast_third(call: Callable[[], object], seconds: float = 0.3) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(sorted(times)[: max(1, len(times) // 3)])


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


if __name__ == "__main__":
    main()

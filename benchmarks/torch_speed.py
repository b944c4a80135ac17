"""A compiled module against eager PyTorch and against torch.compile with its default backend, on the zoo as modules.

    python -m benchmarks.torch_speed [MODEL ...] [--threads 2] [--rounds 8] [--seconds 0.5] [--level 2]

One process for each way of running, taking turns; a figure is the median of a process's rounds, the ratio the other's median
by irc's: above 1 irc is faster. The error is the relative L2 distance of irc's answer from eager's.
"""

# pyright: basic
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

WAYS = ("irc", "eager", "torch.compile")


def main() -> None:
    """Measure every model and print a table; a way that fails is named with its reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--worker", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        _work(arguments.models[0], arguments.worker, arguments.threads, arguments.level, arguments.seconds)
        return
    table = Table(box=None)
    for column in ("model", "irc ms", "eager ms", "torch.compile ms", "eager / irc", "torch.compile / irc", "error"):
        table.add_column(column, justify="left" if column == "model" else "right")
    ratios: list[tuple[float, float]] = []
    for model in arguments.models or _names():
        with Console().status(model):
            medians, error = _measure(model, arguments)
        own = medians["irc"]
        cells = [f"{medians[way]:.3f}" for way in WAYS]
        by_eager, by_compiled = medians["eager"] / own, medians["torch.compile"] / own
        table.add_row(model, *cells, f"{by_eager:.2f}", f"{by_compiled:.2f}", f"{error:.1e}")
        ratios.append((by_eager, by_compiled))
    console = Console(width=140)
    console.print(table)
    means = [statistics.geometric_mean(each) for each in zip(*ratios, strict=True)]
    console.print(f"geometric mean: {means[0]:.2f} against eager, {means[1]:.2f} against torch.compile")


def _names() -> list[str]:
    from .zoo import ZOO

    return [make.__name__ for make in ZOO]


def _measure(model: str, arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    workers = {way: _Worker(model, way, arguments) for way in WAYS}
    try:
        errors = {way: worker.read()["error"] for way, worker in workers.items()}
        rounds: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(arguments.rounds):
            for way, worker in workers.items():
                rounds[way].append(worker.round())
        return {way: statistics.median(times) for way, times in rounds.items()}, errors["irc"]
    finally:
        for worker in workers.values():
            worker.process.kill()


class _Worker:
    """A process that has a model ready and measures a round when told to."""

    def __init__(self, model: str, way: str, arguments: argparse.Namespace) -> None:
        options = ["--threads", arguments.threads, "--seconds", arguments.seconds, "--level", arguments.level]
        command = [sys.executable, "-m", "benchmarks.torch_speed", model, "--worker", way, *map(str, options)]
        self.way, self.model = way, model
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def read(self) -> dict[str, Any]:
        """What the process says next; exits with a sentence where it has died."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(
                f"{self.model}: {self.way} failed; `python -m benchmarks.torch_speed {self.model} --worker {self.way}` says why"
            )
        return json.loads(line)

    def round(self) -> float:
        """Milliseconds of one call, the median of a round."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.read()["ms"]


def _work(model: str, way: str, threads: int, level: int, seconds: float) -> None:
    import torch

    from . import zoo

    torch.set_num_threads(threads)
    with torch.inference_mode():
        module, inputs = getattr(zoo, model)()
        wanted = module(*inputs)
        call = _ready(way, module, inputs, threads, level)
        for _ in range(3):
            got = call(*inputs)
        error = float((got - wanted).norm() / wanted.norm())
        print(json.dumps({"error": error}), flush=True)
        for _ in sys.stdin:
            print(json.dumps({"ms": _round(lambda: call(*inputs), seconds)}), flush=True)


def _ready(way: str, module: Any, inputs: tuple[Any, ...], threads: int, level: int) -> Callable[..., Any]:
    if way == "eager":
        return module
    if way == "torch.compile":
        import torch

        return torch.compile(module)
    import irc

    return irc.compile(module, inputs, opt_level=level, threads=threads)


def _round(call: Callable[[], object], seconds: float) -> float:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


if __name__ == "__main__":
    main()

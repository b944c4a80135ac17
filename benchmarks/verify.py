"""What `--verify` costs and finds: compiling at O2 as usual and with every rewrite checked, for each model.

    python -m benchmarks.verify MODEL.onnx|FOLDER ... [--inputs FOLDER] [--rounds 3] [--level 2] [--json OUT]

A folder stands for the models in it; real inputs come from MODEL.npz, beside the model or in the folder of `--inputs`, where it
is there. One process a run, the ways to compile taking turns; the figure is the median over rounds. Ends with 1 when
a rewrite was undone, a pass rolled back, or a model could not be compiled: a good compiler has none of these.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

BAR = 20.0
"""How many times the seconds of a usual compilation one with `--verify` may take."""
UNCHECKED, USUAL, VERIFIED = WAYS = ("unchecked", "usual", "verified")


@dataclass(frozen=True)
class Run:
    """One compilation: its seconds, how many rewrites were checked, how many of those said nothing, and what went wrong."""

    seconds: float
    checked: int = 0
    unsettled: int = 0
    undone: tuple[str, ...] = ()


@dataclass(frozen=True)
class Figures:
    """Median seconds of each way to compile, and what the checked one found."""

    unchecked: float
    usual: float
    verified: float
    found: Run

    @property
    def ratio(self) -> float:
        """How many times the usual compilation the checked one takes."""
        return self.verified / self.usual


def compile_once(way: str, model: Path, level: int, inputs: Path | None) -> Run:
    """Compile in this process; importing what does it is no part of the time."""
    from irc.lowering import CompileOptions, Verify, compile_model

    verify = {UNCHECKED: Verify.NOTHING, USUAL: Verify.ANSWERS, VERIFIED: Verify.REWRITES}[way]
    options = CompileOptions(opt_level=level, verify=verify, inputs=None if verify is Verify.NOTHING else inputs)
    start = time.perf_counter()
    compiled = compile_model(model, options)
    seconds = time.perf_counter() - start
    compiled.program.close()
    rolled_back = (f"pass {record.name} was rolled back: {record.failure}" for record in compiled.failures)
    return Run(seconds, compiled.checked, compiled.unchecked, (*(each.text for each in compiled.undone), *rolled_back))


def run(way: str, model: Path, level: int, inputs: Path | None) -> Run | str:
    """Compile in a process of its own: what it reports, or why there is no report."""
    command = [sys.executable, "-m", "benchmarks.verify", str(model), "--way", way, "--level", str(level)]
    command += [] if inputs is None else ["--inputs", str(inputs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line[:1].isalpha()]  # a hint stands indented behind the error
        return said[-1] if said else f"it ends with {done.returncode}"
    report = json.loads(done.stdout.strip().splitlines()[-1])
    return Run(report["seconds"], report["checked"], report["unsettled"], tuple(report["undone"]))


def measure(model: Path, level: int, inputs: Path | None, rounds: int) -> Figures | str:
    """The figures of one model, or why there are none."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    found = Run(0.0)
    for _ in range(rounds):
        for way in WAYS:
            report = run(way, model, level, inputs)
            if isinstance(report, str):
                return report
            seconds[way].append(report.seconds)
            found = report  # the last way is the one that checks
    unchecked, usual, verified = (statistics.median(seconds[way]) for way in WAYS)
    return Figures(unchecked, usual, verified, found)


def models_of(places: list[Path]) -> list[Path]:
    """The models given, those of a folder in the order of their names."""
    return [model for place in places for model in (sorted(place.glob("*.onnx")) if place.is_dir() else [place])]


def inputs_of(model: Path, folder: Path | None) -> Path | None:
    """The inputs of a model, where they are there."""
    place = (folder or model.parent) / f"{model.stem}.npz"
    return place if place.is_file() else None


def show(figures: dict[str, Figures | str]) -> None:
    """A table, and below it what went wrong."""
    table = Table(box=None)
    for column in ("model", "unchecked s", "usual s", "verified s", "ratio", "checked", "undone", "not settled"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for name, each in figures.items():
        if isinstance(each, str):
            table.add_row(name, *["–"] * 7)
            continue
        times = [f"{each.unchecked:.2f}", f"{each.usual:.2f}", f"{each.verified:.2f}", f"{each.ratio:.1f}"]
        table.add_row(name, *times, str(each.found.checked), str(len(each.found.undone)), str(each.found.unsettled))
    Console(width=120).print(table)
    measured = [each for each in figures.values() if isinstance(each, Figures)]
    if measured:
        print(f"largest ratio: {max(each.ratio for each in measured):.1f} (bar: {BAR:g})")
    for name, each in figures.items():
        for text in each.found.undone if isinstance(each, Figures) else (f"fails: {each}",):
            print(f"{name}: {text}")


def main() -> int:
    """Measure every model and print a table; 1 where something was undone or failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)  # the worker: one model, once, told as JSON
    arguments = parser.parse_args()
    if arguments.way is not None:
        print(json.dumps(asdict(compile_once(arguments.way, arguments.models[0], arguments.level, arguments.inputs))))
        return 0
    figures: dict[str, Figures | str] = {}
    for model in models_of(arguments.models):
        figures[model.stem] = measure(model, arguments.level, inputs_of(model, arguments.inputs), arguments.rounds)
    show(figures)
    if arguments.json:
        arguments.json.write_text(json.dumps({k: v if isinstance(v, str) else asdict(v) for k, v in figures.items()}, indent=1))
    return 1 if any(isinstance(each, str) or each.found.undone for each in figures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

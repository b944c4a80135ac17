"""PyTorch architectures captured, compiled at O2 and compared with eager: a row for each, and a page for docs/.

    python -m benchmarks.torch_models [NAME ...] [--family FAMILY] [--timeout 180] [--json OUT] [--write docs/architectures.md]

A process each, with a time limit. Exits with 1 when a row that counts misses the bar: 1e-4 relative L2 at the example's sizes
and at another batch and length, where they are dynamic.
"""

# pyright: basic
from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from irc.ir import closest

from .architectures import FAMILIES, TABLE, Trial, attempt
from .architectures.page import page

PRELOADED = ["transformers.modeling_utils", "benchmarks.architectures.warm"]
PACKAGES = ("torch", "transformers", "onnxscript", "onnxruntime")


def alone(name: str, out: Path) -> None:
    """Try one architecture in this process: the trial goes to the file, what the libraries print to another beside it."""
    torch.set_num_threads(1)
    with out.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            trial = attempt(name)
        except Exception as error:  # no error of irc's: it goes into the table as what it is
            traceback.print_exc()
            where = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            trial = Trial(name, TABLE[name].family, "fails", " ".join(reason.split()))
        out.write_text(json.dumps(dataclasses.asdict(trial)), encoding="utf-8")


def watched(context: Any, name: str, out: Path, timeout: float) -> Trial:
    """Try one architecture in a process of its own, which is ended when its time is over."""
    process = context.Process(target=alone, args=(name, out))
    process.start()
    process.join(timeout)
    family = TABLE[name].family
    if process.is_alive():
        process.kill()
        process.join()
        return Trial(name, family, "fails", f"takes over {timeout:.0f} s")
    if not out.exists():
        return Trial(name, family, "fails", f"its process died with {process.exitcode}")
    found = json.loads(out.read_text(encoding="utf-8"))
    return Trial(**{key: tuple(value) if isinstance(value, list) else value for key, value in found.items()})


def all_of(names: list[str], timeout: float, console: Console, out: Path | None) -> list[Trial]:
    """Try them one after another; as each is done there is a line for it, and `out` has all there are."""
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload(PRELOADED)
    trials: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="irc-architectures-") as folder:
        for name in names:
            trial = watched(context, name, Path(folder) / f"{name}.json", timeout)
            trials.append(trial)
            if out:
                out.write_text(json.dumps([dataclasses.asdict(each) for each in trials], indent=1), encoding="utf-8")
            seconds = f"{trial.capture_seconds + trial.compile_seconds:.1f} s"
            console.print(
                f"{name}: {trial.outcome} {trial.reason or seconds}", style=None if trial.good else "red", markup=False
            )
    return trials


def table(trials: list[Trial]) -> Table:
    """The trials for a terminal."""
    shown = Table(box=None)
    for column in ("architecture", "family", "outcome", "example", "other sizes", "dynamic", "ops", "left", "s", "composites"):
        shown.add_column(column, justify="right" if column in ("example", "ops", "left", "s") else "left")
    for trial in trials:
        shown.add_row(
            trial.name,
            trial.family,
            trial.outcome,
            "" if trial.example is None else f"{trial.example:.0e}",
            "" if trial.other is None else f"{trial.other:.0e} {trial.changed}",
            ", ".join(trial.dynamic),
            str(trial.captured or ""),
            str(trial.left or ""),
            f"{trial.capture_seconds + trial.compile_seconds:.1f}",
            ", ".join(f"{op} {count}" for op, count in trial.composites.items()),
            style=None if trial.good else "red",
        )
    return shown


def chosen(names: list[str], family: str | None) -> list[str]:
    """The names asked for, or those of a family, or all, family by family."""
    if names:
        return names
    ordered = sorted(TABLE, key=lambda name: FAMILIES.index(TABLE[name].family))
    return [name for name in ordered if family in (None, TABLE[name].family)]


def main() -> int:
    """Try the architectures named and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_models", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--timeout", type=float, default=180)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="make this page of all architectures")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in TABLE:
            parser.error(f"there is no architecture '{name}'; {closest(name, list(TABLE)) or 'see benchmarks/architectures'}")
    if arguments.write and (arguments.names or arguments.family):
        parser.error("--write makes a page of all architectures, so name none")
    console = Console(width=220)
    trials = all_of(chosen(arguments.names, arguments.family), arguments.timeout, console, arguments.json)
    console.print(table(trials))
    for trial in trials:
        for note in ((trial.reason,) if trial.reason else ()) + trial.notes:
            console.print(f"{trial.name}: {note}", markup=False)
    counted = [trial for trial in trials if trial.counts]
    print(f"{sum(trial.good for trial in counted)} of {len(counted)} agree; torch.export refuses {len(trials) - len(counted)}")
    if arguments.write:
        versions = {package: metadata.version(package) for package in PACKAGES}
        arguments.write.write_text(page(trials, versions), encoding="utf-8")
    return int(not all(trial.good for trial in counted))


if __name__ == "__main__":
    sys.exit(main())

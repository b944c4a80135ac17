"""The frame of benchmarks on models as files: each is compiled, takes turns with its peers, a process each, and gets a row.

Inputs come from MODEL.npz, beside the model or in the folder given, where it is there; else they are made up. Errors are
relative L2 distances from ONNX Runtime with all optimizations off.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from irc.ir import IrcError
from irc.runtime import Contestant, EngineFailure, Measurement, RunError, Workload, measure, measure_reference

PEERS = ("onnxruntime", "openvino")
"""The engines that run the untouched file."""

R = TypeVar("R")


@dataclass(frozen=True)
class Report:
    """What a benchmark says of a model: the columns, those of them that hold words, and the cells of a row."""

    columns: Sequence[str]
    words: frozenset[str]
    cells: Callable[[str, Any], Sequence[str]]


def parser_of(name: str, about: str | None, rounds: int, modes: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line of the benchmark `name`, whose docstring is `about`, its modes in front; it may add its own flags."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=(about or "").splitlines()[0])
    if modes:
        parser.add_argument("mode", choices=modes)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--json", type=Path)
    return parser


def rows_of(arguments: argparse.Namespace, report: Report, measured: Callable[[Path, Workload, Path], R]) -> Mapping[str, R]:
    """A row, a dataclass, for each model by `measured`, to which a folder is lent.

    They are printed, and written where --json says; what fails is listed with its reason.
    """
    rows: dict[str, R] = {}
    table = Table(box=None)
    for column in report.columns:
        table.add_column(column, justify="left" if column in report.words else "right")
    with tempfile.TemporaryDirectory(prefix="irc-racing-") as folder:
        for model in arguments.models:
            inputs = (arguments.inputs or model.parent) / f"{model.stem}.npz"
            workload = Workload(
                inputs=inputs if inputs.exists() else None,
                threads=arguments.threads,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            try:
                row = rows[model.stem] = measured(model, workload, Path(folder))
            except (IrcError, RunError) as error:
                table.add_row(model.stem, str(error)[:80])
                continue
            table.add_row(*report.cells(model.stem, row))
            print(f"{model.stem}: {row}", file=sys.stderr, flush=True)
    Console(width=220).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1), encoding="utf-8")
    return rows


def compiled(model: Path, place: Path, workload: Workload, cache: str, *words: str, good: Sequence[int] = (0,)) -> float:
    """Compile in a process of its own, with more words; how many seconds that took from start to end.

    Raises EngineFailure where its exit code is none of the good ones.
    """
    inputs = [] if workload.inputs is None else ["--inputs", str(workload.inputs)]
    command = [sys.executable, "-m", "irc.tools.cli", "compile", str(model), "-o", str(place)]
    begin = time.perf_counter()
    done = subprocess.run(
        [*command, "--threads", str(workload.threads or 2), *inputs, *words],
        env={**os.environ, "IRC_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in good or not place.exists():
        raise EngineFailure(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it does not compile")
    return time.perf_counter() - begin


def raced(model: Path, place: Path, workload: Workload, folder: Path) -> tuple[Measurement, Mapping[str, Measurement]]:
    """The program at `place`, which is removed, and those peers that run the file at all, by their names."""
    reference = folder / "reference.npz"
    measure_reference(Contestant("reference", model, optimize=False), workload, reference)
    workload = replace(workload, reference=reference)
    field = [Contestant("irc", place)]
    for engine in PEERS:
        peer = Contestant(engine, model, engine=engine)
        try:
            measure([peer], replace(workload, rounds=1, seconds=0.01))
        except RunError:
            continue
        field.append(peer)
    found = {each.name: each for each in measure(field, workload)}
    place.unlink()
    return found.pop("irc"), found


def error_text(error: float | None) -> str:
    """An error in the table."""
    return "–" if error is None else f"{error:.1e}"

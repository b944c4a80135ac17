"""Our own kernels against plain ONNX Runtime and plain OpenVINO f32 on the untouched file: time, memory, size, compile time.

    python -m benchmarks.kernels MODEL.onnx ... [--threads 2] [--rounds 8] [--seconds 0.5] [--inputs FOLDER] [--level 2]

Each model is compiled with `--engine tvm` in processes of its own, once with an empty cache of kernels and once from it, both
timed from start to end. Then the program and the file in both engines take turns, a process each, as in `benchmarks.o3`; inputs
come from MODEL.npz, beside the model or in FOLDER, where it is there. The error is the relative L2 distance from ONNX Runtime
with all optimizations off. A ratio is an engine's median by the program's: above 1 the program is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from irc.runtime import (
    LIBRARY_FILE,
    Contestant,
    EngineFailure,
    Measurement,
    RunError,
    Workload,
    measure,
    measure_reference,
    open_artifact,
)

PEERS = ("onnxruntime", "openvino")
TINY = "mlp"
"""The model whose run is hardly more than a call; means are given with it and without."""

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Figures:
    """An engine's median in milliseconds and the largest resident size of its process in MiB."""

    ms: float
    peak: float


@dataclass(frozen=True)
class Row:
    """What a model came to: seconds to compile with an empty cache and from it, MiB of libraries, the error, and the engines.

    `elsewhere` are the ops that other engines run for the program.
    """

    empty: float
    cached: float
    library: float
    elsewhere: int
    error: float | None
    own: Figures
    peers: dict[str, Figures]

    def ratio(self, peer: str) -> float | None:
        """How many times as fast as a peer the program is; None where that refuses the file."""
        return self.peers[peer].ms / self.own.ms if peer in self.peers else None


def compiled(model: Path, place: Path, workload: Workload, level: int, cache: str) -> float:
    """Compile in a process of its own; how many seconds that took from its start to its end. Raises EngineFailure."""
    inputs = [] if workload.inputs is None else ["--inputs", str(workload.inputs)]
    threads = str(workload.threads or 2)
    command = [sys.executable, "-m", "irc.tools.cli", "compile", str(model), "--engine", "tvm", f"-O{level}", "-o", str(place)]
    begin = time.perf_counter()
    done = subprocess.run(
        [*command, "--threads", threads, *inputs],
        env={**os.environ, "IRC_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise EngineFailure(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "it does not compile")
    return time.perf_counter() - begin


def measured(model: Path, workload: Workload, level: int, folder: Path) -> Row:
    """Compile a model twice and measure it against both peers. Raises RunError where it does not compile or run."""
    place, reference = folder / f"{model.stem}.irc", folder / "reference.npz"
    with tempfile.TemporaryDirectory(prefix="irc-cache-") as cache:
        empty = compiled(model, place, workload, level, cache)
        cached = compiled(model, place, workload, level, cache)
    manifest = open_artifact(place).manifest
    libraries = [record.bytes for name, record in manifest.files.items() if name.rpartition("/")[2] == LIBRARY_FILE]
    elsewhere = sum(each.ops for each in manifest.placement if each.engine != "tvm")
    measure_reference(Contestant("reference", model, optimize=False), workload, reference)
    workload = replace(workload, reference=reference)
    field = [Contestant("irc", place)]
    for engine in PEERS:
        peer = Contestant(engine, model, engine=engine)
        try:
            measure([peer], replace(workload, rounds=1, seconds=0.01))
        except RunError:
            continue  # it does not run the file at all
        field.append(peer)
    found = {each.name: each for each in measure(field, workload)}
    place.unlink()
    peers = {name: _figures(found[name]) for name in PEERS if name in found}
    own = found["irc"]
    return Row(empty, cached, sum(libraries) / MEBIBYTE, elsewhere, own.error, _figures(own), peers)


def _figures(measurement: Measurement) -> Figures:
    return Figures(measurement.p50, measurement.peak_memory)


def _means(rows: Iterable[Row]) -> str:
    words: list[str] = []
    listed = list(rows)
    for peer in PEERS:
        ratios = [ratio for row in listed if (ratio := row.ratio(peer)) is not None]
        if ratios:
            words.append(f"{peer} {statistics.geometric_mean(ratios):.3f} (least {min(ratios):.3f}, {len(ratios)} models)")
    return ", ".join(words) or "–"


COLUMNS = (
    *("model", "compile s", "from cache", "library MiB", "ops elsewhere", "error", "irc ms", "ONNX Runtime", "OpenVINO"),
    *("by ONNX Runtime", "by OpenVINO", "peak MiB: irc", "ONNX Runtime", "OpenVINO"),
)


def _cells(name: str, row: Row) -> list[str]:
    peers = [row.peers.get(peer) for peer in PEERS]
    ratios = [row.ratio(peer) for peer in PEERS]
    return [
        name,
        f"{row.empty:.1f}",
        f"{row.cached:.1f}",
        f"{row.library:.2f}",
        str(row.elsewhere),
        "–" if row.error is None else f"{row.error:.1e}",
        f"{row.own.ms:.3f}",
        *("refuses" if each is None else f"{each.ms:.3f}" for each in peers),
        *("–" if each is None else f"{each:.3f}" for each in ratios),
        f"{row.own.peak:.0f}",
        *("–" if each is None else f"{each.peak:.0f}" for each in peers),
    ]


def main() -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--level", type=int, default=2, choices=(2, 3))
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: dict[str, Row] = {}
    table = Table(box=None)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "model" else "right")
    with tempfile.TemporaryDirectory(prefix="irc-kernels-") as folder:
        for model in arguments.models:
            inputs = (arguments.inputs or model.parent) / f"{model.stem}.npz"
            workload = Workload(
                inputs=inputs if inputs.exists() else None,
                threads=arguments.threads,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            try:
                row = rows[model.stem] = measured(model, workload, arguments.level, Path(folder))
            except RunError as error:
                table.add_row(model.stem, str(error)[:80])
                continue
            table.add_row(*_cells(model.stem, row))
            print(f"{model.stem}: {row}", file=sys.stderr, flush=True)
    Console(width=220).print(table)
    print(f"{arguments.threads} threads; a process each, in turns; how many times as fast, as geometric means:")
    if TINY in rows and len(rows) > 1:
        print(f"  without {TINY}: {_means(row for name, row in rows.items() if name != TINY)}")
    print(f"  all {len(rows)} models: {_means(rows.values())}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

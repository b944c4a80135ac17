"""O3 against plain ONNX Runtime and plain OpenVINO f32 on the untouched file: the ratio to the better of the two.

    python -m benchmarks.o3 MODEL.onnx ... [--budget 60] [--threads 2] [--rounds 8] [--seconds 0.5] [--inputs FOLDER]

Each model is compiled in a process of its own, with an empty cache, which is timed. Then the program and the file in both
engines take turns, a process each; inputs come from MODEL.npz, beside the model or in FOLDER, where it is there. The error is
the relative L2 distance from ONNX Runtime with all optimizations off. The ratio is the better engine's median by the program's:
above 1 the program is faster. An engine whose own error is above both 1e-4 and the program's is no rival at f32; it is starred.
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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from irc.runtime import Contestant, RunError, Workload, measure, measure_reference, open_artifact

LARGEST_ERROR = 1e-4
"""Relative L2 distance from the reference up to which an answer is one in f32."""


@dataclass(frozen=True)
class Peer:
    """An engine on the file as it is: its median in milliseconds and its error."""

    milliseconds: float
    error: float | None


@dataclass(frozen=True)
class Row:
    """What a model came to: seconds to compile, who won, error and median of the program, the peers that run the file."""

    seconds: float
    winner: str
    error: float | None
    own: float
    peers: Mapping[str, Peer]

    @property
    def ratio(self) -> float:
        """How many times as fast as the better rival the program is."""
        rivals = [peer for peer in self.peers.values() if self.is_rival(peer)] or list(self.peers.values())
        return min(peer.milliseconds for peer in rivals) / self.own

    def is_rival(self, peer: Peer) -> bool:
        """Whether a peer's answers are as good."""
        return (peer.error or 0.0) <= max(LARGEST_ERROR, self.error or 0.0)

    def shown(self, name: str) -> str:
        """A peer's time in the table."""
        peer = self.peers.get(name)
        if peer is None:
            return "refuses"
        return f"{peer.milliseconds:.3f}" if self.is_rival(peer) else f"{peer.milliseconds:.3f} * {peer.error:.0e}"


def compiled(model: Path, place: Path, workload: Workload, budget: float) -> float:
    """Compile in a process of its own; how many seconds that took from its start to its end."""
    inputs = [] if workload.inputs is None else ["--inputs", str(workload.inputs)]
    command = [sys.executable, "-m", "irc.tools.cli", "compile", str(model), "-O3", "-o", str(place), *inputs]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="irc-cache-") as cache:
        done = subprocess.run(
            [*command, "--tune-budget", str(budget), "--threads", str(workload.threads or 2)],
            env={**os.environ, "IRC_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RunError(done.stderr.strip().splitlines()[-1])
    return time.perf_counter() - begin


def measured(model: Path, workload: Workload, budget: float, folder: Path) -> Row:
    """Compile a model and measure it against both peers."""
    place, reference = folder / f"{model.stem}.irc", folder / "reference.npz"
    seconds = compiled(model, place, workload, budget)
    winner = next(each.candidate for each in open_artifact(place).manifest.decisions if each.fate == "won")
    measure_reference(Contestant("reference", model, optimize=False), workload, reference)
    workload = replace(workload, reference=reference)
    field = [Contestant("irc", place)]
    for engine in ("onnxruntime", "openvino"):
        peer = Contestant(engine, model, engine=engine)
        try:
            measure([peer], replace(workload, rounds=1, seconds=0.01))
        except RunError:
            continue  # it does not run the file at all
        field.append(peer)
    found = {each.name: each for each in measure(field, workload)}
    place.unlink()
    own = found["irc"]
    peers = {name: Peer(each.p50, each.error) for name, each in found.items() if name != "irc"}
    return Row(seconds, winner, own.error, own.p50, peers)


def main() -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.o3", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: dict[str, Row] = {}
    table = Table(box=None)
    for column in ("model", "compile s", "winner", "error", "irc ms", "ONNX Runtime", "OpenVINO", "ratio to the better"):
        table.add_column(column, justify="left" if column in ("model", "winner") else "right")
    with tempfile.TemporaryDirectory(prefix="irc-o3-") as folder:
        for model in arguments.models:
            inputs = (arguments.inputs or model.parent) / f"{model.stem}.npz"
            workload = Workload(
                inputs=inputs if inputs.exists() else None,
                threads=arguments.threads,
                rounds=arguments.rounds,
                seconds=arguments.seconds,
            )
            try:
                row = rows[model.stem] = measured(model, workload, arguments.budget, Path(folder))
            except RunError as error:
                table.add_row(model.stem, "–", str(error)[:80], "–", "–", "–", "–", "–")
                continue
            times = (f"{row.own:.3f}", row.shown("onnxruntime"), row.shown("openvino"))
            shown = "–" if row.error is None else f"{row.error:.1e}"
            table.add_row(model.stem, f"{row.seconds:.1f}", row.winner, shown, *times, f"{row.ratio:.3f}")
            print(f"{model.stem}: {row}", file=sys.stderr, flush=True)
    Console(width=200).print(table)
    if rows:
        print(f"geometric mean: {statistics.geometric_mean(row.ratio for row in rows.values()):.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps({name: asdict(row) for name, row in rows.items()}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

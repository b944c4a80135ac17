"""Our own kernels against plain ONNX Runtime and plain OpenVINO f32 on the untouched file: time, memory, size, compile time.

    python -m benchmarks.kernels MODEL.onnx ... [--threads 2] [--rounds 8] [--seconds 0.5] [--inputs FOLDER] [--level 2]

Each model is compiled with `--engine tvm` in processes of its own, once with an empty cache of kernels and once from it, both
timed from start to end. Then the program and the file in both engines take turns, a process each, as in `benchmarks.o3`; inputs
come from MODEL.npz, beside the model or in FOLDER, where it is there. The error is the relative L2 distance from ONNX Runtime
with all optimizations off. A ratio is an engine's median by the program's: above 1 the program is faster.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from irc.runtime import LIBRARY_FILE, Measurement, Workload, open_artifact

from .racing import PEERS, Report, compiled, error_text, parser_of, raced, rows_of

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


def measured(level: int, model: Path, workload: Workload, folder: Path) -> Row:
    """Compile a model twice and measure it against both peers. Raises RunError where it does not compile or run."""
    place = folder / f"{model.stem}.irc"
    with tempfile.TemporaryDirectory(prefix="irc-cache-") as cache:
        empty, cached = (compiled(model, place, workload, cache, "--engine", "tvm", f"-O{level}") for _ in range(2))
    manifest = open_artifact(place).manifest
    libraries = [record.bytes for name, record in manifest.files.items() if name.rpartition("/")[2] == LIBRARY_FILE]
    elsewhere = sum(each.ops for each in manifest.placement if each.engine != "tvm")
    own, found = raced(model, place, workload, folder)
    peers = {name: _figures(each) for name, each in found.items()}
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
        error_text(row.error),
        f"{row.own.ms:.3f}",
        *("refuses" if each is None else f"{each.ms:.3f}" for each in peers),
        *("–" if each is None else f"{each:.3f}" for each in ratios),
        f"{row.own.peak:.0f}",
        *("–" if each is None else f"{each.peak:.0f}" for each in peers),
    ]


def main() -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    parser = parser_of("kernels", __doc__, rounds=8)
    parser.add_argument("--level", type=int, default=2, choices=(2, 3))
    arguments = parser.parse_args()
    rows = rows_of(arguments, Report(COLUMNS, frozenset({"model"}), _cells), partial(measured, arguments.level))
    print(f"{arguments.threads} threads; a process each, in turns; how many times as fast, as geometric means:")
    if TINY in rows and len(rows) > 1:
        print(f"  without {TINY}: {_means(row for name, row in rows.items() if name != TINY)}")
    print(f"  all {len(rows)} models: {_means(rows.values())}")


if __name__ == "__main__":
    main()

"""O3 against plain ONNX Runtime and plain OpenVINO f32 on the untouched file: the ratio to the better of the two.

    python -m benchmarks.o3 MODEL.onnx ... [--budget 60] [--threads 2] [--rounds 8] [--seconds 0.5] [--inputs FOLDER]

Each model is compiled in a process of its own, with an empty cache, which is timed. Then the program and the file in both
engines take turns, a process each; inputs come from MODEL.npz, beside the model or in FOLDER, where it is there. The error is
the relative L2 distance from ONNX Runtime with all optimizations off. The ratio is the better engine's median by the program's:
above 1 the program is faster. An engine whose own error is above both 1e-4 and the program's is no rival at f32; it is starred.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from irc.runtime import Workload, open_artifact

from .racing import PEERS, Report, compiled, error_text, parser_of, raced, rows_of

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


def measured(budget: float, model: Path, workload: Workload, folder: Path) -> Row:
    """Compile a model and measure it against both peers."""
    place = folder / f"{model.stem}.irc"
    with tempfile.TemporaryDirectory(prefix="irc-cache-") as cache:
        seconds = compiled(model, place, workload, cache, "-O3", "--tune-budget", str(budget))
    winner = next(each.candidate for each in open_artifact(place).manifest.decisions if each.fate == "won")
    own, found = raced(model, place, workload, folder)
    return Row(seconds, winner, own.error, own.p50, {name: Peer(each.p50, each.error) for name, each in found.items()})


COLUMNS = ("model", "compile s", "winner", "error", "irc ms", "ONNX Runtime", "OpenVINO", "ratio to the better")


def _cells(name: str, row: Row) -> list[str]:
    times = [f"{row.own:.3f}", *map(row.shown, PEERS)]
    return [name, f"{row.seconds:.1f}", row.winner, error_text(row.error), *times, f"{row.ratio:.3f}"]


def main() -> None:
    """Measure every model and print a table; what fails is listed with its reason."""
    parser = parser_of("o3", __doc__, rounds=8)
    parser.add_argument("--budget", type=float, default=60.0)
    arguments = parser.parse_args()
    rows = rows_of(arguments, Report(COLUMNS, frozenset({"model", "winner"}), _cells), partial(measured, arguments.budget))
    if rows:
        print(f"geometric mean: {statistics.geometric_mean(row.ratio for row in rows.values()):.3f}")


if __name__ == "__main__":
    main()

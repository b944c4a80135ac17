"""What rewriting costs: microseconds of all rules and canonical forms together, for each op of the captured graph, at O2.

    python -m benchmarks.rules MODEL.onnx ... [--rounds 5]

The time is that spent in the rewriter: matching, conditions, building and inferring what is built. Folding the constants that
rules compute with, and verifying after each pass, are other passes' work. The best of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from irc.ir import Op, capture
from irc.passes import LEVELS, PassManager, Rewriter, op_count


class Stopwatch:
    """Adds up the time spent in `Rewriter.run`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._run = Rewriter.run

    def __enter__(self) -> Stopwatch:
        def timed(rewriter: Rewriter, starts: Iterable[Op] | None = None) -> None:
            start = time.perf_counter()
            try:
                self._run(rewriter, starts)
            finally:
                self.seconds += time.perf_counter() - start

        Rewriter.run = timed
        return self

    def __exit__(self, *_: object) -> None:
        Rewriter.run = self._run


def main() -> None:
    """Measure every model and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    table = Table(box=None)
    for column in ("model", "ops captured", "ops left", "rewriting ms", "us per op", "O2 ms", "most applied"):
        table.add_column(column, justify="left" if column in ("model", "most applied") else "right")
    for model in arguments.models:
        best, whole, counts, before, after = float("inf"), float("inf"), Counter[str](), 0, 0
        for _ in range(arguments.rounds):
            graph = capture(model)
            before = op_count(graph)
            manager = PassManager(LEVELS["O2"])
            with Stopwatch() as watch:
                after = op_count(manager.run(graph, lambda path=model: capture(path)))
            best = min(best, watch.seconds)
            whole = min(whole, sum(r.seconds for r in manager.records))
            counts = manager.totals
        most = ", ".join(f"{name} {count}" for name, count in counts.most_common(4))
        cost = f"{best / before * 1e6:.1f}"
        table.add_row(model.stem, str(before), str(after), f"{best * 1e3:.1f}", cost, f"{whole * 1e3:.1f}", most)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

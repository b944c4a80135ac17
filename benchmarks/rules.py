"""What rewriting costs: microseconds of all rules and canonical forms together, for each op of the captured graph, at O2.

    python -m benchmarks.rules MODEL.onnx ... [--rounds 5]

The time is that of the passes that drive the rewriter, verification after them not counted; the best of the rounds.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from irc.ir import capture
from irc.passes import LEVELS, PassManager, op_count

REWRITING = ("canonicalize", "rules")


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
            after = op_count(manager.run(graph, lambda path=model: capture(path)))
            best = min(best, sum(r.seconds for r in manager.records if r.name in REWRITING))
            whole = min(whole, sum(r.seconds for r in manager.records))
            counts = manager.totals
        most = ", ".join(f"{name} {count}" for name, count in counts.most_common(4))
        cost = f"{best / before * 1e6:.1f}"
        table.add_row(model.stem, str(before), str(after), f"{best * 1e3:.1f}", cost, f"{whole * 1e3:.1f}", most)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()

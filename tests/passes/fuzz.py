# pyright: basic
"""Runs every level on random graphs against O0: `python -m tests.passes.fuzz --graphs 5000 [--seed 0]`.

Graphs are those of composing.py; a complaint names the seed, which is all that is needed to see it again.
"""

from __future__ import annotations

import argparse
import sys
import time

from irc.ir import EvaluationError, ModelError, clone_graph, verify
from irc.ir.text import print_graph
from irc.passes import LEVELS, Contract, PassManager

from .composing import compose
from .judging import GROWTH, judge
from .meaning import feeds_for

CONTRACTS = {"O1": Contract.EXACT, "O2": Contract.REASSOCIATING}


def complaint(seed: int) -> str | None:
    """What is wrong with some level on the graph of a seed; an empty text when nothing is, None when it has no meaning."""
    try:
        graph, sizes = compose(seed)
        verify(graph)
    except ModelError:
        return None
    judged = 0
    for level, contract in CONTRACTS.items():
        manager = PassManager(LEVELS[level], strictest=contract)
        after = manager.run(clone_graph(graph))
        if manager.failures:
            return f"{level}: {manager.failures[0].name} was rolled back: {manager.failures[0].failure}\n{print_graph(graph)}"
        for special in (False, True):
            feeds = feeds_for(graph, sizes, seed, special=special)
            try:
                wrong = judge(graph, after, feeds, contract, roundings=GROWTH)
            except EvaluationError:
                continue
            if wrong:
                made = f"became, by {dict(manager.totals)},\n{print_graph(after)}"
                return f"{level}, seed {seed}: {wrong}\n{print_graph(graph)}\n{made}"
            judged += 1
    return "" if judged else None


def main() -> int:
    """Try seeds until so many graphs were judged; 1 if any level was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.passes.fuzz", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--graphs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    start, seed, judged, wrong = time.monotonic(), arguments.seed, 0, 0
    while judged < arguments.graphs:
        answer = complaint(seed)
        seed += 1
        if answer:
            wrong += 1
            print(answer, flush=True)
        judged += answer is not None
    print(f"{judged} graphs, seeds {arguments.seed} to {seed - 1}, {wrong} wrong, {time.monotonic() - start:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Times of the steps of an artifact, in a process of its own: `-m irc.tools.cli.stepping ARTIFACT INPUTS SECONDS [THREADS]`.

It prints one line of JSON: `threads`, `runs`, `run_ms`, `gflops`, the arithmetic that the threads do at most, and `pieces`: the
milliseconds of the kernels of each, by its name.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

FEWEST_RUNS, MOST_RUNS = 8, 2_000
TRIAL_RUNS = 3


def main(arguments: list[str]) -> int:
    """Measure for about so many seconds."""
    from irc.runtime import load

    from .feeds import read_feeds

    artifact, inputs, seconds, *threads = arguments
    with load(Path(artifact), threads=int(threads[0]) if threads else None) as program:
        feeds = dict(read_feeds([], Path(inputs), program.inputs))
        first = program.profile(feeds, TRIAL_RUNS)
        runs = min(max(FEWEST_RUNS, round(float(seconds) * 1e3 / max(first.run_ms, 1e-3))), MOST_RUNS)
        profile = program.profile(feeds, runs)
    pieces: dict[str, list[float]] = {}
    calls: dict[str, list[float]] = {}
    for kernel in profile.kernels:
        pieces.setdefault(kernel.part, []).append(kernel.ms)
        calls.setdefault(kernel.part, []).append(kernel.calls)
    found = {"threads": profile.threads, "runs": profile.runs, "run_ms": profile.run_ms, "gflops": profile.gflops}
    print(json.dumps({**found, "pieces": pieces, "calls": calls}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What irc adds to a call of ONNX Runtime, and what starting it costs.

    python -m benchmarks.overhead [MODEL.onnx] [--rounds 15]

The model (by default the small tower of generate.py, where overhead is most of a call) runs through `Program.run` and through
`InferenceSession.run` by turns in one process with one thread; start-up times are of whole processes, by turns.
"""

# pyright: basic
from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .generate import tower

CALLS = 3000


def per_call(run, feeds) -> float:
    """Microseconds a call, over CALLS of them."""
    start = time.perf_counter()
    for _ in range(CALLS):
        run(feeds)
    return (time.perf_counter() - start) / CALLS * 1e6


def call_overhead(model: Path, rounds: int) -> None:
    """Program.run against InferenceSession.run on the same optimized model."""
    import onnxruntime as ort

    import irc
    from irc.runtime import random_inputs

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    program = irc.compile(model, threads=1)
    feeds = {name: np.asarray(value) for name, value in random_inputs(program.inputs, {}, 0).items()}
    contestants = {"irc Program.run": program.run, "InferenceSession.run": lambda f: session.run(None, f)}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            times[name].append(per_call(run, feeds))
    for name, found in times.items():
        print(f"{name:22s} {statistics.median(found):8.2f} us a call")
    ours, theirs = (statistics.median(times[name]) for name in contestants)
    print(f"irc adds {ours - theirs:+.2f} us, a ratio of {ours / theirs:.3f}\n")


STARTS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "irc --help": [sys.executable, "-m", "irc.tools.cli", "--help"],
    "import irc.runtime": [sys.executable, "-c", "import irc.runtime"],
    "import onnxruntime": [sys.executable, "-c", "import onnxruntime"],
    "onnxslim --help": [sys.executable, "-m", "onnxslim", "--help"],
    "onnxsim --help": [sys.executable, "-m", "onnxsim", "--help"],
}


def start_up(rounds: int) -> None:
    """Seconds that whole processes take."""
    times: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, command in STARTS.items():
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, check=False)
            if done.returncode == 0:
                times[name].append(time.perf_counter() - start)
    own = statistics.median(times["irc --help"])
    for name, found in times.items():
        shown = (
            f"{statistics.median(found):8.3f} s  {statistics.median(found) / own:5.2f} x irc --help"
            if found
            else "  not installed"
        )
        print(f"{name:22s} {shown}")


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="irc-bench-") as folder:
        model = arguments.model
        if model is None:
            model = Path(folder) / "tower.onnx"
            tower(model)
        call_overhead(model, arguments.rounds)
    start_up(arguments.rounds)


if __name__ == "__main__":
    main()

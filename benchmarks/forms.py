"""Which of several equal forms of an op ONNX Runtime runs fastest: what lowering/onnxruntime/forms chooses by.

    python -m benchmarks.forms [FORM ...] [--rounds 9] [--seconds 0.2] [--threads 2] [--list]

Each form is a small graph written in several ways (benchmarks/spellings). A process for each way, taking turns; the
figures are the median of the rounds' medians and the best call in microseconds, and the ratio of the bests to the first
way's: on a machine shared with other work only the best says something.
"""

# pyright: basic
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from .spellings import FORMS

WITHOUT = " without "
"""What follows it in a way's name are optimizers of ONNX Runtime to leave out, so that it leaves the way as it is written."""


def serve(model: str, inputs: str, without: str, threads: int, seconds: float) -> None:
    """A worker: one round for each line on stdin, its median and its best call in microseconds on stdout."""
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    feeds = dict(np.load(inputs))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    left_out = [name for name in without.split(",") if name]
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=left_out)
    np.savez(model + ".npz", *session.run(None, feeds))
    print("ready", flush=True)
    for _ in sys.stdin:
        session.run(None, feeds)
        times, begin = [], time.perf_counter()
        while time.perf_counter() - begin < seconds or len(times) < 3:
            start = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - start)
        print(json.dumps((statistics.median(times) * 1e6, min(times) * 1e6)), flush=True)


def measure(form: str, rounds: int, seconds: float, threads: int) -> dict[str, tuple[float, float, float]]:
    """For each way of a form: median and best call in microseconds, and the distance of its answers from the first way's."""
    ways, feeds = FORMS[form]()
    workers: dict[str, subprocess.Popen[str]] = {}
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(prefix="irc-forms-") as folder:
        np.savez(f"{folder}/inputs.npz", **feeds)
        paths = {way: f"{folder}/{index}.onnx" for index, way in enumerate(ways)}
        for way, model in ways.items():
            Path(paths[way]).write_bytes(model.SerializeToString())
            command = [sys.executable, "-m", "benchmarks.forms", "--serve", paths[way], f"{folder}/inputs.npz"]
            command.append(way.partition(WITHOUT)[2])
            command += ["--threads", str(threads), "--seconds", str(seconds)]
            workers[way] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            if workers[way].stdout.readline().strip() != "ready":
                print(f"  {way:42s} {workers.pop(way).stderr.read().strip().splitlines()[-1][-160:]}")
        for _ in range(rounds):
            for way, worker in workers.items():
                worker.stdin.write("go\n")
                worker.stdin.flush()
                found[way].append(json.loads(worker.stdout.readline()))
        for worker in workers.values():
            worker.stdin.close()
            worker.wait()
        answers = {way: dict(np.load(paths[way] + ".npz")) for way in workers}
    first = next(iter(answers.values()))
    return {
        way: (
            statistics.median(middle for middle, _ in times),
            min(best for _, best in times),
            max(_apart(first[key], answers[way][key]) for key in answers[way]),
        )
        for way, times in found.items()
        if times
    }


def _apart(wanted: np.ndarray, got: np.ndarray) -> float:
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    if wanted.shape != got.shape:
        return float("inf")
    return float(np.linalg.norm(wanted - got) / (np.linalg.norm(wanted) + 1e-30))


def main() -> None:
    """Measure the forms named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("forms", nargs="*", metavar="FORM")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="only name the forms")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve, arguments.threads, arguments.seconds)
        return
    chosen = [form for form in FORMS if not arguments.forms or any(form.startswith(prefix) for prefix in arguments.forms)]
    for form in chosen:
        print(form)
        if arguments.list:
            continue
        results = measure(form, arguments.rounds, arguments.seconds, arguments.threads)
        base = next(iter(results.values()))[1]
        for way, (middle, best, apart) in results.items():
            print(
                f"  {way:42s} median {middle:10.1f} us  best {best:10.1f} us  x{best / base:5.2f}  apart {apart:.0e}",
                flush=True,
            )


if __name__ == "__main__":
    main()

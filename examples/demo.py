"""Compiles the digits example, and shows that the artifact gives ONNX Runtime's answers and what it costs beside it.

Run it with `python3 dev.py demo`. Exit status 1 means that the answers differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import irc

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.onnx"
TOLERANCE = 1e-4  # relative L2: a network in float32 whose sums are only taken in another order stays far below it


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The length of the difference over the length of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def accuracy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> str:
    """The share of digits recognized."""
    return f"{(logits.argmax(axis=1) == labels).mean():.2%}"


def median_times(artifact: Path) -> dict[str, str]:
    """Milliseconds a call for one image, each engine in a process of its own, taking turns."""
    command = [sys.executable, "-m", "irc.tools.cli", "bench", str(artifact), "--against", str(MODEL), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return {"irc": "not measured", "onnxruntime": "not measured"}
    return {row["name"]: f"{row['p50_ms']:.3f} ms" for row in json.loads(done.stdout)["results"]}


def main() -> int:
    """Compile, save, load, compare, measure; the exit status."""
    console = Console()
    test_split = np.load(HERE / "digits_test.npz")
    images, labels = test_split["x"], test_split["labels"]

    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(["logits"], {"x": images})[0])

    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "digits.irc"
        irc.compile(MODEL, target="cpu", opt_level=2).save(artifact)
        with irc.load(artifact) as program:
            found = program.run({"x": images})["logits"]
            ops = program.manifest.nodes
            assert ops is not None  # `irc compile` counted them: constants are none
        size = artifact.stat().st_size
        times = median_times(artifact)

    error = relative_error(found, expected)
    table = Table(title=f"{len(images)} handwritten digits it has never seen")
    for heading in ("", "accuracy", "one image", "ops", "file"):
        table.add_column(heading, justify="left" if not heading else "right")
    original_size = f"{MODEL.stat().st_size / 1024:.0f} KiB"
    table.add_row("ONNX Runtime", accuracy(expected, labels), times["onnxruntime"], str(ops.before), original_size)
    table.add_row("irc -O2", accuracy(found, labels), times["irc"], str(ops.after), f"{size / 1024:.0f} KiB")
    console.print(table)

    agree = error <= TOLERANCE
    verdict = "[green]the answers agree[/]" if agree else "[red]the answers differ[/]"
    console.print(f"{verdict}: relative error {error:.1e}, at most {TOLERANCE:.0e} allowed")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

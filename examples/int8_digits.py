"""Compiles the three networks of the examples to int8, and shows what each loses on digits that it has never seen.

    python examples/int8_digits.py [--level 2]

The ranges of activations are found on a quarter of the training split. Exit status 1 means that a network loses more than 0.3
points.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import irc

HERE = Path(__file__).resolve().parent
NETWORKS = ("digits", "digits_mlp", "digits_transformer")
MOST_LOST = 0.003
BATCH = 32

Batches = Iterable[Mapping[str, NDArray[np.float32]]]


def samples() -> list[dict[str, NDArray[np.float32]]]:
    """Every fourth image of the training split, some at a time, as a program is fed them."""
    with np.load(HERE / "digits_train.npz") as split:
        images = split["x"][::4]
    return [{"x": images[start : start + BATCH]} for start in range(0, len(images), BATCH)]


def accuracy(program: irc.Program, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The share of images that a program recognizes."""
    return float((program.run({"x": images})["logits"].argmax(axis=1) == labels).mean())


def in_int8(program: irc.Program) -> str:
    """How many of the convolutions and products that have weights are in int8."""
    report = program.manifest.precision
    choices = () if report is None else report.choices
    return f"{sum(each.count for each in choices if each.form == 'int8')} of {sum(each.count for each in choices)}"


def main() -> int:
    """Compile each network twice and compare; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--level", type=int, default=2, choices=(2, 3))
    level = parser.parse_args().level
    with np.load(HERE / "digits_test.npz") as split:
        images, labels = split["x"], split["labels"]
    table = Table(title=f"{len(labels)} handwritten digits by other hands")
    for heading in ("", "products in int8", "f32", "int8", "points lost"):
        table.add_column(heading, justify="left" if not heading else "right")
    worst = 0.0
    for name in NETWORKS:
        model = HERE / f"{name}.onnx"
        with irc.compile(model, opt_level=level) as program:
            before = accuracy(program, images, labels)
        with irc.compile(model, opt_level=level, precision="int8", calib=samples()) as program:
            after = accuracy(program, images, labels)
            lowered = in_int8(program)
        worst = max(worst, before - after)
        table.add_row(name, lowered, f"{before:.2%}", f"{after:.2%}", f"{100 * (before - after):.2f}")
    console = Console()
    console.print(table)
    good = worst <= MOST_LOST
    console.print(f"{'[green]at most' if good else '[red]more than'} {100 * MOST_LOST:.1f} points are lost[/]")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

"""Distils a student from the convolutional network: the same student, trained alone and by the teacher, over several seeds.

    python examples/distill_digits.py [--seeds 8] [--epochs 120]

The teacher is `digits.onnx`, trained on 1,257 images; the student is the same network with 4 % of its weights, and sees a
quarter of the images. Both students start at the same weights and see the same images in the same order; one learns the labels,
the other what the teacher says of all ten digits. Needs the extra `torch`. Exit status 1 means that the one trained alone is as
good on average.
"""

from __future__ import annotations

import argparse
import statistics
import sys

import torch
from digits_training import HERE, TEST_SPLIT, TRAINING_SPLIT, accuracy, fit, initializers, labelled, read_split, taught
from rich.console import Console
from rich.table import Table
from train_digits import Digits, trained


def student(seed: int) -> Digits:
    """The network to train: few channels, and no dropout, as it has nothing to spare."""
    torch.manual_seed(seed)
    network = Digits(stem=4, wide=8, hidden=16)
    network.dropout.p = 0.0
    return network


def main() -> int:
    """Train both students for every seed; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=120)
    arguments = parser.parse_args()
    images, labels = (each[::4].copy() for each in read_split(TRAINING_SPLIT))
    test = read_split(TEST_SPLIT)
    teacher = trained(initializers(HERE / "digits.onnx"))
    table = Table(title=f"{len(test[1])} digits by other hands; the teacher knows {accuracy(teacher, *test):.2%}", min_width=64)
    for heading in ("seed", "alone", "distilled"):
        table.add_column(heading, justify="right")
    rows: list[tuple[float, float]] = []
    for seed in range(arguments.seeds):
        alone = student(seed)
        fit(alone, labelled(alone, images, labels), len(images), arguments.epochs)
        distilled = student(seed)
        fit(distilled, taught(distilled, teacher, images), len(images), arguments.epochs)
        rows.append((accuracy(alone, *test), accuracy(distilled, *test)))
        table.add_row(str(seed), *(f"{share:.2%}" for share in rows[-1]))
    first, second = (statistics.mean(column) for column in zip(*rows, strict=True))
    table.add_row("mean", f"{first:.2%}", f"{second:.2%}")
    console = Console()
    console.print(table)
    better = second > first
    console.print(f"distilling {'[green]gains' if better else '[red]gains nothing:'} {100 * (second - first):.2f}[/] points")
    return 0 if better else 1


if __name__ == "__main__":
    sys.exit(main())

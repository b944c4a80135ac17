"""Takes half of the channels out of the convolutional network, and trains what is left until it is as good as before.

    python examples/prune_digits.py [--share 0.5] [--epochs 20] [--write FILE.onnx]

irc prunes `digits.onnx`: filters go together with all that hangs on them, through batch normalizations and the residual
addition. PyTorch takes the smaller network up from there and learns the original's answers (needs the extra `torch`), and irc
compiles the result. Exit status 1 means that it loses more than one point.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import onnx
import torch
from digits_training import HERE, TEST_SPLIT, TRAINING_SPLIT, accuracy, export, fit, initializers, read_split, taught
from rich.console import Console
from rich.table import Table
from train_digits import Digits, trained

import irc
from irc.ir import save_onnx
from irc.ir.capture import import_model, load_onnx
from irc.passes import Pruning, prune_channels

MODEL = HERE / "digits.onnx"
MOST_LOST = 0.01
SEED = 20


def pruned(share: float) -> tuple[Digits, Pruning]:
    """The network without that share of its channels, and what was done."""
    graph = import_model(load_onnx(MODEL))
    done = prune_channels(graph, share)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "pruned.onnx"
        save_onnx(graph, place)
        return trained(initializers(place)), done


def compiled(model: onnx.ModelProto) -> float:
    """The accuracy of a compiled model."""
    images, labels = read_split(TEST_SPLIT)
    with irc.compile(model) as program:
        return float((program.run({"x": images})["logits"].argmax(axis=1) == labels).mean())


def main() -> int:
    """Prune, train, export, compile; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    images, _ = read_split(TRAINING_SPLIT)
    original = trained(initializers(MODEL))
    network, done = pruned(arguments.share)
    before, cut = accuracy(original, *read_split(TEST_SPLIT)), accuracy(network, *read_split(TEST_SPLIT))
    torch.manual_seed(SEED)
    fit(network, taught(network, original, images), len(images), arguments.epochs)
    model = export(network)
    after = compiled(model)
    if arguments.write:
        arguments.write.write_bytes(model.SerializeToString(deterministic=True))

    table = Table(title=f"{arguments.share:.0%} of the channels of {MODEL.name} pruned")
    for heading in ("", "accuracy", "weights", "FLOPs an image"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("as it was", f"{before:.2%}", f"{done.parameters[0]:,}", f"{done.flops[0]:,}")
    table.add_row("pruned", f"{cut:.2%}", f"{done.parameters[1]:,}", f"{done.flops[1]:,}")
    table.add_row(f"and trained for {arguments.epochs} epochs", f"{after:.2%}", "", "")
    console = Console()
    console.print(table)
    good = before - after <= MOST_LOST
    console.print(f"{'[green]' if good else '[red]'}{100 * (before - after):.2f} points are lost[/], at most 1 allowed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

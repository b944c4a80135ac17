"""Trains the networks of the examples on real handwritten digits, and exports them to ONNX: `train_digits.py [NAME ...]`.

The files it writes beside itself are committed, so only who changes a network has to run it; it needs the extras `torch` and
`examples`. Everything is seeded, and the exported files name source lines relative to the repository, never a folder of the
machine that trained them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from digits_training import (
    HERE,
    TEST_SPLIT,
    TRAINING_SPLIT,
    Images,
    Labels,
    Mlp,
    Transformer,
    check,
    export,
    fit,
    labelled,
)
from torch import Tensor, nn

ONE_DIGIT = HERE / "digit.npy"
SEED = 20


class Block(nn.Module):
    """A convolution, its batch normalization and a ReLU: the pattern that every optimizer knows how to fuse."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Digits(nn.Module):
    """Three blocks, two poolings, a residual connection and a two-layer classifier."""

    def __init__(self, stem: int = 24, wide: int = 48, hidden: int = 64) -> None:
        super().__init__()
        self.stem = Block(1, stem)
        self.widen = Block(stem, wide)
        self.refine = Block(wide, wide)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(wide * 2 * 2, hidden)
        self.dropout = nn.Dropout(0.3)
        self.classify = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widen(self.pool(self.stem(x)))
        features = self.pool(wide + self.refine(wide))
        return self.classify(self.dropout(torch.relu(self.hidden(features.flatten(1)))))


def load_split() -> tuple[Images, Images, Labels, Labels]:
    """The images scaled to 0..1 as [n, 1, 8, 8] and their labels, the last 30 % held out.

    They are held out unshuffled: the data set lists them writer by writer, so the networks are tested on handwriting
    they have never seen.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(scaled, labels.astype(np.int64), test_size=0.3, shuffle=False)


def trained(tensors: Mapping[str, Tensor]) -> Digits:
    """The convolutional network whose file has these initializers, as wide as they say, ready for inference."""
    network = Digits(len(tensors["stem.conv.weight"]), len(tensors["widen.conv.weight"]), len(tensors["hidden.bias"]))
    network.load_state_dict({name: tensors.get(name, value) for name, value in network.state_dict().items()})
    return network.eval()


def main(names: Sequence[str]) -> None:
    """Train, export, check, and only then write; the files named, else all."""
    train_images, test_images, train_labels, test_labels = load_split()
    np.savez_compressed(TRAINING_SPLIT, x=train_images, labels=train_labels)
    np.savez_compressed(TEST_SPLIT, x=test_images, labels=test_labels)
    np.save(ONE_DIGIT, test_images[:1])
    for name in names or NETWORKS:
        make, epochs, rate = NETWORKS[name]
        torch.manual_seed(SEED)
        network = make()
        fit(network, labelled(network, train_images, train_labels), len(train_images), epochs, rate)
        model = export(network)
        share = check(model, network, test_images, test_labels)
        place = HERE / f"{name}.onnx"
        place.write_bytes(model.SerializeToString(deterministic=True))
        print(f"{name}: {len(model.graph.node)} nodes, {place.stat().st_size / 1024:.0f} KiB, accuracy {share:.2%}")


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, float]] = {
    "digits": (Digits, 40, 1e-2),
    "digits_mlp": (Mlp, 80, 5e-3),
    "digits_transformer": (Transformer, 120, 3e-3),
}
"""By the name of its file each network, its epochs, and its highest learning rate."""


if __name__ == "__main__":
    main(sys.argv[1:])

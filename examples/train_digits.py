"""Trains the small convolutional network of the examples on real handwritten digits, and exports it to ONNX.

The three files it writes beside itself are committed, so only somebody who changes the network has to run it; it needs
the extras `torch` and `examples`. Everything is seeded, and the exported file names source lines relative to the
repository, never a folder of the machine that trained it.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
MODEL = HERE / "digits.onnx"
TEST_SPLIT = HERE / "digits_test.npz"
ONE_DIGIT = HERE / "digit.npy"

SEED = 20
EPOCHS = 40
BATCH = 64
OPSET = 18


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

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(1, 24)
        self.widen = Block(24, 48)
        self.refine = Block(48, 48)
        self.pool = nn.MaxPool2d(2)
        self.hidden = nn.Linear(48 * 2 * 2, 64)
        self.dropout = nn.Dropout(0.3)
        self.classify = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.widen(self.pool(self.stem(x)))
        features = self.pool(wide + self.refine(wide))
        return self.classify(self.dropout(torch.relu(self.hidden(features.flatten(1)))))


def load_split() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The images scaled to 0..1 as [n, 1, 8, 8] and their labels, the last 30 % held out.

    They are held out unshuffled: the data set lists them writer by writer, so the network is tested on handwriting it
    has never seen.
    """
    images, labels = load_digits(return_X_y=True)
    scaled = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    return train_test_split(scaled, labels.astype(np.int64), test_size=0.3, shuffle=False)


def train(images: NDArray[np.float32], labels: NDArray[np.int64]) -> Digits:
    """The network after a fixed number of epochs with a one-cycle learning rate, ready for inference."""
    torch.manual_seed(SEED)
    network = Digits()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, epochs=EPOCHS, steps_per_epoch=steps)
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(x[chosen]), y[chosen], label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        print(f"epoch {epoch + 1:2d}/{EPOCHS}  loss {total / len(x):.4f}")
    return network.eval()


def export(network: Digits) -> onnx.ModelProto:
    """The network as the exporter writes it, unoptimized, so that there is something left to clean up."""
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 1, 8, 8),),
        input_names=["x"],
        output_names=["logits"],
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}},
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    if program is None:
        raise SystemExit("the exporter handed back no program")
    buffer = io.BytesIO()
    program.save(buffer)
    return onnx.load_from_string(buffer.getvalue())


def hide_machine_paths(model: onnx.ModelProto) -> None:
    """Keep of every recorded stack trace only the frames of this file, written relative to the repository.

    The exporter notes absolute paths; they would leak the machine and make two exports of the same network differ.
    """
    here = Path(__file__).resolve()
    relative = here.relative_to(HERE.parent).as_posix()
    frame = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
    holders = [*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.functions]
    for holder in [*holders, *model.graph.input, *model.graph.output, model.graph]:
        for entry in holder.metadata_props:
            if entry.key != "pkg.torch.onnx.stack_trace":
                continue
            frames = [(line, where) for path, line, where in frame.findall(entry.value) if Path(path) == here]
            entry.value = "\n".join(f'File "{relative}", line {line}, in {where}' for line, where in frames)


def check(model: onnx.ModelProto, network: Digits, images: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Fail unless the model is valid ONNX and ONNX Runtime gives torch's answers; its accuracy otherwise."""
    onnx.checker.check_model(model, full_check=True)
    serialized = model.SerializeToString()
    if str(HERE.parent).encode() in serialized or b"site-packages" in serialized:
        raise SystemExit("the exported model names a path of this machine")
    session = onnxruntime.InferenceSession(serialized, providers=["CPUExecutionProvider"])
    for count in (1, 3, len(images)):
        found = session.run(["logits"], {"x": images[:count]})[0]
        with torch.inference_mode():
            expected = network(torch.from_numpy(images[:count])).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    logits = session.run(["logits"], {"x": images})[0]
    return float((np.asarray(logits).argmax(axis=1) == labels).mean())


def main() -> None:
    """Train, export, check, and only then write the three files."""
    train_images, test_images, train_labels, test_labels = load_split()
    network = train(train_images, train_labels)
    model = export(network)
    hide_machine_paths(model)
    accuracy = check(model, network, test_images, test_labels)
    MODEL.write_bytes(model.SerializeToString(deterministic=True))
    np.savez_compressed(TEST_SPLIT, x=test_images, labels=test_labels)
    np.save(ONE_DIGIT, test_images[:1])
    print(f"{len(model.graph.node)} nodes, {MODEL.stat().st_size / 1024:.0f} KiB, accuracy {accuracy:.2%}")


if __name__ == "__main__":
    main()

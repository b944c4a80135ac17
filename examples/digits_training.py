"""What the examples on handwritten digits share: the data, two more networks, how they are trained, exported and judged.

Everything is seeded. The split is that of `train_digits.py`, which writes it: the last 30 % of the images are by other hands.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
TRAINING_SPLIT = HERE / "digits_train.npz"
TEST_SPLIT = HERE / "digits_test.npz"

BATCH = 64
OPSET = 18
SMOOTHING = 0.05

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class Mlp(nn.Module):
    """Three layers on the pixels of an image."""

    def __init__(self, first: int = 128, second: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Linear(64, first), nn.ReLU(), nn.Dropout(0.3)),
            *(nn.Linear(first, second), nn.ReLU(), nn.Dropout(0.2)),
            nn.Linear(second, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1))


class Attended(nn.Module):
    """A layer of a transformer with its norms in front (Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.read(self.before(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.write(mixed))
        return x + self.dropout(self.shrink(nn.functional.gelu(self.grow(self.between(x)))))


class Transformer(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021): 16 patches of 2 x 2 pixels, two layers, their mean."""

    def __init__(self, width: int = 48, heads: int = 4, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, width, kernel_size=2, stride=2)
        self.places = nn.Parameter(0.02 * torch.randn(1, 16, width))
        self.layers = nn.Sequential(*(Attended(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.places
        return self.classify(self.norm(self.layers(tokens)).mean(1))


def read_split(path: Path) -> tuple[Images, Labels]:
    """The images of a split, [n, 1, 8, 8] from 0 to 1, and their labels."""
    with np.load(path) as split:
        return split["x"], split["labels"]


def initializers(path: Path) -> dict[str, Tensor]:
    """The weights in an ONNX file by name; those of an exported network are called as its own."""
    listed = onnx.load(path).graph.initializer
    return {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in listed}


def fit(network: nn.Module, loss_of: Callable[[Tensor], Tensor], count: int, epochs: int, rate: float = 1e-2) -> None:
    """Train a network with a one-cycle learning rate up to `rate`, and leave it ready for inference.

    `loss_of` takes the indices of a batch, out of `count`.
    """
    torch.set_num_threads(1)  # networks as small as these train slower on two, and on one always to the same bits
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, epochs=epochs, steps_per_epoch=steps)
    for _ in range(epochs):
        for chosen in torch.randperm(count).split(BATCH):
            optimizer.zero_grad()
            loss_of(chosen).backward()
            optimizer.step()
            schedule.step()
    network.eval()


def labelled(network: nn.Module, images: Images, labels: Labels) -> Callable[[Tensor], Tensor]:
    """The loss by labels alone, for `fit`."""
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    return lambda chosen: nn.functional.cross_entropy(network(x[chosen]), y[chosen], label_smoothing=SMOOTHING)


def taught(network: nn.Module, teacher: nn.Module, images: Images) -> Callable[[Tensor], Tensor]:
    """The loss by a teacher's answers, for `fit`."""
    x = torch.from_numpy(images)
    with torch.inference_mode():
        answers = teacher(x)
    return lambda chosen: distance(network(x[chosen]), answers[chosen])


def distance(logits: Tensor, answers: Tensor, heat: float = 4.0) -> Tensor:
    """How far a student's logits are from a teacher's, both softened by `heat` (Hinton, Vinyals and Dean 2015)."""
    found, wanted = torch.log_softmax(logits / heat, 1), torch.log_softmax(answers / heat, 1)
    return heat**2 * nn.functional.kl_div(found, wanted, reduction="batchmean", log_target=True)


def accuracy(network: nn.Module, images: Images, labels: Labels) -> float:
    """The share of images that a network recognizes."""
    with torch.inference_mode():
        return float((network(torch.from_numpy(images)).argmax(1).numpy() == labels).mean())


def export(network: nn.Module) -> onnx.ModelProto:
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
    model = onnx.load_from_string(buffer.getvalue())
    _hide_machine_paths(model)
    return model


def _hide_machine_paths(model: onnx.ModelProto) -> None:
    """Keep of every recorded stack trace only the frames of the examples, written relative to the repository.

    The exporter notes absolute paths; they would leak the machine and make two exports of the same network differ.
    """
    frame = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
    holders = [*model.graph.node, *model.graph.value_info, *model.graph.initializer, *model.functions]
    for holder in [*holders, *model.graph.input, *model.graph.output, model.graph]:
        for entry in holder.metadata_props:
            if entry.key != "pkg.torch.onnx.stack_trace":
                continue
            frames = [(Path(path), line, where) for path, line, where in frame.findall(entry.value)]
            entry.value = "\n".join(
                f'File "{path.relative_to(HERE.parent).as_posix()}", line {line}, in {where}'
                for path, line, where in frames
                if path.parent == HERE
            )


def check(model: onnx.ModelProto, network: nn.Module, images: Images, labels: Labels) -> float:
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

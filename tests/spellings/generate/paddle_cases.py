# pyright: basic
"""What PaddlePaddle writes: `python -m tests.spellings.generate.paddle_cases [NAME ...]`, in an environment of its own.

That environment holds paddlepaddle, paddle2onnx and packaging besides what irc needs, whose newer onnx paddle2onnx can do
with although it asks for an older one. Models are exported at opset 15.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import paddle.nn.functional as F  # noqa: N812 - the custom of its users
from paddle import nn

from irc.ir import capture

from .files import write

SOURCE = "paddle2onnx 2.1 of PaddlePaddle 3.3, opset 15"


@dataclass(frozen=True)
class Case:
    """A pattern as a Paddle layer or a function of tensors, the shapes of its inputs, and what should be left of it."""

    name: str
    pattern: str
    make: Callable[[], Any]
    shapes: Sequence[Sequence[int]] = ((1, 3, 6, 6),)
    expect: str = ""
    gone: str = ""
    at_most: int | None = None
    hope: str = ""
    corner: str = ""


class Call(nn.Layer):
    """A function of one tensor as a layer; Paddle wants its operands by name."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Any) -> Any:
        return self.function(x)


class CallThree(Call):
    """A function of three tensors as a layer."""

    def forward(self, q: Any, k: Any, v: Any) -> Any:
        return self.function(q, k, v)


def of(function: Callable[..., Any]) -> Callable[[], Any]:
    """A `make` for a function of one tensor."""
    return lambda: Call(function)


def of_three(function: Callable[..., Any]) -> Callable[[], Any]:
    """A `make` for a function of three tensors."""
    return lambda: CallThree(function)


class Attention(nn.Layer):
    """ViT's attention as PaddleClas writes it: packed q, k, v, reshaped and transposed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Any) -> Any:
        q, k, v = self.qkv(x).reshape((-1, 5, 3, 2, 4)).transpose((2, 0, 3, 1, 4))
        p = F.softmax(q.matmul(k.transpose((0, 1, 3, 2))) * 0.5, axis=-1)
        return self.out(p.matmul(v).transpose((0, 2, 1, 3)).reshape((-1, 5, 8)))


class SqueezeExcite(nn.Layer):
    """PP-LCNet's: pool, two convolutions, hard sigmoid, product."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.down, self.up = nn.AdaptiveAvgPool2D(1), nn.Conv2D(3, 2, 1), nn.Conv2D(2, 3, 1)

    def forward(self, x: Any) -> Any:
        return x * F.hardsigmoid(self.up(F.relu(self.down(self.pool(x)))))


def shuffle(x: Any) -> Any:
    """ShuffleNet's channel shuffle."""
    n, c, h, w = x.shape
    return x.reshape((n, 2, c // 2, h, w)).transpose((0, 2, 1, 3, 4)).reshape((n, c, h, w))


VECTOR = ((2, 3, 8),)
HEADS = ((1, 2, 5, 4), (1, 2, 3, 4), (1, 2, 3, 4))
CASES = [
    Case(
        "conv-bn-relu",
        "Conv2D, BatchNorm2D, ReLU",
        lambda: nn.Sequential(nn.Conv2D(3, 4, 3, bias_attr=False), nn.BatchNorm2D(4), nn.ReLU()),
        expect="Conv=1, Relu=1",
        gone="BatchNormalization",
        at_most=2,
    ),
    Case(
        "conv-bias",
        "Conv2D with bias, added apart",
        lambda: nn.Conv2D(3, 4, 3),
        expect="Conv=1",
        gone="Add, Reshape",
        at_most=1,
    ),
    Case(
        "conv-transpose-bn",
        "Conv2DTranspose with bias, BatchNorm2D",
        lambda: nn.Sequential(nn.Conv2DTranspose(3, 4, 2, stride=2), nn.BatchNorm2D(4)),
        expect="ConvTranspose=1",
        gone="BatchNormalization, Add, Reshape",
        at_most=1,
    ),
    Case(
        "conv-hardswish",
        "depthwise Conv2D, BatchNorm2D, Hardswish (PP-LCNet)",
        lambda: nn.Sequential(nn.Conv2D(3, 3, 3, groups=3, bias_attr=False), nn.BatchNorm2D(3), nn.Hardswish()),
        expect="Conv=1, HardSwish=1",
        gone="BatchNormalization",
        at_most=2,
    ),
    Case(
        "squeeze-excite",
        "squeeze and excitation with hard sigmoid",
        SqueezeExcite,
        expect="Conv=2, HardSigmoid=1, Mul=1",
        gone="Add",
        at_most=6,
    ),
    Case(
        "pad-conv",
        "Pad2D and Conv2D",
        lambda: nn.Sequential(nn.Pad2D(1), nn.Conv2D(3, 4, 3, bias_attr=False)),
        expect="Conv=1",
        gone="Pad",
        at_most=1,
    ),
    Case("layernorm", "LayerNorm", lambda: nn.LayerNorm(8), VECTOR, "LayerNormalization=1", "ReduceMean, Sub, Pow", 1),
    Case(
        "groupnorm",
        "GroupNorm",
        lambda: nn.GroupNorm(2, 4),
        ((1, 4, 3, 3),),
        "GroupNormalization=1",
        "InstanceNormalization, Reshape",
        1,
    ),
    Case("instancenorm", "InstanceNorm2D", lambda: nn.InstanceNorm2D(4), ((1, 4, 3, 3),), "InstanceNormalization=1", "", 1),
    Case("linear", "Linear on a sequence", lambda: nn.Linear(8, 4), VECTOR, "MatMul=1, Add=1", "", 2),
    Case("gelu", "Gelu (erf)", of(lambda x: F.gelu(x)), VECTOR, "Gelu=1", "Erf", 1),
    Case("silu", "Silu", of(F.silu), VECTOR, "Swish=1", "Sigmoid", 1),
    Case("swish", "swish", of(F.swish), VECTOR, "Swish=1", "Sigmoid", 1),
    Case("hardswish", "hardswish", of(F.hardswish), VECTOR, "HardSwish=1", "Clip, Add, Div", 1),
    Case("hardsigmoid", "hardsigmoid", of(F.hardsigmoid), VECTOR, "HardSigmoid=1", "", 1),
    Case("mish", "Mish", of(F.mish), VECTOR, "Mish=1", "Softplus, Tanh", 1),
    Case("relu6", "relu6", of(F.relu6), VECTOR, "Clip=1", "Min, Max", 1),
    Case("prelu", "PReLU", lambda: nn.PReLU(3), expect="PRelu=1", gone="Reshape", at_most=1),
    Case("glu", "glu", of(lambda x: F.glu(x)), VECTOR, "Split=1, Sigmoid=1, Mul=1", "", 3),
    Case("attention-packed", "ViT's attention of PaddleClas", Attention, ((1, 5, 8),), "Attention=1, MatMul=2", "Softmax", 9),
    Case(
        "attention",
        "attention, q scaled",
        of_three(lambda q, k, v: F.softmax(paddle.matmul(q * 0.5, k, transpose_y=True)).matmul(v)),
        HEADS,
        "Attention=1",
        "Softmax, MatMul",
        1,
    ),
    Case(
        "attention-mask",
        "attention, a constant causal mask added",
        of_three(
            lambda q, k, v: F.softmax(
                paddle.matmul(q, k, transpose_y=True) * 0.5 + paddle.triu(paddle.full((5, 3), -1e4), 1)
            ).matmul(v)
        ),
        HEADS,
        "Attention=1",
        "Softmax, MatMul",
        1,
    ),
    Case("channel-shuffle", "channel shuffle", of(shuffle), ((1, 4, 3, 3),), "Reshape=2, Transpose=1", "", 3),
    Case(
        "pixel-shuffle", "pixel_shuffle", of(lambda x: F.pixel_shuffle(x, 2)), ((1, 4, 3, 3),), "DepthToSpace=1", "Reshape", 1
    ),
    Case(
        "interpolate-nearest",
        "nearest by a factor",
        of(lambda x: F.interpolate(x, scale_factor=2)),
        ((1, 2, 3, 3),),
        "Resize=1",
        "",
        1,
    ),
    Case(
        "interpolate-bilinear",
        "bilinear to a size",
        of(lambda x: F.interpolate(x, size=(5, 7), mode="bilinear")),
        ((1, 2, 3, 3),),
        "Resize=1",
        "Concat",
        1,
    ),
    Case("one-hot", "one_hot", of(lambda x: F.one_hot(x.astype("int64").clip(0, 3), 4)), ((2, 3),), "OneHot=1", "", 4),
    Case(
        "flatten-linear",
        "pool, flatten, Linear (a classifier's head)",
        lambda: nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(3, 2)),
        expect="",
        gone="",
        at_most=4,
    ),
    Case(
        "rms-norm",
        "RMSNorm of PaddleNLP",
        of(lambda x: paddle.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * x),
        VECTOR,
        "RMSNormalization=1",
        "ReduceMean, Sqrt",
        1,
    ),
]


def write_case(case: Case) -> None:
    """Export one case and write its file."""
    rng = np.random.default_rng(0)
    layer = case.make()
    layer.eval()
    for name, tensor in layer.state_dict().items():
        values = rng.integers(1, 9, tensor.shape) * rng.choice([-1, 1], tensor.shape) / 8
        tensor.set_value((np.abs(values) + 0.5 if "var" in name else values).astype(np.float32))
    spec = [paddle.static.InputSpec(list(shape), "float32", f"x{index}") for index, shape in enumerate(case.shapes)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            paddle.onnx.export(layer, f"{folder}/model", input_spec=spec, opset_version=15)
            graph = capture(Path(folder, "model.onnx").read_bytes())
        except (Exception, SystemExit) as error:  # an exporter that fails is a finding, and the others go on
            print(f"FAILED paddle/{case.name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
            return
    headers = {"expect": case.expect, "gone": case.gone, "at-most": "" if case.at_most is None else str(case.at_most)}
    print(write("paddle", case.name, SOURCE, case.pattern, headers | {"hope": case.hope, "corner": case.corner}, graph))


if __name__ == "__main__":
    for one in CASES:
        if len(sys.argv) == 1 or any(part in one.name for part in sys.argv[1:]):
            write_case(one)

# pyright: basic
"""Convolutions and their neighbours, as models write them: batch norms, scales, biases, 1x1 chains."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, coarse, module, of

IMAGE = (1, 3, 5, 6)


def stack(*layers: Any) -> Any:
    """A `make` of layers in a row on an image."""
    return module(lambda: nn.Sequential(*(layer() if isinstance(layer, type) else layer for layer in layers)), IMAGE)


class Padded(nn.Module):
    """A padding layer in front of a layer that could pad itself."""

    def __init__(self, pad: nn.Module, layer: nn.Module) -> None:
        super().__init__()
        self.pad, self.layer = pad, layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(self.pad(x))


class Shared(nn.Module):
    """A convolution's result used both raw and normalized: the fold would cost a second convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x)
        return y, self.bn(y)


class PreActivation(nn.Module):
    """A batch norm in front of a convolution with nothing between them."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=padding)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.bn(x))


class RepVGG(nn.Module):
    """Branches of a 3x3, a 1x1 and the identity, each with a batch norm, summed: one 3x3 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.three, self.one = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b, c = self.norms
        return F.relu(a(self.three(x)) + b(self.one(x)) + c(x))


class FrozenBatchNorm(nn.Module):
    """DETR's: the affine map computed in the graph from buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.rand(4) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        w, b = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        rv, rm = self.running_var.reshape(1, -1, 1, 1), self.running_mean.reshape(1, -1, 1, 1)
        scale = w * (rv + 1e-5).rsqrt()
        return self.conv(x) * scale + (b - rm * scale)


def conv2d(*arguments: Any, **options: Any) -> Any:
    """nn.Conv2d of three channels."""
    return nn.Conv2d(3, 4, *arguments, **options)


W = coarse(4, 3, 2, 2)
V4 = coarse(4)


def mul_after(x: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A scale and a shift per channel after the convolution."""
    return F.conv2d(x, w) * v[:, None, None] + v[None, :, None, None]


def div_sub(x: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same by Sub and Div."""
    return (F.conv2d(x, w) - v.view(1, 4, 1, 1)) / v.abs().view(1, 4, 1, 1)


def preprocess(x: torch.Tensor, w: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """(x - mean) / std in front of a convolution without padding."""
    return F.conv2d((x - m[:, None, None]) / 0.25, w)


def preprocess_padded(x: torch.Tensor, w: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """The same in front of a padded convolution: the borders are 0 after the shift, so the shift stays."""
    return F.conv2d((x - m[:, None, None]) / 0.25, w, padding=1)


def per_pixel(x: torch.Tensor, w: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Near miss: a factor per column."""
    return F.conv2d(x, w) * v


def computed_scale(x: torch.Tensor, s: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Near miss: the factor is computed (squeeze and excitation)."""
    return F.conv2d(x, w) * torch.sigmoid(s)


C = "Conv=1"
BN = "BatchNormalization"
ARITHMETIC = "Mul, Add, Sub, Div"
BOTH = (DYNAMO, SCRIPT)
MERGED = "one Inf in x becomes Inf and -Inf between the two and NaN behind them; merged it stays Inf"
CASES = [
    Case(
        "conv-bn",
        "Conv, BatchNorm, ReLU",
        stack(conv2d(3, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        C + ", Relu=1",
        BN,
        2,
        sources=(RAW, DYNAMO),
    ),
    Case(
        "conv-bias-bn-depthwise",
        "depthwise Conv with bias, BatchNorm",
        stack(nn.Conv2d(3, 6, 3, groups=3, padding=1), nn.BatchNorm2d(6)),
        C,
        BN,
        1,
        sources=(RAW,),
    ),
    Case(
        "conv-bn-transposed",
        "ConvTranspose of groups, BatchNorm",
        stack(nn.ConvTranspose2d(3, 6, 2, stride=2, groups=3), nn.BatchNorm2d(6)),
        "ConvTranspose=1",
        BN,
        1,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "conv-bn-1d",
        "Conv1d, BatchNorm1d",
        module(lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), (2, 3, 5)),
        C,
        BN,
        1,
        sources=(RAW,),
    ),
    Case(
        "conv-bn-3d",
        "Conv3d, BatchNorm3d",
        module(lambda: nn.Sequential(nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3)), (1, 2, 3, 3, 3)),
        C,
        BN,
        1,
        sources=(RAW,),
    ),
    Case(
        "conv-bn-shared", "near miss: the convolution is used twice", module(Shared, IMAGE), C, "", 3, sources=(DYNAMO, SCRIPT)
    ),
    Case(
        "bn-conv", "BatchNorm in front of Conv without padding", module(lambda: PreActivation(0), IMAGE), C, BN, 1, sources=BOTH
    ),
    Case(
        "bn-conv-padded",
        "BatchNorm in front of a padded Conv: the shift stays, or a Pad of its value",
        module(lambda: PreActivation(1), IMAGE),
        C,
        "",
        2,
        sources=(DYNAMO,),
        corner="zeros are padded after the shift",
    ),
    Case(
        "bn-relu-conv",
        "near miss: BatchNorm, ReLU, Conv (DenseNet)",
        stack(nn.BatchNorm2d(3), nn.ReLU(), conv2d(1)),
        C,
        "",
        3,
        sources=(SCRIPT,),
    ),
    Case(
        "bn-linear",
        "BatchNorm1d in front of and behind Linear",
        module(lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 6), nn.BatchNorm1d(6)), (2, 4)),
        "",
        BN,
        2,
        sources=BOTH,
    ),
    Case("bn-alone", "BatchNorm alone: Mul and Add", module(lambda: nn.BatchNorm2d(3), IMAGE), "", "", 2, sources=(DYNAMO,)),
    Case("bn-frozen", "DETR's FrozenBatchNorm", module(FrozenBatchNorm, IMAGE), C, ARITHMETIC, 1, sources=BOTH),
    Case(
        "bn-frozen-raw",
        "DETR's FrozenBatchNorm, nothing folded",
        module(FrozenBatchNorm, IMAGE),
        C,
        ARITHMETIC,
        1,
        sources=(RAW,),
    ),
    Case(
        "rep-vgg",
        "RepVGG's branches",
        module(RepVGG, IMAGE),
        "Relu=1",
        BN,
        None,
        sources=(SCRIPT,),
        hope="Conv=1",
        corner="in one 3x3 kernel the identity has weights 0, and 0 · Inf is NaN",
    ),
    Case("conv-mul-add", "Conv, scale and shift per channel", of(mul_after, IMAGE, w=W, v=V4), C, ARITHMETIC, 1, sources=BOTH),
    Case("conv-sub-div", "Conv, Sub and Div per channel", of(div_sub, IMAGE, w=W, v=V4), C, ARITHMETIC, 1, sources=BOTH),
    Case(
        "conv-preprocess",
        "(x - mean) / std in front of Conv",
        of(preprocess, IMAGE, w=W, m=coarse(3)),
        C,
        ARITHMETIC,
        1,
        sources=BOTH,
    ),
    Case(
        "conv-preprocess-padded",
        "(x - mean) / std in front of a padded Conv: only the factor goes",
        of(preprocess_padded, IMAGE, w=W, m=coarse(3)),
        C,
        "Div",
        2,
        sources=(SCRIPT,),
    ),
    Case(
        "conv-per-column",
        "near miss: a factor per column",
        of(per_pixel, IMAGE, w=W, v=coarse(5)),
        "Conv=1, Mul=1",
        sources=(DYNAMO,),
    ),
    Case(
        "conv-gate",
        "near miss: a computed factor per channel",
        of(computed_scale, IMAGE, (1, 4, 1, 1), w=W),
        "Conv=1, Mul=1, Sigmoid=1",
        sources=(DYNAMO,),
    ),
    Case(
        "conv-1x1-1x1",
        "two 1x1 convolutions in a row",
        stack(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)),
        "",
        "",
        2,
        sources=(SCRIPT,),
        hope=C,
        corner=MERGED,
    ),
    Case(
        "conv-3x3-1x1",
        "a 3x3 convolution and a 1x1",
        stack(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 2, 1)),
        "",
        "",
        2,
        sources=(DYNAMO,),
        hope=C,
        corner=MERGED,
    ),
    Case(
        "conv-1x1-3x3-padded",
        "near miss: a 1x1 with bias in front of a padded 3x3",
        stack(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 3, padding=1)),
        "Conv=2",
        sources=(DYNAMO,),
    ),
    Case(
        "conv-1x1-wide",
        "near miss: merging widens (bottleneck)",
        stack(nn.Conv2d(3, 1, 1), nn.Conv2d(1, 6, 1)),
        "Conv=2",
        sources=(SCRIPT,),
    ),
    Case(
        "conv-relu-conv",
        "near miss: something between",
        stack(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)),
        "Conv=2, Relu=1",
        sources=(DYNAMO,),
    ),
    Case(
        "conv-dynamic-bn",
        "Conv, BatchNorm, dynamic batch and image",
        stack(conv2d(3, padding=1), nn.BatchNorm2d(4)),
        C,
        BN,
        1,
        dynamic={"input": {0: "N", 2: "H", 3: "W"}},
        inputs=["input"],
        sources=(RAW,),
    ),
]

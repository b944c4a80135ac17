# pyright: basic
"""Explicit pads and pools around convolutions, as models write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .convolutions import BN, BOTH, IMAGE, C, W, conv2d, stack
from .core import DYNAMO, RAW, SCRIPT, Case, module, of


def same_pad(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """TF-style SAME padding by F.pad with uneven sides (EfficientNet, timm)."""
    return F.conv2d(F.pad(x, [0, 1, 1, 2]), w, stride=2)


def negative_pad(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """F.pad that crops in front of a padded convolution."""
    return F.conv2d(F.pad(x, [-1, -1, 0, 0]), w, padding=1)


def pad_then_pad(x: torch.Tensor) -> torch.Tensor:
    """Two pads."""
    return F.pad(F.pad(x, [1, 1, 0, 0]), [0, 2, 1, 0])


def max_pool_padded(x: torch.Tensor) -> torch.Tensor:
    """Zeros around a maximum of what a ReLU left: -inf would do as well."""
    return F.max_pool2d(F.pad(F.relu(x), [0, 1, 0, 1]), 2, 2)


def max_pool_signed(x: torch.Tensor) -> torch.Tensor:
    """Near miss: zeros around a maximum of anything."""
    return F.max_pool2d(F.pad(x, [0, 1, 0, 1]), 2, 2)


def max_pool_lowest(x: torch.Tensor) -> torch.Tensor:
    """-inf around a maximum."""
    return F.max_pool2d(F.pad(x, [0, 1, 0, 1], value=float("-inf")), 2, 2)


def average_padded(x: torch.Tensor) -> torch.Tensor:
    """Zeros that the average counts."""
    return F.avg_pool2d(F.pad(x, [1, 1, 1, 1]), 3, 1)


CASES = [
    Case(
        "conv-pad-zero",
        "ZeroPad2d in front of a strided Conv",
        stack(nn.ZeroPad2d(1), conv2d(3, stride=2)),
        C,
        "Pad",
        1,
        sources=(DYNAMO, SCRIPT, "torchscript-9"),
    ),
    Case("conv-pad-same", "uneven SAME padding in front of Conv", of(same_pad, IMAGE, w=W), C, "Pad", 1, sources=BOTH),
    Case("conv-pad-crop", "F.pad that crops in front of Conv", of(negative_pad, IMAGE, w=W), C, "", 2, sources=(DYNAMO,)),
    Case(
        "conv-pad-depthwise",
        "ZeroPad in front of a depthwise Conv, BatchNorm, ReLU6 (MobileNet)",
        stack(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 3, 3, 2, groups=3, bias=False), nn.BatchNorm2d(3), nn.ReLU6()),
        "Conv=1, Clip=1",
        "Pad, " + BN,
        2,
        sources=(RAW, DYNAMO),
    ),
    Case(
        "conv-pad-constant",
        "near miss: padding with 1",
        stack(nn.ConstantPad2d(1, 1.0), conv2d(3)),
        "Conv=1, Pad=1",
        sources=(SCRIPT,),
    ),
    Case(
        "conv-pad-reflect",
        "near miss: reflecting padding",
        stack(conv2d(3, padding=1, padding_mode="reflect")),
        "Conv=1, Pad=1",
        sources=BOTH,
    ),
    Case(
        "conv-pad-circular",
        "near miss: circular padding",
        stack(conv2d(3, padding=1, padding_mode="circular")),
        C,
        "",
        None,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "conv-pad-transposed",
        "near miss: zeros in front of ConvTranspose are no pads of it",
        stack(nn.ZeroPad2d(1), nn.ConvTranspose2d(3, 2, 2)),
        "ConvTranspose=1, Pad=1",
        sources=(DYNAMO,),
    ),
    Case("pad-pad", "two constant pads", of(pad_then_pad, IMAGE), "Pad=1", "", 1, sources=BOTH),
    Case(
        "max-pool-pad-relu",
        "zeros around MaxPool after ReLU",
        of(max_pool_padded, IMAGE),
        "MaxPool=1, Relu=1",
        "",
        3,
        sources=BOTH,
        corner="a window of NaN and padding is 0 here and the lowest float where MaxPool pads: MaxPool drops NaN",
    ),
    Case(
        "max-pool-pad-signed",
        "near miss: zeros around MaxPool of anything",
        of(max_pool_signed, IMAGE),
        "MaxPool=1, Pad=1",
        sources=(DYNAMO,),
    ),
    Case("max-pool-pad-lowest", "-inf around MaxPool", of(max_pool_lowest, IMAGE), "MaxPool=1", "Pad", 1, sources=BOTH),
    Case("average-pool-pad", "zeros around AveragePool", of(average_padded, IMAGE), "AveragePool=1", "Pad", 1, sources=BOTH),
    Case(
        "average-pool-global",
        "AvgPool2d as large as the image",
        module(lambda: nn.AvgPool2d((5, 6)), IMAGE),
        "",
        "AveragePool",
        1,
        sources=(SCRIPT,),
    ),
]

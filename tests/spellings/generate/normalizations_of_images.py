# pyright: basic
"""Normalizations over images and single vectors, as models write them: GroupNorm, InstanceNorm, L2, variances, means."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, coarse, of
from .normalizations import B8, PLAIN, W8, norm


def group_norm_written(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """GroupNorm by reshape, mean and var."""
    n, c, h, wd = x.shape
    g = x.reshape(n, 2, c // 2 * h * wd)
    g = (g - g.mean(-1, keepdim=True)) / torch.sqrt(g.var(-1, keepdim=True, unbiased=False) + 1e-5)
    return g.reshape(n, c, h, wd) * w[:, None, None] + b[:, None, None]


def instance_norm_written(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """InstanceNorm by mean and var over the image."""
    m = x.mean((2, 3), keepdim=True)
    v = ((x - m) ** 2).mean((2, 3), keepdim=True)
    return (x - m) / (v + 1e-5).sqrt() * w[:, None, None] + b[:, None, None]


def weight_standard(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A convolution with standardized weights: the norm of a constant is a constant."""
    m = w.mean((1, 2, 3), keepdim=True)
    return F.conv2d(x, (w - m) / torch.sqrt(w.var((1, 2, 3), keepdim=True) + 1e-5))


CASES = [
    Case(
        "groupnorm-module",
        "GroupNorm",
        norm(lambda: nn.GroupNorm(2, 4), (1, 4, 3, 3)),
        "GroupNormalization=1",
        "InstanceNormalization, Reshape, ReduceMean",
        1,
        sources=(DYNAMO, RAW, SCRIPT),
    ),
    Case(
        "groupnorm-no-affine",
        "GroupNorm without scale and bias",
        norm(lambda: nn.GroupNorm(2, 4, affine=False), (1, 4, 5)),
        "GroupNormalization=1",
        "InstanceNormalization, Reshape",
        1,
    ),
    Case(
        "groupnorm-one-group",
        "GroupNorm of one group (PoolFormer)",
        norm(lambda: nn.GroupNorm(1, 4), (1, 4, 3, 3)),
        "GroupNormalization=1",
        "InstanceNormalization, Reshape",
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "groupnorm-silu",
        "GroupNorm, SiLU, Conv (diffusion's ResnetBlock)",
        norm(lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.SiLU(), nn.Conv2d(4, 4, 3, padding=1)), (1, 4, 3, 3)),
        "GroupNormalization=1, Swish=1, Conv=1",
        "",
        3,
    ),
    Case(
        "groupnorm-written",
        "GroupNorm by reshape, mean and var",
        of(group_norm_written, (1, 4, 3, 3), w=W8[:4], b=B8[:4]),
        "GroupNormalization=1",
        PLAIN,
        1,
    ),
    Case(
        "groupnorm-dynamic",
        "GroupNorm, dynamic batch and image",
        norm(lambda: nn.GroupNorm(2, 4), (2, 4, 3, 3)),
        "GroupNormalization=1",
        "InstanceNormalization, Reshape",
        1,
        dynamic={"input": {0: "N", 2: "H", 3: "W"}},
        inputs=["input"],
    ),
    Case(
        "instancenorm-module",
        "InstanceNorm",
        norm(lambda: nn.InstanceNorm2d(4, affine=True), (1, 4, 3, 3)),
        "InstanceNormalization=1",
        "",
        1,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "instancenorm-no-affine",
        "InstanceNorm without scale and bias",
        norm(lambda: nn.InstanceNorm2d(4), (2, 4, 3, 3)),
        "InstanceNormalization=1",
        "",
        1,
        sources=(DYNAMO,),
    ),
    Case(
        "instancenorm-running",
        "InstanceNorm with running statistics",
        norm(
            lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True, track_running_stats=True)), (1, 3, 3, 3)
        ),
        "Conv=1",
        "InstanceNormalization, BatchNormalization",
        1,
    ),
    Case(
        "instancenorm-written",
        "InstanceNorm by mean and var over the image",
        of(instance_norm_written, (1, 4, 3, 3), w=W8[:4], b=B8[:4]),
        "InstanceNormalization=1",
        PLAIN,
        1,
    ),
    Case("l2-normalize", "F.normalize", of(lambda x: F.normalize(x, dim=-1), (2, 3, 4)), "ReduceL2=1", "", 4),
    Case(
        "l2-written",
        "x / sqrt(sum(x²))",
        of(lambda x: x / x.pow(2).sum(-1, keepdim=True).sqrt(), (2, 3, 4)),
        "ReduceL2=1, Div=1",
        "Pow, ReduceSum, Sqrt",
        2,
    ),
    Case("variance-unbiased", "torch.var, unbiased", of(lambda x: x.var(1), (2, 3, 4)), "", "", 5),
    Case(
        "standard-deviation",
        "torch.std over two axes, biased",
        of(lambda x: x.std((1, 2), unbiased=False, keepdim=True), (2, 3, 4)),
        "",
        "",
        5,
    ),
    Case(
        "mean-by-sum",
        "sum / count",
        of(lambda x: x.sum((2, 3)) / (x.shape[2] * x.shape[3]), (2, 3, 4, 5)),
        "ReduceMean=1",
        "ReduceSum, Div",
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "mean-adaptive-pool",
        "AdaptiveAvgPool2d(1) and flatten",
        norm(lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), (2, 3, 4, 5)),
        "",
        "",
        2,
    ),
    Case(
        "weight-standardization",
        "a norm of constant weights",
        of(weight_standard, (1, 2, 4, 4), w=coarse(3, 2, 2, 2)),
        "Conv=1",
        PLAIN,
        1,
    ),
]

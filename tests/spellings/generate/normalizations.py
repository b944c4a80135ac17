# pyright: basic
"""LayerNorm and RMSNorm, as models write them: with residuals, scales, other axes, and what only looks like them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, coarse, module, of

W8, B8 = coarse(8).abs() + 0.5, coarse(8)
ALL = (DYNAMO, SCRIPT, "torchscript-13")


class Residual(nn.Module):
    """norm(x + f(y)), as in a transformer block."""

    def __init__(self, norm: nn.Module, width: int) -> None:
        super().__init__()
        self.norm, self.linear = norm, nn.Linear(width, width)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        total = x + self.linear(y)
        return self.norm(total), total


class ChannelsFirst(nn.Module):
    """ConvNeXt's LayerNorm over the channels of NCHW, written out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        x = (x - u) / torch.sqrt(s + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class Permuted(nn.Module):
    """LayerNorm over the channels of NCHW by permuting there and back (ConvNeXt, Swin V2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class LlamaRMSNorm(nn.Module):
    """As in transformers: computed in f32, cast back, scaled."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dtype = x.dtype
        x = x.to(torch.float32)
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(dtype)


class Half(nn.Module):
    """A module run on f16 weights and inputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def bert_layer_norm(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The original BERT's."""
    u = x.mean(-1, keepdim=True)
    s = (x - u).pow(2).mean(-1, keepdim=True)
    return w * ((x - u) / torch.sqrt(s + 1e-12)) + b


def by_var(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """By torch.var, biased."""
    return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5) * w + b


def by_std(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The Annotated Transformer's: unbiased standard deviation, epsilon outside the root. No LayerNormalization."""
    return w * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + b


def by_squares(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """By E[x^2] - E[x]^2, which cancels: another value for large means, so no LayerNormalization."""
    m = x.mean(-1, keepdim=True)
    return (x - m) / torch.sqrt((x * x).mean(-1, keepdim=True) - m * m + 1e-5) * w + b


def rms_div(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x / sqrt(mean(x²) + ε) · w."""
    return x / torch.sqrt(torch.mean(x * x, dim=-1, keepdim=True) + 1e-5) * w


def rms_norm_by_l2(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """lucidrains': F.normalize(x) · sqrt(d) · g; the epsilon is a floor and not a summand, so no RMSNormalization."""
    return F.normalize(x, dim=-1) * x.shape[-1] ** 0.5 * w


def rms_gemma(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Gemma scales by 1 + w."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * (1.0 + w)


def rms_t5(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """T5LayerNorm."""
    return w * (x * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + 1e-6))


def pixel_norm(x: torch.Tensor) -> torch.Tensor:
    """StyleGAN's: an RMSNorm over channels without scale."""
    return x / torch.sqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


def adaptive(x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """DiT's modulate(norm(x)): scale and shift are computed, one row per sample."""
    return F.layer_norm(x, (8,), eps=1e-6) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def norm(make: Any, *shapes: Any) -> Any:
    """Shorthand for a module case."""
    return module(make, *shapes)


LN = "LayerNormalization=1"
RMS = "RMSNormalization=1"
PLAIN = "ReduceMean, Sub, Pow, Sqrt, Div"
CASES = [
    Case(
        "layernorm-module",
        "LayerNorm",
        norm(lambda: nn.LayerNorm(8), (2, 3, 8)),
        LN,
        PLAIN,
        1,
        sources=(DYNAMO, "torchscript-13", "torchscript-9"),
    ),
    Case(
        "layernorm-no-affine",
        "LayerNorm",
        norm(lambda: nn.LayerNorm(8, elementwise_affine=False), (2, 3, 8)),
        LN,
        PLAIN,
        1,
        sources=ALL,
    ),
    Case(
        "layernorm-no-bias",
        "LayerNorm",
        norm(lambda: nn.LayerNorm(8, bias=False), (2, 3, 8)),
        LN,
        PLAIN,
        1,
        sources=(DYNAMO, "torchscript-13"),
    ),
    Case(
        "layernorm-two-axes",
        "LayerNorm over two axes",
        norm(lambda: nn.LayerNorm((3, 4)), (2, 3, 4)),
        LN,
        PLAIN,
        1,
        sources=(DYNAMO, "torchscript-13"),
    ),
    Case(
        "layernorm-residual",
        "Add into LayerNorm, the sum used again",
        norm(lambda: Residual(nn.LayerNorm(8), 8), (2, 3, 8), (2, 3, 8)),
        LN,
        PLAIN,
        4,
        sources=(DYNAMO, "torchscript-13"),
    ),
    Case(
        "layernorm-bert",
        "LayerNorm written out, variance by Pow",
        of(bert_layer_norm, (2, 3, 8), w=W8, b=B8),
        LN,
        PLAIN + ", ReduceSum",
        1,
    ),
    Case(
        "layernorm-var",
        "LayerNorm written out by var and rsqrt",
        of(by_var, (2, 3, 8), w=W8, b=B8),
        LN,
        PLAIN + ", Reciprocal",
        1,
    ),
    Case(
        "layernorm-std",
        "near miss: unbiased std and epsilon outside the root",
        of(by_std, (2, 3, 8), w=W8, b=B8),
        "LayerNormalization=0",
    ),
    Case(
        "layernorm-squares",
        "near miss: variance as E[x^2] - E[x]^2",
        of(by_squares, (2, 3, 8), w=W8, b=B8),
        "LayerNormalization=0",
        sources=(DYNAMO,),
    ),
    Case(
        "layernorm-channels-first",
        "LayerNorm over channels of NCHW, written out",
        norm(lambda: ChannelsFirst(4), (1, 4, 3, 3)),
        LN,
        PLAIN,
        3,
    ),
    Case(
        "layernorm-permuted",
        "LayerNorm between permutes",
        norm(lambda: Permuted(4), (1, 4, 3, 3)),
        LN + ", Transpose=2",
        "",
        3,
        sources=(DYNAMO, "torchscript-13"),
    ),
    Case(
        "layernorm-adaptive",
        "LayerNorm modulated by computed scale and shift",
        of(adaptive, (2, 3, 8), (2, 8), (2, 8)),
        LN,
        PLAIN,
        6,
        sources=(DYNAMO, "torchscript-13"),
    ),
    Case(
        "layernorm-dynamic",
        "LayerNorm written out, dynamic batch and length",
        of(bert_layer_norm, (2, 3, 8), w=W8, b=B8),
        LN,
        PLAIN + ", ReduceSum",
        1,
        dynamic={"x": {0: "N", 1: "M"}},
        inputs=["x"],
    ),
    Case("rmsnorm-module", "RMSNorm", norm(lambda: nn.RMSNorm(8, eps=1e-6), (2, 3, 8)), RMS, PLAIN, 1, sources=(DYNAMO, RAW)),
    Case(
        "rmsnorm-llama",
        "RMSNorm of transformers' LLaMA",
        norm(lambda: LlamaRMSNorm(8), (2, 3, 8)),
        RMS,
        PLAIN + ", Reciprocal",
        1,
        sources=(DYNAMO, SCRIPT, "torchscript-13"),
    ),
    Case(
        "rmsnorm-llama-f16",
        "RMSNorm in f32 of f16 data, cast back before the scale",
        norm(lambda: Half(LlamaRMSNorm(8)), torch.randn(2, 3, 8).half()),
        RMS,
        PLAIN + ", Reciprocal",
        4,
    ),
    Case(
        "rmsnorm-residual",
        "Add into RMSNorm, the sum used again",
        norm(lambda: Residual(LlamaRMSNorm(8), 8), (2, 3, 8), (2, 3, 8)),
        RMS,
        PLAIN + ", Reciprocal",
        4,
    ),
    Case("rmsnorm-div", "RMSNorm written with Mul and Div", of(rms_div, (2, 3, 8), w=W8), RMS, PLAIN, 1),
    Case("rmsnorm-gemma", "RMSNorm scaled by 1 + w", of(rms_gemma, (2, 3, 8), w=W8), RMS, PLAIN + ", Add", 1),
    Case("rmsnorm-t5", "T5LayerNorm", of(rms_t5, (2, 3, 8), w=W8), RMS, PLAIN, 1, sources=(SCRIPT,)),
    Case("rmsnorm-l2", "near miss: F.normalize times sqrt(d)", of(rms_norm_by_l2, (2, 3, 8), w=W8), "RMSNormalization=0"),
    Case(
        "rmsnorm-pixel",
        "PixelNorm: RMSNorm over channels without scale",
        of(pixel_norm, (2, 4, 3, 3)),
        RMS,
        PLAIN,
        3,
        sources=(SCRIPT,),
    ),
    Case(
        "rmsnorm-dynamic",
        "RMSNorm of LLaMA, dynamic batch and length",
        norm(lambda: LlamaRMSNorm(8), (2, 3, 8)),
        RMS,
        PLAIN + ", Reciprocal",
        1,
        dynamic={"x": {0: "N", 1: "M"}},
        inputs=["x"],
    ),
]

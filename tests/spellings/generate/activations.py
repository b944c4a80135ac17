# pyright: basic
"""Activations, as models write them: Gelu in three forms, SiLU, the hard ones, Mish, Softplus, ReLU6."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, module, of

X = (2, 3, 8)
IMAGE = (1, 4, 3, 3)


def gelu_bert(x: torch.Tensor) -> torch.Tensor:
    """The original BERT's: x · 0.5 · (1 + erf(x / √2))."""
    return x * 0.5 * (1.0 + torch.erf(x / math.sqrt(2.0)))


def gelu_half_inside(x: torch.Tensor) -> torch.Tensor:
    """0.5 · (x · (1 + erf(x · √½))), the factor first and the root as a multiplication."""
    return 0.5 * (x * (torch.erf(x * math.sqrt(0.5)) + 1.0))


def gelu_cdf(x: torch.Tensor) -> torch.Tensor:
    """x · Φ(x), with Φ computed as a whole first (Keras)."""
    cdf = 0.5 * (1.0 + torch.erf(x / 1.4142135))
    return x * cdf


def gelu_new(x: torch.Tensor) -> torch.Tensor:
    """GPT-2's: 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), the cube by Pow."""
    return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))


def gelu_fast(x: torch.Tensor) -> torch.Tensor:
    """transformers' FastGELU: the polynomial factored, x · (1 + 0.044715 x²)."""
    return 0.5 * x * (1.0 + torch.tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x)))


def gelu_cube_by_products(x: torch.Tensor) -> torch.Tensor:
    """The cube as x · x · x (BLOOM, Megatron)."""
    return x * 0.5 * (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * (x * x * x))))


def gelu_wrong_scale(x: torch.Tensor) -> torch.Tensor:
    """erf(x / 2): no Gelu."""
    return 0.5 * x * (1.0 + torch.erf(x / 2.0))


def hard_swish_v3(x: torch.Tensor) -> torch.Tensor:
    """MobileNetV3's: x · relu6(x + 3) / 6."""
    return x * F.relu6(x + 3.0) / 6.0


def hard_swish_clamp(x: torch.Tensor) -> torch.Tensor:
    """x · clamp(x / 6 + 0.5, 0, 1)."""
    return x * torch.clamp(x / 6.0 + 0.5, 0.0, 1.0)


def hard_sigmoid_relu6(x: torch.Tensor) -> torch.Tensor:
    """relu6(x + 3) · (1/6)."""
    return F.relu6(x + 3.0) * (1.0 / 6.0)


def mish_written(x: torch.Tensor) -> torch.Tensor:
    """x · tanh(log(1 + exp(x))): exp overflows where Softplus does not, into the same limit."""
    return x * torch.tanh(torch.log(1.0 + torch.exp(x)))


def stable_softplus(x: torch.Tensor) -> torch.Tensor:
    """max(x, 0) + log1p(exp(-|x|))."""
    return torch.clamp(x, min=0.0) + torch.log1p(torch.exp(-x.abs()))


def sigmoid_written(x: torch.Tensor) -> torch.Tensor:
    """x / (1 + exp(-x)), a SiLU."""
    return x / (1.0 + torch.exp(-x))


ERF = "Erf, Div, Add, Mul"
TANH = "Tanh, Pow, Add, Mul"
SIX = of(hard_swish_v3, IMAGE)
THREE = (DYNAMO, SCRIPT, "torchscript-13")
CASES = [
    Case("gelu-erf-module", "Gelu (erf)", module(nn.GELU, X), "Gelu=1", ERF, 1, sources=(DYNAMO, SCRIPT)),
    Case("gelu-tanh-module", "Gelu (tanh)", module(lambda: nn.GELU("tanh"), X), "Gelu=1", TANH, 1, sources=(DYNAMO, SCRIPT)),
    Case("gelu-erf-bert", "Gelu (erf), x first", of(gelu_bert, X), "Gelu=1", ERF, 1),
    Case("gelu-erf-half-outside", "Gelu (erf), 0.5 last and x · √½", of(gelu_half_inside, X), "Gelu=1", ERF, 1),
    Case("gelu-erf-cdf", "Gelu (erf) as x · Φ(x), √2 to seven digits", of(gelu_cdf, X), "Gelu=1", ERF, 1),
    Case("gelu-tanh-gpt2", "Gelu (tanh), the cube by Pow", of(gelu_new, X), "Gelu=1", TANH, 1),
    Case("gelu-tanh-fast", "Gelu (tanh), the polynomial factored", of(gelu_fast, X), "Gelu=1", TANH, 1),
    Case("gelu-tanh-products", "Gelu (tanh), the cube by products", of(gelu_cube_by_products, X), "Gelu=1", TANH, 1),
    Case(
        "gelu-quick",
        "Gelu (sigmoid) of CLIP: Swish with alpha",
        of(lambda x: x * torch.sigmoid(1.702 * x), X),
        "Swish=1",
        "Sigmoid, Mul",
        1,
    ),
    Case("gelu-near-miss", "near miss: erf(x / 2)", of(gelu_wrong_scale, X), "Gelu=0", sources=(DYNAMO,)),
    Case(
        "gelu-linear",
        "Linear into Gelu into Linear",
        module(lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)), (2, 3, 4)),
        "Gelu=1",
        ERF.replace(", Add", ""),
        5,
        sources=(DYNAMO, SCRIPT),
    ),
    Case("silu-module", "SiLU", module(nn.SiLU, X), "Swish=1", "Sigmoid, Mul", 1, sources=(DYNAMO, RAW, SCRIPT)),
    Case("silu-exp", "SiLU as x / (1 + exp(-x))", of(sigmoid_written, X), "Swish=1", "Exp, Neg, Add, Div", 1),
    Case(
        "hardswish-module",
        "HardSwish",
        module(nn.Hardswish, IMAGE),
        "HardSwish=1",
        "HardSigmoid, Mul, Clip",
        1,
        sources=(DYNAMO, SCRIPT, "torchscript-13"),
    ),
    Case("hardswish-mobilenet", "HardSwish by ReLU6", SIX, "HardSwish=1", "Clip, Relu, Mul, Add, Div", 1, sources=THREE),
    Case(
        "hardswish-clamp",
        "HardSwish by clamp(x / 6 + 0.5)",
        of(hard_swish_clamp, IMAGE),
        "HardSwish=1",
        "Clip, Mul, Add, Div",
        1,
    ),
    Case(
        "hardsigmoid-module",
        "HardSigmoid",
        module(nn.Hardsigmoid, IMAGE),
        "HardSigmoid=1",
        "Clip, Add, Div",
        1,
        sources=(DYNAMO, SCRIPT),
    ),
    Case("hardsigmoid-relu6", "HardSigmoid by ReLU6", of(hard_sigmoid_relu6, IMAGE), "HardSigmoid=1", "Clip, Add, Mul", 1),
    Case("mish-module", "Mish", module(nn.Mish, X), "Mish=1", "Softplus, Tanh, Mul", 1, sources=(DYNAMO, SCRIPT)),
    Case(
        "mish-written",
        "Mish by exp and log",
        of(mish_written, X),
        "Mish=1",
        "Exp, Log, Tanh",
        1,
        sources=(SCRIPT,),
        corner="log(1 + exp(x)) is Inf from x = 89 on and Softplus is x; tanh is 1 for both",
    ),
    Case(
        "softplus-module",
        "Softplus, with the threshold exporters add",
        module(nn.Softplus, X),
        "Softplus=1",
        "Where, Greater",
        1,
        sources=(DYNAMO, SCRIPT),
        corner="torch takes x itself above the threshold 20; there Softplus(x) = x in f32 too",
    ),
    Case(
        "softplus-written",
        "log(1 + exp(x))",
        of(lambda x: torch.log(1.0 + torch.exp(x)), X),
        "",
        "",
        3,
        hope="Softplus=1",
        corner="Inf from x = 89 on, where Softplus gives x",
        sources=(SCRIPT,),
    ),
    Case(
        "softplus-stable",
        "Softplus as max(x, 0) + log1p(exp(-|x|))",
        of(stable_softplus, X),
        "Softplus=1",
        "Exp, Abs, Log",
        1,
        corner="log1p is spelled Log(1 + …), which is 0 for x < -17, where Softplus still gives exp(x)",
    ),
    Case(
        "relu6-conv",
        "Conv into ReLU6",
        module(lambda: nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU6()), IMAGE),
        "Conv=1, Clip=1",
        "Min, Max, Relu",
        2,
        sources=(DYNAMO, SCRIPT, "torchscript-9"),
    ),
]

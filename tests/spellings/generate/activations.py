# pyright: basic
"""Activations, as models write them: Gelu in three forms, SiLU, the hard ones, Mish, Softplus, gated units, PReLU, softmax written out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, coarse, module, of

X = (2, 3, 8)
IMAGE = (1, 4, 3, 3)


class Gated(nn.Module):
    """The MLP of LLaMA: down(act(gate(x)) * up(x))."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act = act
        self.gate, self.up, self.down = nn.Linear(4, 8, bias=False), nn.Linear(4, 8, bias=False), nn.Linear(8, 4, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))


class Packed(nn.Module):
    """GeGLU and SwiGLU by one linear layer whose result is cut in two."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.act, self.both = act, nn.Linear(4, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.both(x).chunk(2, dim=-1)
        return value * self.act(gate)


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


def softmax_written(x: torch.Tensor) -> torch.Tensor:
    """The stable softmax."""
    e = torch.exp(x - x.max(dim=-1, keepdim=True)[0])
    return e / e.sum(dim=-1, keepdim=True)


def log_softmax_written(x: torch.Tensor) -> torch.Tensor:
    """x - logsumexp(x)."""
    return x - torch.logsumexp(x, -1, keepdim=True)


def prelu_written(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """relu(x) - a · relu(-x)."""
    return F.relu(x) - a[:, None, None] * F.relu(-x)


def prelu_abs(x: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """relu(x) + a · (x - |x|) / 2, as converted Keras and TF models have it (Inf - Inf is NaN: not a PRelu for x = Inf)."""
    return F.relu(x) + a[:, None, None] * (x - x.abs()) * 0.5


def snake(x: torch.Tensor) -> torch.Tensor:
    """tanh · sigmoid gates (WaveNet): halves by slices."""
    return torch.tanh(x[:, :4]) * torch.sigmoid(x[:, 4:])


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
    Case("gelu-quick", "Gelu (sigmoid) of CLIP: Swish with alpha", of(lambda x: x * torch.sigmoid(1.702 * x), X), "Swish=1", "Sigmoid, Mul", 1),
    Case("gelu-near-miss", "near miss: erf(x / 2)", of(gelu_wrong_scale, X), "Gelu=0", sources=(DYNAMO,)),
    Case("gelu-linear", "Linear into Gelu into Linear", module(lambda: nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4)), (2, 3, 4)), "Gelu=1", ERF.replace(", Add", ""), 5, sources=(DYNAMO, SCRIPT)),
    Case("silu-module", "SiLU", module(nn.SiLU, X), "Swish=1", "Sigmoid, Mul", 1, sources=(DYNAMO, RAW, SCRIPT)),
    Case("silu-exp", "SiLU as x / (1 + exp(-x))", of(sigmoid_written, X), "Swish=1", "Exp, Neg, Add, Div", 1),
    Case("hardswish-module", "HardSwish", module(nn.Hardswish, IMAGE), "HardSwish=1", "HardSigmoid, Mul, Clip", 1, sources=(DYNAMO, SCRIPT, "torchscript-13")),
    Case("hardswish-mobilenet", "HardSwish by ReLU6", SIX, "HardSwish=1", "Clip, Relu, Mul, Add, Div", 1, sources=THREE),
    Case("hardswish-clamp", "HardSwish by clamp(x / 6 + 0.5)", of(hard_swish_clamp, IMAGE), "HardSwish=1", "Clip, Mul, Add, Div", 1),
    Case("hardsigmoid-module", "HardSigmoid", module(nn.Hardsigmoid, IMAGE), "HardSigmoid=1", "Clip, Add, Div", 1, sources=(DYNAMO, SCRIPT)),
    Case("hardsigmoid-relu6", "HardSigmoid by ReLU6", of(hard_sigmoid_relu6, IMAGE), "HardSigmoid=1", "Clip, Add, Mul", 1),
    Case("mish-module", "Mish", module(nn.Mish, X), "Mish=1", "Softplus, Tanh, Mul", 1, sources=(DYNAMO, SCRIPT)),
    Case("mish-written", "Mish by exp and log", of(mish_written, X), "Mish=1", "Exp, Log, Tanh", 1, sources=(SCRIPT,), corner="log(1 + exp(x)) is Inf from x = 89 on and Softplus is x; tanh is 1 for both"),
    Case("softplus-module", "Softplus, with the threshold exporters add", module(nn.Softplus, X), "", "", 4, sources=(DYNAMO, SCRIPT), corner="torch takes x itself above the threshold 20; there Softplus(x) = x in f32 too"),
    Case("softplus-written", "log(1 + exp(x))", of(lambda x: torch.log(1.0 + torch.exp(x)), X), "", "", 3, hope="Softplus=1", corner="Inf from x = 89 on, where Softplus gives x", sources=(SCRIPT,)),
    Case("softplus-stable", "Softplus as max(x, 0) + log1p(exp(-|x|))", of(stable_softplus, X), "Softplus=1", "Exp, Abs, Log", 1, corner="log1p is spelled Log(1 + …); equal to rounding in sums with max(x, 0), less exact for x < -10 than Softplus is"),
    Case("relu6-conv", "Conv into ReLU6", module(lambda: nn.Sequential(nn.Conv2d(4, 2, 1), nn.ReLU6()), IMAGE), "Conv=1, Clip=1", "Min, Max, Relu", 2, sources=(DYNAMO, SCRIPT, "torchscript-9")),
    Case("glu-module", "GLU", module(lambda: nn.GLU(1), (2, 4, 3)), "Split=1, Sigmoid=1, Mul=1", "Slice", 3, sources=(DYNAMO, SCRIPT)),
    Case("glu-wavenet", "tanh and sigmoid of halves by slices", of(snake, (2, 8, 3)), "Split=1", "Slice", 4),
    Case("swiglu-llama", "SwiGLU with gate and up projections", module(lambda: Gated(nn.SiLU()), (2, 3, 4)), "Swish=1, MatMul=2, Split=1", "Sigmoid, Transpose", 5, sources=(DYNAMO, SCRIPT)),
    Case("geglu-gemma", "GeGLU (tanh) with gate and up projections", module(lambda: Gated(nn.GELU("tanh")), (2, 3, 4)), "Gelu=1, MatMul=2, Split=1", "Tanh, Pow", 5, sources=(SCRIPT,)),
    Case("geglu-packed", "GeGLU of one linear layer's halves (diffusion)", module(lambda: Packed(nn.GELU()), (2, 3, 4)), "Gelu=1, MatMul=1, Split=1", "Erf, Slice", 5, sources=(DYNAMO, SCRIPT)),
    Case("swiglu-packed", "SwiGLU of one linear layer's halves", module(lambda: Packed(nn.SiLU()), (2, 3, 4)), "Swish=1, MatMul=1, Split=1", "Sigmoid, Slice", 5, sources=(DYNAMO,)),
    Case("prelu-module", "PReLU, a slope per channel", module(lambda: nn.PReLU(4), IMAGE), "PRelu=1", "", 1, sources=(DYNAMO, SCRIPT)),
    Case("prelu-written", "PReLU as relu(x) - a · relu(-x)", of(prelu_written, IMAGE, a=coarse(4)), "PRelu=1", "Relu, Neg, Sub", 1),
    Case("prelu-abs", "near miss: PReLU by (x - |x|) / 2", of(prelu_abs, IMAGE, a=coarse(4)), "PRelu=0", hope="PRelu=1", corner="x - |x| is NaN for x = Inf"),
    Case("leaky-relu-where", "LeakyRelu by Where", of(lambda x: torch.where(x > 0, x, x * 0.125), X), "LeakyRelu=1", "Where, Greater", 1, corner="for x = NaN both give NaN; for -0.0 both give -0.0"),
    Case("leaky-relu-max", "LeakyRelu as max(x, a · x)", of(lambda x: torch.maximum(x, 0.125 * x), X), "LeakyRelu=1", "Max, Mul", 1, corner="equal for 0 <= a <= 1 only"),
    Case("elu-where", "ELU by Where and expm1", of(lambda x: torch.where(x > 0, x, torch.expm1(x)), X), "", "", 5, hope="Elu=1", sources=(SCRIPT,), corner="exp(x) - 1 near 0 is no worse in Elu"),
    Case("softmax-written", "softmax by exp, max and sum", of(softmax_written, X), "Softmax=1", "Exp, ReduceMax, ReduceSum, Div", 1),
    Case("softmax-axis-one", "softmax of another axis between transposes", of(lambda x: x.transpose(1, 2).softmax(-1).transpose(1, 2), X), "Softmax=1", "Transpose", 1),
    Case("logsoftmax-written", "log of softmax as x - logsumexp", of(log_softmax_written, X), "LogSoftmax=1", "ReduceLogSumExp, Exp, Log", 1),
    Case("logsoftmax-of-softmax", "log(softmax(x))", of(lambda x: torch.log(torch.softmax(x, -1)), X), "", "", 2, hope="LogSoftmax=1", corner="softmax may round to 0, whose log is -Inf", sources=(DYNAMO,)),
    Case("sigmoid-written", "1 / (1 + exp(-x))", of(lambda x: 1.0 / (1.0 + torch.exp(-x)), X), "Sigmoid=1", "Exp, Neg, Add, Div", 1, sources=(SCRIPT,)),
    Case("tanh-by-sigmoid", "2 · sigmoid(2x) - 1", of(lambda x: 2.0 * torch.sigmoid(2.0 * x) - 1.0, X), "", "", 4, hope="Tanh=1", corner="cancels near 0, where Tanh does not", sources=(DYNAMO,)),
]

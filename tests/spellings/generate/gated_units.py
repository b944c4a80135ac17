# pyright: basic
"""Gated units, slopes and softmax, as models write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .activations import IMAGE, X
from .core import DYNAMO, SCRIPT, Case, coarse, module, of


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


CASES = [
    Case(
        "glu-module",
        "GLU",
        module(lambda: nn.GLU(1), (2, 4, 3)),
        "Split=1, Sigmoid=1, Mul=1",
        "Slice",
        3,
        sources=(DYNAMO, SCRIPT),
    ),
    Case("glu-wavenet", "tanh and sigmoid of halves by slices", of(snake, (2, 8, 3)), "Split=1", "Slice", 4),
    Case(
        "swiglu-llama",
        "SwiGLU with gate and up projections",
        module(lambda: Gated(nn.SiLU()), (2, 3, 4)),
        "Swish=1, MatMul=2, Split=1",
        "Sigmoid, Transpose",
        5,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "geglu-gemma",
        "GeGLU (tanh) with gate and up projections",
        module(lambda: Gated(nn.GELU("tanh")), (2, 3, 4)),
        "Gelu=1, MatMul=2, Split=1",
        "Tanh, Pow",
        5,
        sources=(SCRIPT,),
    ),
    Case(
        "geglu-packed",
        "GeGLU of one linear layer's halves (diffusion)",
        module(lambda: Packed(nn.GELU()), (2, 3, 4)),
        "Gelu=1, MatMul=1, Split=1",
        "Erf, Slice",
        5,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "swiglu-packed",
        "SwiGLU of one linear layer's halves",
        module(lambda: Packed(nn.SiLU()), (2, 3, 4)),
        "Swish=1, MatMul=1, Split=1",
        "Sigmoid, Slice",
        5,
        sources=(DYNAMO,),
    ),
    Case(
        "prelu-module",
        "PReLU, a slope per channel",
        module(lambda: nn.PReLU(4), IMAGE),
        "PRelu=1",
        "",
        1,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "prelu-written",
        "PReLU as relu(x) - a · relu(-x)",
        of(prelu_written, IMAGE, a=coarse(4)),
        "PRelu=1",
        "Relu, Neg, Sub",
        1,
    ),
    Case(
        "prelu-abs",
        "near miss: PReLU by (x - |x|) / 2",
        of(prelu_abs, IMAGE, a=coarse(4)),
        "PRelu=0",
        hope="PRelu=1",
        corner="x - |x| is NaN for x = Inf",
    ),
    Case(
        "leaky-relu-where",
        "LeakyRelu by Where",
        of(lambda x: torch.where(x > 0, x, x * 0.125), X),
        "LeakyRelu=1",
        "Where, Greater",
        1,
        corner="for x = NaN both give NaN; for -0.0 both give -0.0",
    ),
    Case(
        "leaky-relu-max",
        "LeakyRelu as max(x, a · x)",
        of(lambda x: torch.maximum(x, 0.125 * x), X),
        "LeakyRelu=1",
        "Max, Mul",
        1,
        corner="equal for 0 <= a <= 1 only",
    ),
    Case(
        "elu-where",
        "ELU by Where and exp - 1",
        of(lambda x: torch.where(x > 0, x, torch.exp(x) - 1.0), X),
        "",
        "",
        5,
        hope="Elu=1",
        sources=(SCRIPT,),
        corner="exp(x) - 1 near 0 is no worse in Elu",
    ),
    Case(
        "softmax-written",
        "softmax by exp, max and sum",
        of(softmax_written, X),
        "Softmax=1",
        "Exp, ReduceMax, ReduceSum, Div",
        1,
    ),
    Case(
        "softmax-axis-one",
        "softmax of another axis between transposes",
        of(lambda x: x.transpose(1, 2).softmax(-1).transpose(1, 2), X),
        "Softmax=1",
        "Transpose",
        1,
    ),
    Case(
        "logsoftmax-written",
        "log of softmax as x - logsumexp",
        of(log_softmax_written, X),
        "",
        "",
        2,
        hope="LogSoftmax=1",
        corner="beside an Inf the others are -Inf here and NaN by LogSoftmax",
    ),
    Case(
        "logsoftmax-of-softmax",
        "log(softmax(x))",
        of(lambda x: torch.log(torch.softmax(x, -1)), X),
        "",
        "",
        2,
        hope="LogSoftmax=1",
        corner="softmax may round to 0, whose log is -Inf",
        sources=(DYNAMO,),
    ),
    Case(
        "sigmoid-written",
        "1 / (1 + exp(-x))",
        of(lambda x: 1.0 / (1.0 + torch.exp(-x)), X),
        "Sigmoid=1",
        "Exp, Neg, Add, Div",
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "tanh-by-sigmoid",
        "2 · sigmoid(2x) - 1",
        of(lambda x: 2.0 * torch.sigmoid(2.0 * x) - 1.0, X),
        "",
        "",
        4,
        hope="Tanh=1",
        corner="cancels near 0, where Tanh does not",
        sources=(DYNAMO,),
    ),
]

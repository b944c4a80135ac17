# pyright: basic
"""Linear layers and products, as models write them: Gemm forms, biases, parallel projections, chains, Einsum, LoRA."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, coarse, module, of

X = (2, 3, 4)
W, B = coarse(4, 6), coarse(6)


class Projections(nn.Module):
    """Linear layers that share their input (q, k, v)."""

    def __init__(self, widths: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, width, bias=bias) for width in widths)

    def forward(self, x: torch.Tensor) -> Any:
        return tuple(layer(x) for layer in self.layers)


class Conv1D(nn.Module):
    """GPT-2's Conv1D: addmm on rows and views around it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x.view(-1, 4), self.weight).view(*x.shape[:-1], 6)


class LoRA(nn.Module):
    """A linear layer and a low-rank update of it, not merged: merging costs nothing at run time."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.a, self.b = nn.Linear(4, 6), nn.Linear(4, 2, bias=False), nn.Linear(2, 6, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.b(self.a(x)) * 2.0


class Tied(nn.Module):
    """An embedding whose table is the head's weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.table(ids) @ self.table.weight.t()


IDS = torch.tensor([[1, 0, 1]])
BOTH = (DYNAMO, SCRIPT)
CASES = [
    Case(
        "linear-2d", "Linear on rows", module(lambda: nn.Linear(4, 6), (3, 4)), "Gemm=1", "Transpose, MatMul", 1, sources=BOTH
    ),
    Case(
        "linear-3d",
        "Linear on a sequence",
        module(lambda: nn.Linear(4, 6), X),
        "MatMul=1, Add=1",
        "Transpose, Reshape",
        2,
        sources=(DYNAMO, RAW, SCRIPT),
    ),
    Case(
        "linear-3d-dynamic",
        "Linear on a sequence, dynamic",
        module(lambda: nn.Linear(4, 6), X),
        "MatMul=1, Add=1",
        "Transpose, Reshape",
        2,
        dynamic={"input": {0: "N", 1: "M"}},
        inputs=["input"],
        sources=(RAW,),
    ),
    Case("linear-conv1d", "GPT-2's Conv1D", module(Conv1D, X), "", "Shape, Transpose", 3, sources=BOTH),
    Case(
        "linear-conv1d-dynamic",
        "GPT-2's Conv1D, dynamic",
        module(Conv1D, X),
        "MatMul=1, Add=1",
        "Shape, Reshape, Concat, Gather",
        2,
        dynamic={"x": {0: "N", 1: "M"}},
        inputs=["x"],
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "matmul-bias-2d",
        "x @ w + b on rows",
        of(lambda x, w, b: x @ w + b, (3, 4), w=W, b=B),
        "Gemm=1",
        "MatMul, Add",
        1,
        sources=BOTH,
    ),
    Case(
        "matmul-bias-first",
        "b + x @ wᵀ",
        of(lambda x, w, b: b + x @ w.t(), (3, 4), w=coarse(6, 4), b=B),
        "Gemm=1",
        "MatMul, Add, Transpose",
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "matmul-transposed-both",
        "(wᵀ xᵀ)ᵀ",
        of(lambda x, w: (w.t() @ x.t()).t(), (3, 4), w=W),
        "",
        "Transpose",
        1,
        sources=BOTH,
    ),
    Case(
        "matmul-scaled",
        "(x @ w) · c + b",
        of(lambda x, w, b: (x @ w) * 0.5 + b, X, w=W, b=B),
        "MatMul=1, Add=1",
        "Mul",
        2,
        sources=BOTH,
    ),
    Case(
        "matmul-scale-before", "(x · c) @ w", of(lambda x, w: (x * 0.25) @ w, X, w=W), "MatMul=1", "Mul", 1, sources=(SCRIPT,)
    ),
    Case(
        "matmul-scale-per-column",
        "(x @ w) · v, per column",
        of(lambda x, w, v: (x @ w) * v, X, w=W, v=coarse(6)),
        "MatMul=1",
        "Mul",
        1,
        sources=(DYNAMO,),
    ),
    Case(
        "matmul-matmul",
        "two products in a row",
        of(lambda x, a, b: x @ a @ b, X, a=coarse(4, 4), b=coarse(4, 4)),
        "",
        "",
        2,
        sources=(SCRIPT,),
        hope="MatMul=1",
        corner="one Inf in x becomes Inf and -Inf between the two and NaN behind them",
    ),
    Case(
        "matmul-matmul-wide",
        "near miss: merging widens (low rank)",
        of(lambda x, a, b: x @ a @ b, (2, 3, 6), a=coarse(6, 1), b=coarse(1, 6)),
        "MatMul=2",
        sources=(SCRIPT,),
    ),
    Case(
        "addmm",
        "torch.addmm with alpha and beta",
        of(lambda c, a, b: torch.addmm(c, a, b, beta=0.5, alpha=2.0), (3, 6), (3, 4), (4, 6)),
        "Gemm=1",
        "MatMul, Mul, Add",
        1,
        sources=BOTH,
    ),
    Case(
        "gemm-transposed-input",
        "xᵀ @ w + b",
        of(lambda x, w, b: x.t() @ w + b, (4, 3), w=W, b=B),
        "Gemm=1",
        "Transpose",
        1,
        sources=(DYNAMO,),
    ),
    Case(
        "gemm-scaled-weight",
        "Gemm, Mul, Add: one Gemm",
        of(lambda x, w, b, v: F.linear(x, w, b) * v + b, (3, 4), w=coarse(6, 4), b=B, v=coarse(6)),
        "Gemm=1",
        "Mul, Add",
        1,
        sources=BOTH,
    ),
    Case(
        "parallel-qkv",
        "three linear layers with bias on one input",
        module(lambda: Projections((4, 4, 4), True), X),
        "MatMul=1, Add=1, Split=1",
        "",
        3,
        sources=BOTH,
    ),
    Case(
        "parallel-gqa",
        "three linear layers of different widths",
        module(lambda: Projections((4, 2, 2), False), X),
        "MatMul=1, Split=1",
        "",
        2,
        sources=BOTH,
    ),
    Case(
        "parallel-rows",
        "two linear layers on rows",
        module(lambda: Projections((3, 5), True), (3, 4)),
        "Gemm=1, Split=1",
        "",
        2,
        sources=(SCRIPT,),
    ),
    Case(
        "parallel-partial-bias",
        "linear layers on one input, one without bias",
        of(lambda x, a, b, c: (x @ a + b, x @ c), X, a=W, b=B, c=coarse(4, 6)),
        "MatMul=1, Split=1, Add=1",
        "",
        3,
        sources=(DYNAMO,),
    ),
    Case(
        "lora",
        "a low-rank update beside a linear layer",
        module(LoRA, X),
        "",
        "Mul",
        5,
        sources=BOTH,
        hope="MatMul=1",
        corner="one Inf in x: as in a chain of products",
    ),
    Case(
        "embedding-tied",
        "an embedding and a head with the same table",
        module(Tied, IDS),
        "Gather=1, MatMul=1",
        "Transpose",
        2,
        sources=BOTH,
    ),
    Case(
        "einsum-linear",
        "Einsum bld,de->ble",
        of(lambda x, w: torch.einsum("bld,de->ble", x, w), X, w=W),
        "MatMul=1",
        "Einsum",
        1,
        sources=BOTH,
    ),
    Case(
        "einsum-scores",
        "Einsum bhid,bhjd->bhij",
        of(lambda q, k: torch.einsum("bhid,bhjd->bhij", q, k), (1, 2, 5, 4), (1, 2, 3, 4)),
        "MatMul=1, Transpose=1",
        "Einsum",
        2,
        sources=BOTH,
    ),
    Case(
        "einsum-outer",
        "Einsum i,j->ij",
        of(lambda a, b: torch.einsum("i,j->ij", a, b), (3,), (4,)),
        "",
        "Einsum",
        3,
        sources=(SCRIPT,),
    ),
    Case(
        "einsum-channels",
        "Einsum nchw,co->nohw: a 1x1 convolution",
        of(lambda x, w: torch.einsum("nchw,co->nohw", x, w), (1, 4, 2, 3), w=W),
        "",
        "Einsum",
        3,
        sources=(DYNAMO,),
    ),
    Case(
        "einsum-heads",
        "Einsum bld,dhe->blhe: heads in the weight",
        of(lambda x, w: torch.einsum("bld,dhe->blhe", x, w), X, w=coarse(4, 2, 3)),
        "MatMul=1",
        "Einsum",
        2,
        sources=(SCRIPT,),
    ),
    Case(
        "einsum-trace",
        "Einsum bii->b stays or becomes a sum",
        of(lambda x: torch.einsum("bii->b", x), (2, 3, 3)),
        "",
        "",
        4,
        sources=(SCRIPT,),
    ),
    Case(
        "bilinear-distance",
        "‖a - b‖² by products",
        of(lambda a, b: a.pow(2).sum(-1, keepdim=True) + b.pow(2).sum(-1) - 2.0 * a @ b.t(), (3, 4), (5, 4)),
        "",
        "Pow",
        6,
        sources=(DYNAMO,),
    ),
]

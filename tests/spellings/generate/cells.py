# pyright: basic
"""Recurrent cells, masks, indices and one-hot vectors, as models write them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, SCRIPT, Case, coarse, module, of

W, R, B = coarse(12, 3), coarse(12, 3), coarse(12)
W3, R3, B3, C3 = coarse(9, 3), coarse(9, 3), coarse(9), coarse(9)
ROW = (2, 3)


def lstm_cell(x: torch.Tensor, h: torch.Tensor, c: torch.Tensor, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor) -> Any:
    """One step of an LSTM: gates by chunk."""
    i, f, g, o = (x @ w.t() + h @ r.t() + b).chunk(4, 1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def gru_cell(
    x: torch.Tensor, h: torch.Tensor, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """One step of a GRU: gates by chunk."""
    xr, xz, xn = F.linear(x, w, b).chunk(3, 1)
    hr, hz, hn = F.linear(h, r, c).chunk(3, 1)
    reset, update = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
    new = torch.tanh(xn + reset * hn)
    return (1 - update) * new + update * h


def unrolled(x: torch.Tensor, w: torch.Tensor, r: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Three steps of a plain recurrence, unrolled."""
    h = torch.zeros(2, 3)
    for step in range(3):
        h = torch.tanh(x[:, step] @ w + h @ r + b)
    return h


def causal_lengths(lengths: torch.Tensor) -> torch.Tensor:
    """A mask from lengths by comparing with a range."""
    return (torch.arange(5)[None, :] < lengths[:, None]).float()


def extended_mask(mask: torch.Tensor) -> torch.Tensor:
    """transformers' 4D mask: expanded, inverted, filled twice."""
    wide = mask[:, None, None, :].expand(2, 1, 3, 3).to(torch.float32)
    inverted = 1.0 - wide
    return inverted.masked_fill(inverted.to(torch.bool), torch.finfo(torch.float32).min)


def combined_mask(mask: torch.Tensor) -> torch.Tensor:
    """Causal and padding: two Wheres in a row and a comparison."""
    causal = torch.triu(torch.full((3, 3), torch.finfo(torch.float32).min), diagonal=1)[None, None]
    padding = (causal + mask[:, None, None, :].float()) == 0
    return causal.masked_fill(padding, torch.finfo(torch.float32).min)


def and_masks(mask: torch.Tensor) -> torch.Tensor:
    """Boolean masks joined, then one Where."""
    seen = torch.tril(torch.ones(3, 3, dtype=torch.bool))[None, None] & mask[:, None, None, :].bool()
    return torch.where(seen, 0.0, float("-inf"))


def where_chain(x: torch.Tensor) -> torch.Tensor:
    """Wheres on one condition, and its negation."""
    c = x > 0
    y = torch.where(c, x, torch.zeros_like(x))
    return torch.where(~c, -x, y)


def where_constants(x: torch.Tensor) -> torch.Tensor:
    """Where(c, 1, 0) as a float is a Cast."""
    return torch.where(x > 0, 1.0, 0.0)


def one_hot_equal(ids: torch.Tensor) -> torch.Tensor:
    """One-hot vectors by comparing with a range."""
    return (ids[..., None] == torch.arange(4)).float()


def one_hot_embedding(ids: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """A one-hot product is a Gather (where ids are in range)."""
    return F.one_hot(ids, 4).float() @ w


def position_cumsum(ids: torch.Tensor) -> torch.Tensor:
    """RoBERTa's positions."""
    mask = ids.ne(1).int()
    return (torch.cumsum(mask, dim=1).type_as(mask) * mask).long() + 1


def last_token(ids: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """CLIP's pooled token: the row of the largest id."""
    return x[torch.arange(x.shape[0]), ids.argmax(dim=-1)]


def grid(x: torch.Tensor) -> torch.Tensor:
    """A grid of coordinates from the shape, added (YOLO's decode)."""
    ys, xs = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    return x + torch.stack((xs, ys), 0)[None].float()


def relative_index(table: torch.Tensor) -> torch.Tensor:
    """T5's and Swin's bias: a table looked up by distances."""
    d = torch.arange(3)[None, :] - torch.arange(3)[:, None] + 2
    return table[d].permute(2, 0, 1)[None]


def t5_buckets(scores: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """T5's buckets by logarithm, computed in the graph from lengths."""
    q, k = torch.arange(scores.shape[2])[:, None], torch.arange(scores.shape[3])[None, :]
    n = torch.clamp(q - k, min=0)
    large = 2 + (torch.log(n.float() / 2 + 1e-6) / 2.0 * 2).to(torch.long)
    bucket = torch.where(n < 2, n, torch.clamp(large, max=3))
    return scores + table[bucket].permute(2, 0, 1)[None]


def sinusoidal(t: torch.Tensor) -> torch.Tensor:
    """Time embedding of diffusion models."""
    frequencies = torch.exp(-2.0 * torch.arange(0, 4).float() / 4)
    angles = t[:, None].float() * frequencies[None]
    return torch.cat((torch.cos(angles), torch.sin(angles)), dim=-1)


def pow_forms(x: torch.Tensor) -> torch.Tensor:
    """Powers that are cheaper: x², √x, 1/x, x¹, x³ stays."""
    return x.pow(2) + x.pow(0.5) + x.pow(-1) + x.pow(1)


def add_chain(x: torch.Tensor) -> torch.Tensor:
    """Constants in a row."""
    return ((x + 1.0) * 2.0 - 3.0) / 4.0


def double_negation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Signs that meet."""
    return x - (-y) + torch.neg(-x) * y


def reductions(x: torch.Tensor) -> torch.Tensor:
    """A mean of a mean."""
    return x.mean(-1).mean(-1)


def squeeze_excite(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Squeeze and excitation by 1x1 convolutions."""
    s = F.adaptive_avg_pool2d(x, 1)
    return x * F.hardsigmoid(F.conv2d(F.relu(F.conv2d(s, a)), b))


def layer_scale(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    """x + γ · (y @ w): the factor goes into the weight."""
    return x + g * (y @ w)


IDS, MASK = torch.tensor([[1, 0, 1], [0, 1, 0]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
BOTH = (DYNAMO, SCRIPT)
CASES = [
    Case(
        "lstm-module",
        "nn.LSTM",
        module(lambda: nn.LSTM(3, 2, batch_first=True), (2, 4, 3)),
        "LSTM=1",
        "",
        12,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "gru-module",
        "nn.GRU, bidirectional",
        module(lambda: nn.GRU(3, 2, bidirectional=True), (4, 2, 3)),
        "GRU=1",
        "",
        12,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "lstm-cell",
        "an LSTM step written out",
        of(lstm_cell, ROW, ROW, ROW, w=W, r=R, b=B),
        "",
        "Transpose",
        16,
        sources=BOTH,
        hope="LSTM=1",
    ),
    Case(
        "lstm-cell-module",
        "nn.LSTMCell",
        module(lambda: nn.LSTMCell(3, 3), ROW),
        "",
        "Transpose",
        18,
        sources=BOTH,
        hope="LSTM=1",
    ),
    Case(
        "gru-cell",
        "a GRU step written out",
        of(gru_cell, ROW, ROW, w=W3, r=R3, b=B3, c=C3),
        "",
        "Transpose",
        16,
        sources=BOTH,
        hope="GRU=1",
    ),
    Case(
        "rnn-unrolled",
        "three steps of a recurrence, unrolled",
        of(unrolled, (2, 3, 3), w=coarse(3, 3), r=coarse(3, 3), b=coarse(3)),
        "Tanh=3",
        "",
        None,
        sources=(SCRIPT,),
    ),
    Case(
        "mask-lengths",
        "a mask from lengths",
        of(causal_lengths, torch.tensor([3, 5])),
        "Less=1, Cast=1",
        "Range, Where",
        3,
        sources=BOTH,
    ),
    Case("mask-extended-4d", "transformers' 4D padding mask", of(extended_mask, MASK), "", "", 7, sources=BOTH),
    Case(
        "mask-combined",
        "causal and padding mask by two fills",
        of(combined_mask, MASK),
        "",
        "Trilu, ScatterND, Expand",
        8,
        sources=BOTH,
    ),
    Case("mask-and", "boolean masks joined, one Where", of(and_masks, MASK), "And=1, Where=1", "Trilu", 4, sources=BOTH),
    Case("where-chain", "Wheres on a condition and its negation", of(where_chain, (2, 3)), "Where=1", "Not", 3, sources=BOTH),
    Case(
        "where-one-zero", "Where(c, 1, 0) is a Cast", of(where_constants, (2, 3)), "Greater=1, Cast=1", "Where", 2, sources=BOTH
    ),
    Case("one-hot-module", "F.one_hot", of(lambda i: F.one_hot(i, 4).float(), IDS), "OneHot=1", "", 1, sources=BOTH),
    Case("one-hot-equal", "one-hot by comparing with a range", of(one_hot_equal, IDS), "", "Range", 3, sources=(DYNAMO,)),
    Case(
        "one-hot-matmul",
        "one-hot times a table",
        of(one_hot_embedding, IDS, w=coarse(4, 3)),
        "",
        "",
        4,
        sources=(SCRIPT,),
        hope="Gather=1",
        corner="ids out of range give a row of zeros",
    ),
    Case("positions-cumsum", "RoBERTa's positions", of(position_cumsum, IDS), "CumSum=1", "", 7, sources=BOTH),
    Case("last-token", "CLIP's pooled token", of(last_token, IDS, (2, 3, 4)), "ArgMax=1", "", 6, sources=BOTH),
    Case("grid", "a coordinate grid from the shape", of(grid, (1, 2, 3, 4)), "Add=1", "Range, Expand, Concat", 1, sources=BOTH),
    Case(
        "grid-dynamic",
        "a coordinate grid from the shape, dynamic",
        of(grid, (1, 2, 3, 4)),
        "Range=2, Add=1",
        "",
        14,
        dynamic={"x": {2: "H", 3: "W"}},
        inputs=["x"],
        sources=BOTH,
    ),
    Case(
        "relative-bias",
        "a relative bias by table look-up: constant",
        of(relative_index, (5, 2)),
        "Gather=1, Transpose=1",
        "Range, Sub",
        3,
        sources=(SCRIPT,),
    ),
    Case(
        "t5-buckets",
        "T5's buckets, constant for static lengths",
        of(t5_buckets, (1, 2, 4, 4), table=coarse(4, 2)),
        "Add=1",
        "Gather, Where, Log",
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "t5-buckets-dynamic",
        "T5's buckets in the graph",
        of(t5_buckets, (1, 2, 4, 4), table=coarse(4, 2)),
        "Range=1, Gather=1",
        "",
        26,
        dynamic={"s": {2: "M", 3: "M"}},
        inputs=["s"],
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "sinusoidal",
        "time embedding of diffusion models",
        of(sinusoidal, torch.tensor([3, 7])),
        "Cos=1, Sin=1, Concat=1",
        "Exp",
        6,
        sources=BOTH,
    ),
    Case(
        "powers",
        "Pow by constants",
        of(pow_forms, (2, 3)),
        "",
        "Pow",
        6,
        sources=BOTH,
        corner="x^0.5 of -Inf is Inf and of -0.0 is 0.0, Sqrt gives NaN and -0.0: that Pow stays unless x >= 0",
        own={DYNAMO: {"gone": "", "at-most": "7"}, SCRIPT: {"gone": "", "at-most": "7"}},
    ),
    Case(
        "constants-in-a-row",
        "Add, Mul, Sub, Div by constants",
        of(add_chain, (2, 3)),
        "Mul=1, Add=1",
        "Sub, Div",
        2,
        sources=(SCRIPT,),
    ),
    Case("signs", "negations that meet", of(double_negation, (2, 3), (2, 3)), "", "Neg", 3, sources=BOTH),
    Case("mean-of-mean", "a mean of a mean", of(reductions, (2, 3, 4)), "ReduceMean=1", "", 1, sources=(DYNAMO,)),
    Case(
        "squeeze-excite",
        "squeeze and excitation",
        of(squeeze_excite, (1, 4, 3, 3), a=coarse(2, 4, 1, 1), b=coarse(4, 2, 1, 1)),
        "Conv=2, HardSigmoid=1, Mul=1",
        "Clip, Div",
        6,
        sources=BOTH,
    ),
    Case(
        "layer-scale",
        "x + γ · (y @ w)",
        of(layer_scale, (2, 3, 4), (2, 3, 4), w=coarse(4, 4), g=coarse(4)),
        "MatMul=1, Add=1",
        "Mul",
        2,
        sources=BOTH,
    ),
]

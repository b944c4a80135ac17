# pyright: basic
"""Heads around attention, as models write them: packed and parallel projections, shared and repeated heads, modules."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .attention import BOTH, FULL, GONE, ONE, SCALE, K, Q, attend
from .core import DYNAMO, SCRIPT, Case, module, of


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, length, width) to (batch, heads, length, width / heads)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """The way back."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def repeat_kv(x: torch.Tensor, times: int) -> torch.Tensor:
    """transformers' repeat_kv: unsqueeze, expand, reshape."""
    b, h, s, d = x.shape
    return x[:, :, None].expand(b, h, times, s, d).reshape(b, h * times, s, d)


def gqa(times: int, repeat: Any) -> Any:
    """Query heads that share key and value heads."""
    return lambda q, k, v: attend(q @ repeat(k, times).transpose(2, 3) * SCALE, repeat(v, times))


class Packed(nn.Module):
    """Self attention with one linear layer for q, k, v, taken apart in one of several ways (timm, GPT-2, GPT-NeoX)."""

    def __init__(self, cut: Any, width: int = 8) -> None:
        super().__init__()
        self.cut, self.qkv, self.out = cut, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.cut(self.qkv(x))
        return self.out(merge_heads(F.scaled_dot_product_attention(q, k, v)))


class Parallel(nn.Module):
    """Self or cross attention with three linear layers, written out."""

    def __init__(self, width: int = 8, kv_heads: int = 2) -> None:
        super().__init__()
        self.kv_heads = kv_heads
        self.q, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.k, self.v = nn.Linear(width, kv_heads * 4), nn.Linear(width, kv_heads * 4)

    def forward(self, x: torch.Tensor, memory: torch.Tensor | None = None) -> torch.Tensor:
        source = x if memory is None else memory
        q, k, v = (
            split_heads(self.q(x), 2),
            split_heads(self.k(source), self.kv_heads),
            split_heads(self.v(source), self.kv_heads),
        )
        if self.kv_heads == 1:
            k, v = k.expand(-1, 2, -1, -1), v.expand(-1, 2, -1, -1)
        return self.out(merge_heads(attend(q @ k.transpose(-2, -1) / math.sqrt(4), v)))


class MultiHead(nn.Module):
    """nn.MultiheadAttention, weights not asked for."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.attention, self.masked = nn.MultiheadAttention(8, 2, batch_first=True), masked
        torch.backends.mha.set_fastpath_enabled(False)  # the fast path is one op that TorchScript cannot export

    def forward(self, x: torch.Tensor, *keys: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, key_padding_mask=keys[0] if self.masked else None, need_weights=False)[0]


def by_chunk(x: torch.Tensor) -> Any:
    """GPT-2's: split along the width, then heads."""
    return (split_heads(t, 2) for t in x.split(8, dim=2))


def by_permute(x: torch.Tensor) -> Any:
    """timm's: reshape to five dims, permute, unbind."""
    return x.reshape(x.shape[0], x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)


def by_slices(x: torch.Tensor) -> Any:
    """Indexing after the permute (Swin, BEiT)."""
    y = x.reshape(x.shape[0], x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4)
    return y[0], y[1], y[2]


def by_head(x: torch.Tensor) -> Any:
    """GPT-NeoX's and BLOOM's: q, k, v of each head side by side."""
    y = x.view(x.shape[0], x.shape[1], 2, 12)
    return (y[..., i : i + 4].permute(0, 2, 1, 3) for i in (0, 4, 8))


X = (1, 5, 8)
CASES = [
    Case(
        "gqa-expand",
        "GQA: heads repeated by expand and reshape",
        of(gqa(2, repeat_kv), (1, 4, 5, 4), K, K),
        ONE,
        GONE + ", Expand, Reshape",
        1,
    ),
    Case(
        "gqa-interleave",
        "GQA: heads repeated by repeat_interleave",
        of(gqa(2, lambda x, n: x.repeat_interleave(n, dim=1)), (1, 4, 5, 4), K, K),
        ONE,
        GONE,
        1,
    ),
    Case(
        "gqa-dynamic",
        "GQA: heads repeated by expand and reshape, dynamic",
        of(gqa(2, repeat_kv), (2, 4, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
        ONE,
        GONE + ", Expand, Reshape",
        1,
        dynamic={n: {0: "N", 2: "M"} for n in "qkv"},
        inputs=["q", "k", "v"],
    ),
    Case(
        "mqa-expand",
        "MQA: one key head for all",
        of(gqa(2, lambda x, n: x.expand(-1, n, -1, -1)), Q, (1, 1, 3, 4), (1, 1, 3, 4)),
        ONE,
        GONE + ", Expand",
        1,
    ),
    Case(
        "mqa-broadcast",
        "MQA: one key head by broadcasting",
        of(gqa(2, lambda x, n: x), Q, (1, 1, 3, 4), (1, 1, 3, 4)),
        ONE,
        GONE,
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "self-parallel",
        "self attention by three linear layers",
        module(Parallel, X),
        ONE + ", MatMul=2",
        "Softmax",
        8,
        sources=BOTH,
    ),
    Case(
        "self-parallel-dynamic",
        "self attention by three linear layers, dynamic",
        module(Parallel, (2, 5, 8)),
        ONE + ", MatMul=2",
        "Softmax",
        8,
        dynamic={"x": {0: "N", 1: "M"}},
        inputs=["x"],
    ),
    Case(
        "self-mqa",
        "MQA by linear layers of one key head",
        module(lambda: Parallel(kv_heads=1), X),
        ONE + ", MatMul=2",
        "Softmax, Expand",
        8,
        sources=(DYNAMO,),
    ),
    Case(
        "cross-parallel",
        "cross attention by three linear layers",
        module(Parallel, X, (1, 3, 8)),
        ONE + ", MatMul=3",
        "Softmax",
        10,
        sources=BOTH,
    ),
    Case(
        "packed-chunk",
        "packed q, k, v by split",
        module(lambda: Packed(by_chunk), X),
        ONE + ", MatMul=2, Split=1",
        "Softmax",
        6,
        sources=BOTH,
    ),
    Case(
        "packed-permute",
        "packed q, k, v by reshape, permute, unbind (timm)",
        module(lambda: Packed(by_permute), X),
        ONE + ", MatMul=2",
        "Softmax",
        8,
        sources=(DYNAMO,),
    ),
    Case(
        "packed-indices",
        "packed q, k, v by reshape, permute, indices (Swin, BEiT)",
        module(lambda: Packed(by_slices), X),
        ONE + ", MatMul=2",
        "Softmax",
        8,
        sources=(SCRIPT,),
    ),
    Case(
        "packed-per-head",
        "packed q, k, v per head by slices (GPT-NeoX)",
        module(lambda: Packed(by_head), X),
        ONE + ", MatMul=2",
        "Softmax",
        10,
        sources=BOTH,
    ),
    Case(
        "multihead-module",
        "nn.MultiheadAttention",
        module(lambda: MultiHead(False), X),
        ONE,
        "Softmax",
        12,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "multihead-padding",
        "nn.MultiheadAttention with a key padding mask",
        module(lambda: MultiHead(True), X, torch.tensor([[False, False, True, False, True]])),
        "",
        "",
        None,
        hope=ONE,
        corner=FULL,
        sources=(DYNAMO, SCRIPT),
    ),
]

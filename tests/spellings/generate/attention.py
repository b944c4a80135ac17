# pyright: basic
"""Scaled dot-product attention, as models write it: where the scale goes, how masks are made and applied, how heads are shared."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .core import DYNAMO, RAW, SCRIPT, Case, module, of

Q, K = (1, 2, 5, 4), (1, 2, 3, 4)
SCALE = 0.5  # 1 / √4
LOWEST = torch.finfo(torch.float32).min
CAUSAL = torch.tril(torch.ones(1, 1, 5, 5, dtype=torch.bool))
CAUSAL_BIAS = torch.zeros(5, 5).masked_fill(~CAUSAL[0, 0], float("-inf"))
LOW_BIAS = torch.zeros(5, 5).masked_fill(~CAUSAL[0, 0], LOWEST)
KEYS = torch.tensor([[True, True, False]])


def attend(scores: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The last two steps."""
    return torch.softmax(scores, dim=-1) @ v


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """(batch, length, width) to (batch, heads, length, width / heads)."""
    return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def merge_heads(x: torch.Tensor) -> torch.Tensor:
    """The way back."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1)


def sdpa(**options: Any) -> Any:
    """The function of torch."""
    return lambda q, k, v, **mask: F.scaled_dot_product_attention(q, k, v, **options, **mask)


def repeat_kv(x: torch.Tensor, times: int) -> torch.Tensor:
    """transformers' repeat_kv: unsqueeze, expand, reshape."""
    b, h, s, d = x.shape
    return x[:, :, None].expand(b, h, times, s, d).reshape(b, h * times, s, d)


def chunked(x: torch.Tensor) -> list[torch.Tensor]:
    """torch.where masks of the upper triangle made in the graph, as GPT-Neo has them."""
    return [x]


def causal_triu(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A causal bias by triu of -inf, made in the graph (nn.Transformer, LLaMA's own code)."""
    bias = torch.triu(torch.full((q.shape[2], k.shape[2]), float("-inf")), diagonal=1)
    return attend(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + bias, v)


def causal_arange(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A causal bias by comparing positions (transformers since 4.38)."""
    seen = torch.arange(k.shape[2])[None, :] <= torch.arange(q.shape[2])[:, None]
    bias = torch.where(seen, 0.0, LOWEST)
    return attend(q @ k.transpose(2, 3) * SCALE + bias, v)


def nano_gpt(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """nanoGPT's slow path: masked_fill by a buffer of ones."""
    t = q.shape[2]
    scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
    return attend(scores.masked_fill(mask[:, :, :t, :t] == 0, float("-inf")), v)


def gpt2_old(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """GPT-2 of transformers before 4.48: torch.where with the lowest float."""
    scores = torch.matmul(q, k.transpose(-1, -2)) / torch.full([], v.size(-1) ** 0.5)
    low = torch.full([], LOWEST)
    return attend(torch.where(mask[:, :, k.size(2) - q.size(2) : k.size(2), : k.size(2)], scores, low), v)


def bert_extended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """BERT's extended mask: (1 - mask) · lowest, added."""
    bias = (1.0 - keys[:, None, None, :].to(torch.float32)) * LOWEST
    return attend(q @ k.transpose(-1, -2) / math.sqrt(4) + bias, v)


def bert_ten_thousand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """The original BERT's: (1 - mask) · -10000."""
    bias = (1.0 - keys.unsqueeze(1).unsqueeze(2).float()) * -10000.0
    return attend(q @ k.transpose(-1, -2) / math.sqrt(4) + bias, v)


def bool_keys(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Scores of hidden keys replaced by -inf (fairseq, DistilBERT)."""
    scores = (q @ k.transpose(2, 3)) * SCALE
    return attend(scores.masked_fill(~keys[:, None, None, :], float("-inf")), v)


def alibi(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """ALiBi: a slope per head times the distance (BLOOM, MPT), added to the causal scores."""
    slopes = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    distance = torch.arange(5)[None, :] - torch.arange(5)[:, None]
    return attend(q @ k.transpose(2, 3) * SCALE + slopes * distance + CAUSAL_BIAS, v)


def softcap(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Gemma 2's: scores through 50 · tanh(s / 50)."""
    scores = q @ k.transpose(2, 3) * SCALE
    return attend(torch.tanh(scores / 50.0) * 50.0, v)


def upcast(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """f16 attention with the softmax in f32 (LLaMA)."""
    scores = torch.matmul(q, k.transpose(2, 3)) * SCALE
    return F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype) @ v


def with_past(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, past_k: torch.Tensor, past_v: torch.Tensor) -> Any:
    """A key/value cache by Concat, the longer cache returned."""
    k, v = torch.cat((past_k, k), dim=2), torch.cat((past_v, v), dim=2)
    return attend(q @ k.transpose(-1, -2) * SCALE, v), k, v


def einsum(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Heads as the third dim, by Einsum (JAX ports, lucidrains)."""
    p = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) * SCALE, dim=-1)
    return torch.einsum("bhqk,bkhd->bqhd", p, v)


def batched(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Batch and heads in one dim, by bmm (fairseq, old diffusers)."""
    q, k, v = (t.reshape(-1, t.shape[2], t.shape[3]) for t in (q, k, v))
    p = torch.softmax(torch.baddbmm(torch.empty(2, 5, 3), q, k.transpose(1, 2), beta=0, alpha=SCALE), dim=-1)
    return torch.bmm(p, v).reshape(1, 2, 5, 4)


def key_first(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Images: everything transposed, scores as kᵀ q, the softmax over dim -2 (non-local blocks, Stable Diffusion's VAE)."""
    p = torch.softmax(torch.bmm(q.transpose(1, 2), k) * SCALE, dim=2)
    return torch.bmm(v, p.transpose(1, 2))


def talking(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Near miss: weights normalized by their sum of absolute values, no softmax."""
    s = q @ k.transpose(2, 3) * SCALE
    return (s / s.abs().sum(-1, keepdim=True)) @ v


def wrong_axis(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Near miss: the softmax over queries."""
    return torch.softmax(q @ k.transpose(2, 3) * SCALE, dim=-2) @ v


def weights_used(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
    """Near miss: the weights are an output too; Attention can give them (mode 3) or the parts stay."""
    p = torch.softmax(q @ k.transpose(2, 3) * SCALE, dim=-1)
    return p @ v, p


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
        q, k, v = split_heads(self.q(x), 2), split_heads(self.k(source), self.kv_heads), split_heads(self.v(source), self.kv_heads)
        if self.kv_heads == 1:
            k, v = k.expand(-1, 2, -1, -1), v.expand(-1, 2, -1, -1)
        return self.out(merge_heads(attend(q @ k.transpose(-2, -1) / math.sqrt(4), v)))


class MultiHead(nn.Module):
    """nn.MultiheadAttention, weights not asked for."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.attention, self.masked = nn.MultiheadAttention(8, 2, batch_first=True), masked

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


ONE = "Attention=1"
GONE = "Softmax, MatMul"
GUARD = "torch's guard makes rows of hidden keys 0, as Attention does, but also NaN scores; Attention keeps those"
FULL = "a row of hidden keys only is NaN here, and 0 by Attention"
LOW = "a row of hidden keys only is the mean of v here, and 0 by Attention (a bias of exactly the lowest float hides); -3.4e38 instead keeps it"
WHERE = "a NaN or Inf score at a hidden key is dropped here; Attention adds its mask and keeps it"
BOTH = (DYNAMO, SCRIPT)
QQQ = (Q, Q, Q)
X = (1, 5, 8)
CASES = [
    Case("sdpa", "scaled_dot_product_attention", of(sdpa(), Q, K, K), ONE, GONE, 1, sources=(DYNAMO, RAW, SCRIPT)),
    Case("sdpa-scale", "scaled_dot_product_attention with a scale", of(sdpa(scale=0.3), Q, K, K), ONE, GONE, 1),
    Case("sdpa-causal", "scaled_dot_product_attention, causal", of(sdpa(is_causal=True), *QQQ), ONE, GONE, 1, sources=(DYNAMO, RAW, SCRIPT)),
    Case("sdpa-bool-mask", "scaled_dot_product_attention, boolean mask given", of(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), Q, K, K, KEYS.expand(1, 1, 5, 3).clone()), "", "", None, hope=ONE, corner=GUARD),
    Case("sdpa-float-mask", "scaled_dot_product_attention, float mask given", of(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), Q, K, K, (1, 1, 5, 3)), "", "", None, hope=ONE, corner=FULL),
    Case("sdpa-constant-mask", "scaled_dot_product_attention, causal mask from a buffer", of(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), *QQQ, m=CAUSAL_BIAS), ONE, GONE, 1),
    Case("sdpa-gqa", "scaled_dot_product_attention, enable_gqa", of(sdpa(enable_gqa=True), (1, 4, 5, 4), K, K), ONE, GONE + ", Expand, Reshape", 1, sources=(DYNAMO,)),
    Case("sdpa-dynamic", "scaled_dot_product_attention, causal, dynamic batch and length", of(sdpa(is_causal=True), (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)), ONE, GONE, 1, dynamic={n: {0: "N", 2: "M"} for n in "qkv"}, inputs=["q", "k", "v"]),
    Case("sdpa-f16", "scaled_dot_product_attention of f16", of(sdpa(), *(torch.randn(*s).half() for s in (Q, K, K))), ONE, GONE, 1),
    Case("scale-on-scores-div", "scores / √d", of(lambda q, k, v: attend(q @ k.transpose(2, 3) / math.sqrt(4), v), Q, K, K), ONE, GONE, 1),
    Case("scale-on-scores-mul", "scores · d^-½, times first", of(lambda q, k, v: attend(0.35 * (q @ k.transpose(2, 3)), v), Q, K, K), ONE, GONE, 1, sources=(SCRIPT,)),
    Case("scale-on-q", "q scaled", of(lambda q, k, v: attend((q * SCALE) @ k.transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case("scale-on-q-div", "q divided", of(lambda q, k, v: attend((q / math.sqrt(4)) @ k.transpose(2, 3), v), Q, K, K), ONE, GONE, 1, sources=(SCRIPT,)),
    Case("scale-on-k", "k scaled", of(lambda q, k, v: attend(q @ (k * SCALE).transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case("scale-on-k-transposed", "kᵀ scaled", of(lambda q, k, v: attend(q @ (k.transpose(2, 3) * SCALE), v), Q, K, K), ONE, GONE, 1, sources=(SCRIPT,)),
    Case("scale-on-both", "q and k scaled by d^-¼ (Whisper, Stable Diffusion)", of(lambda q, k, v: attend((q * 4**-0.25) @ (k * 4**-0.25).transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case("scale-none", "no scale (T5)", of(lambda q, k, v: attend(q @ k.transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case("scale-computed", "scores / sqrt(size) computed in the graph", of(lambda q, k, v: attend(q @ k.transpose(2, 3) / torch.sqrt(torch.tensor(k.size(-1), dtype=torch.float32)), v), Q, K, K), ONE, GONE, 1),
    Case("k-already-transposed", "k made as (heads, width, length)", of(lambda q, k, v: attend(q @ k * SCALE, v), Q, (1, 2, 4, 3), K), ONE, GONE, 2),
    Case("causal-triu", "causal bias by triu in the graph", of(causal_triu, *QQQ), ONE, GONE + ", Trilu", 1, sources=BOTH),
    Case("causal-triu-dynamic", "causal bias by triu in the graph, dynamic", of(causal_triu, (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)), ONE, GONE, 1, dynamic={n: {0: "N", 2: "M"} for n in "qkv"}, inputs=["q", "k", "v"]),
    Case("causal-arange-dynamic", "causal bias by comparing positions, dynamic", of(causal_arange, (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)), ONE, GONE, 1, dynamic={n: {0: "N", 2: "M"} for n in "qkv"}, inputs=["q", "k", "v"]),
    Case("causal-low-buffer", "causal bias of the lowest float from a buffer", of(lambda q, k, v, m: attend(q @ k.transpose(2, 3) * SCALE + m, v), *QQQ, m=LOW_BIAS), ONE, GONE, 1, sources=(DYNAMO,)),
    Case("causal-masked-fill", "scores.masked_fill(causal buffer == 0, -inf)", of(nano_gpt, *QQQ, mask=CAUSAL.float()), "Softmax=1", "", 5, hope=ONE, corner=WHERE),
    Case("causal-where-lowest", "where(causal buffer, scores, lowest)", of(gpt2_old, *QQQ, mask=CAUSAL), "Softmax=1", "", 5, hope=ONE, corner=WHERE),
    Case("mask-extended", "(1 - mask) · lowest added", of(bert_extended, Q, K, K, torch.tensor([[1, 1, 0]])), "", GONE, None, corner=LOW, hope=ONE),
    Case("mask-ten-thousand", "(1 - mask) · -10000 added", of(bert_ten_thousand, Q, K, K, torch.tensor([[1, 1, 0]])), ONE, GONE, 7, sources=(SCRIPT,)),
    Case("mask-bool-keys", "scores.masked_fill(~mask, -inf)", of(bool_keys, Q, K, K, KEYS), "Softmax=1", "", None, corner=WHERE + "; " + FULL, hope=ONE),
    Case("mask-additive", "a float mask added", of(lambda q, k, v, m: attend(q @ k.transpose(2, 3) * SCALE + m, v), Q, K, K, (1, 1, 5, 3)), "", "", None, hope=ONE, corner=FULL, sources=(DYNAMO,)),
    Case("mask-before-scale", "(scores + mask) · scale", of(lambda q, k, v, m: attend((q @ k.transpose(2, 3) + m) * SCALE, v), *QQQ, m=CAUSAL_BIAS), ONE, GONE, 1, sources=(SCRIPT,)),
    Case("alibi", "ALiBi bias and causal bias", of(alibi, *QQQ), ONE, GONE, 1),
    Case("softcap", "Gemma 2's softcap", of(softcap, Q, K, K), ONE, GONE + ", Tanh", 1),
    Case("upcast-softmax", "f16 scores, softmax in f32", of(upcast, *(torch.randn(*s).half() for s in (Q, K, K))), ONE, GONE, 1),
    Case("past-concat", "key/value cache by Concat", of(with_past, (1, 2, 1, 4), (1, 2, 1, 4), (1, 2, 1, 4), K, K), ONE, GONE + ", Concat", 1, sources=BOTH),
    Case("einsum-heads-third", "Einsum with heads third", of(einsum, (1, 5, 2, 4), (1, 3, 2, 4), (1, 3, 2, 4)), ONE, GONE + ", Einsum", 7),
    Case("batched-heads", "batch and heads in one dim, baddbmm", of(batched, Q, K, K), ONE, GONE, 1),
    Case("image-key-first", "attention over pixels, channels first", of(key_first, (1, 4, 6), (1, 4, 6), (1, 4, 6)), ONE, GONE, 5, sources=BOTH),
    Case("no-softmax", "near miss: weights normalized without softmax", of(talking, Q, K, K), "Attention=0", sources=(DYNAMO,)),
    Case("softmax-wrong-axis", "near miss: softmax over queries", of(wrong_axis, Q, K, K), "Attention=0", sources=(SCRIPT,)),
    Case("weights-returned", "the weights are an output too", of(weights_used, Q, K, K), ONE, GONE, 1, sources=(SCRIPT,)),
    Case("gqa-expand", "GQA: heads repeated by expand and reshape", of(gqa(2, repeat_kv), (1, 4, 5, 4), K, K), ONE, GONE + ", Expand, Reshape", 1),
    Case("gqa-interleave", "GQA: heads repeated by repeat_interleave", of(gqa(2, lambda x, n: x.repeat_interleave(n, dim=1)), (1, 4, 5, 4), K, K), ONE, GONE, 1),
    Case("gqa-dynamic", "GQA: heads repeated by expand and reshape, dynamic", of(gqa(2, repeat_kv), (2, 4, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)), ONE, GONE + ", Expand, Reshape", 1, dynamic={n: {0: "N", 2: "M"} for n in "qkv"}, inputs=["q", "k", "v"]),
    Case("mqa-expand", "MQA: one key head for all", of(gqa(2, lambda x, n: x.expand(-1, n, -1, -1)), Q, (1, 1, 3, 4), (1, 1, 3, 4)), ONE, GONE + ", Expand", 1),
    Case("mqa-broadcast", "MQA: one key head by broadcasting", of(gqa(2, lambda x, n: x), Q, (1, 1, 3, 4), (1, 1, 3, 4)), ONE, GONE, 1, sources=(SCRIPT,)),
    Case("self-parallel", "self attention by three linear layers", module(Parallel, X), ONE + ", MatMul=2", "Softmax", 8, sources=BOTH),
    Case("self-parallel-dynamic", "self attention by three linear layers, dynamic", module(Parallel, (2, 5, 8)), ONE + ", MatMul=2", "Softmax", 8, dynamic={"x": {0: "N", 1: "M"}}, inputs=["x"]),
    Case("self-mqa", "MQA by linear layers of one key head", module(lambda: Parallel(kv_heads=1), X), ONE + ", MatMul=2", "Softmax, Expand", 8, sources=(DYNAMO,)),
    Case("cross-parallel", "cross attention by three linear layers", module(Parallel, X, (1, 3, 8)), ONE + ", MatMul=3", "Softmax", 10, sources=BOTH),
    Case("packed-chunk", "packed q, k, v by split", module(lambda: Packed(by_chunk), X), ONE + ", MatMul=2, Split=1", "Softmax", 6, sources=BOTH),
    Case("packed-permute", "packed q, k, v by reshape, permute, unbind (timm)", module(lambda: Packed(by_permute), X), ONE + ", MatMul=2", "Softmax", 8, sources=(DYNAMO,)),
    Case("packed-indices", "packed q, k, v by reshape, permute, indices (Swin, BEiT)", module(lambda: Packed(by_slices), X), ONE + ", MatMul=2", "Softmax", 8, sources=(SCRIPT,)),
    Case("packed-per-head", "packed q, k, v per head by slices (GPT-NeoX)", module(lambda: Packed(by_head), X), ONE + ", MatMul=2", "Softmax", 10, sources=BOTH),
    Case("multihead-module", "nn.MultiheadAttention", module(lambda: MultiHead(False), X), ONE, "Softmax", 12, sources=(DYNAMO, SCRIPT)),
    Case("multihead-padding", "nn.MultiheadAttention with a key padding mask", module(lambda: MultiHead(True), X, torch.tensor([[False, False, True, False, True]])), "", "", None, hope=ONE, corner=FULL, sources=(DYNAMO, SCRIPT)),
]

# pyright: basic
"""Scaled dot-product attention, as models write it: the function of torch, where the scale goes, caches, Einsum, images."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users

from .core import DYNAMO, RAW, SCRIPT, Case, of

Q, K = (1, 2, 5, 4), (1, 2, 3, 4)
SCALE = 0.5  # 1 / √4


def attend(scores: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The last two steps."""
    return torch.softmax(scores, dim=-1) @ v


def sdpa(**options: Any) -> Any:
    """The function of torch."""
    return lambda q, k, v, **mask: F.scaled_dot_product_attention(q, k, v, **options, **mask)


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


ONE = "Attention=1"
GONE = "Softmax, MatMul"
BOTH = (DYNAMO, SCRIPT)
QQQ = (Q, Q, Q)
FULL = "a row of hidden keys only is NaN here, and 0 by Attention"
CASES = [
    Case("sdpa", "scaled_dot_product_attention", of(sdpa(), Q, K, K), ONE, GONE, 1, sources=(DYNAMO, RAW, SCRIPT)),
    Case("sdpa-scale", "scaled_dot_product_attention with a scale", of(sdpa(scale=0.3), Q, K, K), ONE, GONE, 1),
    Case(
        "sdpa-causal",
        "scaled_dot_product_attention, causal",
        of(sdpa(is_causal=True), *QQQ),
        ONE,
        GONE,
        1,
        sources=(DYNAMO, RAW, SCRIPT),
    ),
    Case(
        "sdpa-gqa",
        "scaled_dot_product_attention, enable_gqa",
        of(sdpa(enable_gqa=True), (1, 4, 5, 4), K, K),
        ONE,
        GONE + ", Expand, Reshape",
        1,
        sources=(DYNAMO,),
    ),
    Case(
        "sdpa-dynamic",
        "scaled_dot_product_attention, causal, dynamic batch and length",
        of(sdpa(is_causal=True), (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
        ONE,
        GONE,
        1,
        dynamic={n: {0: "N", 2: "M"} for n in "qkv"},
        inputs=["q", "k", "v"],
    ),
    Case(
        "sdpa-f16",
        "scaled_dot_product_attention of f16",
        of(sdpa(), *(torch.randn(*s).half() for s in (Q, K, K))),
        ONE,
        GONE,
        1,
    ),
    Case(
        "scale-on-scores-div",
        "scores / √d",
        of(lambda q, k, v: attend(q @ k.transpose(2, 3) / math.sqrt(4), v), Q, K, K),
        ONE,
        GONE,
        1,
    ),
    Case(
        "scale-on-scores-mul",
        "scores · d^-½, times first",
        of(lambda q, k, v: attend(0.35 * (q @ k.transpose(2, 3)), v), Q, K, K),
        ONE,
        GONE,
        1,
        sources=(SCRIPT,),
    ),
    Case("scale-on-q", "q scaled", of(lambda q, k, v: attend((q * SCALE) @ k.transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case(
        "scale-on-q-div",
        "q divided",
        of(lambda q, k, v: attend((q / math.sqrt(4)) @ k.transpose(2, 3), v), Q, K, K),
        ONE,
        GONE,
        1,
        sources=(SCRIPT,),
    ),
    Case("scale-on-k", "k scaled", of(lambda q, k, v: attend(q @ (k * SCALE).transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case(
        "scale-on-k-transposed",
        "kᵀ scaled",
        of(lambda q, k, v: attend(q @ (k.transpose(2, 3) * SCALE), v), Q, K, K),
        ONE,
        GONE,
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "scale-on-both",
        "q and k scaled by d^-¼ (Whisper, Stable Diffusion)",
        of(lambda q, k, v: attend((q * 4**-0.25) @ (k * 4**-0.25).transpose(2, 3), v), Q, K, K),
        ONE,
        GONE,
        1,
    ),
    Case("scale-none", "no scale (T5)", of(lambda q, k, v: attend(q @ k.transpose(2, 3), v), Q, K, K), ONE, GONE, 1),
    Case(
        "scale-computed",
        "scores / sqrt(size) computed in the graph",
        of(
            lambda q, k, v: attend(q @ k.transpose(2, 3) / torch.sqrt(torch.tensor(k.size(-1), dtype=torch.float32)), v),
            Q,
            K,
            K,
        ),
        ONE,
        GONE,
        1,
    ),
    Case(
        "k-already-transposed",
        "k made as (heads, width, length)",
        of(lambda q, k, v: attend(q @ k * SCALE, v), Q, (1, 2, 4, 3), K),
        ONE,
        GONE,
        2,
    ),
    Case("softcap", "Gemma 2's softcap", of(softcap, Q, K, K), ONE, GONE + ", Tanh", 1),
    Case(
        "upcast-softmax", "f16 scores, softmax in f32", of(upcast, *(torch.randn(*s).half() for s in (Q, K, K))), ONE, GONE, 1
    ),
    Case(
        "past-concat",
        "key/value cache by Concat",
        of(with_past, (1, 2, 1, 4), (1, 2, 1, 4), (1, 2, 1, 4), K, K),
        ONE,
        GONE + ", Concat",
        1,
        sources=BOTH,
    ),
    Case(
        "einsum-heads-third",
        "Einsum with heads third",
        of(einsum, (1, 5, 2, 4), (1, 3, 2, 4), (1, 3, 2, 4)),
        ONE,
        GONE + ", Einsum",
        7,
    ),
    Case("batched-heads", "batch and heads in one dim, baddbmm", of(batched, Q, K, K), ONE, GONE, 1),
    Case(
        "image-key-first",
        "attention over pixels, channels first",
        of(key_first, (1, 4, 6), (1, 4, 6), (1, 4, 6)),
        ONE,
        GONE,
        5,
        sources=BOTH,
    ),
    Case("no-softmax", "near miss: weights normalized without softmax", of(talking, Q, K, K), "Attention=0", sources=(DYNAMO,)),
    Case("softmax-wrong-axis", "near miss: softmax over queries", of(wrong_axis, Q, K, K), "Attention=0", sources=(SCRIPT,)),
    Case("weights-returned", "the weights are an output too", of(weights_used, Q, K, K), ONE, GONE, 1, sources=(SCRIPT,)),
]

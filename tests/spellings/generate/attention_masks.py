# pyright: basic
"""Masks and biases of attention, as models write them: given, built, added, chosen by Where, causal or of lengths."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users

from .attention import BOTH, FULL, GONE, ONE, QQQ, SCALE, K, Q, attend
from .core import DYNAMO, SCRIPT, Case, of

LOWEST = torch.finfo(torch.float32).min
CAUSAL = torch.tril(torch.ones(1, 1, 5, 5, dtype=torch.bool))
CAUSAL_BIAS = torch.zeros(5, 5).masked_fill(~CAUSAL[0, 0], float("-inf"))
LOW_BIAS = torch.zeros(5, 5).masked_fill(~CAUSAL[0, 0], LOWEST)
KEYS = torch.tensor([[True, True, False]])


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


GUARD = "torch's guard makes rows of hidden keys 0, as Attention does, but also NaN scores; Attention keeps those"
LOW = "a row of hidden keys only is the mean of v here, and 0 by Attention: the lowest float hides there, -3.4e38 does not"
WHERE = "a NaN or Inf score at a hidden key is dropped here; Attention adds its mask and keeps it"
CASES = [
    Case(
        "sdpa-bool-mask",
        "scaled_dot_product_attention, boolean mask given",
        of(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), Q, K, K, KEYS.expand(1, 1, 5, 3).clone()),
        "",
        "",
        None,
        hope=ONE,
        corner=GUARD,
    ),
    Case(
        "sdpa-float-mask",
        "scaled_dot_product_attention, float mask given",
        of(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), Q, K, K, (1, 1, 5, 3)),
        "",
        "",
        None,
        hope=ONE,
        corner=FULL,
    ),
    Case(
        "sdpa-constant-mask",
        "scaled_dot_product_attention, causal mask from a buffer",
        of(lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m), *QQQ, m=CAUSAL_BIAS),
        ONE,
        GONE,
        1,
    ),
    Case("causal-triu", "causal bias by triu in the graph", of(causal_triu, *QQQ), ONE, GONE + ", Trilu", 1, sources=BOTH),
    Case(
        "causal-triu-dynamic",
        "causal bias by triu in the graph, dynamic",
        of(causal_triu, (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
        ONE,
        GONE,
        1,
        dynamic={n: {0: "N", 2: "M"} for n in "qkv"},
        inputs=["q", "k", "v"],
    ),
    Case(
        "causal-arange-dynamic",
        "causal bias by comparing positions, dynamic",
        of(causal_arange, (2, 2, 5, 4), (2, 2, 5, 4), (2, 2, 5, 4)),
        ONE,
        GONE,
        1,
        dynamic={n: {0: "N", 2: "M"} for n in "qkv"},
        inputs=["q", "k", "v"],
    ),
    Case(
        "causal-low-buffer",
        "causal bias of the lowest float from a buffer",
        of(lambda q, k, v, m: attend(q @ k.transpose(2, 3) * SCALE + m, v), *QQQ, m=LOW_BIAS),
        ONE,
        GONE,
        1,
        sources=(DYNAMO,),
    ),
    Case(
        "causal-masked-fill",
        "scores.masked_fill(causal buffer == 0, -inf)",
        of(nano_gpt, *QQQ, mask=CAUSAL.float()),
        "Softmax=1",
        "",
        6,
        hope=ONE,
        corner=WHERE,
    ),
    Case(
        "causal-where-lowest",
        "where(causal buffer, scores, lowest)",
        of(gpt2_old, *QQQ, mask=CAUSAL),
        "Softmax=1",
        "",
        6,
        hope=ONE,
        corner=WHERE,
    ),
    Case(
        "mask-extended",
        "(1 - mask) · lowest added",
        of(bert_extended, Q, K, K, torch.tensor([[1, 1, 0]])),
        "",
        GONE,
        None,
        corner=LOW,
        hope=ONE,
    ),
    Case(
        "mask-ten-thousand",
        "(1 - mask) · -10000 added",
        of(bert_ten_thousand, Q, K, K, torch.tensor([[1, 1, 0]])),
        ONE,
        GONE,
        7,
        sources=(SCRIPT,),
    ),
    Case(
        "mask-bool-keys",
        "scores.masked_fill(~mask, -inf)",
        of(bool_keys, Q, K, K, KEYS),
        "Softmax=1",
        "",
        None,
        corner=WHERE + "; " + FULL,
        hope=ONE,
    ),
    Case(
        "mask-additive",
        "a float mask added",
        of(lambda q, k, v, m: attend(q @ k.transpose(2, 3) * SCALE + m, v), Q, K, K, (1, 1, 5, 3)),
        "",
        "",
        None,
        hope=ONE,
        corner=FULL,
        sources=(DYNAMO,),
    ),
    Case(
        "mask-before-scale",
        "(scores + mask) · scale",
        of(lambda q, k, v, m: attend((q @ k.transpose(2, 3) + m) * SCALE, v), *QQQ, m=CAUSAL_BIAS),
        ONE,
        GONE,
        1,
        sources=(SCRIPT,),
    ),
    Case("alibi", "ALiBi bias and causal bias", of(alibi, *QQQ), ONE, GONE, 1),
]

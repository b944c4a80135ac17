# pyright: basic
"""Rotary embeddings, as models write them: halves or pairs, tables given, kept or computed, whole or part of a head."""

from __future__ import annotations

from typing import Any

import torch

from .core import DYNAMO, RAW, SCRIPT, Case, of

POSITIONS, HALF = 5, 2
ANGLES = torch.outer(torch.arange(POSITIONS).float(), 1.0 / 10.0 ** (torch.arange(HALF) / HALF))
COS, SIN = ANGLES.cos(), ANGLES.sin()
COS2, SIN2 = torch.cat((COS, COS), -1), torch.cat((SIN, SIN), -1)
INV = 1.0 / 10.0 ** (torch.arange(HALF) / HALF)
X = (1, 2, POSITIONS, 4)
IDS = torch.arange(POSITIONS)[None]


def rotate_half(x: torch.Tensor) -> torch.Tensor:
    """(-second half, first half)."""
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


def rotate_half_chunk(x: torch.Tensor) -> torch.Tensor:
    """The same by chunk."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


def rotate_pairs(x: torch.Tensor) -> torch.Tensor:
    """GPT-J's rotate_every_two."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def llama(q: torch.Tensor, k: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Any:
    """q and k turned by the same tables, kept as buffers."""
    return q * cos + rotate_half(q) * sin, k * cos + rotate_half(k) * sin


def given(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Tables computed elsewhere: (batch, length, width), unsqueezed over heads."""
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return q * cos + rotate_half(q) * sin


def by_ids(q: torch.Tensor, ids: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rows of kept tables by position ids (LLaMA of transformers 4.30)."""
    cos, sin = cos[ids].unsqueeze(1), sin[ids].unsqueeze(1)
    return q * cos + rotate_half_chunk(q) * sin


def in_graph(q: torch.Tensor, ids: torch.Tensor, inv: torch.Tensor) -> torch.Tensor:
    """Angles from position ids and inv_freq by MatMul, computed in the graph (transformers since 4.40)."""
    freqs = (inv[None, :, None].expand(ids.shape[0], -1, 1) @ ids[:, None, :].float()).transpose(1, 2)
    angles = torch.cat((freqs, freqs), dim=-1)
    return q * angles.cos().unsqueeze(1) + rotate_half(q) * angles.sin().unsqueeze(1)


def einsum_angles(q: torch.Tensor, inv: torch.Tensor) -> torch.Tensor:
    """Angles of 0, 1, 2, … by Einsum (GPT-NeoX of old)."""
    freqs = torch.einsum("i,j->ij", torch.arange(q.shape[2]).to(inv.dtype), inv)
    angles = torch.cat((freqs, freqs), dim=-1)[None, None]
    return q * angles.cos() + rotate_half(q) * angles.sin()


def gptj(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Pairs side by side, tables with each entry twice (GPT-J: interleaved)."""
    cos, sin = (t.repeat_interleave(2, dim=-1)[None, None] for t in (cos, sin))
    return q * cos + rotate_pairs(q) * sin


def pairs_reshaped(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Complex multiplication written out on pairs (LLaMA's own code without complex numbers, torchtune)."""
    pairs = q.reshape(*q.shape[:-1], -1, 2)
    real, imaginary = pairs[..., 0], pairs[..., 1]
    return torch.stack((real * cos - imaginary * sin, imaginary * cos + real * sin), dim=-1).flatten(-2)


def complex_pairs(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """LLaMA's own code: view_as_complex."""
    turned = torch.view_as_complex(q.reshape(*q.shape[:-1], -1, 2)) * torch.complex(cos, sin)
    return torch.view_as_real(turned).flatten(-2)


def halves_apart(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Both halves computed and joined: (x1 c - x2 s, x2 c + x1 s) (flash-attention)."""
    first, second = q.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def partial(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Only the first half of each head turned (GPT-NeoX, Phi)."""
    turned, kept = q[..., :4], q[..., 4:]
    return torch.cat((turned * cos + rotate_half(turned) * sin, kept), dim=-1)


def partial_pairs(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Only the first half of each head turned, in pairs (GPT-J, ChatGLM)."""
    turned, kept = q[..., :4], q[..., 4:]
    return torch.cat((pairs_reshaped(turned, cos, sin), kept), dim=-1)


def length_first(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """(batch, length, heads, width): tables unsqueezed over heads, the transpose after."""
    cos, sin = cos[None, :, None, :], sin[None, :, None, :]
    return (q * cos + rotate_half(q) * sin).transpose(1, 2)


def other_direction(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Near miss unless the sine is negated: x cos - rotate_half(x) sin."""
    return q * cos - rotate_half(q) * sin


def not_rotated(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Near miss: the halves are swapped without a sign."""
    half = q.shape[-1] // 2
    return q * cos + torch.cat((q[..., half:], q[..., :half]), dim=-1) * sin


def different_tables(q: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Near miss: the halves of the tables differ."""
    return q * cos + rotate_half(q) * sin


ONE = "RotaryEmbedding=1"
PARTS = "Neg, Slice, Concat, Split"
BOTH = (DYNAMO, SCRIPT)
CASES = [
    Case(
        "rotary-buffers",
        "rotary on q and k, tables kept",
        of(llama, X, X, cos=COS2, sin=SIN2),
        "RotaryEmbedding=2",
        PARTS,
        2,
        sources=(DYNAMO, RAW, SCRIPT),
    ),
    Case(
        "rotary-given",
        "rotary, tables given, their halves unknown to be equal",
        of(given, X, (1, 5, 4), (1, 5, 4)),
        "RotaryEmbedding=0",
        corner="the op has tables of half the width; nothing says that the halves of these are equal",
    ),
    Case(
        "rotary-ids",
        "rotary, rows of tables by position ids",
        of(by_ids, X, IDS, cos=COS2, sin=SIN2),
        ONE,
        PARTS + ", Gather",
        1,
        sources=BOTH,
    ),
    Case(
        "rotary-in-graph",
        "rotary, angles computed from position ids",
        of(in_graph, X, IDS, inv=INV),
        ONE,
        PARTS,
        8,
        sources=(DYNAMO, SCRIPT),
    ),
    Case(
        "rotary-in-graph-dynamic",
        "rotary, angles computed from position ids, dynamic",
        of(in_graph, (2, 2, 5, 4), IDS.expand(2, 5).clone(), inv=INV),
        ONE,
        PARTS,
        9,
        dynamic={"q": {0: "N", 2: "M"}, "ids": {0: "N", 1: "M"}},
        inputs=["q", "ids"],
    ),
    Case(
        "rotary-einsum",
        "rotary, angles by Einsum of a range",
        of(einsum_angles, X, inv=INV),
        ONE,
        PARTS + ", Einsum",
        1,
        sources=BOTH,
    ),
    Case("rotary-gptj", "rotary of pairs, tables doubled", of(gptj, X, cos=COS, sin=SIN), ONE, PARTS, 1, sources=(DYNAMO,)),
    Case(
        "rotary-pairs",
        "rotary of pairs as a complex product",
        of(pairs_reshaped, X, cos=COS, sin=SIN),
        ONE,
        PARTS + ", Gather",
        1,
        sources=BOTH,
    ),
    Case(
        "rotary-complex", "rotary by view_as_complex", of(complex_pairs, X, cos=COS, sin=SIN), ONE, PARTS, 1, sources=(DYNAMO,)
    ),
    Case(
        "rotary-halves",
        "rotary with the halves computed apart",
        of(halves_apart, X, cos=COS, sin=SIN),
        ONE,
        PARTS,
        1,
        sources=BOTH,
    ),
    Case(
        "rotary-partial",
        "rotary of a part of each head",
        of(partial, (1, 2, 5, 6), cos=COS2, sin=SIN2),
        ONE,
        PARTS,
        1,
        sources=BOTH,
    ),
    Case(
        "rotary-partial-pairs",
        "rotary of a part of each head, in pairs",
        of(partial_pairs, (1, 2, 5, 6), cos=COS, sin=SIN),
        ONE,
        PARTS,
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "rotary-length-first",
        "rotary before the transpose of heads",
        of(length_first, (1, 5, 2, 4), cos=COS2, sin=SIN2),
        ONE,
        PARTS,
        2,
        sources=(SCRIPT,),
    ),
    Case(
        "rotary-backwards",
        "rotary the other way: the sine negated",
        of(other_direction, X, cos=COS2, sin=SIN2),
        ONE,
        PARTS,
        1,
        sources=(DYNAMO,),
    ),
    Case(
        "rotary-no-sign",
        "near miss: halves swapped without a sign",
        of(not_rotated, X, cos=COS2, sin=SIN2),
        "RotaryEmbedding=0",
        sources=(DYNAMO,),
    ),
    Case(
        "rotary-uneven-tables",
        "near miss: the tables' halves differ",
        of(different_tables, X, cos=torch.cat((COS, SIN), -1), sin=SIN2),
        "RotaryEmbedding=0",
        sources=(SCRIPT,),
    ),
]

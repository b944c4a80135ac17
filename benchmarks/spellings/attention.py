"""Attention and the rotations before it, each in several ways."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .sketch import MS, Sketch, Ways, normal, ways_of


def split_heads(s: Sketch, x: str, heads: int, perm: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """[B,S,H*D] as [B,H,S,D]."""
    return s("Transpose", s("Reshape", x, s.constant([0, 0, heads, -1], np.int64)), perm=list(perm))


def join_heads(s: Sketch, x: str) -> str:
    """[B,H,S,D] as [B,S,H*D]."""
    return s("Reshape", s("Transpose", x, perm=[0, 2, 1, 3]), s.constant([0, 0, -1], np.int64))


def attention(batch: int, queries: int, keys: int, heads: int, groups: int, size: int, mask: str = "", past: int = 0) -> Ways:
    """q, k and v as projections leave them, [B,S,H*D], to [B,S,H*D]; mask is "", "additive", "bool" or "causal"."""
    feeds = {
        "q": normal(batch, queries, heads * size, seed=1),
        "k": normal(batch, keys, groups * size, seed=2),
        "v": normal(batch, keys, groups * size, seed=3),
    }
    total = keys + past
    if mask == "additive":
        feeds["mask"] = np.where(np.random.default_rng(4).random((1, 1, queries, total)) < 0.2, -1e4, 0).astype(np.float32)
    if mask == "bool":
        feeds["mask"] = np.random.default_rng(4).random((1, 1, queries, total)) < 0.8
    if past:
        feeds["past_k"], feeds["past_v"] = normal(batch, groups, past, size, seed=5), normal(batch, groups, past, size, seed=6)
    fact = {"heads": heads, "groups": groups, "size": size, "mask": mask, "past": past, "queries": queries, "total": total}
    ways: dict[str, Callable[[Sketch], list[str]]] = {
        "primitives, scale on both sides": partial(primitives, **fact, matmul="both"),
        "primitives, scale behind": partial(primitives, **fact, matmul="behind"),
        "primitives, scale on q": partial(primitives, **fact, matmul="q"),
        "primitives, FusedMatMul": partial(primitives, **fact, matmul="fused"),
        "Attention, 3D": partial(onnx_attention, **fact, flat=True),
        "Attention, 4D": partial(onnx_attention, **fact, flat=False),
        "MultiHeadAttention": partial(multi_head, **fact),
    }
    if mask in ("", "causal"):
        ways["GroupQueryAttention"] = partial(group_query, **fact)
    models = {}
    if groups != heads and past:
        ways.pop("MultiHeadAttention")
    for way, write in ways.items():
        s = Sketch()
        models[way] = s.model(feeds, *write(s))
    return models, feeds


def primitives(
    s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int, matmul: str
) -> list[str]:
    """Attention written out."""
    scale = size**-0.5
    q, v = split_heads(s, "q", heads), split_heads(s, "v", groups)
    straight = past or groups != heads or matmul == "fused"
    k = split_heads(s, "k", groups, (0, 2, 1, 3) if straight else (0, 2, 3, 1))
    present = []
    if past:
        k, v = s("Concat", "past_k", k, axis=2), s("Concat", "past_v", v, axis=2)
        present = [k, v]
    if groups != heads:
        k, v = (_repeat(s, x, heads, groups, size, total) for x in (k, v))
    if straight and matmul != "fused":
        k = s("Transpose", k, perm=[0, 1, 3, 2])
    if matmul == "fused":
        scores = s("FusedMatMul", q, k, domain=MS, transB=1, alpha=scale)
    elif matmul == "both":
        scores = s("MatMul", s("Mul", q, s.constant(scale**0.5)), s("Mul", k, s.constant(scale**0.5)))
    elif matmul == "q":
        scores = s("MatMul", s("Mul", q, s.constant(scale)), k)
    else:
        scores = s("Mul", s("MatMul", q, k), s.constant(scale))
    scores = _masked(s, scores, mask, queries, total)
    return [join_heads(s, s("MatMul", s("Softmax", scores, axis=-1), v)), *present]


def _repeat(s: Sketch, x: str, heads: int, groups: int, size: int, total: int) -> str:
    wide = s("Expand", s("Unsqueeze", x, s.constant([2], np.int64)), s.constant([1, 1, heads // groups, 1, 1], np.int64))
    return s("Reshape", wide, s.constant([0, heads, total, size], np.int64))


def _masked(s: Sketch, scores: str, mask: str, queries: int, total: int) -> str:
    if mask == "additive":
        return s("Add", scores, "mask")
    if mask == "bool":
        return s("Add", scores, s("Where", "mask", s.constant(0.0), s.constant(-np.inf)))
    if mask == "causal":
        return s("Add", scores, s.constant(np.triu(np.full((1, 1, queries, total), -np.inf), 1 + total - queries)))
    return scores


def onnx_attention(
    s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int, flat: bool
) -> list[str]:
    """ONNX's own op."""
    operands = (
        ["q", "k", "v"] if flat else [split_heads(s, "q", heads), split_heads(s, "k", groups), split_heads(s, "v", groups)]
    )
    operands += ["mask" if mask in ("additive", "bool") else ""] + (["past_k", "past_v"] if past else [])
    attributes = {"q_num_heads": heads, "kv_num_heads": groups} if flat else {}
    y = s("Attention", *operands, results=3 if past else 1, is_causal=int(mask == "causal"), **attributes)
    present = [s.second(1), s.second(2)] if past else []
    return [y if flat else join_heads(s, y), *present]


def multi_head(s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int) -> list[str]:
    """ONNX Runtime's op for equally many heads everywhere; heads that several queries share are repeated before."""
    k, v = "k", "v"
    if groups != heads:
        shape, wide = s.constant([0, 0, groups, 1, size], np.int64), s.constant([1, 1, 1, heads // groups, 1], np.int64)
        k, v = (
            s("Reshape", s("Expand", s("Reshape", x, shape), wide), s.constant([0, 0, heads * size], np.int64)) for x in (k, v)
        )
    bias = "mask" if mask == "additive" else ""
    if mask == "bool":
        bias = s("Where", "mask", s.constant(0.0), s.constant(-np.inf))
    operands = ["q", k, v, "", "", bias] + (["past_k", "past_v"] if past else [])
    y = s(
        "MultiHeadAttention",
        *operands,
        domain=MS,
        results=3 if past else 1,
        num_heads=heads,
        unidirectional=int(mask == "causal"),
    )
    return [y, *([s.second(1), s.second(2)] if past else [])]


def group_query(s: Sketch, *, heads: int, groups: int, size: int, mask: str, past: int, queries: int, total: int) -> list[str]:
    """ONNX Runtime's op for decoders, always causal; it gives present keys and values whether asked or not."""
    last = s.constant(np.full(1, total - 1), np.int32)
    operands = ["q", "k", "v", "past_k" if past else "", "past_v" if past else "", last, s.constant(total, np.int32)]
    y = s("GroupQueryAttention", *operands, domain=MS, results=3, num_heads=heads, kv_num_heads=groups)
    return [y, *([s.second(1), s.second(2)] if past else [])]


def rotary(batch: int, heads: int, queries: int, size: int) -> Ways:
    """Rotated in 4D [B,H,S,D], halves apart, and the same in 3D [B,S,H*D]."""
    angles = normal(queries, size // 2, seed=3)
    cos, sin = np.cos(angles), np.sin(angles)
    positions = np.broadcast_to(np.arange(queries), (batch, queries))

    def written(s: Sketch) -> str:
        x = split_heads(s, "x", heads)
        left, right = s("Split", x, axis=3, num_outputs=2, results=2), s.second(1)
        turned = s("Concat", s("Neg", right), left, axis=3)
        wide = [s.constant(np.tile(part, 2)[None, None]) for part in (cos, sin)]
        return s("Add", s("Mul", x, wide[0]), s("Mul", turned, wide[1]))

    def contrib(s: Sketch, x: str, **more: int) -> str:
        return s("RotaryEmbedding", x, s.constant(positions, np.int64), s.constant(cos), s.constant(sin), domain=MS, **more)

    def caches(s: Sketch) -> list[str]:
        return [s.constant(np.broadcast_to(part, (batch, *part.shape))) for part in (cos, sin)]

    def flat(s: Sketch, x: str) -> str:
        return split_heads(s, x, heads)

    return ways_of(
        {"x": normal(batch, queries, heads * size)},
        written_out_in_4D=written,
        RotaryEmbedding_in_4D=lambda s: s("RotaryEmbedding", split_heads(s, "x", heads), *caches(s)),
        RotaryEmbedding_in_3D__Transpose=lambda s: flat(s, s("RotaryEmbedding", "x", *caches(s), num_heads=heads)),
        com_microsoft_in_4D=lambda s: contrib(s, split_heads(s, "x", heads)),
        com_microsoft_in_3D__Transpose=lambda s: flat(s, contrib(s, "x", num_heads=heads, rotary_embedding_dim=0)),
    )


def projected_attention(tokens: int, heads: int, size: int) -> Ways:
    """Attention of one value with itself, its three projections included."""
    width = heads * size
    weights, biases = normal(width, 3 * width, seed=1) / width**0.5, normal(3 * width, seed=2)

    def part(s: Sketch, index: int) -> str:
        columns = slice(index * width, (index + 1) * width)
        return s("Add", s("MatMul", "x", s.constant(weights[:, columns])), s.constant(biases[columns]))

    return ways_of(
        {"x": normal(1, tokens, width)},
        MatMuls__Attention=lambda s: s("Attention", part(s, 0), part(s, 1), part(s, 2), q_num_heads=heads, kv_num_heads=heads),
        Attention_of_com_microsoft=lambda s: s(
            "Attention", "x", s.constant(weights), s.constant(biases), domain=MS, num_heads=heads
        ),
    )

"""How an attention is cut into tasks, panels of keys, blocks and tiles of queries.

Law: a plan follows from shapes and from the target's vectors alone; what a task keeps on the stack is about `STACK` at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from irc.ir import DType

from .views import View

STACK = 256 * 1024
"""Bytes that a kernel's panels may take: they stay in a core's second-level cache and fit any thread's stack."""

MOST_QUERIES = 8192
"""More queries than this, of heads that share keys, make several tasks: each keeps a maximum and a sum on the stack."""

TASKS = 4
"""Fewer heads than this are split by queries, for threads to have something to do."""


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """An attention: views [batch, heads, tokens, size] in f32, key and value with a divisor of the heads of query and output.

    `mask` is a view of [batch, heads, queries, keys] (broadcast by zero strides), added where `mask_dtype` is f32, and where it
    is bool what may be seen. `softcap` of 0 is none. A causal query sees `before` keys more than there are queries up to it.
    `lanes` are f32 lanes of a vector, `registers` how many vectors there are.
    """

    query: View
    key: View
    value: View
    output: View
    scale: float
    lanes: int
    registers: int
    causal: bool = False
    mask: View | None = None
    mask_dtype: DType | None = None
    softcap: float = 0.0
    before: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How an attention is cut: a task has `span` queries of all heads that share keys, a tile `rows` of them, a block of tiles
    `block` rows, a panel `keys` keys; scores take `score_vectors` vectors of keys at a time, outputs `value_vectors`."""

    span: int
    rows: int
    block: int
    keys: int
    score_vectors: int
    value_vectors: int


def plan_of(request: AttentionRequest) -> Plan:
    """The plan of an attention."""
    lanes = request.lanes
    batch, heads, queries, size = request.query.shape
    shared, keys, value_size = request.key.shape[1], request.key.shape[2], request.value.shape[3]
    wide = request.registers >= 32
    # As many accumulators as fit beside a vector of each column; of heights that fit, the one that computes least in vain.
    heights = [height for height in ((8, 7, 6, 5, 4) if wide else (6, 5, 4)) if height <= queries] or [queries]
    rows = min(heights, key=lambda height: ceil(queries / height) * (height + 0.25))
    padded, padded_value = rounded(keys, lanes), rounded(value_size, lanes)
    block = rows * max(1, min(32, queries) // rows)
    per_key = 4 * (size + padded_value + block)
    fitting = max((STACK - 4 * block * size) // per_key // lanes * lanes, 4 * lanes)
    panels = ceil(padded / fitting)
    tasks = batch * shared
    splits = 1 if tasks >= TASKS else max(1, min(ceil(2 * TASKS / tasks), queries * heads // shared // 128))
    splits = max(splits, ceil(queries * heads // shared / MOST_QUERIES))
    span = rounded(ceil(queries / splits), rows)

    def columns(vectors: int) -> int:
        return 3 if vectors % 3 == 0 and rows * 3 + 4 <= request.registers else 2 if vectors > 1 else 1

    per_panel = rounded(ceil(padded / panels), lanes)
    return Plan(span, rows, block, per_panel, columns(per_panel // lanes), columns(padded_value // lanes))


def rounded(size: int, step: int) -> int:
    """The least multiple of `step` that is not below `size`."""
    return ceil(size / step) * step

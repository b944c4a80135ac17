"""Which attentions there are kernels for, and how one is cut into tasks, panels of keys, blocks and tiles of queries.

Law: a plan follows from shapes and from the target's vectors alone; what a task keeps on the stack is about `STACK` at most.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from math import ceil

from irc.ir import DType, Op, TensorType, Value

from .arithmetic import BF16, F32, Arithmetic
from .rows import Behind
from .views import View

STACK = 256 * 1024
"""Bytes that a kernel's panels may take: they stay in a core's second-level cache and fit any thread's stack."""

MOST_QUERIES = 8192
"""More queries than this, of heads that share keys, make several tasks: each keeps a maximum and a sum on the stack."""

TASKS = 4
"""Fewer heads than this are split by queries, for threads to have something to do."""


def takes(op: Op) -> str:
    """Why `attention` cannot make the kernel of an Attention; empty where it can."""
    tensors = [value.type for value in (*op.operands, *op.results) if value is not None]
    if not all(isinstance(kind, TensorType) and all(isinstance(size, int) for size in kind.shape or ("",)) for kind in tensors):
        return "its shapes are not static"
    if any(_dtype(op.operand(index)) not in (None, DType.F32) for index in (0, 1, 2, 4, 5)):
        return "it is not f32"
    if op.operand(6) is not None:
        return "it has a count of valid keys"
    if any(result.uses or result.is_output for result in op.results[3:]):
        return "it returns scores"
    if op.operand(3) is not None and _dtype(op.operand(3)) not in (DType.F32, DType.BOOL):
        return "its mask is neither f32 nor bool"
    mask = op.operand(3)
    if mask is not None and (mask.shape or (1,))[-1] not in (1, _key_count(op)):
        return "its mask is shorter than its keys"
    if (op.integer("left_window_size", -1), op.integer("right_window_size", -1)) != (-1, -1):
        return "it looks through a window"
    if op.integer("softmax_precision", 1) != 1:
        return "its softmax is not f32"
    if any(0 in (value.shape or ()) for value in (*op.operands, *op.results) if value is not None):
        return "it has no elements"
    return ""


def _key_count(op: Op) -> int:
    """How many keys there are, those of the past among them."""
    shapes = [(value.shape or (0, 0)) for value in (op.operand(1), op.operand(4)) if value is not None]
    return sum(size for size in (shape[-2] for shape in shapes) if isinstance(size, int))


def _dtype(value: Value | None) -> DType | None:
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """An attention: views [batch, heads, tokens, size], key and value with a divisor of the heads of query and output.

    Query, key and value are of `dtypes`, f32 or bf16, and `arithmetic` is that of scores, whose operands lie as it asks.

    `mask` is a view of [batch, heads, queries, keys] (broadcast by zero strides), added where `mask_dtype` is f32, and where it
    is bool what may be seen. `softcap` of 0 is none. A causal query sees `before` keys more than there are queries up to it.
    `lanes` are f32 lanes of a vector, `registers` how many vectors there are. Behind a result of several panels, `behind` has
    a view `kept` of f32, in which what they sum to lies in between.
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
    behind: Behind | None = None
    dtypes: tuple[DType, DType, DType] = (DType.F32, DType.F32, DType.F32)
    arithmetic: Arithmetic = F32


def in_pairs(request: AttentionRequest, features: Collection[str]) -> AttentionRequest:
    """The same with scores that are sums of pairs of bf16, where the processor has them and queries and keys lie so."""
    lies_so = all(
        view.strides[3] == 1 and not any(number % BF16.together for number in (*view.strides[:3], view.shape[3], view.offset))
        for view in (request.query, request.key)
    )
    has = request.lanes in BF16.support and all(each in features for each in BF16.features)
    return replace(request, arithmetic=BF16) if lies_so and has and request.dtypes[:2] == (BF16.a, BF16.b) else request


def in_lanes(view: View, together: int) -> View:
    """A view of elements of which `together`, one behind the other, are one."""
    sizes, steps = (*view.shape[:-1], view.shape[-1] // together), [step // together for step in view.strides[:-1]]
    return View(sizes, (*steps, view.strides[-1]), view.offset // together)


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


def panels_of(request: AttentionRequest) -> int:
    """How many panels of keys there are."""
    return ceil(request.key.shape[2] / plan_of(request).keys)


def rounded(size: int, step: int) -> int:
    """The least multiple of `step` that is not below `size`."""
    return ceil(size / step) * step

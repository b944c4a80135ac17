"""Tables of cosines and sines in the form RotaryEmbedding takes: (B, S, n / 2), each entry once.

Law: an entry is left out only where it is proved to be there twice. Rows stay looked up by Gather: it counts negative ids from
the end, and what the op does with them is not said.
"""

from __future__ import annotations

import numpy as np

from irc.ir import Dim, Op, Tensor, Value

from ..rewriter import No, Rewriter
from .sizes import size_of

HALVES, PAIRS, WHOLE = "halves", "pairs", "whole"
"""How a table holds each entry: (f, f), (f0, f0, f1, f1, ...), or once."""

_DEEPEST = 12
_ELEMENTWISE = frozenset({"Cos", "Sin", "Cast", "Neg"})


def caches(x: Value, tables: tuple[Value, Value], doubled: str, rewrite: Rewriter) -> tuple[Value, Value, bool] | No:
    """The two operands for x (B, H, S, n), or (B, S, H, n) or (B, S, n), and whether the heads come last but one."""
    shape = x.shape or ()
    heads_last: bool | None = None
    for late in (False, True) if len(shape) == 4 else (False,):
        if all(_fits(table, shape, late, doubled, rewrite) for table in tables):
            heads_last = late
            break
    if heads_last is None:
        return No("its tables are not proved to be of one row a position, for all heads", 3)
    found: list[Value] = []
    for table in tables:
        half = _single(table, doubled, rewrite, _DEEPEST)
        if half is None:
            return No("its tables are not proved to hold each entry twice", 3)
        rows = _rows(half, x, heads_last, rewrite)
        if rows is None:
            return No("its tables have another number of rows", 3)
        found.append(rows)
    return found[0], found[1], heads_last


def _aligned(table: Value, rank: int) -> tuple[Dim, ...] | None:
    shape = table.shape
    return None if shape is None or not 2 <= len(shape) <= rank else (*[1] * (rank - len(shape)), *shape)


def _fits(table: Value, shape: tuple[Dim, ...], late: bool, doubled: str, rewrite: Rewriter) -> bool:
    """Whether a table broadcasts over heads only, and perhaps over the batch."""
    own = _aligned(table, len(shape))
    if own is None or not isinstance(shape[-1], int):
        return False
    width = shape[-1] // 2 if doubled == WHOLE else shape[-1]
    if own[-1] != width or (own[0] != 1 and not rewrite.same_dims(own[:1], shape[:1])):
        return False
    if len(shape) == 3:
        return rewrite.same_dims(own[1:2], shape[1:2])
    heads, length = (2, 1) if late else (1, 2)
    return own[heads] == 1 and rewrite.same_dims((own[length],), (shape[length],))


def _single(value: Value, doubled: str, rewrite: Rewriter, depth: int) -> Value | None:
    """The value with each entry once, built from where it was doubled."""
    if doubled == WHOLE:
        return value
    op, shape = value.op, value.shape
    if op is None or not depth or shape is None or op.domain:
        return None
    if op.is_constant:
        once = _once(op.value, doubled)
        return None if once is None else rewrite.constant(once)
    if op.name in ("Concat", "Reshape"):
        source = _doubled(op, doubled)
        if source is not None or op.name == "Concat":
            return source
    if op.name == "GatherND":
        return _looked_up(op, doubled, rewrite, depth)
    index = _carried(op, shape)
    if index is None:
        return None
    inner = _single(op.needed(index), doubled, rewrite, depth - 1)
    if inner is None:
        return None
    operands = [inner if i == index else v for i, v in enumerate(op.operands)]
    return rewrite.op(op.name, operands, dict(op.attributes))


def _once(tensor: Tensor, doubled: str) -> Tensor | None:
    """Every entry of the last dim once, or None where some differs from its double."""
    array = tensor.array
    size = array.shape[-1] if array.ndim else 1
    if size % 2:
        return None
    parts = (array[..., : size // 2], array[..., size // 2 :]) if doubled == HALVES else (array[..., 0::2], array[..., 1::2])
    same = parts[0].tobytes() == parts[1].tobytes()
    return Tensor.from_array(np.ascontiguousarray(parts[0]), tensor.dtype) if same else None


def _doubled(op: Op, doubled: str) -> Value | None:
    """f of Concat(f, f), or of f with its entries repeated one by one."""
    rank = len(op.result.shape or ())
    if op.is_a("Concat"):
        twice = len(op.operands) == 2 and op.needed(0) is op.needed(1) and op.integer("axis", 0) in (-1, rank - 1)
        return op.needed(0) if twice and doubled == HALVES else None
    if doubled != PAIRS:
        return None
    wide = op.needed(0).op
    shape = op.needed(0).shape
    if wide is None or shape is None or len(shape) != rank + 1 or shape[-1] != 2 or shape[:-2] != (op.result.shape or ())[:-1]:
        return None
    repeated = wide.is_a("Expand", "Tile") or (wide.is_a("Concat") and wide.integer("axis", 0) in (-1, rank))
    if not repeated or (wide.is_a("Concat") and (len(wide.operands) != 2 or wide.needed(0) is not wide.needed(1))):
        return None
    narrow = wide.needed(0)
    maker = narrow.op
    if narrow.shape != (*shape[:-1], 1) or None in shape or maker is None or not maker.is_a("Unsqueeze", "Reshape"):
        return None
    return maker.needed(0) if maker.needed(0).shape == shape[:-1] else None


def _looked_up(op: Op, doubled: str, rewrite: Rewriter, depth: int) -> Value | None:
    """GatherND(table, Unsqueeze(ids, -1)) is Gather(table, ids), which is cut more easily."""
    ids, table = op.needed(1).op, op.needed(0)
    if ids is None or not ids.is_a("Unsqueeze", "Reshape") or op.integer("batch_dims", 0) or len(table.shape or ()) != 2:
        return None
    if ids.needed(0).shape is None or ids.result.shape != (*(ids.needed(0).shape or ()), 1):
        return None
    half = _single(table, doubled, rewrite, depth - 1)
    return None if half is None else rewrite.op("Gather", [half, ids.operand(0)], {"axis": 0})


def _carried(op: Op, shape: tuple[Dim, ...]) -> int | None:
    """Which operand has the last dim that the result has, element by element."""
    source = op.needed(0).shape if op.operands and op.operand(0) is not None else None
    if source is None or not source or not shape:
        return None
    same_last = source[-1] == shape[-1] is not None
    if op.name in _ELEMENTWISE:
        return 0
    if op.name in ("Mul", "Add", "Div", "Sub"):
        return next((1 - i for i in (1, 0) if _is_number(op, i)), None)
    if op.name == "Gather":
        return 0 if same_last and op.integer("axis", 0) % len(source) != len(source) - 1 else None
    if op.name == "Transpose":
        return 0 if (op.integers("perm") or (-1,))[-1] == len(shape) - 1 else None
    if op.name in ("Unsqueeze", "Squeeze"):
        axes = op.constant_operand(1)
        rank = max(len(shape), len(source))
        return 0 if same_last and axes is not None and rank - 1 not in [int(a) % rank for a in axes.array.reshape(-1)] else None
    if op.name == "Slice":
        axes = op.constant_operand(3)
        rank = len(source)
        return 0 if axes is not None and rank - 1 not in [int(a) % rank for a in axes.array.reshape(-1)] else None
    return None


def _is_number(op: Op, index: int) -> bool:
    tensor = op.constant_operand(index)
    return tensor is not None and tensor.size == 1 and len(tensor.shape) < len(op.result.shape or ())


def _rows(table: Value, x: Value, heads_last: bool, rewrite: Rewriter) -> Value | None:
    """A table that broadcasts with x as (B, S, n / 2)."""
    shape = x.shape or ()
    own = _aligned(table, len(shape))
    if own is None:
        return None
    one_batch = own[:1] == (1,) != shape[:1]
    if len(shape) == 4:
        table = _without_heads(table, 2 if heads_last else 1, rewrite)
    missing = 3 - len(table.shape or ())
    if missing > 0:
        table = rewrite.op("Unsqueeze", [table, rewrite.constant(Tensor.integers(list(range(missing))))])
    if one_batch:
        table = rewrite.op("Expand", [table, _batch(x, rewrite)])
    return table


def _without_heads(table: Value, axis: int, rewrite: Rewriter) -> Value:
    """The table without the dim of size 1 that stands for the heads in rank 4."""
    rank = len(table.shape or ())
    own = axis - (4 - rank)
    if own < 0:
        return table
    maker = table.op
    if maker is not None and maker.is_a("Unsqueeze"):
        axes = maker.constant_operand(1)
        if axes is not None and [int(a) % rank for a in axes.array.reshape(-1)] == [own]:
            return maker.needed(0)
    return rewrite.op("Squeeze", [table, rewrite.constant(Tensor.integers([own]))])


def _batch(x: Value, rewrite: Rewriter) -> Value:
    """[B, 1, 1] as a value."""
    size = (x.shape or (None,))[0]
    if isinstance(size, int):
        return rewrite.constant(Tensor.integers([size, 1, 1]))
    return rewrite.op("Concat", [size_of(x, 0, rewrite), rewrite.constant(Tensor.integers([1, 1]))], {"axis": 0})


__all__ = ["HALVES", "PAIRS", "WHOLE", "caches"]

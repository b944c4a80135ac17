"""Masks of Attention as the kernel takes them: one row for each query and a column for each key.

ONNX lets a mask be broadcast, and be shorter than the keys; ONNX Runtime's kernel lets only samples and heads be broadcast.
"""

from __future__ import annotations

import numpy as np

from irc.ir import Dim, DType, Op, Tensor, Value
from irc.passes import No, Rewriter, Rule, rule

from .facts import dtype_of

_MASK, _PAST_KEY = 3, 4


@rule("Attention")
def mask_that_hides_nothing(op: Op, rewrite: Rewriter) -> list[Value] | No:
    """A constant mask that allows every key and adds nothing is no mask, if it is as long as the keys."""
    mask, lengths = op.operand(_MASK), _lengths(op)
    if mask is None or mask.constant is None or lengths is None:
        return No("its mask is not constant, or the ranks of its operands are not known")
    hidden = mask.constant.array if dtype_of(mask) is not DType.BOOL else ~mask.constant.array
    if hidden.any():
        return No("its mask hides something")
    if not mask.shape or mask.shape[-1] != lengths[1]:
        return No("its mask is not known to be as long as its keys")
    return _with_mask(op, rewrite, None)


@rule("Attention")
def mask_for_every_query(op: Op, rewrite: Rewriter) -> list[Value] | No:
    """A mask that all queries share is repeated for each."""
    mask, lengths = op.operand(_MASK), _lengths(op)
    if mask is None or mask.shape is None or lengths is None:
        return No("it has no mask, or the ranks of its operands are not known")
    if len(mask.shape) < 2:
        return No("its mask has too small a rank")
    rows, queries = mask.shape[-2], lengths[0]
    if rows == queries and rows is not None:
        return No("its mask has a row for each query")
    if rows != 1 and (isinstance(rows, int) or _is_expanded(mask)):
        return No("its mask is not broadcast")
    return _with_mask(op, rewrite, rewrite.op("Expand", [mask, _target(op, rewrite, queries)]))


@rule("Attention")
def mask_for_every_key(op: Op, rewrite: Rewriter) -> list[Value] | No:
    """Keys beyond the end of a shorter mask are not attended to, not even where its only column could be broadcast."""
    mask, lengths = op.operand(_MASK), _lengths(op)
    if mask is None or mask.shape is None or lengths is None or len(mask.shape) < 2:
        return No("it has no mask, or the ranks of its operands are not known")
    columns, keys = mask.shape[-1], lengths[1]
    if not isinstance(columns, int) or not isinstance(keys, int) or columns >= keys:
        return No("its mask is not known to be shorter than its keys")
    if dtype_of(mask) not in (DType.F32, DType.BOOL):
        return No("its mask is neither f32 nor bool")
    never = np.zeros((), bool) if dtype_of(mask) is DType.BOOL else np.full((), -np.inf, np.float32)
    amounts = rewrite.constant(Tensor.integers((0, keys - columns)))
    axes = rewrite.constant(Tensor.integers((-1,)))
    return _with_mask(op, rewrite, rewrite.op("Pad", [mask, amounts, rewrite.constant(Tensor.from_array(never)), axes]))


def _is_expanded(mask: Value) -> bool:
    """Whether a mask comes out of an Expand, so that there is no sense in expanding it again where sizes are unknown."""
    return mask.op is not None and mask.op.is_a("Expand")


def _lengths(op: Op) -> tuple[Dim, Dim] | None:
    """How many queries and how many keys with the past, as far as known; None when their axes are not."""
    query, key, past = op.needed(0).shape, op.needed(1).shape, op.operand(_PAST_KEY)
    if query is None or key is None or len(query) not in (3, 4) or len(key) != len(query):
        return None
    own = key[-2]
    if past is None:
        return query[-2], own
    before = past.shape[2] if past.shape is not None and len(past.shape) == 4 else None
    return query[-2], before + own if isinstance(before, int) and isinstance(own, int) else None


def _target(op: Op, rewrite: Rewriter, queries: Dim) -> Value:
    """What to expand the last two dims of a mask to: as many rows as queries, and columns as they are."""
    if isinstance(queries, int):
        return rewrite.constant(Tensor.integers((queries, 1)))
    query = op.needed(0)
    axis = len(query.shape or ()) - 2
    rows = rewrite.op("Shape", [query], {"start": axis, "end": axis + 1})
    return rewrite.op("Concat", [rows, rewrite.constant(Tensor.integers((1,)))], {"axis": 0})


def _with_mask(op: Op, rewrite: Rewriter, mask: Value | None) -> list[Value]:
    operands = [*op.operands[:_MASK], mask, *op.operands[_MASK + 1 :]]
    first = rewrite.op("Attention", operands, dict(op.attributes), results=len(op.results))
    assert first.op is not None
    return list(first.op.results)


RULES: tuple[Rule, ...] = (mask_that_hides_nothing, mask_for_every_query, mask_for_every_key)

"""Attention written out, as ONNX's Attention op: softmax(scale * q kᵀ + mask) v, in the spellings of the exporters.

Law: answers keep their NaN, Inf and zeros, whatever the masks are; where that is not proved, the parts stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from irc.ir import Attribute, Dim, DType, Op, Tensor, Value, shapes

from ..base import Contract
from ..rewriter import No, Rewriter, Rule, rule
from . import attention_heads, rotary
from .attention_bounds import score_bound
from .attention_heads import without_repeats
from .attention_masks import Setting, Term, masked
from .attention_scores import Scores, dtype_of, number_in, scores_of, without_scale

_ROUNDING = 4e-7
_HALF_ROUNDING = 2.0**-10  # two factors, each rounded to 11 digits
_WEIGHTS = frozenset({"Softmax", "Where", "Cast", "Reshape"})


@dataclass(frozen=True)
class _Weights:
    """The Softmax that makes attention weights, and whether a guard turns NaN among them into 0."""

    softmax: Op
    guarded: bool


@rule("MatMul", contract=Contract.REASSOCIATING, over=_WEIGHTS | {"Transpose"})
def attention(op: Op, rewrite: Rewriter) -> Value | No:
    """softmax(scale * q kᵀ + mask) v is Attention: scales on either side, additive, boolean and causal masks, shared heads."""
    maker = op.needed(1).op
    transposed = maker is not None and maker.is_a("Transpose") and _makes(maker.needed(0), "Softmax")
    weights = _weights(op.needed(1 if transposed else 0), transposed)
    if isinstance(weights, No):
        return weights
    scores = scores_of(weights.softmax.needed(0))
    if scores is None:
        return No("its weights are no Softmax of a product", 2)
    if scores.product.graph is not op.graph:
        return No("its scores stand in another body", 3)
    value = op.needed(1) if not transposed else _swapped(op.needed(0), rewrite)
    second, scale = without_scale(scores.second, rewrite)
    turned = _untransposed(second, rewrite)
    if value is None or turned is None:
        return No("the rank of its operands is not known", 3)
    query, key = (turned, scores.first) if scores.flipped else (scores.first, turned)
    query, by_query = without_scale(query, rewrite)
    key, by_key = without_scale(key, rewrite)
    scores = replace(scores, scale=scores.scale * scale * by_query * by_key)
    if not scores.scale > 0 or not math.isfinite(scores.scale):
        return No("its scale is not positive", 3)
    regrouped = weights.softmax.result.shape or ()
    if len(regrouped) == 4 and not scores.split:
        scores = replace(scores, split=regrouped[:2])
    if scores.split and len(query.shape or ()) == 3:
        grouped = _grouped(scores, (query, key, value), rewrite)
        if isinstance(grouped, No):
            return grouped
        scores, (query, key, value) = grouped
    if dtype_of(query) is DType.F64 and scores.scale != 1.0:
        # The attribute is a float, and its root is taken in floats.
        scores = replace(scores, scale=1.0, gains=[*scores.gains, _number(scores.scale, rewrite)])
    for gain in scores.gains:
        query = rewrite.op("Mul", [query, gain])
    return _fused(op, scores, weights, (query, key, value), transposed, rewrite)


def _grouped(
    scores: Scores, parts: tuple[Value, Value, Value], rewrite: Rewriter
) -> tuple[Scores, tuple[Value, Value, Value]] | No:
    """Operands, and terms that differ from head to head, with batch and heads apart."""
    found: list[Value] = []
    for part in (*parts, *(term.value for term in scores.terms if term.split)):
        shape = part.shape or ()
        whole = part if len(shape) == 4 else _viewed(part, (*scores.split, *shape[1:]), rewrite)
        if whole is None:
            return No("its batch and heads are not known apart", 3)
        found.append(whole)
    rest = iter(found[3:])
    terms = [replace(term, value=next(rest), split=()) if term.split else term for term in scores.terms]
    return replace(scores, terms=terms), (found[0], found[1], found[2])


def _number(number: float, rewrite: Rewriter) -> Value:
    return rewrite.constant(Tensor.from_array(np.asarray(number), DType.F64))


def _makes(value: Value, name: str) -> bool:
    return value.op is not None and value.op.is_a(name)


def _weights(value: Value, transposed: bool) -> _Weights | No:
    """The Softmax behind attention weights, through a transpose, a cast and a guard against NaN."""
    maker = value.op
    if maker is None or maker.domain or not (transposed or maker.name in _WEIGHTS):
        return No("its first operand is no Softmax")
    if transposed:
        shape = value.shape
        if shape is None or maker.integers("perm") != (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2):
            return No("its second operand is no transposed Softmax")
        if not value.has_one_use:
            return No("its weights are used elsewhere too", 2)
        value = maker.needed(0)
        maker = value.op
    guarded = False
    while maker is not None and maker.is_a("Cast", "Where", "Reshape") and value.has_one_use:
        inner = _behind_guard(maker) if maker.is_a("Where") else maker.needed(0)
        if maker.is_a("Reshape") and (maker.needed(0).shape or ())[-2:] != (value.shape or (0,))[-2:]:
            return No("its first operand is no Softmax")
        if inner is None or (maker.is_a("Where") and guarded):
            return No("its weights are chosen from otherwise than by a guard against NaN", 2)
        guarded = guarded or maker.is_a("Where")
        value, maker = inner, inner.op
    if maker is None or not maker.is_a("Softmax") or value.shape is None:
        return No("its weights are no Softmax")
    if maker.integer("axis", -1) not in (-1, len(value.shape) - 1):
        return No("its Softmax is not over the last dim", 2)
    if len(value.uses) != 1 + guarded or value.is_output:
        return No("its weights are used elsewhere too", 2)
    return _Weights(maker, guarded)


def _behind_guard(where: Op) -> Value | None:
    """p of Where(IsNaN(p), 0, p)."""
    test, zero, value = where.needed(0), number_in(where.constant_operand(1)), where.needed(2)
    maker = test.op
    if maker is None or not maker.is_a("IsNaN") or maker.needed(0) is not value or not test.has_one_use or zero != 0.0:
        return None
    return value


def _swapped(value: Value, rewrite: Rewriter) -> Value | None:
    """A value with its last two dims swapped; what it was transposed from where that is it."""
    shape = value.shape
    if shape is None or len(shape) < 2:
        return None
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    op = value.op
    permutation = op.integers("perm") if op is not None and op.is_a("Transpose") else None
    if op is None or permutation is None:
        return rewrite.op("Transpose", [value], {"perm": order})
    combined = tuple(permutation[i] for i in order)
    return (
        op.needed(0) if combined == tuple(range(len(shape))) else rewrite.op("Transpose", [op.operand(0)], {"perm": combined})
    )


def _untransposed(transposed: Value, rewrite: Rewriter) -> Value | None:
    """The key (or query) of a transposed one, also where it is transposed with batch and heads in one dim."""
    inner = transposed.op
    if inner is not None and inner.is_a("Reshape") and _makes(inner.needed(0), "Transpose"):
        whole, shape = inner.needed(0).op, transposed.shape
        assert whole is not None
        permutation, source = whole.integers("perm") or (), whole.needed(0)
        if len(permutation) == 3 and permutation != (0, 2, 1):
            source = rewrite.op("Transpose", [source], {"perm": (permutation[0], permutation[2], permutation[1])})
        if shape is not None and len(permutation) == 3 and _last_two(source) == (shape[-1], shape[-2]):
            found = _viewed(source, (*shape[:-2], shape[-1], shape[-2]), rewrite)
            if found is not None:
                return found
    return _swapped(transposed, rewrite)


def _last_two(value: Value) -> tuple[Dim, ...]:
    """The last two dims; of a reshape, those it is told to have. (Where one is 0, all is empty and its place is all one.)"""
    op = value.op
    target = shapes.content_of(op.operand(1)) if op is not None and op.is_a("Reshape") else None
    if target is not None and len(target) == 3 and None in (value.shape or (None,))[-2:]:
        return target[-2:]
    return (value.shape or ())[-2:]


def _viewed(source: Value, shape: tuple[Dim, ...], rewrite: Rewriter) -> Value | None:
    """What `source` is a view of, where that has the shape wanted, or else a reshape of it."""
    inner = source.op
    if inner is not None and inner.is_a("Reshape") and rewrite.same_dims(inner.needed(0).shape, shape):
        return inner.needed(0)
    if rewrite.same_dims(source.shape, shape):
        return source
    known = [d if isinstance(d, int) and d else -1 for d in shape]
    if known.count(-1) > 1 or 0 in shape:
        return None
    if inner is not None and inner.is_a("Reshape"):
        source = inner.needed(0)
    return rewrite.op("Reshape", [source, rewrite.constant(Tensor.integers(known))])


def _fused(
    op: Op, scores: Scores, weights: _Weights, parts: tuple[Value, Value, Value], transposed: bool, rewrite: Rewriter
) -> Value | No:
    query, key, value = parts
    kinds = {dtype_of(v) for v in (query, key, value)}
    dtype = dtype_of(query)
    if len(kinds) != 1 or dtype is None or dtype is not dtype_of(op.result):
        return No("its operands are of several dtypes", 3)
    rank = len(query.shape or ())
    if rank == 3:
        whole = [_unflattened(v, rewrite) for v in parts]
        if not transposed and scores.choice is None and _is_one_for_all(scores.terms) and None not in whole:
            query, key, value = (v for v in whole if v is not None)
            rank = 4
    if rank == 4:
        key, value = without_repeats(key, value, query, rewrite)
    dims = _dims(query, key, value, rewrite)
    if dims is None:
        return No("its operands are not proved to agree on batch, heads and width", 3)
    setting = Setting(dtype, dims, query, weights.guarded, lambda: score_bound(query, key, value, scores.scale))
    if weights.guarded and setting.scores is None:
        return No("its scores may be infinite or NaN, and the guard behind the Softmax makes those 0", 3)
    mask = masked(scores.terms, scores.choice, setting, rewrite)
    if isinstance(mask, No):
        return mask
    attributes: dict[str, Attribute] = {"scale": _usual(scores.scale, query)}
    if mask.is_causal:
        attributes["is_causal"] = 1
    if scores.softcap:
        attributes["softcap"] = scores.softcap
    if scores.dtype is not dtype:
        attributes["softmax_precision"] = scores.dtype.onnx_code
    if rank == 3:
        attributes |= {"q_num_heads": 1, "kv_num_heads": 1}
    mask_value = mask.value
    if rank == 3 and mask_value is not None and len(mask_value.shape or ()) == 3:
        mask_value = rewrite.op("Unsqueeze", [mask_value, rewrite.constant(Tensor.integers([1]))])
    operands = [query, key, value] if mask_value is None else [query, key, value, mask_value]
    answer = rewrite.op("Attention", operands, attributes)
    if transposed:
        return _swapped(answer, rewrite) or answer
    if rank == 4 and len(op.result.shape or ()) == 3:
        return _flattened(answer, op, rewrite)
    return answer


def _usual(scale: float, query: Value) -> float:
    """1 / sqrt(width) where the scale is that but for the rounding of its factors."""
    width = (query.shape or (None,))[-1]
    usual = width**-0.5 if isinstance(width, int) and width else scale
    rounding = _HALF_ROUNDING if dtype_of(query) is DType.F16 else _ROUNDING
    return usual if abs(scale - usual) <= rounding * usual else scale


def _is_one_for_all(terms: list[Term]) -> bool:
    """Whether the terms are the same for every batch and head."""
    return all(term.value.shape is not None and all(size == 1 for size in term.value.shape[:-2]) for term in terms)


def _dims(query: Value, key: Value, value: Value, rewrite: Rewriter) -> tuple[Dim, ...] | None:
    """The dims of the scores where the operands are proved to be what Attention takes: only key heads may be fewer."""
    q, k, v = query.shape, key.shape, value.shape
    if q is None or k is None or v is None or not len(q) == len(k) == len(v):
        return None
    if len(q) == 3:
        fits = rewrite.same_dims((q[0], q[2]), (k[0], k[2])) and rewrite.same_dims(k[:1], v[:1])
        return (q[0], q[1], k[1]) if fits else None
    if len(q) != 4 or not rewrite.same_dims((q[0], q[3]), (k[0], k[3])) or not rewrite.same_dims(k[:2], v[:2]):
        return None
    heads, own = q[1], k[1]
    shared = isinstance(heads, int) and isinstance(own, int) and own > 0 and heads % own == 0
    if not shared and not rewrite.same_dims((heads,), (own,)):
        return None
    return (q[0], heads, q[2], k[2])


def _unflattened(value: Value, rewrite: Rewriter) -> Value | None:
    """The value of rank 4 whose first two dims were made one."""
    op = value.op
    if op is None or not op.is_a("Reshape") or value.shape is None:
        return None
    before = op.needed(0)
    kept = before.shape is not None and len(before.shape) == 4 and rewrite.same_dims(before.shape[2:], value.shape[1:])
    return before if kept else None


def _flattened(answer: Value, op: Op, rewrite: Rewriter) -> Value | No:
    shape = op.result.shape or ()
    known = [d if isinstance(d, int) and d else -1 for d in shape]
    if known.count(-1) > 1:
        return No("more than one of its dims is not known", 3)
    return rewrite.op("Reshape", [answer, rewrite.constant(Tensor.integers(known))])


RULES: tuple[Rule, ...] = (*rotary.RULES, attention, *attention_heads.RULES)

__all__ = ["RULES"]

"""Ops that TVM's import does not know, in the ops that it knows: EXPANDED says which, and how.

Law: what is made means what ONNX says of the op, for shapes that are all known; a row of attention in which nothing may be seen
is zeros. What attention may not see has the weight 0, so its values have to be numbers: 0 x NaN is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from irc.ir import Attribute, DType, Graph, Op, Tensor, Value, constant_op, make

from ..expressions import dtype_of, shape_of


@dataclass(frozen=True)
class Expanding:
    """Where the ops of an `op` are put; its operands are `operands`, values of `graph`."""

    graph: Graph
    op: Op
    operands: tuple[Value | None, ...]

    def __call__(self, name: str, *operands: Value, **attributes: Attribute) -> Value:
        """The result of another op."""
        return self.graph.append(make(name, list(operands), self.op.location, attributes=attributes)).result

    def constant(self, array: object, dtype: DType = DType.F32) -> Value:
        """A constant."""
        tensor = Tensor.from_array(np.array(array, dtype.numpy))
        return self.graph.append(constant_op(tensor, self.op.location)).result

    def shaped(self, value: Value, *shape: int) -> Value:
        """The elements of a value in another shape."""
        return self("Reshape", value, self.constant(shape, DType.I64))

    def operand(self, index: int) -> Value:
        """An operand that has to be there."""
        value = self.operands[index]
        assert value is not None
        return value


def _swish(e: Expanding) -> Value:
    x = e.operand(0)
    alpha = e.op.attributes.get("alpha", 1.0)
    scaled = x if alpha == 1.0 else e("Mul", x, e.constant(alpha))
    return e("Mul", x, e("Sigmoid", scaled))


def _clip(e: Expanding) -> Value:
    """With both bounds: one that is left out is the last finite number, as ONNX has it."""
    x = e.operand(0)
    kind = dtype_of(x).numpy
    limits = np.finfo(np.float32) if kind == np.float32 else np.iinfo(np.int32 if kind == np.int32 else np.int64)
    given = [*e.operands[1:], None, None][:2]
    bounds = (
        e.constant(limit, dtype_of(x)) if bound is None else bound
        for bound, limit in zip(given, (limits.min, limits.max), strict=True)
    )
    return e("Clip", x, *bounds)


def _folded(name: str) -> Callable[[Expanding], Value]:
    """All operands, combined from the left by an op of two."""

    def expanded(e: Expanding) -> Value:
        result = e.operand(0)
        for index in range(1, len(e.operands)):
            result = e(name, result, e.operand(index))
        return e("Identity", result) if len(e.operands) == 1 else result

    return expanded


def _extreme(comparison: str) -> Callable[[Expanding], Value]:
    """The operand that compares so with the others, or NaN where there is one; TVM's own begins with a finite number."""

    def expanded(e: Expanding) -> Value:
        result = e.operand(0)
        for index in range(1, len(e.operands)):
            other = e.operand(index)
            better = e(comparison, result, other)
            if dtype_of(result) is DType.F32:
                better = e("Or", better, e("IsNaN", result))
            result = e("Where", better, result, other)
        return e("Identity", result) if len(e.operands) == 1 else result

    return expanded


def _attention(e: Expanding) -> Value:
    heads, shared = e.op.integer("q_num_heads", 0), e.op.integer("kv_num_heads", 0)
    joined = len(shape_of(e.operand(0))) == 3
    query, key, value = (_by_head(e, e.operand(i), count) for i, count in ((0, heads), (1, shared), (2, shared)))
    (batch, heads, length, width), (_, shared, keys, _) = shape_of(query), shape_of(key)
    key, value = (_repeated(e, each, heads // shared) for each in (key, value))
    scale = e.op.attributes.get("scale", width**-0.5)
    scores = e("Mul", e("MatMul", query, e("Transpose", key, perm=(0, 1, 3, 2))), e.constant(scale))
    mask = e.operands[3] if len(e.operands) > 3 else None
    if mask is not None and dtype_of(mask) is DType.BOOL:
        scores = e("Where", mask, scores, e.constant(-math.inf))
    elif mask is not None:
        scores = e("Add", scores, mask)
    if e.op.integer("is_causal", 0):
        scores = e("Where", e.constant(np.tri(length, keys, dtype=bool), DType.BOOL), scores, e.constant(-math.inf))
    result = e("MatMul", e("Softmax", scores, axis=-1), value)
    if mask is not None:  # a row in which nothing may be seen is zeros, whatever the values are
        most = e("ReduceMax", scores, e.constant([3], DType.I64), keepdims=1)
        result = e("Where", e("Equal", most, e.constant(-math.inf)), e.constant(0), result)
    if joined:
        return e.shaped(e("Transpose", result, perm=(0, 2, 1, 3)), batch, length, heads * shape_of(value)[3])
    return result


def _by_head(e: Expanding, value: Value, heads: int) -> Value:
    """[batch, heads, length, width], also of what comes as [batch, length, heads * width]."""
    shape = shape_of(value)
    if len(shape) == 4:
        return value
    batch, length, width = shape
    return e("Transpose", e.shaped(value, batch, length, heads, width // heads), perm=(0, 2, 1, 3))


def _repeated(e: Expanding, value: Value, times: int) -> Value:
    """Each head `times` times, one after the other."""
    if times == 1:
        return value
    batch, heads, length, width = shape_of(value)
    shape = e.constant((batch, heads, times, length, width), DType.I64)
    return e.shaped(e("Expand", e.shaped(value, batch, heads, 1, length, width), shape), batch, heads * times, length, width)


def _rotary(e: Expanding) -> Value:
    x, heads = e.operand(0), e.op.integer("num_heads", 0)
    given = shape_of(x)
    if len(given) == 3:
        x = e.shaped(x, given[0], given[1], heads, given[2] // heads)
    axis = 1 if len(given) == 4 else 2
    cosine, sine = (e("Unsqueeze", e.operand(i), e.constant([axis], DType.I64)) for i in (1, 2))
    half = shape_of(cosine)[-1]
    first, second = (_part(e, x, begin, begin + half) for begin in (0, half))
    turned = [
        e("Sub", e("Mul", cosine, first), e("Mul", sine, second)),
        e("Add", e("Mul", sine, first), e("Mul", cosine, second)),
    ]
    width = shape_of(x)[-1]
    rest = [_part(e, x, 2 * half, width)] if 2 * half < width else []
    return e.shaped(e("Concat", *turned, *rest, axis=-1), *given)


def _part(e: Expanding, value: Value, begin: int, end: int) -> Value:
    """The elements from `begin` to `end` of the last axis."""
    begins, ends, axes = (e.constant([each], DType.I64) for each in (begin, end, len(shape_of(value)) - 1))
    return e("Slice", value, begins, ends, axes)


EXPANDED: Mapping[str, Callable[[Expanding], Value]] = {
    "Attention": _attention,
    "Clip": _clip,
    "Max": _extreme("Greater"),
    "Min": _extreme("Less"),
    "RotaryEmbedding": _rotary,
    "Sum": _folded("Add"),
    "Swish": _swish,
}
"""How each op is said in others."""

__all__ = ["EXPANDED", "Expanding"]

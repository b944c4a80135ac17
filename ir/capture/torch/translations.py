"""How irc itself writes ops of ATen in ONNX, where torch's own way is missing, loses what engines do well, or breaks them.

Each function is traced with symbolic tensors; it gets the op's arguments by their names in ATen.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir
from onnxscript import opset18
from onnxscript.function_libs.torch_lib.ops import common
from onnxscript.function_libs.torch_lib.ops import nn as older
from torch.onnx._internal.exporter._torchlib.ops import nn as newer

op: Any = opset18  # its own annotations are for functions that are compiled, not traced


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """ONNX Attention where its shapes allow it.

    torch lets heads broadcast (Falcon has one key head) and takes tensors of other ranks; these are written out.
    """
    ranks = {len(each.shape) for each in (query, key, value)}
    fits = ranks == {4} and key.shape[1] == value.shape[1] and (enable_gqa or query.shape[1] == key.shape[1])
    if attn_mask is not None and len(attn_mask.shape) >= 2 and attn_mask.shape[-2] == 1 and query.shape[-2] != 1:
        attn_mask = _rows_repeated(attn_mask, query)
    if fits and not (is_causal and attn_mask is not None):
        grouped = enable_gqa and query.shape[1] != key.shape[1]
        form = newer.aten_scaled_dot_product_attention_23
        return form(query, key, value, attn_mask, dropout_p, is_causal, scale, grouped)
    return older.aten_scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa and query.shape[1] != key.shape[1]
    )


def _rows_repeated(mask: Any, query: Any) -> Any:
    # ONNX lets a mask broadcast along the query; ONNX Runtime's kernel does not.
    last = op.Shape(mask, start=-1)
    return op.Expand(mask, op.Concat(op.Shape(mask, end=-2), op.Shape(query, start=-2, end=-1), last, axis=0))


def embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> tuple[Any, Any, Any, Any]:
    """Sums, means or maxima of the rows of a bag, by scattering: position p belongs to the last bag that starts at or before p.

    The loop over sequences that torch writes makes ONNX Runtime crash.
    """
    if include_last_offset:
        offsets = op.Slice(offsets, _integers(0), _integers(-1), _integers(0))
    bag = _bag_of_each(indices, offsets)
    rows, kept = op.Gather(weight, indices), op.Expand(_like(1.0, weight), op.Shape(indices))
    if per_sample_weights is not None:
        rows = op.Mul(rows, _column(per_sample_weights))
    if padding_idx is not None and padding_idx >= 0:
        kept = op.CastLike(op.Not(op.Equal(op.Cast(indices, to=7), op.Constant(value_int=padding_idx))), weight)
    target = _column(bag)
    shape = op.Concat(op.Shape(offsets), op.Shape(weight, start=1), axis=0)
    sizes = _column(op.ScatterND(op.Expand(_like(0.0, weight), op.Shape(offsets)), target, kept, reduction="add"))
    if mode == _MAX:
        lowest = _like(float("-inf"), weight)
        candidates = op.Where(op.Greater(_column(kept), _like(0.0, weight)), rows, lowest)
        best = op.ScatterND(op.Expand(lowest, shape), target, candidates, reduction="max")
        return op.Where(op.Greater(sizes, _like(0.0, weight)), best, _like(0.0, weight)), bag, bag, bag
    zeros = op.Expand(_like(0.0, weight), shape)
    total = op.ScatterND(zeros, target, op.Mul(rows, _column(kept)), reduction="add")
    if mode == _MEAN:
        total = op.Div(total, op.Max(sizes, _like(1.0, weight)))
    return total, bag, bag, bag


_MEAN, _MAX = 1, 2


def _bag_of_each(indices: Any, offsets: Any) -> Any:
    """For each position the number of its bag: of all bags that start at or before it, the last."""
    positions = op.Range(op.Constant(value_int=0), op.Squeeze(op.Shape(indices)), op.Constant(value_int=1))
    begun = op.LessOrEqual(_column(op.Cast(offsets, to=7)), op.Unsqueeze(positions, _integers(0)))
    return op.Sub(op.ReduceSum(op.Cast(begun, to=7), _integers(0), keepdims=0), op.Constant(value_int=1))


def _column(row: Any) -> Any:
    return op.Unsqueeze(row, _integers(1))


def _integers(*values: int) -> Any:
    return op.Constant(value_ints=list(values))


def reversed_subtraction(self: Any, other: float, alpha: float = 1.0) -> Any:
    """`other - alpha * self`; decomposed it is a subtraction from a number, which torch's type promotion cannot read."""
    if self.dtype.is_integer() and isinstance(other, float):
        self = op.Cast(self, to=onnx_ir.DataType.FLOAT)
    return op.Sub(_like(other, self), self if alpha == 1 else op.Mul(self, _like(alpha, self)))


def _like(number: float, tensor: Any) -> Any:
    whole = isinstance(number, int)
    return op.CastLike(op.Constant(value_int=number) if whole else op.Constant(value_float=number), tensor)


def grouped_matmul(input: Any, weight: Any, offs: Any, bias: Any = None, out_dtype: Any = None) -> Any:
    """Rows sorted by group, each group times its own matrix, as a mixture of experts has it: one matmul a group.

    `input` is [rows, k], `weight` [groups, k, n], `offs` [groups] the end of each group's rows.
    """
    if len(input.shape) != 2 or len(weight.shape) != 3 or not isinstance(weight.shape[0], int) or bias is not None:
        raise NotImplementedError("only rows of a known number of groups, without bias, can be written in ONNX")
    ends = op.Cast(offs, to=7)
    start = zero = _integers(0)
    products: list[Any] = []
    for group in range(weight.shape[0]):
        matrix = op.Gather(weight, op.Constant(value_int=group), axis=0)
        end = op.Slice(ends, _integers(group), _integers(group + 1), zero)
        products.append(op.MatMul(op.Slice(input, start, end, zero), matrix))
        start = end
    return op.Concat(*products, axis=0)


def reshape(self: Any, shape: Any) -> Any:
    """A size that is 0 when the program runs is 0, as in torch; unless it is told so, ONNX copies a dim of the input there."""
    is_plain = all(isinstance(size, int) and size != 0 for size in shape)
    sizes = common.merge_dims(shape)
    return op.Reshape(self, sizes) if is_plain else op.Reshape(self, sizes, allowzero=1)


OWN: dict[str, Callable[..., Any]] = {
    "aten::scaled_dot_product_attention": attention,
    "aten::embedding_bag": embedding_bag,
    "aten::embedding_bag.padding_idx": embedding_bag,
    "aten::_embedding_bag": embedding_bag,
    "aten::_embedding_bag_forward_only": embedding_bag,
    "aten::_grouped_mm": grouped_matmul,
    "aten::reshape": reshape,
    "aten::rsub.Scalar": reversed_subtraction,
    "transformers::grouped_mm_fallback": grouped_matmul,
}
"""The op by the name torch gives it, to the function that writes it; what users register goes before."""

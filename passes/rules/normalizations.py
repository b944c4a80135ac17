"""Normalizations in Python: groups of channels, casts around, averages of rows; `standardize.py` finds what is written out."""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Tensor, TensorType, Value, dims

from ..canonicalize.casts import dtype_of
from ..rewriter import Contract, No, Rewriter, Rule, rule
from .standardize import both_ways, filled, made_by, standardize, standardize_as_affine_map

# GroupNormalization computes in f32.
_DTYPES = (DType.F16, DType.BF16, DType.F32)


@rule("Reshape", contract=Contract.REASSOCIATING, over=["InstanceNormalization", "LayerNormalization"])
def group_norm(op: Op, rewrite: Rewriter) -> Value | No:
    """Groups of channels that are put into one dim, normalized each by itself and taken apart again: GroupNormalization."""
    inner = made_by(op.operand(0), op, "InstanceNormalization", "LayerNormalization")
    split = None if inner is None else made_by(inner.needed(0), op, "Reshape")
    if inner is None or split is None:
        return No("its input is no normalization of a Reshape")
    if not _is_plain(inner) or any(result.uses for result in inner.results[1:]):
        return No("the normalization has a scale or bias of its own, or gives more than its result")
    x = split.needed(0)
    dtype = dtype_of(x)
    if dtype is None or dtype not in _DTYPES:
        return No("it is not f16, bf16 or f32")
    whole, groups = x.shape, split.result.shape
    if whole is None or groups is None or len(whole) < 3 or len(groups) < 3 or not rewrite.same_dims(op.result.shape, whole):
        return No("it does not give back the shape of what was reshaped")
    rank = len(groups)
    if inner.is_a("LayerNormalization") and inner.integer("axis", -1) % rank != 2:
        return No("not all dims after the second are normalized")
    count, channels = groups[1], whole[1]
    if not isinstance(count, int) or not isinstance(channels, int) or count < 1 or channels % count or channels == 0:
        return No("its second dim is no number of groups")
    if not rewrite.same_dims(whole[:1], groups[:1]) or not rewrite.same_dims(
        (dims.product(whole[1:]),), (dims.product(groups[1:]),)
    ):
        return No("the first dim is not left alone")
    fills = [filled(rewrite, [channels], value, dtype) for value in (1, 0)]
    attributes = {"num_groups": count, "epsilon": _epsilon(inner)}
    return rewrite.op("GroupNormalization", [x, *fills], dict(attributes))


@rule("Reshape", contract=Contract.REASSOCIATING)
def group_norm_of_channels_last(op: Op, rewrite: Rewriter) -> Value | No:
    """The last dim made two, groups and what is in them, normalized without the groups: GroupNormalization (Keras)."""
    bias, moved = _last_constant(op.needed(0), op, "Add")
    scale, moved = _last_constant(moved, op, "Mul")
    back = made_by(moved, op, "Transpose")
    norm = None if back is None else made_by(back.needed(0), op, "LayerNormalization")
    there = None if norm is None else made_by(norm.needed(0), op, "Transpose")
    split = None if there is None else made_by(there.needed(0), op, "Reshape")
    if back is None or norm is None or there is None or split is None or not _is_plain(norm):
        return No("its input is no normalization without a scale of a transposed Reshape")
    x, groups = split.needed(0), split.result.shape
    dtype = dtype_of(x)
    if dtype is None or dtype not in _DTYPES:
        return No("it is not f16, bf16 or f32")
    if x.shape is None or groups is None or not rewrite.same_dims(op.result.shape, x.shape):
        return No("it does not give back the shape of what was reshaped")
    rank, count, channels = len(groups), groups[-2], x.shape[-1]
    if not isinstance(count, int) or not isinstance(channels, int) or not rewrite.same_dims(x.shape[:-1], groups[:-2]):
        return No("the Reshape does not make two dims of the last one")
    order = (0, rank - 2, *range(1, rank - 2), rank - 1)
    if there.integers("perm") != order or back.integers("perm") != tuple(order.index(i) for i in range(rank)):
        return No("what is normalized are not all dims but the groups")
    if norm.integer("axis", -1) % rank != 2 or any(c is not None and c.size != channels for c in (scale, bias)):
        return No("its scale or bias is not one number for each channel")
    parts = [
        filled(rewrite, [channels], default, dtype)
        if given is None
        else rewrite.constant(Tensor.from_array(given.array.reshape(-1), given.dtype))
        for given, default in ((scale, 1), (bias, 0))
    ]
    first = rewrite.op("Transpose", [x], {"perm": (0, rank - 2, *range(1, rank - 2))})
    made = rewrite.op("GroupNormalization", [first, *parts], {"num_groups": count, "epsilon": _epsilon(norm)})
    return rewrite.op("Transpose", [made], {"perm": (0, *range(2, rank - 1), 1)})


def _last_constant(value: Value, user: Op, name: str) -> tuple[Tensor | None, Value]:
    """A constant that a value is made with, by an op called so, and what it is made of; it varies along the last two dims."""
    for part, other in both_ways(made_by(value, user, name)):
        tensor, rank = other.constant, len(part.shape or ())
        if tensor is not None and all(size == 1 for size in tensor.shape[:-2]) and 2 <= len(tensor.shape) <= rank:
            return tensor, part
    return None, value


def _epsilon(op: Op) -> float:
    value = op.attributes.get("epsilon", 1e-5)
    assert isinstance(value, float)
    return value


def _is_plain(norm: Op) -> bool:
    """Whether a normalization has scales of 1 and biases of 0, or none."""
    scale, bias = norm.constant_operand(1), norm.operand(2)
    if scale is None or not scale.size or not bool((scale.array == 1).all()):
        return False
    return bias is None or (bias.constant is not None and bool((bias.constant.array == 0).all()))


@rule("Cast", contract=Contract.REASSOCIATING, over=["LayerNormalization", "RMSNormalization"])
def norm_of_narrow(op: Op, rewrite: Rewriter) -> Value | No:
    """What is normalized in f32 between casts from and to f16 or bf16 is so by the normalization of f16 or bf16 itself."""
    norm = made_by(op.operand(0), op, "LayerNormalization", "RMSNormalization")
    if norm is None or any(result.uses for result in norm.results[1:]):
        return No("its input is no normalization that only it uses")
    cast = norm.needed(0).op
    narrow = op.result.type
    if cast is None or not cast.is_a("Cast") or norm.integer("stash_type", 1) != DType.F32.onnx_code:
        return No("what is normalized is no Cast, or not in f32")
    if not isinstance(narrow, TensorType) or narrow.dtype not in (DType.F16, DType.BF16):
        return No("it is no cast to f16 or bf16")
    if dtype_of(cast.needed(0)) is not narrow.dtype or dtype_of(norm.result) is not DType.F32:
        return No("the casts are not there and back")
    parts = [_narrowed(norm.constant_operand(index), narrow.dtype) for index in range(1, len(norm.operands))]
    found = [rewrite.constant(part) for part in parts if part is not None]
    if len(found) < len(parts):
        return No("its scale or bias is not constant, or loses something when it is cast")
    return rewrite.op(norm.name, [cast.operand(0), *found], dict(norm.attributes))


def _narrowed(tensor: Tensor | None, dtype: DType) -> Tensor | None:
    """A constant in another dtype that has all its values, or None."""
    if tensor is None:
        return None
    with np.errstate(over="ignore"):
        narrow = tensor.array.astype(dtype.numpy)
    return Tensor.from_array(narrow, dtype) if bool((narrow.astype(tensor.dtype.numpy) == tensor.array).all()) else None


@rule("GlobalAveragePool", contract=Contract.REASSOCIATING)
def average_of_rows(op: Op, rewrite: Rewriter) -> Value | No:
    """GlobalAveragePool of rank 3 is the mean of rows (tf2onnx makes it of ReduceMean)."""
    shape = op.needed(0).shape
    if shape is None or len(shape) != 3:
        return No("its input is not known to be of rank 3")
    return rewrite.op("ReduceMean", [op.operand(0), rewrite.constant(Tensor.integers([2]))], {"keepdims": 1})


RULES: tuple[Rule, ...] = (
    standardize,
    standardize_as_affine_map,
    group_norm,
    group_norm_of_channels_last,
    norm_of_narrow,
    average_of_rows,
)

"""Shapes that follow from symbolic contents, which ONNX's own inference cannot see: one row of SHAPES an op.

A row gives the shape of an op's first result, and answers None for "nothing is known".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from . import dims
from .contents import CONTENT, content_of, infer_content, scalar_of
from .dims import Dim
from .graph import Op

__all__ = ["CONTENT", "SHAPES", "broadcast_shapes", "content_of", "infer_content", "infer_shape", "scalar_of"]


def infer_shape(op: Op) -> tuple[Dim, ...] | None:
    """The shape of the first result by the row of SHAPES, or None where ONNX's inference must answer."""
    rule = SHAPES.get(op.name) if not op.domain else None
    return None if rule is None else rule(op)


def _reshape_shape(op: Op) -> tuple[Dim, ...] | None:
    target, source = content_of(op.operand(1)), op.needed(0).shape
    if target is None:
        return None
    keep_zero = op.integer("allowzero", 0) == 1
    result: list[Dim] = []
    hole = None
    for index, dim in enumerate(target):
        if dim == 0 and not keep_zero:
            dim = source[index] if source is not None and index < len(source) else None
        elif isinstance(dim, int) and dim < 0:
            hole, dim = index, None
        result.append(dim)
    if hole is not None and source is not None:
        result[hole] = _missing_factor(source, [d for i, d in enumerate(result) if i != hole])
        if not keep_zero and any(_may_copy(dim, source, index) for index, dim in enumerate(target)):
            return tuple(d if isinstance(d, int) and i != hole else None for i, d in enumerate(result))
    elif hole is None and result.count(None) == 1 and source is not None:
        result[result.index(None)] = _missing_factor(source, [d for d in result if d is not None])
    return tuple(result)


def _may_copy(dim: Dim, source: Sequence[Dim], index: int) -> bool:
    """Whether a symbolic target dim that is 0 at run time, which then means "as in the input", finds another dim there."""
    if not isinstance(dim, dims.SymbolicDim):
        return False
    own = source[index] if index < len(source) else None
    return own is None or dims.exact_quotient(own, dim) is None


def _missing_factor(source: Sequence[Dim], others: Sequence[Dim]) -> Dim:
    # Equal dims cancel first: [N, 0, 4] over [N, 0] must not divide by a zero nobody knows of.
    rest = list(source)
    left: list[Dim] = []
    for dim in others:
        if dim is not None and dim in rest:
            rest.remove(dim)
        else:
            left.append(dim)
    total, divisor = dims.product(rest), dims.product(left)
    if total is None or divisor is None or divisor == 0:
        return None
    return dims.exact_quotient(total, divisor)


def _expand_shape(op: Op) -> tuple[Dim, ...] | None:
    source, target = op.needed(0).shape, content_of(op.operand(1))
    return None if source is None or target is None else broadcast_shapes(source, target)


def broadcast_shapes(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...]:
    """The shape two tensors broadcast to; a dim that could go either way is unknown."""
    rank = max(len(a), len(b))
    left = (1,) * (rank - len(a)) + tuple(a)
    right = (1,) * (rank - len(b)) + tuple(b)
    return tuple(_broadcast_dim(x, y) for x, y in zip(left, right, strict=True))


def _broadcast_dim(a: Dim, b: Dim) -> Dim:
    if a == 1:
        return b
    if b == 1 or a == b:
        return a
    if isinstance(a, int) and a != 0:
        return a
    if isinstance(b, int) and b != 0:
        return b
    # N against min(N,512): where they differ, the one is larger than the other's 512, and they do not broadcast at all.
    if dims.is_clipped(b, a):
        return a
    return b if dims.is_clipped(a, b) else None


def _elementwise_shape(op: Op) -> tuple[Dim, ...] | None:
    shapes = [operand.shape for operand in op.operands if operand is not None]
    result: tuple[Dim, ...] = ()
    for shape in shapes:
        if shape is None:
            return None
        result = broadcast_shapes(result, shape)
    return result


def _constant_of_shape(op: Op) -> tuple[Dim, ...] | None:
    return content_of(op.operand(0))


def _concat_shape(op: Op) -> tuple[Dim, ...] | None:
    shapes = [operand.shape for operand in op.operands if operand is not None]
    first = shapes[0]
    if first is None or any(s is None or len(s) != len(first) for s in shapes):
        return None
    axis = op.integer("axis", 0)
    axis += len(first) if axis < 0 else 0
    total: Dim = 0
    result = list(first)
    for shape in shapes:
        assert shape is not None
        total = dims.add(total, shape[axis])
        result = [
            a if a is not None and (isinstance(a, int) or not isinstance(b, int)) else b
            for a, b in zip(result, shape, strict=True)
        ]
    result[axis] = total
    return tuple(result)


def _slice_shape(op: Op) -> tuple[Dim, ...] | None:
    source = op.needed(0).shape
    starts, ends = content_of(op.operand(1)), content_of(op.operand(2))
    if source is None or starts is None or ends is None:
        return None
    axes = tuple(range(len(starts))) if op.operand(3) is None else content_of(op.operand(3))
    steps = (1,) * len(starts) if op.operand(4) is None else content_of(op.operand(4))
    if axes is None or steps is None:
        return None
    result = list(source)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if not isinstance(axis, int):
            return None
        result[axis] = _slice_length(source[axis], start, end, step)
    return tuple(result)


LARGE_END = 10**9
"""An end that says "all there is", as some exporters write it."""


def _slice_length(size: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
    if isinstance(size, int) and isinstance(start, int) and isinstance(end, int) and isinstance(step, int) and step:
        return len(range(size)[start : (None if step < 0 and end < -size else end) : step])
    if step != 1 or size is None:
        return None
    whole = end == size or (isinstance(end, int) and end >= 2**31 - 1)
    if start == 0 and whole:
        return size
    if start == 0 and isinstance(end, int) and end >= LARGE_END:
        return dims.minimum(size, end)
    # x[a:b] of a dim nobody knows is shorter when the dim is; only what cannot be clipped is exact.
    if (
        start == 0
        and isinstance(end, dims.SymbolicDim)
        and (end.plain_name is not None or dims.minimum(size, end) in (size, end))
    ):
        return dims.minimum(size, end)
    return None


def _range_shape(op: Op) -> tuple[Dim, ...] | None:
    start, limit, delta = (scalar_of(operand) for operand in op.operands)
    if start is None or limit is None or delta != 1:
        return None
    length = dims.add(limit, dims.negate(start))
    if isinstance(length, int):
        return (max(length, 0),)
    # A size is never negative, so range(0, N) has N elements; N - M might be negative.
    return (length,) if start == 0 and isinstance(length, dims.SymbolicDim) and all(c > 0 for _, c in length.terms) else (None,)


def _tile_shape(op: Op) -> tuple[Dim, ...] | None:
    source, repeats = op.needed(0).shape, content_of(op.operand(1))
    if source is None or repeats is None or len(repeats) != len(source):
        return None
    return tuple(dims.multiply(a, b) for a, b in zip(source, repeats, strict=True))


def _flatten_shape(op: Op) -> tuple[Dim, ...] | None:
    source = op.needed(0).shape
    if source is None:
        return None
    axis = op.integer("axis", 1)
    axis += len(source) if axis < 0 else 0
    return (dims.product(source[:axis]), dims.product(source[axis:]))


def _pad_shape(op: Op) -> tuple[Dim, ...] | None:
    source, pads = op.needed(0).shape, content_of(op.operand(1))
    if source is None or pads is None:
        return None
    axes = tuple(range(len(source))) if op.operand(3) is None else content_of(op.operand(3))
    if axes is None or len(pads) != 2 * len(axes):
        return None
    result = list(source)
    for index, axis in enumerate(axes):
        if not isinstance(axis, int):
            return None
        result[axis] = dims.add(dims.add(source[axis], pads[index]), pads[index + len(axes)])
    return tuple(result)


def _same_shape(op: Op) -> tuple[Dim, ...] | None:
    return op.needed(0).shape


def _window_shape(op: Op) -> tuple[Dim, ...] | None:
    """Convolution and pooling over symbolic spatial dims: floor((size + pads - extent) / stride) + 1."""
    source = op.needed(0).shape
    if (
        source is None
        or op.string("auto_pad", "NOTSET") != "NOTSET"
        or op.integer("ceil_mode", 0)
        or all(isinstance(d, int) for d in source)
    ):
        return None
    kernel: tuple[Dim, ...] | None = op.integers("kernel_shape")
    channels: Dim = source[1]
    if op.name == "Conv":
        weight = op.needed(1).shape
        if weight is None:
            return None
        kernel, channels = weight[2:], weight[0]
    spatial = len(source) - 2
    pads = op.integers("pads") or (0,) * (2 * spatial)
    strides = op.integers("strides") or (1,) * spatial
    dilations = op.integers("dilations") or (1,) * spatial
    if kernel is None or len(kernel) != spatial or len(pads) != 2 * spatial:
        return None
    result: list[Dim] = [source[0], channels]
    for i in range(spatial):
        extent = dims.add(dims.multiply(dims.add(kernel[i], -1), dilations[i]), 1)
        room = dims.add(dims.add(source[i + 2], pads[i] + pads[i + spatial]), dims.negate(extent))
        result.append(dims.add(dims.divide(room, strides[i]), 1))
    return tuple(result)


def _resize_shape(op: Op) -> tuple[Dim, ...] | None:
    """Symbolic dims times constant scales: a scale of 1 leaves a dim as it is, and one that is whole multiplies it."""
    source, scales = op.needed(0).shape, op.constant_operand(2)
    if source is None or scales is None or scales.size != len(source) or op.integers("axes") is not None:
        return None
    if op.operand(3) is not None or all(isinstance(d, int) for d in source):
        return None
    result: list[Dim] = []
    for dim, scale in zip(source, scales.to_list(), strict=True):
        if isinstance(dim, int):
            result.append(int(np.floor(np.float32(dim) * np.float32(scale))))
        else:
            result.append(dims.multiply(dim, int(scale)) if scale == int(scale) else None)
    return tuple(result)


SHAPES: dict[str, Callable[[Op], tuple[Dim, ...] | None]] = {
    "Reshape": _reshape_shape,
    "Expand": _expand_shape,
    "ConstantOfShape": _constant_of_shape,
    "Concat": _concat_shape,
    "Slice": _slice_shape,
    "Range": _range_shape,
    "Tile": _tile_shape,
    "Flatten": _flatten_shape,
    "GroupNormalization": _same_shape,
    "MeanVarianceNormalization": _same_shape,
    "Pad": _pad_shape,
    "Resize": _resize_shape,
    "Conv": _window_shape,
    "MaxPool": _window_shape,
    "AveragePool": _window_shape,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Pow", "Where"), _elementwise_shape),
}

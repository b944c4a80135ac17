"""Between f32 and integers of 8 bits: QuantizeLinear and DequantizeLinear by the scales of axes and blocks.

Law: an element is what `scaling` makes of it with the scale and the zero point of its index or its block.
"""

from __future__ import annotations

from irc.ir import DType, Op, Value

from .expressions import dtype_of, shape_of
from .kernel import tir_name
from .loops import Body, elementwise
from .lowerer import Lowerer
from .places import Place
from .regions import Region
from .scaling import BYTES, dequantized, quantized
from .views import View


def why_not_quantized(op: Op) -> str:
    """Why a QuantizeLinear or DequantizeLinear has no kernel, as a clause; empty where it has."""
    whole = op.result if op.is_a("QuantizeLinear") else op.needed(0)
    real, scale = op.needed(0) if op.is_a("QuantizeLinear") else op.result, op.needed(1)
    if dtype_of(real) is not DType.F32 or dtype_of(scale) is not DType.F32:
        return "it is not f32"
    if dtype_of(whole) not in BYTES and not (op.is_a("DequantizeLinear") and dtype_of(whole) is DType.I32):
        return f"it does not quantize to {dtype_of(whole).text}"
    if op.integer("precision", 1) != 1:
        return "it divides in another dtype"
    return "" if _lying(op, View.dense(shape_of(scale))) is not None else "its scales are in blocks that do not fit"


def _lying(op: Op, scale: View) -> View | None:
    """The scales as a view of the shape of the elements, an axis in blocks as two; None where they do not fit."""
    shape = shape_of(op.needed(0))
    if scale.size == 1:
        return View((), (), scale.offset).broadcast(_blocked(op, shape)) if shape else View((), (), scale.offset)
    axis = op.integer("axis", 1) % len(shape)
    block = op.integer("block_size", 0)
    if block:
        wanted = (*shape[:axis], shape[axis] // block, *shape[axis + 1 :])
        if shape[axis] % block or scale.shape != wanted:
            return None
        strides = (*scale.strides[: axis + 1], 0, *scale.strides[axis + 1 :])
        return View(_blocked(op, shape), strides, scale.offset)
    if len(scale.shape) != 1 or scale.shape[0] != shape[axis]:
        return None
    return View(shape, tuple(scale.strides[0] if each == axis else 0 for each in range(len(shape))), scale.offset)


def _blocked(op: Op, shape: tuple[int, ...]) -> tuple[int, ...]:
    block = op.integer("block_size", 0)
    if not block or not shape:
        return shape
    axis = op.integer("axis", 1) % len(shape)
    return (*shape[:axis], shape[axis] // block, block, *shape[axis + 1 :])


def lower_quantize(lowerer: Lowerer, region: Region) -> None:
    """QuantizeLinear: round(x / scale) + zero point, within the range of the result."""
    kind = tir_name(dtype_of(region.op.result))
    _lower(lowerer, region, lambda writer, names: quantized(writer, kind, names))


def lower_dequantize(lowerer: Lowerer, region: Region) -> None:
    """DequantizeLinear: (x - zero point) * scale."""
    _lower(lowerer, region, dequantized)


def _lower(lowerer: Lowerer, region: Region, body: Body) -> None:
    op = region.op
    places = [lowerer.place(value) for value in op.operands if value is not None]
    target = _fresh(lowerer, op.result, places[0])
    shape = _blocked(op, target.view.shape)
    views = [place.view.reshaped(shape) for place in (places[0], target)]
    scales = [_lying(op, place.view) for place in places[1:]]
    given = [view for view in (views[0], *scales) if view is not None]
    assert views[1] is not None
    assert len(given) == len(places), "one axis is always split"
    operands = [(place.dtype, view) for place, view in zip(places, given, strict=True)]
    kernel = elementwise(target.dtype, views[1], operands, body, lowerer.machine.lanes)
    lowerer.call(kernel, [*(place.buffer for place in places), target.buffer], (op,))


def _fresh(lowerer: Lowerer, value: Value, source: Place) -> Place:
    """Memory that lies as the source does."""
    return lowerer.fresh_like(value, [source])

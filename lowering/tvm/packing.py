"""The B of a contraction in panels, as its inner loop reads it: made when compiling of a constant, else while running.

Law: `packed` of contraction.py says where each element goes; what fills up the last panel is multiplied, and never stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Value

from .arithmetic import F32, Arithmetic
from .expressions import shape_of
from .lowerer import Lowerer
from .narrow import constant_of, content_of
from .panels import Element, pack, packed_columns
from .places import Buffer, Place
from .products import Product
from .tiling import Tiling
from .views import View


def view_of_weights(lowerer: Lowerer, value: Value) -> View:
    """How the operand lies that B is made of."""
    return View.dense(shape_of(value)) if constant_of(value) is not None else lowerer.place(value).view


def weights(
    lowerer: Lowerer,
    value: Value,
    made: Product,
    tiling: Tiling,
    scale: float = 1.0,
    arithmetic: Arithmetic = F32,
    filled_up: tuple[int, ...] = (),
) -> Buffer:
    """The packed B of a product, whose view of it is that of `value`; only a constant is scaled, and only in f32.

    A constant may be `filled_up` with zeros at the ends of its axes.
    """
    tensor, op = constant_of(value), value.op
    if tensor is None:
        return _packed_while_running(lowerer, value, made, tiling)
    parameters = () if op is None else tuple(map(constant_of, filter(None, op.operands)))
    lanes = made.contraction.depth // arithmetic.together
    size = made.contraction.groups * lanes * packed_columns(tiling)

    def fill(target: NDArray[np.uint8]) -> None:
        if arithmetic.together == 1:
            elements = elements_of(content_of(value), made, filled_up)
            scaled = elements if scale == 1.0 else (elements * np.float32(scale)).astype(np.float32)
            pack(scaled, tiling, target.view(np.float32))
        else:
            elements = elements_of(np.ascontiguousarray(tensor.array), made, filled_up)
            pack(elements, tiling, target.view(elements.dtype), arithmetic)

    return lowerer.prepared(tensor, (made.weights, tiling.layout, scale, arithmetic.name, parameters), size, fill)


def elements_of(content: NDArray[Element], made: Product, filled_up: tuple[int, ...] = ()) -> NDArray[Element]:
    """B as [groups, depth, columns], perhaps of a content that is filled up with zeros at the ends of its axes."""
    if filled_up:
        whole = np.zeros(filled_up, content.dtype)
        whole[tuple(map(slice, content.shape))] = content
        content = whole
    view, flat = made.weights, content.reshape(-1)
    strides = [step * flat.itemsize for step in view.strides]
    lying = np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides, writeable=False)
    return lying.reshape(made.contraction.groups, made.contraction.depth, view.shape[-1])


def _packed_while_running(lowerer: Lowerer, value: Value, made: Product, tiling: Tiling) -> Buffer:
    """One copy for the full panels and one for the last; none where B is one full panel as it lies."""
    source = Place(lowerer.place(value).buffer, made.weights)
    depth, groups, ops = made.contraction.depth, made.contraction.groups, [] if value.op is None else [value.op]
    if source.view.is_dense and source.view.shape[-1] == tiling.panel and source.view.size == source.buffer.size:
        return source.buffer
    stride = depth * packed_columns(tiling)
    target = Buffer(DType.F32, groups * stride)
    *lead, columns = source.view.shape
    *lead_steps, step = source.view.strides
    inside = tiling.full_panels * tiling.panel
    if inside:
        split = View((*lead, tiling.full_panels, tiling.panel), (*lead_steps, tiling.panel * step, step), source.view.offset)
        steps = _lead_strides(lead, made.group_axes, stride, tiling.panel)
        lying = View(split.shape, (*steps, depth * tiling.panel, 1))
        lowerer.copy(Place(source.buffer, split), Place(target, lying), ops)
    if tiling.rest:
        rest = source.view.sliced(len(lead), inside, columns - inside)
        steps = _lead_strides(lead, made.group_axes, stride, tiling.tail_panel)
        lowerer.copy(Place(source.buffer, rest), Place(target, View(rest.shape, (*steps, 1), inside * depth)), ops)
    return target


def _lead_strides(shape: list[int], group_axes: int, group: int, row: int) -> list[int]:
    """Strides of the axes of groups, `group` elements each, and of the reduced axes, whose rows of a panel are `row` long."""
    groups, depths = View.dense(shape[:group_axes]), View.dense(shape[group_axes:])
    return [*(step * group for step in groups.strides), *(step * row for step in depths.strides)]

"""The B of a contraction in panels, as its inner loop reads it: made when compiling of a constant, else while running.

Law: `packed` of contraction.py says where each element goes; what fills up the last panel is multiplied, and never stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Tensor, Value

from .contraction import pack, packed_columns
from .lowerer import Lowerer, shape_of
from .places import Buffer, Place
from .products import Product
from .tiling import Tiling
from .views import View


def view_of_weights(lowerer: Lowerer, value: Value) -> View:
    """How the operand lies that B is made of."""
    return View.dense(shape_of(value)) if value.constant is not None else lowerer.place(value).view


def weights(lowerer: Lowerer, value: Value, made: Product, tiling: Tiling, scale: float = 1.0) -> Buffer:
    """The packed B of a product, whose view of it is that of `value`; only a constant is scaled."""
    tensor = value.constant
    if tensor is None:
        return _packed_while_running(lowerer, value, made, tiling)
    size = made.contraction.groups * made.contraction.depth * packed_columns(tiling)

    def fill(target: NDArray[np.uint8]) -> None:
        pack(_elements(tensor, made, scale), tiling, target.view(np.float32))

    return lowerer.prepared(tensor, (made.weights, tiling.layout, scale), size, fill)


def _elements(tensor: Tensor, made: Product, scale: float) -> NDArray[np.float32]:
    """B as [groups, depth, columns]."""
    view, flat = made.weights, np.ascontiguousarray(tensor.array, np.float32).reshape(-1)
    strides = [step * flat.itemsize for step in view.strides]
    lying = np.lib.stride_tricks.as_strided(flat[view.offset :], view.shape, strides, writeable=False)
    shaped = lying.reshape(made.contraction.groups, made.contraction.depth, view.shape[-1])
    return shaped if scale == 1.0 else (shaped * np.float32(scale)).astype(np.float32)


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

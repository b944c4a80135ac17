"""Products as calls of contractions: what is done to their sums is done in registers where it can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Op, Value

from .contraction import contraction, extent_of, pack, packed_columns
from .epilogues import Added, Reader, ending_of
from .lowerer import Lowerer, shape_of
from .packing import view_of_weights, weights
from .places import Buffer, Place
from .products import Product, Window, convolution, matmul, window_of
from .regions import Region
from .tiling import ahead_of
from .views import View
from .winograd import Tiles, border_for, products_of, tiles_of, transform_input, transform_output, transformed_weights


def lower_matmul(lowerer: Lowerer, region: Region) -> None:
    """MatMul; of a constant matrix on the left the transposed product is made, which is then looked at turned."""
    op = region.op
    left, right = op.needed(0), op.needed(1)
    if left.constant is None or right.constant is not None or len(shape_of(left)) != 2 or len(shape_of(right)) < 2:
        return _general_matmul(lowerer, region)
    a, shape = lowerer.place(right), shape_of(left)
    view = _turned(a.view)

    def allocate(value: Value) -> Place:
        made = shape_of(value)
        return lowerer.fresh(value, _turned(View.dense((*made[:-2], made[-1], made[-2]))))

    def describe(result: Place) -> Product:
        own = _turned(View.dense(shape))
        return _found(matmul(view, a.buffer.size, own, _turned(result.view), result.buffer.size))

    return _product(lowerer, region, _Operands(a.buffer, left, -2), allocate, describe)


def _general_matmul(lowerer: Lowerer, region: Region) -> None:
    """MatMul of a left operand, copied where it lies in the way of one stride, and a right one, computed or constant."""
    op = region.op
    a, value = lowerer.place(op.needed(0)), op.needed(1)
    given = view_of_weights(lowerer, value)
    shape = shape_of(op.result)
    has_rows, has_columns = len(a.view.shape) > 1, len(given.shape) > 1
    rows = a.view if has_rows else View((1, *a.view.shape), (0, *a.view.strides), a.view.offset)
    b = given if has_columns else View((*given.shape, 1), (*given.strides, 0), given.offset)
    wanted = _matrix(View.dense(shape), has_rows, has_columns)
    if matmul(rows, a.buffer.size, b, wanted, wanted.size) is None:
        whole = rows.broadcast((*wanted.shape[:-2], *rows.shape[-2:]))
        copied = Place(Buffer(DType.F32, whole.size), View.dense(whole.shape))
        lowerer.copy(Place(a.buffer, whole), copied, (op,))
        a, rows = copied, copied.view

    def describe(result: Place) -> Product:
        view = _matrix(result.view, has_rows, has_columns)
        return _found(matmul(rows, a.buffer.size, b, view, result.buffer.size))

    _product(lowerer, region, _Operands(a.buffer, value, -1 if has_columns else None), lowerer.fresh, describe)


def _matrix(view: View, has_rows: bool, has_columns: bool) -> View:
    """The result of a product with the axes that vectors do not have."""
    shape, strides = [*view.shape], [*view.strides]
    if not has_columns:
        shape, strides = [*shape, 1], [*strides, 1]
    if not has_rows:
        shape, strides = [*shape[:-1], 1, shape[-1]], [*strides[:-1], 0, strides[-1]]
    return View(tuple(shape), tuple(strides), view.offset)


def _found(made: Product | None) -> Product:
    assert made is not None, "dense operands lie so that a step goes through them"
    return made


def _turned(view: View) -> View:
    """With the last two axes exchanged."""
    last = len(view.shape) - 1
    return view.permuted((*range(last - 1), last, last - 1))


def lower_gemm(lowerer: Lowerer, region: Region) -> None:
    """Gemm: alpha scales constant weights, or else the sums; beta scales what is added."""
    op = region.op
    a, value = lowerer.place(op.needed(0)), op.needed(1)
    view = _turned(a.view) if op.integer("transA", 0) else a.view
    given = view_of_weights(lowerer, value)
    b = _turned(given) if op.integer("transB", 0) else given
    alpha, beta = (_number(op, name, 1.0) for name in ("alpha", "beta"))
    operands = _Operands(a.buffer, value, -1, alpha, _added(lowerer, op, beta))
    _product(
        lowerer,
        region,
        operands,
        lowerer.fresh,
        lambda result: _found(matmul(view, a.buffer.size, b, result.view, result.buffer.size)),
    )


def lower_conv(lowerer: Lowerer, region: Region) -> None:
    """Conv, its channels side by side."""
    op = region.op
    value, groups = op.needed(1), op.integer("group", 1)
    filters = by_group(view_of_weights(lowerer, value), groups)
    window = window_of(op, filters.shape[3:], shape_of(op.needed(0))[2:])
    tiles = tiles_of(op, lowerer.machine)
    if tiles is not None:
        return _in_tiles(lowerer, region, tiles, window)
    data = lowerer.bordered(op.needed(0), window)
    _product(
        lowerer,
        region,
        _Operands(data.buffer, value, 1, added=added_to_channels(lowerer, op)),
        lowerer.fresh_image,
        lambda result: convolution(data.view, data.buffer.size, filters, window, result.view, result.buffer.size),
    )
    return None


def by_group(filters: View, groups: int) -> View:
    """Filters [out, in, spatial...] as [groups, out of a group, in of a group, spatial...]."""
    split = filters.reshaped((groups, filters.shape[0] // groups, *filters.shape[1:]))
    assert split is not None, "one axis is always split"
    return split


def _number(op: Op, name: str, default: float) -> float:
    value = op.attributes.get(name, default)
    assert isinstance(value, float)
    return value


def _added(lowerer: Lowerer, op: Op, scale: float) -> tuple[Added, ...]:
    """The third operand of a Gemm; a constant is scaled when compiling."""
    value = op.operand(2)
    if value is None:
        return ()
    if value.constant is None:
        return (Added(lowerer.place(value), scale),)
    scaled = np.asarray(value.constant.array, np.float32) * np.float32(scale)
    return (Added(Place(lowerer.constant(scaled, DType.F32), View.dense(scaled.shape))),)


def added_to_channels(lowerer: Lowerer, op: Op) -> tuple[Added, ...]:
    """The bias of a convolution as an image of one pixel."""
    value = op.operand(2)
    if value is None:
        return ()
    place, rank = lowerer.place(value), len(shape_of(op.result))
    view = View((1, *place.view.shape, *(1,) * (rank - 2)), (0, *place.view.strides, *(0,) * (rank - 2)), place.view.offset)
    return (Added(Place(place.buffer, view)),)


@dataclass(frozen=True, slots=True)
class _Operands:
    """What a contraction takes: A, the value that B is made of, the result's axis of columns, factor of sums and addends."""

    a: Buffer
    weights: Value
    column_axis: int | None
    scale: float = 1.0
    added: tuple[Added, ...] = ()


def _product(
    lowerer: Lowerer,
    region: Region,
    operands: _Operands,
    allocate: Callable[[Value], Place],
    describe: Callable[[Place], Product],
) -> None:
    """A contraction with what can be done to its sums while they are in registers; the rest in a kernel of its own."""
    value = operands.weights

    def read(target: Place) -> Reader:
        made = describe(target).contraction
        return Reader(target.view, operands.column_axis, made.columns, made.groups)

    scale = 1.0 if value.constant is not None else operands.scale
    ending = ending_of(lowerer, region, operands.added, allocate, read, scale)
    made = describe(ending.target)
    tiling = lowerer.tiling(made.contraction, value.constant, (made.weights, operands.scale))
    b = weights(lowerer, value, made, tiling, operands.scale)
    ahead = ahead_of(extent_of(made.contraction), tiling, lowerer.machine) if value.constant is not None else None
    kernel = contraction(made.contraction, tiling, ending.sizes, ending.sums.epilogue(), ahead=ahead)
    lowerer.call(kernel, [operands.a, b, *ending.buffers], (region.op, *ending.ops), ending.replaceable)
    ending.conclude(lowerer, region)


def _in_tiles(lowerer: Lowerer, region: Region, tiles: Tiles, window: Window) -> None:
    """A convolution with constant filters by Winograd's method: elements transformed, multiplied, and transformed back."""
    op, lanes = region.op, lowerer.machine.lanes
    data = lowerer.bordered(op.needed(0), border_for(op, window, lowerer.machine))
    tensor = op.constant_operand(1)
    assert tensor is not None, "tiles are for constant filters"
    ending = ending_of(
        lowerer,
        region,
        added_to_channels(lowerer, op),
        lowerer.fresh_image,
        lambda target: Reader(target.view, 1, tiles.out_channels, 1),
        first=1,
    )
    products = products_of(tiles)
    tiling = lowerer.tiling(products, tensor, "tiles")

    def fill(target: NDArray[np.uint8]) -> None:
        pack(transformed_weights(tensor.array), tiling, target.view(np.float32))

    b = lowerer.prepared(tensor, ("tiles", tiling.layout), products.groups * products.depth * packed_columns(tiling), fill)
    elements, sums = Buffer(DType.F32, products.a_size), Buffer(DType.F32, products.c_size)
    lowerer.call(transform_input(data.view, data.buffer.size, tiles, lanes), [data.buffer, elements], (op,))
    # Counted as the plain sums that these products stand for.
    kernel = replace(contraction(products, tiling), flops=2 * 9 * ending.target.view.size * tiles.channels)
    lowerer.call(kernel, [elements, b, sums], (op,))
    view, size = ending.target.view, ending.target.buffer.size
    kernel = transform_output(view, size, tiles, lanes, ending.sizes, ending.sums.epilogue())
    lowerer.call(kernel, [sums, *ending.buffers], (op, *ending.ops), ending.replaceable)
    ending.conclude(lowerer, region)

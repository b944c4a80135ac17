"""Products as calls of contractions: what is done to their sums is done in registers where it can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Op, Value

from .arithmetic import F32, Arithmetic, fastest_for
from .axes import Contraction, in_lanes
from .contraction import contraction, extent_of
from .epilogues import Added, Reader, Rescaled, ending_of
from .expressions import shape_of
from .kernel import product
from .lowerer import Lowerer
from .narrow import Bytes, arithmetic_of, bytes_of, constant_of, content_of, lying_arithmetic, lying_left, scales_of
from .packing import elements_of, view_of_weights, weights
from .panels import pack, packed_columns
from .places import Buffer, Place
from .products import Product, Window, convolution, matmul, window_of
from .regions import Region
from .scaling import quantized_in_run
from .tiling import ahead_of
from .unpacking import stored_of, stored_weights
from .views import View
from .winograd import Tiles, border_for, products_of, tiles_of, transform_input, transform_output, transformed_weights


def lower_matmul(lowerer: Lowerer, region: Region) -> None:
    """MatMul; of a constant matrix on the left the transposed product is made, which is then looked at turned."""
    op = region.op
    left, right = op.needed(0), op.needed(1)
    if constant_of(left) is None or constant_of(right) is not None or len(shape_of(left)) != 2 or len(shape_of(right)) < 2:
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
    value = op.needed(1)
    given = view_of_weights(lowerer, value)
    shape = shape_of(op.result)
    has_rows, has_columns = len(shape_of(op.needed(0))) > 1, len(given.shape) > 1
    b = given if has_columns else View((*given.shape, 1), (*given.strides, 0), given.offset)
    wanted = _matrix(View.dense(shape), has_rows, has_columns)

    def rows_of(place: Place) -> View:
        view = place.view
        return view if has_rows else View((1, *view.shape), (0, *view.strides), view.offset)

    a = left_of(lowerer, op, lambda place: matmul(rows_of(place), place.buffer.size, b, wanted, wanted.size))
    rows = rows_of(a)
    if matmul(rows, a.buffer.size, b, wanted, wanted.size) is None:
        a = lowerer.place(op.needed(0))
        whole = rows_of(a).broadcast((*wanted.shape[:-2], *rows.shape[-2:]))
        copied = Place(Buffer(DType.F32, whole.size), View.dense(whole.shape))
        lowerer.copy(Place(a.buffer, whole), copied, (op,))
        a, rows = copied, copied.view

    def describe(result: Place) -> Product:
        view = _matrix(result.view, has_rows, has_columns)
        return _found(matmul(rows, a.buffer.size, b, view, result.buffer.size))

    _product(
        lowerer,
        region,
        _Operands(a.buffer, value, -1 if has_columns else None, arithmetic=lying_arithmetic(a.dtype, lowerer.machine)),
        lowerer.fresh,
        describe,
    )


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
    value = op.needed(1)
    given = view_of_weights(lowerer, value)
    b = _turned(given) if op.integer("transB", 0) else given

    def rows_of(place: Place) -> View:
        return _turned(place.view) if op.integer("transA", 0) else place.view

    wanted = View.dense(shape_of(op.result))
    a = left_of(lowerer, op, lambda place: matmul(rows_of(place), place.buffer.size, b, wanted, wanted.size))
    view = rows_of(a)
    alpha, beta = (_number(op, name, 1.0) for name in ("alpha", "beta"))
    operands = _Operands(a.buffer, value, -1, alpha, _added(lowerer, op, beta), lying_arithmetic(a.dtype, lowerer.machine))
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
    data = lowerer.bordered(lowerer.image_of(op), window)
    operands = _Operands(
        data.buffer, value, 1, 1.0, added_to_channels(lowerer, op), lying_arithmetic(data.dtype, lowerer.machine)
    )
    if groups == 1 and filters.shape[2] < data.view.shape[1]:
        operands = replace(operands, filled_up=(filters.shape[1], data.view.shape[1], *filters.shape[3:]))
        filters = by_group(View.dense(operands.filled_up), 1)
    if filters.shape[0] > 1 == filters.shape[2]:
        operands = _depthwise(lowerer, op, operands)

    def describe(result: Place) -> Product:
        return convolution(data.view, data.buffer.size, filters, window, result.view, result.buffer.size)

    _product(lowerer, region, operands, lowerer.fresh_image, describe)
    return None


def _depthwise(lowerer: Lowerer, op: Op, operands: _Operands) -> _Operands:
    """The operands of a Conv that is computed in f32; of bytes q, s * (q - z) * w is q * (s * w) less z * (s * w)."""
    lying = bytes_of(op.needed(0))
    operands = replace(operands, arithmetic=F32)
    if lying is None or operands.a.dtype is not DType.U8:
        return operands
    filters = content_of(op.needed(1))
    sums = filters.sum(axis=tuple(range(1, len(filters.shape))), dtype=np.float64)
    shift = (-lying.zero * lying.scale * sums).astype(np.float32)
    view = View((1, shift.size, *(1,) * (len(filters.shape) - 2)), (0, 1, *(0,) * (len(filters.shape) - 2)))
    added = Added(Place(lowerer.constant(shift, DType.F32), view))
    return replace(operands, scale=lying.scale, added=(added, *operands.added))


def left_of(lowerer: Lowerer, op: Op, describe: Callable[[Place], Product | None]) -> Place:
    """Where the left operand of a matrix product is read: as it lies if the product so described can be made of lanes."""
    lying, arithmetic = lying_left(op), arithmetic_of(op, lowerer.machine)
    if lying is not None and arithmetic is not None:
        place = lowerer.place(lying)
        made = describe(place)
        if made is not None and in_lanes(made.contraction, arithmetic) is not None:
            return place
    return lowerer.place(op.needed(0))


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
    """What a contraction takes: A, the value that B is made of, the result's axis of columns, factor of sums and addends.

    The `arithmetic` is f32 or that of A as it lies. `filled_up` is the shape of weights with zeros for what A has more.
    """

    a: Buffer
    weights: Value
    column_axis: int | None
    scale: float = 1.0
    added: tuple[Added, ...] = ()
    arithmetic: Arithmetic = F32
    filled_up: tuple[int, ...] = ()


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

    tensor = constant_of(value)
    folded = tensor is not None and operands.arithmetic is F32
    of_weights, scale = (operands.scale, 1.0) if folded else (1.0, operands.scale)
    ending = ending_of(lowerer, region, operands.added, allocate, read, scale)
    made = describe(ending.target)
    if tensor is not None and operands.arithmetic.sums is DType.I32:
        elements = elements_of(np.ascontiguousarray(tensor.array), made, operands.filled_up)
        operands = replace(operands, arithmetic=fastest_for(elements, operands.arithmetic))
        ending = ending.of_bytes(_rescaled(lowerer, region.op, elements))
    wanted = _as_it_lies(made.contraction, operands)
    tiling = lowerer.tiling(wanted, tensor, (made.weights, of_weights, wanted.arithmetic.name))
    stored = stored_of(value, wanted) if folded and of_weights == 1.0 else None
    if stored is not None and stored.fits(wanted.depth, tiling):
        ending = ending.behind(len(stored.buffers(0, 0)) - 1)
        lying = stored_weights(lowerer, value, made, tiling, stored)
    else:
        stored, lying = None, [weights(lowerer, value, made, tiling, of_weights, wanted.arithmetic, operands.filled_up)]
    ahead = ahead_of(extent_of(wanted), tiling, lowerer.machine) if tensor is not None and stored is None else None
    kernel = contraction(wanted, tiling, ending.sizes, ending.sums.epilogue(), ending.target.dtype, ahead, stored)
    if operands.filled_up:
        kernel = replace(kernel, flops=kernel.flops * product(shape_of(value)) // product(operands.filled_up))
    lowerer.call(kernel, [operands.a, *lying, *ending.buffers], (region.op, *ending.ops), ending.replaceable)
    ending.conclude(lowerer, region)


def _as_it_lies(wanted: Contraction, operands: _Operands) -> Contraction:
    """The contraction of A in its dtype: of lanes, or of elements widened one by one where the columns are A's."""
    if operands.a.dtype is DType.F32:
        return wanted
    if wanted.columns_in_a:
        return replace(wanted, a_dtype=operands.a.dtype)
    made = in_lanes(wanted, operands.arithmetic)
    assert made is not None, "what is read as it lies was found to lie in lanes"
    return made


def _rescaled(lowerer: Lowerer, op: Op, elements: NDArray[np.int8]) -> Rescaled:
    """s * (q - z) summed with t * w is s * t * (sum of q * w - z * sum of w), t the scale of a column, w the `elements` of B.

    Where s and z are found when the program runs, they are read from memory.
    """
    in_run, scales = quantized_in_run(op.needed(0)), scales_of(op)
    lying = Bytes(1.0, 1) if in_run is not None else bytes_of(op.needed(0))
    assert lying is not None
    assert scales is not None, "bytes are multiplied where all of these are there"
    shift = (-lying.zero * elements.sum(axis=1, dtype=np.int32)).reshape(-1)
    scale = np.float32(lying.scale) * np.resize(scales, shift.shape)
    dense = View.dense(shift.shape)
    return Rescaled(
        Place(lowerer.constant(shift, DType.I32), dense),
        Place(lowerer.constant(scale, DType.F32), dense),
        () if in_run is None else tuple(map(lowerer.place, in_run.results[1:])),
    )


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
    kernel = transform_output(view, size, tiles, lanes, ending.sizes, ending.sums.epilogue(), ending.target.dtype)
    lowerer.call(kernel, [sums, *ending.buffers], (op, *ending.ops), ending.replaceable)
    ending.conclude(lowerer, region)

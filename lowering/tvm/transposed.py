"""Transposed convolutions as products: of each element of the kernel where windows do not overlap, else with zeros in between.

Law: what lies between and around the elements of a spread image is zero, and sums over it are those of the overlapping windows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from irc.ir import DType, Op

from .contraction import contraction
from .epilogues import Reader, Sums, ending_of, readable
from .expressions import Tree, shape_of
from .lowerer import Lowerer
from .packing import view_of_weights, weights
from .places import Buffer, Place
from .products import Product, Window, convolution, window_of
from .regions import Region
from .trees import evaluate_tree
from .views import View
from .weighted import added_to_channels, by_group
from .windows import filled


def lower_transposed_conv(lowerer: Lowerer, region: Region) -> None:
    """ConvTranspose, its channels side by side."""
    op = region.op
    window = transposed_window(op)
    apart = window.strides == window.kernel and not window.is_padded and set(window.dilations) <= {1}
    apart = apart and op.integer("group", 1) == 1 and not any(op.integers("output_padding") or ())
    (_lower_apart if apart else _lower_overlapping)(lowerer, region, window)


def transposed_window(op: Op) -> Window:
    """The window of a ConvTranspose, whose pads may follow from the sizes of its result; an odd one as ONNX Runtime puts it."""
    spatial, sizes = shape_of(op.needed(0))[2:], shape_of(op.result)[2:]
    window = window_of(op, shape_of(op.needed(1))[2:], spatial)
    auto = op.string("auto_pad", "NOTSET")
    if op.integers("output_shape") is None and auto not in ("SAME_UPPER", "SAME_LOWER"):
        return window
    more = op.integers("output_padding") or (0,) * len(spatial)
    axes = zip(spatial, sizes, window.kernel, window.strides, window.dilations, more, strict=True)
    totals = [
        max(0, (size - 1) * step + extra + (extent - 1) * dilation + 1 - result)
        for size, result, extent, step, dilation, extra in axes
    ]
    less, rest = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    begins, ends = (less, rest) if auto == "SAME_UPPER" else (rest, less)
    return replace(window, begins=begins, ends=ends)


def _lower_apart(lowerer: Lowerer, region: Region, window: Window) -> None:
    """Each element of the kernel has a product of its own, into every so-manieth pixel."""
    op = region.op
    data = lowerer.with_channels_last(op.needed(0))
    target = lowerer.fresh_image(op.result)
    given = view_of_weights(lowerer, op.needed(1))
    kernel = window.kernel
    filters = by_group(given.permuted((1, 0, *range(2, len(given.shape)))), 1)
    once = Window((1,) * len(kernel), (1,) * len(kernel), (1,) * len(kernel), (0,) * len(kernel), (0,) * len(kernel))
    for place in np.ndindex(*kernel):
        part, own = target.view, filters
        for axis, (start, step) in enumerate(zip(place, kernel, strict=True), start=2):
            part = part.sliced(axis, start, data.view.shape[axis], step)
            own = own.sliced(axis + 1, start, 1)
        made = convolution(data.view, data.buffer.size, own, once, part, target.buffer.size)
        _one_product(lowerer, op, made, data, target, Place(target.buffer, part))
    if region.tree is not None:
        evaluate_tree(lowerer, Tree(region.tree.ops, tuple(dict.fromkeys((op.result, *region.tree.leaves)))))


def _one_product(lowerer: Lowerer, op: Op, made: Product, data: Place, target: Place, part: Place) -> None:
    tiling = lowerer.tiling(made.contraction)
    b = weights(lowerer, op.needed(1), made, tiling)
    reader = Reader(part.view, 1, made.contraction.columns, made.contraction.groups)
    added = [(readable(lowerer, reader, each.place, target, op), 1.0) for each in added_to_channels(lowerer, op)]
    sizes = [(stream.place.dtype, stream.place.buffer.size) for stream, _ in added]
    kernel = contraction(made.contraction, tiling, sizes, Sums(tuple(added)).epilogue())
    lowerer.call(kernel, [data.buffer, b, *(stream.place.buffer for stream, _ in added), target.buffer], (op,))


def _lower_overlapping(lowerer: Lowerer, region: Region, window: Window) -> None:
    """A convolution of the image, its elements `strides` apart, with the kernel turned round."""
    op = region.op
    data = _spread(lowerer, op, window)
    filters = _turned_round(view_of_weights(lowerer, op.needed(1)), op.integer("group", 1))
    dense = replace(window, strides=(1,) * len(window.kernel))

    def describe(target: Place) -> Product:
        return convolution(data.view, data.buffer.size, filters, dense, target.view, target.buffer.size)

    def read(target: Place) -> Reader:
        made = describe(target).contraction
        return Reader(target.view, 1, made.columns, made.groups)

    ending = ending_of(lowerer, region, added_to_channels(lowerer, op), lowerer.fresh_image, read)
    made = describe(ending.target)
    tiling = lowerer.tiling(made.contraction)
    b = weights(lowerer, op.needed(1), made, tiling)
    kernel = contraction(made.contraction, tiling, ending.sizes, ending.sums.epilogue(), ending.target.dtype)
    lowerer.call(kernel, [data.buffer, b, *ending.buffers], (op, *ending.ops))
    ending.conclude(lowerer, region)


def _spread(lowerer: Lowerer, op: Op, window: Window) -> Place:
    """The image with zeros between its elements and around them, channels side by side, what is cut off left out."""
    source, result = lowerer.place(op.needed(0)), shape_of(op.result)
    reach = [(size - 1) * step for size, step in zip(window.kernel, window.dilations, strict=True)]
    sizes = [size + extra for size, extra in zip(result[2:], reach, strict=True)]
    batch, channels = source.view.shape[:2]
    whole = View.dense((batch, *sizes, channels))
    buffer = Buffer(DType.F32, whole.size)
    lowerer.call(filled(buffer.size, [View.dense((whole.size,))], lowerer.machine.lanes), [buffer], (op,))
    last = len(whole.shape) - 1
    view = whole.permuted((0, last, *range(1, last)))
    read, written = source.view, view
    for axis, (step, extra, begin, size) in enumerate(zip(window.strides, reach, window.begins, sizes, strict=True), start=2):
        first = extra - begin  # where the first element comes to lie
        skipped = max(0, -(first // step))
        count = min(read.shape[axis], (size - 1 - first) // step + 1) - skipped
        read = read.sliced(axis, skipped, count)
        written = written.sliced(axis, first + skipped * step, count, step)
    lowerer.copy(Place(source.buffer, read), Place(buffer, written), (op,))
    return Place(buffer, view)


def _turned_round(filters: View, groups: int) -> View:
    """Filters [in, out of a group, spatial...] as [groups, out of a group, in of a group, spatial...], the last backwards."""
    split = filters.reshaped((groups, filters.shape[0] // groups, *filters.shape[1:]))
    assert split is not None, "one axis is always split"
    split = split.permuted((0, 2, 1, *range(3, len(split.shape))))
    for axis in range(3, len(split.shape)):
        split = split.sliced(axis, split.shape[axis] - 1, split.shape[axis], -1)
    return split

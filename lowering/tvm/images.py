"""Images as calls of kernels: pooling and concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from irc.ir import DType, Op

from .expressions import shape_of
from .lowerer import Lowerer
from .places import Place
from .products import Window, window_of
from .regions import Region
from .resampling import resample, taps_of
from .windows import pooling


def lower_pool(lowerer: Lowerer, region: Region) -> None:
    """Pooling of images whose channels lie side by side, copied so where they do not."""
    op = region.op
    data = lowerer.with_channels_last(op.needed(0))
    spatial = data.view.shape[2:]
    if op.is_a("GlobalAveragePool", "GlobalMaxPool"):
        rank = len(spatial)
        window = Window(spatial, (1,) * rank, (1,) * rank, (0,) * rank, (0,) * rank)
    else:
        window = _reaching(window_of(op, op.integers("kernel_shape") or (), spatial), spatial, shape_of(op.result)[2:])
    target = lowerer.fresh_image(op.result)
    how = "max" if op.is_a("MaxPool", "GlobalMaxPool") else "average"
    if how == "average" and op.integer("count_include_pad", 0):
        how = "padded average"
    kernel = pooling(data.view, data.buffer.size, target.view, target.buffer.size, window, how, lowerer.machine.lanes)
    lowerer.call(kernel, [data.buffer, target.buffer], (op,))


def _reaching(window: Window, spatial: Sequence[int], result: Sequence[int]) -> Window:
    """With as much behind as the last window needs, which `ceil_mode` lets reach beyond the edge."""
    pairs = zip(result, spatial, window.kernel, window.strides, window.dilations, window.begins, window.ends, strict=True)
    ends = [
        max(end, (count - 1) * stride + (extent - 1) * dilation + 1 - size - begin)
        for count, size, extent, stride, dilation, begin, end in pairs
    ]
    return replace(window, ends=tuple(ends))


def lower_concat(lowerer: Lowerer, region: Region) -> None:
    """Each operand copied to its part of the result, but those that were made there."""
    op = region.op
    places = [lowerer.place(value) for value in op.operands if value is not None]
    axis = op.integer("axis", 0) % len(places[0].view.shape)
    target = lowerer.places.get(op.result) or _beside_each_other(lowerer, op, places)
    start = 0
    for place in places:
        size = place.view.shape[axis]
        part = Place(target.buffer, target.view.sliced(axis, start, size))
        if size and place != part:
            lowerer.copy(place, part, (op,))
        start += size


def _beside_each_other(lowerer: Lowerer, op: Op, places: Sequence[Place]) -> Place:
    """Memory for the result, an image where one of the operands is one."""
    is_image = len(places[0].view.shape) > 2 and any(p.view.strides[1] == 1 and p.view.shape[1] > 1 for p in places)
    is_image = is_image and places[0].dtype is DType.F32
    return lowerer.fresh_image(op.result) if is_image and not op.result.is_output else lowerer.fresh(op.result)


def lower_resize(lowerer: Lowerer, region: Region) -> None:
    """Resize of the spatial axes."""
    op = region.op
    data = lowerer.with_channels_last(op.needed(0))
    target = lowerer.fresh_image(op.result)
    pairs = zip(data.view.shape[2:], target.view.shape[2:], strict=True)
    taps = [taps_of(op, axis, size, result) for axis, (size, result) in enumerate(pairs, start=2)]
    kernel = resample(data.view, data.buffer.size, target.view, target.buffer.size, taps, lowerer.machine.lanes)
    tables = [
        buffer
        for each in taps
        for buffer in (lowerer.constant(each.places, DType.I32), lowerer.constant(each.weights, DType.F32))
    ]
    lowerer.call(kernel, [data.buffer, *tables, target.buffer], (op,))

"""Normalizations of channels: InstanceNormalization, GroupNormalization, and BatchNormalization at inference.

Law: of many elements the mean is the mean of means, so that no sum is of more than a part of them, one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from irc.ir import DType, Op

from .kernel import Writer, literal, product
from .loops import Body, elementwise
from .lowerer import Lowerer
from .places import Buffer, Place
from .reductions import ReductionRequest, reduction
from .regions import Region
from .rows import Affine, RowRequest, layer_normalization
from .views import View

LONGEST_SUM = 1 << 12
"""Elements that are summed one after the other: an error of about 1e-5 of the sum."""


def lower_group_normalization(lowerer: Lowerer, region: Region) -> None:
    """InstanceNormalization and GroupNormalization: rows are the elements of a channel, or of a group of them."""
    op = region.op
    source, *operands = (lowerer.place(op.needed(index)) for index in range(3))
    target = lowerer.fresh_like(op.result, [source])
    groups = op.integer("num_groups", source.view.shape[1])
    shape = (source.view.shape[0], groups, source.view.shape[1] // groups, *source.view.shape[2:])
    views = [place.view.reshaped(shape) for place in (source, target)]
    assert views[0] is not None
    assert views[1] is not None, "one axis is always split"
    scale, bias = (_of_channels(place.view, shape) for place in operands)
    epsilon = _epsilon(op)
    lies_apart = source.view.strides[-1] != 1
    if lies_apart and len(shape) > 4 and product(shape[2:]) > LONGEST_SUM:
        norm = _Normalization(Place(source.buffer, views[0]), Place(target.buffer, views[1]), epsilon)
        return norm.lower(lowerer, op, operands, (scale, bias))
    request = RowRequest(views[0], views[1], lowerer.machine.lanes, len(shape) - 2)
    kernel = layer_normalization(request, epsilon, Affine(scale, bias))
    return lowerer.call(kernel, [source.buffer, *(place.buffer for place in operands), target.buffer], (op,))


def _epsilon(op: Op) -> float:
    epsilon = op.attributes.get("epsilon", 1e-5)
    assert isinstance(epsilon, float)
    return epsilon


class _Normalization:
    """Views [batch, groups, channels of a group, spatial...] whose groups are normalized in several kernels."""

    def __init__(self, source: Place, target: Place, epsilon: float) -> None:
        self.source, self.target, self.epsilon = source, target, epsilon

    def lower(self, lowerer: Lowerer, op: Op, operands: Sequence[Place], affine: tuple[View, View]) -> None:
        """The means, what is left without them, its mean squares, and then the result."""
        source, shape = self.source, self.source.view.shape
        mean = _mean(lowerer, op, source, "ReduceMean")
        order = sorted(range(len(shape)), key=lambda axis: -source.view.strides[axis])
        lying = View.dense([shape[axis] for axis in order]).permuted([order.index(axis) for axis in range(len(shape))])
        centred = Place(Buffer(DType.F32, lying.size), lying)
        _call(lowerer, op, [source, mean], centred, lambda writer, names: f"{names[0]} - {names[1]}")
        squares = _mean(lowerer, op, centred, "ReduceSumSquare")

        def body(writer: Writer, names: Sequence[str]) -> str:
            centre, square, scale, bias = names
            root = f"T.sqrt({square} / {literal(product(shape[2:]), 'float32')} + {literal(self.epsilon, 'float32')})"
            return f"{centre} / {writer.value('float32', root)} * {scale} + {bias}"

        pairs = zip(operands, affine, strict=True)
        _call(lowerer, op, [centred, squares, *(Place(p.buffer, view) for p, view in pairs)], self.target, body)


def _mean(lowerer: Lowerer, op: Op, source: Place, name: str) -> Place:
    """The mean of each group, or the sum of its squares, first for each index of the first spatial axis; seen everywhere."""
    shape = source.view.shape
    kept = (*shape[:2], shape[3])
    parts, whole = Buffer(DType.F32, product(kept)), Buffer(DType.F32, product(kept[:2]))
    axes, lanes = (2, *range(4, len(shape))), lowerer.machine.lanes
    first = reduction(name, ReductionRequest(source.view, axes, View.dense(kept), DType.F32, lanes))
    lowerer.call(first, [source.buffer, parts], (op,))
    rest = "ReduceSum" if name == "ReduceSumSquare" else name
    second = reduction(rest, ReductionRequest(View.dense(kept), (2,), View.dense(kept[:2]), DType.F32, lanes))
    lowerer.call(second, [parts, whole], (op,))
    return Place(whole, View(shape, (shape[1], 1, *(0 for _ in shape[2:]))))


def _call(lowerer: Lowerer, op: Op, places: Sequence[Place], target: Place, body: Body) -> None:
    kernel = elementwise(
        target.dtype, target.view, [(place.dtype, place.view) for place in places], body, lowerer.machine.lanes
    )
    lowerer.call(kernel, [*(place.buffer for place in places), target.buffer], (op,))


def lower_statistics(lowerer: Lowerer, op: Op, source: Place, axes: tuple[int, ...]) -> None:
    """The means of a LayerNormalization, and 1 / sqrt(variance + epsilon), its second and third result."""
    shape, lanes, epsilon = source.view.shape, lowerer.machine.lanes, _epsilon(op)
    kept = View.dense([1 if axis in axes else size for axis, size in enumerate(shape)])
    flat = View.dense([size for axis, size in enumerate(shape) if axis not in axes])
    mean = Place(Buffer(DType.F32, kept.size), kept)
    request = ReductionRequest(source.view, axes, flat, DType.F32, lanes)
    lowerer.call(reduction("ReduceMean", request), [source.buffer, mean.buffer], (op,))
    centred = Place(Buffer(DType.F32, source.view.size), View.dense(shape))
    _call(
        lowerer, op, [source, Place(mean.buffer, kept.broadcast(shape))], centred, lambda _, names: f"{names[0]} - {names[1]}"
    )
    squares = Place(Buffer(DType.F32, kept.size), kept)
    request = ReductionRequest(centred.view, axes, flat, DType.F32, lanes)
    lowerer.call(reduction("ReduceSumSquare", request), [centred.buffer, squares.buffer], (op,))
    count = literal(product([shape[axis] for axis in axes]), "float32")

    def deviation(writer: Writer, names: Sequence[str]) -> str:
        root = writer.value("float32", f"T.sqrt({names[0]} / {count} + {literal(epsilon, 'float32')})")
        return f"T.float32(1) / {root}"

    _call(lowerer, op, [mean], lowerer.fresh(op.results[1]), lambda _, names: names[0])
    if len(op.results) > 2:
        _call(lowerer, op, [squares], lowerer.fresh(op.results[2]), deviation)


def _of_channels(view: View, shape: tuple[int, ...]) -> View:
    """A number a channel as a view of [batch, groups, channels of a group, spatial...]."""
    (step,) = view.strides
    strides = (0, step * shape[2], step, *(0 for _ in shape[3:]))
    return View(shape, strides, view.offset)


def lower_batch_normalization(lowerer: Lowerer, region: Region) -> None:
    """BatchNormalization at inference: scale, bias, mean and variance are those of channels."""
    op = region.op
    places = [lowerer.place(op.needed(index)) for index in range(5)]
    target = lowerer.fresh_like(op.result, places[:1])
    shape = target.view.shape
    views = [View(shape, (0, *p.view.strides, *(0 for _ in shape[2:])), p.view.offset) for p in places[1:]]
    epsilon = _epsilon(op)

    def body(writer: Writer, names: Sequence[str]) -> str:
        x, scale, bias, mean, variance = names
        root = writer.value("float32", f"T.sqrt({variance} + {literal(epsilon, 'float32')})")
        return f"({x} - {mean}) / {root} * {scale} + {bias}"

    operands = [(places[0].dtype, places[0].view), *((DType.F32, view) for view in views)]
    kernel = elementwise(target.dtype, target.view, operands, body, lowerer.machine.lanes)
    lowerer.call(kernel, [*(place.buffer for place in places), target.buffer], (op,))

"""From a graph to calls of kernels: every value gets a place, ops are grouped into what one kernel does.

Law: calls are in an order in which every buffer is filled before it is read; a buffer is written by the calls in front of all
that read it and by no other.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Graph, Op, Tensor, Value

from .axes import Contraction
from .expressions import dtype_of, only_user, shape_of
from .kernel import Kernel, product
from .loops import elementwise
from .movement import moved
from .narrow import arithmetic_of, bytes_of, constant_of, content_of, narrow
from .places import Buffer, Call, Fill, Place, Storage
from .products import Window, window_of
from .tiling import Machine, Tiling
from .views import View
from .ways import AS_MODELLED, Ways
from .windows import filled
from .winograd import border_for

LARGEST_SHARED = 1 << 14
"""Bytes up to which constants are compared."""


SMALLEST_PACKED_ONCE = 1 << 18
"""Bytes of a constant from which on it matters that it is there in one form only."""

FEW_CHANNELS = 4
"""Channels that are read as well one after the other as side by side: those of the pictures that come in."""

Border = tuple[tuple[int, ...], tuple[int, ...]]
"""How many zeros there are in front of and behind each spatial axis of an image."""


@dataclass
class Known:
    """The constants that there are: small ones by their bytes, large ones by where they lie, and what is made of them."""

    small: dict[tuple[DType, bytes], Buffer] = field(default_factory=dict[tuple[DType, bytes], Buffer])
    large: dict[tuple[int, tuple[int, ...], tuple[int, ...]], Buffer] = field(
        default_factory=dict[tuple[int, tuple[int, ...], tuple[int, ...]], Buffer]
    )
    prepared: dict[tuple[Tensor, Hashable], Buffer] = field(default_factory=dict[tuple[Tensor, Hashable], Buffer])
    widths: dict[tuple[Tensor, Hashable], int] = field(default_factory=dict[tuple[Tensor, Hashable], int])


@dataclass
class Lowerer:
    """The calls made so far, and where values are; `borders` are those that the readers of images want."""

    graph: Graph
    machine: Machine
    ways: Ways = AS_MODELLED
    known: Known = field(default_factory=Known)
    calls: list[Call] = field(default_factory=list[Call])
    places: dict[Value, Place] = field(default_factory=dict[Value, Place])
    status: Buffer = field(default_factory=lambda: Buffer(DType.I32, 1, Storage.STATUS))
    borders: dict[Value, Border] = field(default_factory=dict[Value, Border])
    _bordered: dict[Value, Border] = field(default_factory=dict[Value, Border])
    _zeros: dict[Value, int] = field(default_factory=dict[Value, int])
    _channels: dict[Value, int] = field(default_factory=dict[Value, int])
    _copies: dict[tuple[Value, tuple[int, ...], tuple[int, ...]], Place] = field(
        default_factory=dict[tuple[Value, tuple[int, ...], tuple[int, ...]], Place]
    )
    _joined: dict[Value, tuple[Value, int, int]] = field(default_factory=dict[Value, tuple[Value, int, int]])
    _outputs: dict[Value, int] = field(default_factory=dict[Value, int])

    def __post_init__(self) -> None:
        for index, value in enumerate(self.graph.inputs):
            buffer = Buffer(dtype_of(value), product(shape_of(value)), Storage.INPUT, index=index)
            self.places[value] = Place(buffer, View.dense(shape_of(value)))
        for index, value in enumerate(self.graph.outputs):
            self._outputs.setdefault(value, index)
        for op in self.graph:
            weights = constant_of(op.needed(1)) if op.is_a("Conv") else None
            if weights is not None:
                window = window_of(op, weights.shape[2:], shape_of(op.needed(0))[2:])
                image, lying = self.image_of(op), bytes_of(op.needed(0))
                self._want_border(image, border_for(op, window, self.machine))
                if lying is not None and image is not op.needed(0):
                    self._zeros[image] = lying.zero
                if image is not op.needed(0) and op.integer("group", 1) == 1:
                    self._channels[image] = _filled_up(weights.shape[1], image)

        for op in self.graph:
            if op.is_a("Concat") and not op.result.is_output and len(shape_of(op.result)) > 2:
                self._join(op)

    def image_of(self, op: Op) -> Value:
        """The value that the kernel of a Conv reads: what lies behind its operand, where lanes are full of its channels.

        Without groups they are filled up with more of them. Those of a depthwise Conv, each a sum of its own, are widened.
        """
        value = op.needed(0)
        lying, weights, arithmetic = narrow(value), constant_of(op.needed(1)), arithmetic_of(op, self.machine)
        if lying is None or weights is None or arithmetic is None:
            return value
        groups, (outer, inner) = op.integer("group", 1), weights.shape[:2]
        depthwise = groups > 1 and inner == 1 and outer == groups
        full = inner > 1 if groups == 1 else inner % arithmetic.together == 0
        return lying if depthwise or full else value

    def _join(self, op: Op) -> None:
        """Note the images that nothing but a Concat reads: they are made where its result will be."""
        axis, start = op.integer("axis", 0) % len(shape_of(op.result)), 0
        for value in filter(None, op.operands):
            if only_user(value) is op and value.op is not None and value not in self.borders and dtype_of(value) is DType.F32:
                self._joined[value] = op.result, axis, start
            start += shape_of(value)[axis]

    def _want_border(self, value: Value, window: Window) -> None:
        """Note that an image is read with a border, of which it gets the widest."""
        if window.is_padded:
            begins, ends = self.borders.get(value, (window.begins, window.ends))
            widest = tuple(map(max, begins, window.begins)), tuple(map(max, ends, window.ends))
            self.borders[value] = widest

    def tiling(self, wanted: Contraction, weights: Tensor | None = None, how: Hashable = None) -> Tiling:
        """How a contraction, its axes collapsed, is cut; large constants are packed as they were for another one."""
        if weights is None or weights.byte_count < SMALLEST_PACKED_ONCE:
            return self.ways.tiling(wanted, self.machine)
        chosen = self.ways.tiling(wanted, self.machine, self.known.widths.get((weights, how)))
        self.known.widths.setdefault((weights, how), chosen.vectors)
        return chosen

    def place(self, value: Value) -> Place:
        """Where a value is; a constant is put somewhere when it is first asked for."""
        if value not in self.places:
            tensor = value.constant
            assert tensor is not None, "every op in front has been lowered"
            self.places[value] = Place(self.constant(tensor.array, tensor.dtype), View.dense(tensor.shape))
        return self.places[value]

    def constant(self, content: NDArray[np.generic], dtype: DType) -> Buffer:
        """A buffer of constants in row-major order; small ones with equal contents are one, large ones in one place, too."""
        if content.nbytes > LARGEST_SHARED:
            memory = (content.ctypes.data, content.shape, content.strides)
            return self.known.large.setdefault(memory, Buffer(dtype, content.size, Storage.CONSTANT, _copying(content)))
        key = (dtype, content.tobytes())
        return self.known.small.setdefault(key, Buffer(dtype, content.size, Storage.CONSTANT, _copying(content)))

    def know(self, op: Op) -> None:
        """Place the result of an op that widens a constant; it is made, when compiling, only if somebody reads it so."""

        def fill(target: NDArray[np.uint8]) -> None:
            target.view(np.float32)[...] = content_of(op.result).reshape(-1)

        buffer = Buffer(DType.F32, product(shape_of(op.result)), Storage.CONSTANT, fill)
        self.places[op.result] = Place(buffer, View.dense(shape_of(op.result)))

    def prepared(self, tensor: Tensor, how: Hashable, size: int, fill: Fill, dtype: DType = DType.F32) -> Buffer:
        """A buffer of what is made of a constant in one way, such as its packed form; one for all who ask for the same."""
        return self.known.prepared.setdefault((tensor, how), Buffer(dtype, size, Storage.CONSTANT, fill))

    def fresh(self, value: Value, view: View | None = None) -> Place:
        """New memory for a value, dense unless a view says how it lies; noted as its place.

        An output that is returned once is made where the caller will find it.
        """
        shape = shape_of(value)
        if view is None and value.is_output and value in self._outputs:
            buffer = Buffer(dtype_of(value), product(shape), Storage.OUTPUT, index=self._outputs[value])
        else:
            buffer = Buffer(dtype_of(value), product(shape))
        self.places[value] = Place(buffer, View.dense(shape) if view is None else view)
        self._bordered.pop(value, None)
        return self.places[value]

    def fresh_like(self, value: Value, places: Sequence[Place]) -> Place:
        """New memory for a value that lies as the first of `places` of its shape does, or as its readers want it."""
        shape = shape_of(value)
        if value.is_output:
            return self.fresh(value)
        like = next((place.view for place in places if place.view.shape == shape), None)
        is_image = like is not None and len(shape) > 2 and like.strides[1] == 1 and shape[1] > 1
        if is_image or value in self.borders or value in self._channels:
            return self.fresh_image(value)
        if like is None:
            return self.fresh(value)
        order = sorted(range(len(shape)), key=lambda axis: -like.strides[axis] if shape[axis] > 1 else 0)
        lying = View.dense([shape[axis] for axis in order])
        return self.fresh(value, lying.permuted([order.index(axis) for axis in range(len(shape))]))

    def fresh_image(self, value: Value) -> Place:
        """New memory for an image [batch, channels, spatial...]: channels side by side, in the border its readers want."""
        if value in self._joined:
            whole, axis, start = self._joined[value]
            place = self.places.get(whole) or self.fresh_image(whole)
            self.places[value] = Place(place.buffer, place.view.sliced(axis, start, shape_of(value)[axis]))
            return self.places[value]
        begins, ends = self.borders.get(value, ((0,) * (len(shape_of(value)) - 2),) * 2)
        ops = [] if value.op is None else [value.op]
        place = self._image(shape_of(value), begins, ends, ops, dtype_of(value), value)
        self.places[value], self._bordered[value] = place, (begins, ends)
        return place

    def _image(
        self,
        shape: tuple[int, ...],
        begins: tuple[int, ...],
        ends: tuple[int, ...],
        ops: Sequence[Op],
        dtype: DType = DType.F32,
        value: Value | None = None,
    ) -> Place:
        """Memory with the border, and what else the readers of a value want, filled, and the place of what is inside."""
        batch, channels, *sizes = shape
        around = [size + begin + end for size, begin, end in zip(sizes, begins, ends, strict=True)]
        wanted = channels if value is None else self._channels.get(value, channels)
        whole = View.dense((batch, *around, wanted))
        buffer = Buffer(dtype, whole.size)
        slabs: list[View] = []
        inside = whole.sliced(len(whole.shape) - 1, 0, channels)
        for axis, (size, begin, end) in enumerate(zip(sizes, begins, ends, strict=True), start=1):
            slabs += [inside.sliced(axis, 0, begin)] if begin else []
            slabs += [inside.sliced(axis, begin + size, end)] if end else []
            inside = inside.sliced(axis, begin, size)
        if wanted > channels:
            slabs = [View.dense((whole.size,))]
        if slabs:
            content = 0 if value is None else self._zeros.get(value, 0)
            self.call(filled(buffer.size, slabs, self.machine.lanes, dtype, content), [buffer], ops)
        last = len(whole.shape) - 1
        return Place(buffer, inside.permuted((0, last, *range(1, last))))

    def bordered(self, value: Value, window: Window) -> Place:
        """An image with zeros around it, channels side by side where there are more than a few; copied where it is not so."""
        place = self.place(value)
        begins, ends = window.begins, window.ends
        has, channels = self._bordered.get(value), self._channels.get(value)
        wide = place.view.shape[1] > FEW_CHANNELS and place.view.strides[1] != 1
        if not wide and not window.is_padded and channels is None:
            return place
        if has is None or wide or any(a < b for a, b in zip((*has[0], *has[1]), (*begins, *ends), strict=True)):
            key = (value, begins, ends)
            if key not in self._copies:
                ops = [] if value.op is None else [value.op]
                self._copies[key] = self._image(place.view.shape, begins, ends, ops, place.dtype, value)
                self.copy(place, self._copies[key], ops)
            place = self._copies[key]
        view = place.view
        offset = view.offset - sum(begin * step for begin, step in zip(begins, view.strides[2:], strict=True))
        sizes = (size + begin + end for size, begin, end in zip(view.shape[2:], begins, ends, strict=True))
        return Place(place.buffer, View((view.shape[0], channels or view.shape[1], *sizes), view.strides, offset))

    def with_channels_last(self, value: Value) -> Place:
        """An image whose channels lie side by side, a copy where they do not."""
        place = self.place(value)
        if place.view.strides[1] == 1 or place.view.shape[1] == 1:
            return place
        none = (0,) * (len(place.view.shape) - 2)
        key = (value, none, none)
        if key not in self._copies:
            ops = [] if value.op is None else [value.op]
            self._copies[key] = self._image(place.view.shape, none, none, ops)
            self.copy(place, self._copies[key], ops)
        return self._copies[key]

    def return_outputs(self) -> None:
        """Copy what is not yet where the caller will find it: inputs, constants, views, and what is returned twice."""
        for index, value in enumerate(self.graph.outputs):
            place = self.place(value)
            if place.buffer.storage is Storage.OUTPUT and place.buffer.index == index:
                continue
            target = Buffer(place.dtype, place.view.size, Storage.OUTPUT, index=index)
            self.copy(place, Place(target, View.dense(place.view.shape)), [value.op] if value.op is not None else [])

    def copy(self, source: Place, target: Place, ops: Sequence[Op]) -> None:
        """One more call, which copies elements."""
        operand = (source.dtype, source.view)
        kernel = elementwise(target.dtype, target.view, [operand], lambda writer, names: names[0], self.machine.lanes)
        self.call(kernel, (source.buffer, target.buffer), ops)

    def dense(self, value: Value) -> Place:
        """The place of a value whose elements lie in row-major order, a copy where they do not yet."""
        place = self.place(value)
        if place.view.is_dense:
            return place
        copied = Place(Buffer(place.dtype, place.view.size), View.dense(place.view.shape))
        self.copy(place, copied, [] if value.op is None else [value.op])
        return copied

    def call(
        self,
        kernel: Kernel,
        buffers: Sequence[Buffer],
        ops: Sequence[Op],
        replaceable: Sequence[Buffer] = (),
        beside: Sequence[Buffer] = (),
    ) -> None:
        """One more call."""
        assert kernel.arity == len(buffers)
        self.calls.append(Call(kernel, tuple(buffers), tuple(ops), tuple(replaceable), tuple(beside)))

    def view(self, op: Op) -> bool:
        """Give the results of an op that only moves elements other views of its operand; False where that cannot be."""
        source = self.place(op.needed(0))
        views = moved(op, source.view)
        if views is None:
            return False
        self.places.update((result, Place(source.buffer, view)) for result, view in zip(op.results, views, strict=True))
        return True


def _filled_up(channels: int, image: Value) -> int:
    """Channels of an image with as many more as fill its last lane."""
    together = 2 if dtype_of(image) is DType.BF16 else 4
    return -(-channels // together) * together


def _copying(content: NDArray[np.generic]) -> Fill:
    def fill(target: NDArray[np.uint8]) -> None:
        target.view(content.dtype).reshape(content.shape)[...] = content

    return fill


Lower = Callable[[Lowerer, Op], None]
"""Makes the calls of an op, none of which has been made yet, and places its results."""

__all__ = ["Known", "Lower", "Lowerer"]

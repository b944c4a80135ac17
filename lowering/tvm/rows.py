"""Normalizations and softmaxes: every element of a row is changed by what all elements of the row are together.

Law: means, variances and sums are those of f32 in partial sums, and NaN and infinities do what ONNX Runtime has them do.
Elements of a row are read again for each pass over it, from the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from irc.ir import DType

from .kernel import Kernel, Writer, literal, product, tir_name
from .lanes import extent, merged
from .loops import Body
from .mathematics import exp_of_nonpositive, log
from .spans import SUM, Hook, Monoid, Row, each_row
from .views import View

GREATEST = Monoid("T.max({0}, {1})", float("-inf"))

LARGEST_ROW = 1 << 14
"""Elements of a row that are kept on the stack where a prologue makes them."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What is made of each result before it is stored as `dtype`: `body` takes it, and the elements of operands beside it.

    Operands are views of the shape of the elements. Where there is a view `kept`, results are stored there as they are, too.
    """

    dtype: DType
    operands: Sequence[tuple[DType, View]]
    body: Body
    kept: View | None = None

    @property
    def views(self) -> list[View]:
        """The operands' views, then the one that results are kept in."""
        return [*(view for _, view in self.operands), *([] if self.kept is None else [self.kept])]

    def seen(self, views: Sequence[View]) -> Behind:
        """The same with other views in the order of `views`."""
        pairs = zip(self.operands, views, strict=False)
        kept = None if self.kept is None else views[-1]
        return replace(self, operands=[(dtype, view) for (dtype, _), view in pairs], kept=kept)


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A function of rows: f32 views of one shape, of which the last `reduced` axes make a row, and the lanes of a vector.

    `prologue` makes an element of what was loaded, once for each element. It is called inside vectorized loops with the index
    of the element, a text an axis of `source`, and maybe in several places of the kernel; buffers of its own come behind those
    of the kernel, in the order in which it first asks for them. What is made of results is said by `behind`, whose operands
    and kept results have their pointers just in front of that of the target.
    """

    source: View
    target: View
    lanes: int
    reduced: int = 1
    prologue: Hook | None = None
    behind: Behind | None = None

    @property
    def dtype(self) -> DType:
        """The element type of the target."""
        return DType.F32 if self.behind is None else self.behind.dtype

    @property
    def fits(self) -> bool:
        """Whether rows fit the stack, as many as a vector has lanes."""
        return product(self.source.shape[-self.reduced :]) * self.lanes <= 4 * LARGEST_ROW


@dataclass(frozen=True, slots=True)
class Affine:
    """What a normalized element is multiplied by and what is added then: views of the shape of the elements."""

    scale: View | None = None
    bias: View | None = None


def layer_normalization(request: RowRequest, epsilon: float, affine: Affine) -> Kernel:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias of each row; also that of groups, of instances and of batches.

    The pointers are those of source, scale and bias, where there are any, those that `behind` asks for, and target.
    """
    return _normalization(request, epsilon, affine, centred=True)


def rms_normalization(request: RowRequest, epsilon: float, affine: Affine) -> Kernel:
    """x / sqrt(mean of squares + epsilon) * scale of each row; pointers as for `layer_normalization`."""
    return _normalization(request, epsilon, affine, centred=False)


def softmax(request: RowRequest) -> Kernel:
    """exp(x - greatest) / sum of each row; the pointers are those of source and target."""

    def body(w: Writer, row: Row, elements: _Elements) -> None:
        elements.make_room_between()
        most = row.reduce("float32", GREATEST, elements.first)

        def powers(index: Sequence[str]) -> str:
            power = _power(w, row, elements, most, index)
            w.line(f"{elements.between(index)} = {power}")
            return power

        total = row.reduce("float32", SUM, powers)
        row.results(lambda: w.line(f"{row.of(total)} = T.float32(1) / {row.of(total)}"))
        row.elements(lambda index: elements.store(index, f"{elements.between(index)} * {row.of(total)}"))

    return _softmax(request, body)


def log_softmax(request: RowRequest) -> Kernel:
    """x - greatest - log(sum of exp(x - greatest)) of each row; the pointers are those of source and target."""

    def body(w: Writer, row: Row, elements: _Elements) -> None:
        most = row.reduce("float32", GREATEST, elements.first)
        total = row.reduce("float32", SUM, lambda index: _power(w, row, elements, most, index))
        row.results(lambda: w.line(f"{row.of(total)} = {log(w, w.value('float32', row.of(total)))}"))
        row.elements(lambda index: elements.store(index, f"{elements.again(index)} - {row.of(most)} - {row.of(total)}"))

    return _softmax(request, body)


def _softmax(request: RowRequest, body: Callable[[Writer, Row, _Elements], None]) -> Kernel:
    """The kernel of rows of which `body` writes one."""
    request, _ = _arranged(request, Affine())
    w = Writer()
    buffers = _Buffers(w, request, Affine())

    def each(row: Row) -> None:
        body(w, row, _Elements(request, row, buffers))

    return w.kernel(each_row(w, request.source, request.reduced, request.lanes, each), 12 * request.source.size)


def _power(w: Writer, row: Row, elements: _Elements, most: str, index: Sequence[str]) -> str:
    """exp(x - greatest) of an element."""
    return exp_of_nonpositive(w, w.value("float32", f"{elements.again(index)} - {row.of(most)}"))


def _normalization(request: RowRequest, epsilon: float, affine: Affine, centred: bool) -> Kernel:
    request, affine = _arranged(request, affine)
    w = Writer()
    buffers = _Buffers(w, request, affine)
    count = literal(product(request.source.shape[-request.reduced :]), "float32")

    def body(row: Row) -> None:
        elements = _Elements(request, row, buffers)
        mean = ""
        if centred:
            mean = row.reduce("float32", SUM, elements.first)
            row.results(lambda: w.line(f"{row.of(mean)} = {row.of(mean)} / {count}"))

        def square(index: Sequence[str]) -> str:
            each = elements.again(index) if centred else elements.first(index)
            each = w.value("float32", f"{each} - {row.of(mean)}" if centred else each)
            return f"{each} * {each}"

        def result(index: Sequence[str]) -> None:
            each = elements.again(index)
            text = f"({each} - {row.of(mean)}) * {row.of(inverse)}" if centred else f"{each} * {row.of(inverse)}"
            if affine.scale is not None:
                text = f"{text} * {buffers.scale}[{affine.scale.at(*index)}]"
            if affine.bias is not None:
                text = f"{text} + {buffers.bias}[{affine.bias.at(*index)}]"
            elements.store(index, text)

        inverse = row.reduce("float32", SUM, square)
        root = f"T.sqrt({{}} / {count} + {literal(epsilon, 'float32')})"
        row.results(lambda: w.line(f"{row.of(inverse)} = T.float32(1) / {root.format(row.of(inverse))}"))
        row.elements(result)

    return w.kernel(each_row(w, request.source, request.reduced, request.lanes, body), 8 * request.source.size)


def _arranged(request: RowRequest, affine: Affine) -> tuple[RowRequest, Affine]:
    """The same with fewer axes, neighbours in memory being one, and those of a row in the order of memory.

    Not where there is a prologue, whose index is that of the axes as they were.
    """
    if request.prologue is not None:
        return request, affine
    given = [view for view in (request.source, request.target, affine.scale, affine.bias) if view is not None]
    given += [] if request.behind is None else request.behind.views
    first = len(request.source.shape) - request.reduced
    inner = sorted(range(first, len(request.source.shape)), key=lambda axis: -request.source.strides[axis])
    outside = merged([view.permuted(range(first)) for view in given])
    inside = merged([view.permuted(inner) for view in given])
    views = [
        View(outer.shape + row.shape, outer.strides + row.strides, view.offset)
        for view, outer, row in zip(given, outside, inside, strict=True)
    ]
    made = iter(views)
    changed = replace(request, source=next(made), target=next(made), reduced=len(inside[0].shape))
    scale = next(made) if affine.scale is not None else None
    affine = Affine(scale, next(made) if affine.bias is not None else None)
    return (changed if changed.behind is None else replace(changed, behind=changed.behind.seen(list(made)))), affine


class _Buffers:
    """The buffers of a kernel, in the order of its pointers."""

    def __init__(self, writer: Writer, request: RowRequest, affine: Affine) -> None:
        behind = request.behind
        self.source = writer.buffer(DType.F32, extent(request.source))
        self.scale, self.bias = (
            "" if view is None else writer.buffer(DType.F32, extent(view)) for view in (affine.scale, affine.bias)
        )
        operands: Sequence[tuple[DType, View]] = () if behind is None else behind.operands
        names = [writer.buffer(dtype, extent(view)) for dtype, view in operands]
        kept = None if behind is None else behind.kept
        self.kept = "" if kept is None else writer.buffer(DType.F32, extent(kept))
        self.target = writer.buffer(request.dtype, extent(request.target))
        self.operands = [_reader(writer, name, *each) for name, each in zip(names, operands, strict=True)]


def _reader(writer: Writer, name: str, dtype: DType, view: View) -> Callable[[Sequence[str]], str]:
    """How an operand is read at an index; what is one number for all elements is read here, once for a task."""
    if all(size == 1 or step == 0 for size, step in zip(view.shape, view.strides, strict=True)):
        number = writer.value(tir_name(dtype), f"{name}[{view.offset}]")
        return lambda index: number
    return lambda index: writer.value(tir_name(dtype), f"{name}[{view.at(*index)}]")


class _Elements:
    """The elements of a row: as they are in memory, or on the stack where a prologue makes them."""

    def __init__(self, request: RowRequest, row: Row, buffers: _Buffers) -> None:
        self.request, self.row, self.buffers = request, row, buffers
        self.writer, self.made, self.stack = row.writer, "", ""
        if request.prologue is not None:
            self.made = self._room("a prologue")

    def first(self, index: Sequence[str]) -> str:
        """An element, the first time that it is read."""
        loaded = f"{self.buffers.source}[{self.request.source.at(*index)}]"
        if self.request.prologue is None:
            return loaded
        value = self.request.prologue(self.writer, self.writer.value("float32", loaded), index)
        self.writer.line(f"{self._lying(self.made, index)} = {value}")
        return self._lying(self.made, index)

    def again(self, index: Sequence[str]) -> str:
        """An element, any later time."""
        return f"{self.buffers.source}[{self.request.source.at(*index)}]" if not self.made else self._lying(self.made, index)

    def make_room_between(self) -> None:
        """Have the stack for what is stored in between, where the result is not f32."""
        if self.request.dtype is not DType.F32:
            self.stack = self._room("a result that is not f32")

    def between(self, index: Sequence[str]) -> str:
        """Where something is stored in between: where the result will be, or on the stack."""
        return self._lying(self.stack, index) if self.stack else self.place(index)

    def place(self, index: Sequence[str]) -> str:
        """Where the result is stored."""
        return f"{self.buffers.target}[{self.request.target.at(*index)}]"

    def store(self, index: Sequence[str], text: str) -> None:
        """Store a result, and what is made of it."""
        w, behind = self.writer, self.request.behind
        if behind is not None:
            names = [w.value("float32", text)]
            if behind.kept is not None:
                w.line(f"{self.buffers.kept}[{behind.kept.at(*index)}] = {names[0]}")
            text = behind.body(w, [*names, *(read(index) for read in self.buffers.operands)])
        w.line(f"{self.place(index)} = {text}")

    def _room(self, reason: str) -> str:
        """An array on the stack for the elements of a row, or of as many as a vector has lanes."""
        row = product(self.request.source.shape[-self.request.reduced :])
        size = row * (self.row.lanes if self.row.beside is not None else 1)
        if size > 4 * LARGEST_ROW:
            raise ValueError(f"a row of {row} elements is too long for {reason}")
        return self.writer.local("float32", size)

    def _lying(self, array: str, index: Sequence[str]) -> str:
        """The place of an element in such an array."""
        shape = self.request.source.shape[-self.request.reduced :]
        place = View.dense(shape).at(*index[-self.request.reduced :])
        return f"{array}[{self.row.beside_place(place)}]"

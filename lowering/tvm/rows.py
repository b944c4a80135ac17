"""Normalizations and softmaxes: every element of a row is changed by what all elements of the row are together.

Law: means, variances and sums are those of f32 in partial sums, and NaN and infinities do what ONNX Runtime has them do.
Elements of a row are read again for each pass over it, from the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from irc.ir import DType

from .kernel import Kernel, Writer, literal, product
from .lanes import extent, merged
from .mathematics import exp_of_nonpositive, log
from .spans import SUM, Hook, Monoid, Row, each_row
from .views import View

GREATEST = Monoid("T.max({0}, {1})", float("-inf"))

LARGEST_ROW = 1 << 14
"""Elements of a row that are kept on the stack where a prologue makes them."""


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A function of rows: f32 views of one shape, of which the last `reduced` axes make a row, and the lanes of a vector.

    `prologue` makes an element of what was loaded, once for each element; `epilogue` what is stored of what was computed.
    Either is called inside vectorized loops with the index of the element, a text an axis of `source`, and maybe in several
    places of the kernel; buffers of theirs come behind those of the kernel, in the order in which they first ask for them.
    """

    source: View
    target: View
    lanes: int
    reduced: int = 1
    prologue: Hook | None = None
    epilogue: Hook | None = None


@dataclass(frozen=True, slots=True)
class Affine:
    """What a normalized element is multiplied by and what is added then: views of the shape of the elements."""

    scale: View | None = None
    bias: View | None = None


def layer_normalization(request: RowRequest, epsilon: float, affine: Affine) -> Kernel:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias of each row; also that of groups, of instances and of batches.

    The pointers are those of source, scale and bias, where there are any, and target.
    """
    return _normalization(request, epsilon, affine, centred=True)


def rms_normalization(request: RowRequest, epsilon: float, affine: Affine) -> Kernel:
    """x / sqrt(mean of squares + epsilon) * scale of each row; pointers as for `layer_normalization`."""
    return _normalization(request, epsilon, affine, centred=False)


def softmax(request: RowRequest) -> Kernel:
    """exp(x - greatest) / sum of each row; the pointers are those of source and target."""

    def body(w: Writer, row: Row, elements: _Elements) -> None:
        most = row.reduce("float32", GREATEST, elements.first)

        def powers(index: Sequence[str]) -> str:
            power = _power(w, row, elements, most, index)
            w.line(f"{elements.place(index)} = {power}")
            return power

        total = row.reduce("float32", SUM, powers)
        row.results(lambda: w.line(f"{row.of(total)} = T.float32(1) / {row.of(total)}"))
        row.elements(lambda index: elements.store(index, f"{elements.place(index)} * {row.of(total)}"))

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
    source, target = (w.buffer(DType.F32, extent(view)) for view in (request.source, request.target))

    def each(row: Row) -> None:
        body(w, row, _Elements(request, row, source, target))

    return w.kernel(each_row(w, request.source, request.reduced, request.lanes, each), 12 * request.source.size)


def _power(w: Writer, row: Row, elements: _Elements, most: str, index: Sequence[str]) -> str:
    """exp(x - greatest) of an element."""
    return exp_of_nonpositive(w, w.value("float32", f"{elements.again(index)} - {row.of(most)}"))


def _normalization(request: RowRequest, epsilon: float, affine: Affine, centred: bool) -> Kernel:
    request, affine = _arranged(request, affine)
    w = Writer()
    source = w.buffer(DType.F32, extent(request.source))
    scale, bias = ("" if view is None else w.buffer(DType.F32, extent(view)) for view in (affine.scale, affine.bias))
    target = w.buffer(DType.F32, extent(request.target))
    count = literal(product(request.source.shape[-request.reduced :]), "float32")

    def body(row: Row) -> None:
        elements = _Elements(request, row, source, target)
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
                text = f"{text} * {scale}[{affine.scale.at(*index)}]"
            if affine.bias is not None:
                text = f"{text} + {bias}[{affine.bias.at(*index)}]"
            elements.store(index, text)

        inverse = row.reduce("float32", SUM, square)
        root = f"T.sqrt({{}} / {count} + {literal(epsilon, 'float32')})"
        row.results(lambda: w.line(f"{row.of(inverse)} = T.float32(1) / {root.format(row.of(inverse))}"))
        row.elements(result)

    return w.kernel(each_row(w, request.source, request.reduced, request.lanes, body), 8 * request.source.size)


def _arranged(request: RowRequest, affine: Affine) -> tuple[RowRequest, Affine]:
    """The same with fewer axes, neighbours in memory being one, and those of a row in the order of memory.

    Not where there are hooks, whose index is that of the axes as they were.
    """
    if request.prologue is not None or request.epilogue is not None:
        return request, affine
    given = [view for view in (request.source, request.target, affine.scale, affine.bias) if view is not None]
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
    return changed, Affine(scale, next(made) if affine.bias is not None else None)


class _Elements:
    """The elements of a row: as they are in memory, or on the stack where a prologue makes them."""

    def __init__(self, request: RowRequest, row: Row, source: str, target: str) -> None:
        self.request, self.row, self.source, self.target = request, row, source, target
        self.writer, self.made = row.writer, ""
        size = product(request.source.shape[-request.reduced :])
        if request.prologue is not None:
            if size * (row.lanes if row.beside is not None else 1) > 4 * LARGEST_ROW:
                raise ValueError(f"a row of {size} elements is too long for a prologue")
            self.made = self.writer.local("float32", size * (row.lanes if row.beside is not None else 1))

    def first(self, index: Sequence[str]) -> str:
        """An element, the first time that it is read."""
        loaded = f"{self.source}[{self.request.source.at(*index)}]"
        if self.request.prologue is None:
            return loaded
        value = self.request.prologue(self.writer, self.writer.value("float32", loaded), index)
        self.writer.line(f"{self._kept(index)} = {value}")
        return self._kept(index)

    def again(self, index: Sequence[str]) -> str:
        """An element, any later time."""
        return f"{self.source}[{self.request.source.at(*index)}]" if not self.made else self._kept(index)

    def place(self, index: Sequence[str]) -> str:
        """Where the result is stored."""
        return f"{self.target}[{self.request.target.at(*index)}]"

    def store(self, index: Sequence[str], text: str) -> None:
        """Store a result, as the epilogue makes it."""
        if self.request.epilogue is not None:
            text = self.request.epilogue(self.writer, self.writer.value("float32", text), index)
        self.writer.line(f"{self.place(index)} = {text}")

    def _kept(self, index: Sequence[str]) -> str:
        shape = self.request.source.shape[-self.request.reduced :]
        place = View.dense(shape).at(*index[-self.request.reduced :])
        return f"{self.made}[{self.row.beside_place(place)}]"

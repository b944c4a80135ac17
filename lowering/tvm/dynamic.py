"""Bytes by a range that is found when the program runs: DynamicQuantizeLinear.

Law: as ONNX says it, the range holds zero, a step is (high - low) / 255, 1 where that is 0, and the zero point is -low / step,
rounded to even. Extremes are those of parts first, then of all; the quotient of each element is as in QuantizeLinear.
"""

from __future__ import annotations

from irc.ir import DType, Op

from .elements import dtype_of
from .kernel import Kernel, Writer
from .loops import elementwise
from .lowerer import Lowerer
from .places import Buffer, Place
from .regions import Region
from .scaling import quantized
from .spans import MOST_TASKS, Monoid, Row, each_row
from .views import View

SHORTEST = 1 << 13
"""Elements that are worth a task of their own."""
LOWEST, HIGHEST = Monoid("T.min({0}, {1})", 0.0), Monoid("T.max({0}, {1})", 0.0)
"""Extremes of a range that holds zero."""


def why_not_dynamic(op: Op) -> str:
    """Why a DynamicQuantizeLinear has no kernel, as a clause; empty where it has."""
    return "" if dtype_of(op.needed(0)) is DType.F32 else "it is not f32"


def lower_dynamic_quantize(lowerer: Lowerer, region: Region) -> None:
    """DynamicQuantizeLinear: the extremes of parts, the scale and the zero point, then the bytes."""
    op = region.op
    source = lowerer.dense(op.needed(0))
    whole, step, zero = op.results
    size = source.view.size
    parts = parts_of(size)
    extremes = Buffer(DType.F32, 2 * parts)
    lowerer.call(
        extremes_of(source.view.offset, source.buffer.size, size, lowerer.machine.lanes), [source.buffer, extremes], (op,)
    )
    scale, point = lowerer.fresh(step), lowerer.fresh(zero)
    lowerer.call(scale_of(parts), [extremes, scale.buffer], (op,))
    lowerer.call(zero_of(parts), [extremes, scale.buffer, point.buffer], (op,))
    target = lowerer.fresh(whole)
    everywhere = [Place(each.buffer, each.view.broadcast(target.view.shape)) for each in (scale, point)]
    kernel = elementwise(
        DType.U8,
        target.view,
        [(place.dtype, place.view) for place in (source, *everywhere)],
        lambda writer, names: quantized(writer, "uint8", names),
        lowerer.machine.lanes,
    )
    lowerer.call(kernel, [source.buffer, scale.buffer, point.buffer, target.buffer], (op,))


def parts_of(size: int) -> int:
    """In how many parts of equal size extremes are looked for."""
    most = max(1, min(MOST_TASKS, size // SHORTEST))
    return next(parts for parts in range(most, 0, -1) if size % parts == 0)


def extremes_of(offset: int, extent: int, size: int, lanes: int) -> Kernel:
    """The least elements, or zero, of each part of a dense source, then the greatest; the pointers are source and these."""
    parts = parts_of(size)
    view = View((parts, size // parts), (size // parts, 1), offset)
    writer = Writer()
    read, written = writer.buffer(DType.F32, extent), writer.buffer(DType.F32, 2 * parts)

    def body(row: Row) -> None:
        for first, monoid in ((0, LOWEST), (parts, HIGHEST)):
            found = row.reduce("float32", monoid, lambda index: writer.value("float32", f"{read}[{view.at(*index)}]"))
            row.results(lambda first=first, found=found: writer.line(f"{written}[{first} + {row.kept[0]}] = {row.of(found)}"))

    return writer.kernel(each_row(writer, view, 1, lanes, body), 2 * size)


def scale_of(parts: int) -> Kernel:
    """The step of the range of all parts; the pointers are those of the extremes and of the step."""
    writer = Writer()
    read, written = writer.buffer(DType.F32, 2 * parts), writer.buffer(DType.F32, 1)
    low, high = _extreme(writer, read, 0, parts, "min"), _extreme(writer, read, parts, parts, "max")
    width = writer.value("float32", f"{high} - {low}")
    writer.line(f"{written}[0] = T.Select({width} == T.float32(0), T.float32(1), {width} / T.float32(255))")
    return writer.kernel(1)


def zero_of(parts: int) -> Kernel:
    """The zero point of the range of all parts; the pointers are those of the extremes, of the step, and of the zero point."""
    writer = Writer()
    read, step = writer.buffer(DType.F32, 2 * parts), writer.buffer(DType.F32, 1)
    written = writer.buffer(DType.U8, 1)
    low = _extreme(writer, read, 0, parts, "min")
    quotient = writer.value("float32", f"(T.float32(0) - {low}) / {step}[0]")
    rounded = writer.value("float32", f'T.call_llvm_pure_intrin("float32", "llvm.nearbyint", {quotient})')
    held = writer.value("float32", f"T.max(T.min({rounded}, T.float32(255)), T.float32(0))")
    whole = writer.value("int32", f'T.Cast("int32", {held})')
    writer.line(f'{written}[0] = T.Cast("uint8", {whole})')
    return writer.kernel(1)


def _extreme(writer: Writer, read: str, first: int, parts: int, word: str) -> str:
    """The least or the greatest of so many elements."""
    found = writer.value("float32", f"{read}[{first}]")
    for part in range(1, parts):
        found = writer.value("float32", f"T.{word}({found}, {read}[{first + part}])")
    return found

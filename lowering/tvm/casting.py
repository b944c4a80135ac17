"""ONNX's Cast between the dtypes that kernels compute in, as expressions.

Law: floats become integers as ONNX Runtime's do on x86: towards zero, and the least i32 (or i64 for i64) where there is no such
integer, as for NaN; narrower integers keep the low bits of the i32. So 300.0 is 44 as an u8, and 1e10 and NaN are 0. f32 is
made bf16 by rounding to the nearest, of two to the even one, denormals too; NaN stays NaN.
"""

from __future__ import annotations

from irc.ir import DType

from .kernel import Writer, literal, tir_name


def cast(writer: Writer, x: str, source: DType, target: DType) -> str:
    """The value of `x`, of dtype `source`, in dtype `target`; NaN is true, and integers wrap."""
    if source is target:
        return x
    if source is DType.BF16:
        return cast(writer, writer.value("float32", widened(x)), DType.F32, target)
    if target is DType.BF16:
        return _halved(writer, cast(writer, x, source, DType.F32))
    if target is DType.BOOL:
        return writer.value("int8", f"T.Select({x} == {literal(0, tir_name(source))}, T.int8(0), T.int8(1))")
    if source.is_float and not target.is_float:
        return _truncated(writer, x, source, target)
    return writer.value(tir_name(target), f'T.Cast("{tir_name(target)}", {x})')


def widened(x: str, dtype: DType = DType.BF16, lanes: int = 1) -> str:
    """The f32 of a bf16, or of a vector of them: its bits are the upper half; of bytes the numbers that they are."""
    if dtype is not DType.BF16:
        return f'T.Cast("float32{f"x{lanes}" if lanes > 1 else ""}", {x})'
    if lanes == 1:
        return f'T.reinterpret("float32", T.shift_left(T.Cast("uint32", {x}), T.uint32(16)))'
    bits = f'T.shift_left(T.Cast("uint32x{lanes}", {x}), T.broadcast(T.uint32(16), {lanes}))'
    return f'T.reinterpret({bits}, dtype="float32x{lanes}")'


def _halved(writer: Writer, x: str) -> str:
    """The upper half of the bits, rounded: what is added carries into it from more than a half, of a half if it is odd."""
    bits = writer.value("uint32", f'T.reinterpret("uint32", {x})')
    odd = f"T.bitwise_and(T.shift_right({bits}, T.uint32(16)), T.uint32(1))"
    rounded = f"T.shift_right({bits} + T.uint32(0x7FFF) + {odd}, T.uint32(16))"
    is_nan = f"(T.bitwise_and({bits}, T.uint32(0x7FFFFFFF)) > T.uint32(0x7F800000))"
    return writer.value("uint16", f'T.Cast("uint16", T.Select({is_nan}, T.uint32(0x7FC0), {rounded}))')


def _truncated(writer: Writer, x: str, source: DType, target: DType) -> str:
    """Out of range LLVM's conversion is undefined, so it sees a zero there; what truncates to the least one is that anyway."""
    wide = "int64" if target is DType.I64 else "int32"
    end = 2.0 ** (63 if target is DType.I64 else 31)
    kind = tir_name(source)
    fits = f"T.And({x} > {literal(-end, kind)}, {x} < {literal(end, kind)})"
    inside = writer.value(kind, f"T.Select({fits}, {x}, {literal(0.0, kind)})")
    least = f'T.min_value("{wide}")'
    whole = writer.value(wide, f'T.Select({fits}, T.Cast("{wide}", {inside}), {least})')
    return whole if tir_name(target) == wide else writer.value(tir_name(target), f'T.Cast("{tir_name(target)}", {whole})')

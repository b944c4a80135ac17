"""ONNX's Cast between the dtypes that kernels compute in, as expressions.

Law: floats become integers as ONNX Runtime's do on x86: towards zero, and the least i32 (or i64 for i64) where there is no such
integer, as for NaN; narrower integers keep the low bits of the i32. So 300.0 is 44 as an u8, and 1e10 and NaN are 0.
"""

from __future__ import annotations

from irc.ir import DType

from .kernel import Writer, literal, tir_name


def cast(writer: Writer, x: str, source: DType, target: DType) -> str:
    """The value of `x`, of dtype `source`, in dtype `target`; NaN is true, and integers wrap."""
    if source is target:
        return x
    if target is DType.BOOL:
        return writer.value("int8", f"T.Select({x} == {literal(0, tir_name(source))}, T.int8(0), T.int8(1))")
    if source.is_float and not target.is_float:
        return _truncated(writer, x, source, target)
    return writer.value(tir_name(target), f'T.Cast("{tir_name(target)}", {x})')


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

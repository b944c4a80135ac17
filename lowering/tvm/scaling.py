"""QuantizeLinear and DequantizeLinear by one scale, element by element; those by axis or block are in `quantizing`.

Law: quotients are rounded to the nearest even integer and held to the range of the result, in which NaN is the least, as ONNX
Runtime does it on x86. By QUANTIZED_SUM a quotient may be off by a bit of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from irc.ir import DType, Op, Value

from .elements import Element, dtype_of
from .kernel import Writer, literal, tir_name
from .pointwise import POINTWISE, Rule

BYTES = (DType.I8, DType.U8)


def quantized(writer: Writer, kind: str, operands: Sequence[str]) -> str:
    """round(x / scale) + zero point, within the range of TVM's dtype `kind`; the zero point may be absent."""
    x, scale, *rest = operands
    return _whole(writer, kind, writer.value("float32", f"{x} / {scale}"), rest)


def _whole(writer: Writer, kind: str, quotient: str, rest: Sequence[str]) -> str:
    """A quotient as a whole number above the zero point that may be the `rest`."""
    least, greatest = np.iinfo(kind).min, np.iinfo(kind).max
    zero = writer.value("float32", f'T.Cast("float32", {rest[0]})') if any(rest) else literal(0.0, "float32")
    rounded = writer.value("float32", f'T.call_llvm_pure_intrin("float32", "llvm.nearbyint", {quotient})')
    low = writer.value("float32", f"{literal(float(least), 'float32')} - {zero}")
    high = writer.value("float32", f"{literal(float(greatest), 'float32')} - {zero}")
    held = writer.value("float32", f"T.Select({rounded} > {low}, {rounded}, {low})")
    held = writer.value("float32", f"T.Select({held} < {high}, {held}, {high})")
    whole = writer.value("int32", f'T.Cast("int32", {held} + {zero})')
    return f'T.Cast("{kind}", {whole})'


def dequantized(writer: Writer, operands: Sequence[str]) -> str:
    """(x - zero point) * scale; the zero point may be absent."""
    x, scale, *rest = operands
    whole = writer.value("int32", f'T.Cast("int32", {x})')
    if any(rest):
        whole = writer.value("int32", f'{whole} - T.Cast("int32", {rest[0]})')
    return f'T.Cast("float32", {whole}) * {scale}'


def is_scaled(op: Op) -> bool:
    """Whether an op is between f32 and 8 bits by one scale and zero point, both constants."""
    if not op.is_a("QuantizeLinear", "DequantizeLinear") or op.integer("block_size", 0) or op.integer("precision", 1) != 1:
        return False
    parameters = [value.constant for value in op.operands[1:] if value is not None]
    if any(tensor is None or tensor.size != 1 for tensor in parameters) or dtype_of(op.needed(1)) is not DType.F32:
        return False
    real, whole = (op.needed(0), op.result) if op.is_a("QuantizeLinear") else (op.result, op.needed(0))
    return dtype_of(real) is DType.F32 and dtype_of(whole) in BYTES


def quantized_in_run(value: Value) -> Op | None:
    """The DynamicQuantizeLinear whose bytes, dequantized as it says, are a value; None of any other value."""
    wide = value.op
    maker = wide.needed(0).op if wide is not None and wide.is_a("DequantizeLinear") else None
    if wide is None or maker is None or not maker.is_a("DynamicQuantizeLinear") or dtype_of(value) is not DType.F32:
        return None
    return maker if list(wide.operands) == list(maker.results) else None


def _quantized(e: Element) -> str:
    kind = tir_name(dtype_of(e.op.result))
    return e.writer.value(kind, quantized(e.writer, kind, e.operands))


def _dequantized(e: Element) -> str:
    return e.writer.value("float32", dequantized(e.writer, e.operands))


SCALED: Mapping[str, Rule] = {
    "DequantizeLinear": Rule(_dequantized, frozenset(BYTES), slice(0, 1)),
    "QuantizeLinear": Rule(_quantized, frozenset({DType.F32}), slice(0, 1)),
}


def _quantized_sum(e: Element) -> str:
    kind, (x, scale, *rest) = tir_name(dtype_of(e.op.result)), e.operands
    # The reciprocal is that of a number in memory: it is found once for a tile.
    quotient = e.writer.value("float32", f"{x} * (T.float32(1) / {scale})")
    return e.writer.value(kind, _whole(e.writer, kind, quotient, rest))


QUANTIZED_SUM = Rule(_quantized_sum, frozenset({DType.F32}), slice(0, 1))
"""A QuantizeLinear behind a sum, by a product with the reciprocal of its scale."""


def is_pointwise(op: Op | None) -> bool:
    """Whether an op computes each element of its result from the elements at the same place."""
    return op is not None and (op.qualified_name in POINTWISE or is_scaled(op))


def rule_of(op: Op) -> Rule:
    """How a pointwise op is written."""
    return SCALED[op.name] if is_scaled(op) else POINTWISE[op.qualified_name]

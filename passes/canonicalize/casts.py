"""Casts that change nothing, and pairs of which one changes nothing.

A cast from A to B is lossless when every A is a B; only then may it vanish in front of another one.
"""

from __future__ import annotations

from irc.ir import DType, Op, TensorType, Value

from ..rewriter import No, Rewriter, Rule, rule

# Bits of integers that a float type holds exactly.
_EXACT_INTEGER_BITS = {DType.F16: 11, DType.BF16: 8, DType.F32: 24, DType.F64: 53}
_FLOAT_ORDER = {DType.F16: (DType.F32, DType.F64), DType.BF16: (DType.F32, DType.F64), DType.F32: (DType.F64,)}


def is_lossless(source: DType, target: DType) -> bool:
    """Whether every value of `source`, NaN and Inf included, has its own value in `target`."""
    if source is target:
        return True
    if source is DType.BOOL:
        return target.is_integer or target in _EXACT_INTEGER_BITS
    if source.is_integer and target.is_integer:
        if source.text[0] == "u":
            return target.bits > source.bits or (target.text[0] == "u" and target.bits >= source.bits)
        return target.text[0] == "i" and target.bits >= source.bits
    if source.is_integer and target in _EXACT_INTEGER_BITS:
        return source.bits - (source.text[0] == "i") <= _EXACT_INTEGER_BITS[target]
    return target in _FLOAT_ORDER.get(source, ())


def dtype_of(value: Value) -> DType | None:
    """The dtype of a tensor value, or None."""
    return value.type.dtype if isinstance(value.type, TensorType) else None


@rule("Cast", "CastLike")
def cast_to_own_dtype(op: Op, rewrite: Rewriter) -> Value | No:
    """A cast to the dtype its input has is its input."""
    source, target = dtype_of(op.needed(0)), dtype_of(op.result)
    if source is None or source is not target:
        return No("it changes the dtype")
    return op.needed(0)


@rule("CastLike")
def cast_like_known(op: Op, rewrite: Rewriter) -> Value | No:
    """CastLike to a dtype that is known is a Cast."""
    target = dtype_of(op.needed(1))
    if target is None:
        return No("the dtype it takes after is not known")
    return rewrite.op("Cast", [op.operand(0)], {**op.attributes, "to": target.onnx_code})


@rule("Cast")
def cast_of_lossless_cast(op: Op, rewrite: Rewriter) -> Value | No:
    """Cast(Cast(x)) is one cast, or x, when the inner one loses nothing and all three dtypes are of one kind."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Cast"):
        return No("its input is no Cast")
    first, middle, last = dtype_of(inner.needed(0)), dtype_of(inner.result), dtype_of(op.result)
    if first is None or middle is None or last is None or not is_lossless(first, middle):
        return No("the inner cast may lose something")
    if first is last:
        return inner.needed(0)
    # A bool is 0 or 1 in every dtype; other casts may differ between integers and floats.
    one_kind = first is DType.BOOL or first.is_float == middle.is_float == last.is_float
    plain = last.bits >= 8 and (last in _EXACT_INTEGER_BITS or last.is_integer)
    if not one_kind or not plain or middle is DType.BOOL:
        return No("a direct cast may convert otherwise")
    return rewrite.op("Cast", [inner.operand(0)], dict(op.attributes))


RULES: tuple[Rule, ...] = (cast_to_own_dtype, cast_like_known, cast_of_lossless_cast)

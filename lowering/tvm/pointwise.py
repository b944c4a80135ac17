"""ONNX's elementwise ops as expressions of a kernel: POINTWISE says of each op how, and for which dtypes of its operands.

Law: an op gives what ONNX Runtime gives, its errors those of `mathematics`: NaN, infinities and signed zeros included, integers
wrap, and no operand traps. A bool is an int8 that is 0 or 1, in memory and in between. No rule sees shapes: operands are the
texts of single elements, vectors where a vectorized loop stands around them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from irc.ir import DType, Op, TensorType

from . import mathematics
from .casting import cast
from .elements import BOOL, EVERY, FLOATS, INTEGERS, NUMBERS, SINGLE, Element, dtype_of
from .kernel import Writer, tir_name

Meaning = Callable[[Element], str]


@dataclass(frozen=True, slots=True)
class Rule:
    """What an op means, and the dtypes it is written for: those of its operands `checked`, which share one dtype."""

    meaning: Meaning
    dtypes: frozenset[DType]
    checked: slice = field(default_factory=lambda: slice(None))

    def __call__(self, writer: Writer, op: Op, operands: Sequence[str]) -> str:
        """The text of the result of an op that `takes` takes, for texts of its operands; that of an absent operand is empty.

        Operands are literals or what may be repeated: names and elements of registers.
        """
        dtypes = tuple(DType.BOOL if value is None else dtype_of(value) for value in op.operands)
        texts: list[str] = []
        for text, dtype in zip(operands, dtypes, strict=True):
            # TVM holds x - x for 0, x == x for true and x * 0 for 0, whatever x is, unless each is a value of its own.
            opaque = text and (text in texts or text.startswith("T."))
            texts.append(writer.value(tir_name(dtype), text) if opaque else text)
        return self.meaning(Element(writer, op, tuple(texts), dtypes))


def takes(op: Op) -> str:
    """Why an op is not written here, as a clause; empty where it is."""
    rule = POINTWISE.get(op.name)
    if rule is None or not op.is_a(op.name):
        return f"{op.qualified_name} is no elementwise op that is written here"
    types = [value.type for value in [*op.operands, *op.results] if value is not None]
    known = EVERY | {DType.BF16} if op.name in HALF_TOO else EVERY
    if not all(isinstance(each, TensorType) and each.dtype in known for each in types):
        return f"{op.name} has an operand or a result of a dtype other than {_listed(known)}"
    checked = {dtype_of(value) for value in op.operands[rule.checked] if value is not None}
    if not checked <= rule.dtypes:
        return f"{op.name} is written for {_listed(rule.dtypes)} only"
    if op.name == "Pow" and dtype_of(op.needed(1)) not in (DType.F32, DType.I32, DType.I64):
        return "Pow is written for exponents of f32, i32 and i64 only"
    return ""


def _listed(dtypes: frozenset[DType]) -> str:
    return ", ".join(dtype.text for dtype in DType if dtype in dtypes)


HALF_TOO = frozenset({"Cast", "Identity"})
"""The ops that are written for bf16, too: others compute in f32."""


# Arithmetic


def _binary(sign: str) -> Meaning:
    """An arithmetic operator. TVM's own on integers of 32 bits and more must not overflow, so i32 is computed in i64."""

    def meaning(e: Element) -> str:
        return _folded(e, lambda a, b: _wrapping(e, sign, a, b))

    return meaning


def _wrapping(e: Element, sign: str, a: str, b: str) -> str:
    if e.dtypes[0] is not DType.I32:
        return f"{a} {sign} {b}"
    return f'T.Cast("int32", T.Cast("int64", {a}) {sign} T.Cast("int64", {b}))'


def _folded(e: Element, combine: Callable[[str, str], str]) -> str:
    """All operands, combined from the left."""
    result = e.x
    for operand in e.operands[1:]:
        result = e.value(combine(result, operand))
    return result


def _negative(e: Element, x: str) -> str:
    return f"{x} * {e.literal(-1)}" if e.dtypes[0] in FLOATS else _wrapping(e, "-", e.literal(0), x)


def _divide(e: Element) -> str:
    return e.value(f"{e.x} / {e.y}") if e.dtypes[0] in FLOATS else _integer_quotient(e)


def _integer_quotient(e: Element) -> str:
    """Towards zero, as C has it. By 0 it is undefined, and the dividend here; by -1, where the least one traps, it negates."""
    quotient = e.value(f"T.truncdiv({e.x}, {_divisor(e)})")
    return quotient if e.dtypes[0] is DType.U8 else e.select(f"{e.y} == {e.literal(-1)}", f"({_negative(e, e.x)})", quotient)


def _modulo(e: Element) -> str:
    """The remainder with the divisor's sign, or with `fmod` the dividend's. By 0 it is undefined, and 0 here."""
    rest = e.value(f"T.truncmod({e.x}, {_divisor(e)})")
    if e.dtypes[0] is DType.U8 or e.op.integer("fmod", 0):
        return rest
    differ = f"T.bitwise_xor({rest}, {e.y}) < {e.literal(0)}"
    return e.select(f"T.And({rest} != {e.literal(0)}, {differ})", f"{rest} + {e.y}", rest)


def _divisor(e: Element) -> str:
    """The divisor where dividing by it cannot trap, else 1."""
    traps = f"{e.y} == {e.literal(0)}"
    if e.dtypes[0] is not DType.U8:
        traps = f"T.Or({traps}, {e.y} == {e.literal(-1)})"
    return e.select(traps, e.literal(1), e.y)


def _absolute(e: Element) -> str:
    if e.dtypes[0] in FLOATS:
        return e.value(f"T.fabs({e.x})")
    return e.x if e.dtypes[0] is DType.U8 else e.select(f"{e.x} < {e.literal(0)}", f"({_negative(e, e.x)})", e.x)


def _power(e: Element) -> str:
    exponent = e.op.constant_operand(1)
    known = float(np.asarray(exponent.array).reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None
    match known:
        case 1.0:
            return e.x
        case 2.0:
            return e.value(f"{e.x} * {e.x}")
        case 3.0:
            return e.value(f"{e.x} * {e.x} * {e.x}")
        case -1.0:
            return e.value(f"{e.literal(1)} / {e.x}")
        case 0.5:  # of -0 and of minus infinity it is no square root
            root = e.value(f"T.sqrt({e.x})")
            infinity = e.literal(float("inf"))
            return e.select(
                f"{e.x} == {e.literal(-float('inf'))}", infinity, f"T.Select({e.x} == {e.literal(0)}, {e.literal(0)}, {root})"
            )
        case _:
            return mathematics.power(e.writer, e.x, e.writer.value("float32", f'T.Cast("float32", {e.y})'))


def _larger(e: Element) -> str:
    return _folded(e, lambda a, b: _extreme(e, ">", a, b))


def _smaller(e: Element) -> str:
    return _folded(e, lambda a, b: _extreme(e, "<", a, b))


def _extreme(e: Element, sign: str, a: str, b: str) -> str:
    """Of equal operands the second; NaN wins."""
    first = f"{a} {sign} {b}"
    return f"T.Select(T.Or({first}, {e.is_nan(a)}), {a}, {b})" if e.dtypes[0] in FLOATS else f"T.Select({first}, {a}, {b})"


def _clip(e: Element) -> str:
    """The upper bound wins over the lower one, and NaN stays. For want of a bound a float's is its largest finite number."""
    lower, upper = (*e.operands, "", "")[1:3]
    result = e.x
    if e.dtypes[0] in FLOATS:
        largest = float(np.finfo(e.kind).max)
        lower, upper = lower or e.literal(-largest), upper or e.literal(largest)
    if lower:
        result = e.select(f"{result} < {lower}", lower, result)
    return e.select(f"{result} > {upper}", upper, result) if upper else result


def _mean(e: Element) -> str:
    return e.value(f"{_binary('+')(e)} / {e.literal(len(e.operands))}")


# Rounding and signs


def _unary(function: str) -> Meaning:
    """A function of TVM's that LLVM has as an instruction."""
    return lambda e: e.value(f"T.{function}({e.x})")


def _rounded(e: Element) -> str:
    return e.value(f'T.call_llvm_pure_intrin("{e.kind}", "llvm.nearbyint", {e.x})')


def _sign(e: Element) -> str:
    zero = e.literal(0)
    if e.dtypes[0] is DType.U8:
        return e.select(f"{e.x} > {zero}", e.literal(1), zero)
    otherwise = f"T.Select({e.x} == {zero}, {zero}, {e.x})" if e.dtypes[0] in FLOATS else zero
    return e.select(f"{e.x} > {zero}", e.literal(1), f"T.Select({e.x} < {zero}, {e.literal(-1)}, {otherwise})")


# Activations


def _function(function: Callable[[Writer, str], str]) -> Meaning:
    return lambda e: function(e.writer, e.x)


def _relu(e: Element) -> str:
    return e.x if e.dtypes[0] is DType.U8 else e.select(f"{e.x} < {e.literal(0)}", e.literal(0), e.x)


def _sloped(e: Element, slope: str) -> str:
    return e.select(f"{e.x} < {e.literal(0)}", f"{e.x} * {slope}", e.x)


def _elu(e: Element) -> str:
    curve = mathematics.expm1_of_nonpositive(e.writer, e.x)
    return e.select(f"{e.x} < {e.literal(0)}", f"{e.number('alpha', 1.0)} * {curve}", e.x)


def _selu(e: Element) -> str:
    alpha, gamma = e.attribute("alpha", 1.6732632423543772), e.attribute("gamma", 1.0507009873554805)
    curve = f"{e.value(e.literal(alpha))} * {mathematics.expm1_of_nonpositive(e.writer, e.x)}"
    return _no_minus_zero(e, f"{e.value(e.literal(gamma))} * T.Select({e.x} > {e.literal(0)}, {e.x}, {curve})")


def _celu(e: Element) -> str:
    alpha = e.number("alpha", 1.0)
    curve = mathematics.expm1_of_nonpositive(e.writer, e.value(f"{e.x} / {alpha}"))
    return _no_minus_zero(e, f"T.Select({e.x} > {e.literal(0)}, {e.x}, {alpha} * {curve})")


def _no_minus_zero(e: Element, result: str) -> str:
    """0 where the operand is -0, as where exp(x) - 1 is written out."""
    return e.select(f"{e.x} == {e.literal(0)}", e.literal(0), result)


def _thresholded_relu(e: Element) -> str:
    return e.select(f"{e.x} > {e.number('alpha', 1.0)}", e.x, e.literal(0))


def _hard_sigmoid(e: Element) -> str:
    line = e.value(f"{e.x} * {e.number('alpha', 0.2)} + {e.number('beta', 0.5)}")
    return mathematics.at_least(e.writer, mathematics.at_most(e.writer, line, 1.0), 0.0)


def _hard_swish(e: Element) -> str:
    line = e.value(f"{e.x} * {e.literal(1 / 6)} + {e.literal(0.5)}")
    return e.value(f"{e.x} * {mathematics.at_least(e.writer, mathematics.at_most(e.writer, line, 1.0), 0.0)}")


def _gelu(e: Element) -> str:
    tanh = e.op.string("approximate", "none") == "tanh"
    return mathematics.gelu_tanh(e.writer, e.x) if tanh else mathematics.gelu(e.writer, e.x)


# Conditions and bits


def _compared(sign: str) -> Meaning:
    return lambda e: e.truth(f"{e.x} {sign} {e.y}")


def _where(e: Element) -> str:
    return e.writer.value(tir_name(e.dtypes[1]), f"T.Select({e.x} != T.int8(0), {e.operands[1]}, {e.operands[2]})")


def _is_infinite(e: Element) -> str:
    signs = [sign for name, sign in (("detect_positive", 1), ("detect_negative", -1)) if e.op.integer(name, 1)]
    tests = [f"({e.x} == {e.literal(sign * float('inf'))})" for sign in signs]
    return e.truth(f"T.Or({tests[0]}, {tests[-1]})") if tests else e.truth(f"T.And({e.x} < {e.x}, {e.x} > {e.x})")


def _bitwise(function: str) -> Meaning:
    return lambda e: e.value(f"T.bitwise_{function}({', '.join(e.operands)})")


def _shifted(e: Element) -> str:
    """A shift by the width and more leaves nothing; LLVM's own would be undefined."""
    function = "shift_left" if e.op.string("direction", "") == "LEFT" else "shift_right"
    width = e.literal(8 * np.dtype(e.kind).itemsize)
    by = e.select(f"{e.y} < {width}", e.y, e.literal(0))
    return e.select(f"{e.y} < {width}", f"T.{function}({e.x}, {by})", e.literal(0))


POINTWISE: Mapping[str, Rule] = {
    "Abs": Rule(_absolute, NUMBERS),
    "Add": Rule(_binary("+"), NUMBERS),
    "And": Rule(_bitwise("and"), BOOL),
    "BitShift": Rule(_shifted, frozenset({DType.U8})),
    "BitwiseAnd": Rule(_bitwise("and"), INTEGERS),
    "BitwiseNot": Rule(_bitwise("not"), INTEGERS),
    "BitwiseOr": Rule(_bitwise("or"), INTEGERS),
    "BitwiseXor": Rule(_bitwise("xor"), INTEGERS),
    "Cast": Rule(lambda e: cast(e.writer, e.x, e.dtypes[0], dtype_of(e.op.result)), EVERY | {DType.BF16}),
    "Ceil": Rule(lambda e: e.value(f"T.floor({e.x} * {e.literal(-1)}) * {e.literal(-1)}"), FLOATS),
    "Celu": Rule(_celu, SINGLE),
    "Clip": Rule(_clip, NUMBERS),
    "Cos": Rule(_function(mathematics.cos), SINGLE),
    "Div": Rule(_divide, NUMBERS),
    "Elu": Rule(_elu, SINGLE),
    "Equal": Rule(_compared("=="), EVERY),
    "Erf": Rule(_function(mathematics.erf), SINGLE),
    "Exp": Rule(_function(mathematics.exp), SINGLE),
    "Floor": Rule(_unary("floor"), FLOATS),
    "Gelu": Rule(_gelu, SINGLE),
    "Greater": Rule(_compared(">"), NUMBERS),
    "GreaterOrEqual": Rule(_compared(">="), NUMBERS),
    "HardSigmoid": Rule(_hard_sigmoid, SINGLE),
    "HardSwish": Rule(_hard_swish, SINGLE),
    "Identity": Rule(lambda e: e.x, EVERY | {DType.BF16}),
    "IsInf": Rule(_is_infinite, FLOATS),
    "IsNaN": Rule(lambda e: e.truth(e.is_nan(e.x)), FLOATS),
    "LeakyRelu": Rule(lambda e: _sloped(e, e.number("alpha", 0.01)), FLOATS),
    "Less": Rule(_compared("<"), NUMBERS),
    "LessOrEqual": Rule(_compared("<="), NUMBERS),
    "Log": Rule(_function(mathematics.log), SINGLE),
    "Max": Rule(_larger, NUMBERS),
    "Mean": Rule(_mean, FLOATS),
    "Min": Rule(_smaller, NUMBERS),
    "Mish": Rule(_function(mathematics.mish), SINGLE),
    "Mod": Rule(_modulo, INTEGERS),
    "Mul": Rule(_binary("*"), NUMBERS),
    "Neg": Rule(lambda e: e.value(_negative(e, e.x)), NUMBERS),
    "Not": Rule(lambda e: e.truth(f"{e.x} == T.int8(0)"), BOOL),
    "Or": Rule(_bitwise("or"), BOOL),
    "PRelu": Rule(lambda e: _sloped(e, e.y), NUMBERS),
    "Pow": Rule(_power, SINGLE, slice(0, 1)),
    "Reciprocal": Rule(lambda e: e.value(f"{e.literal(1)} / {e.x}"), FLOATS),
    "Relu": Rule(_relu, NUMBERS),
    "Round": Rule(_rounded, FLOATS),
    "Selu": Rule(_selu, SINGLE),
    "Sigmoid": Rule(_function(mathematics.sigmoid), SINGLE),
    "Sign": Rule(_sign, NUMBERS),
    "Sin": Rule(_function(mathematics.sin), SINGLE),
    "Softplus": Rule(_function(mathematics.softplus), SINGLE),
    "Softsign": Rule(lambda e: e.value(f"{e.x} / ({e.literal(1)} + T.fabs({e.x}))"), FLOATS),
    "Sqrt": Rule(_unary("sqrt"), FLOATS),
    "Sub": Rule(_binary("-"), NUMBERS),
    "Sum": Rule(_binary("+"), FLOATS),
    "Swish": Rule(lambda e: mathematics.swish(e.writer, e.x, e.attribute("alpha", 1.0)), SINGLE),
    "Tanh": Rule(_function(mathematics.tanh), SINGLE),
    "ThresholdedRelu": Rule(_thresholded_relu, SINGLE),
    "Where": Rule(_where, EVERY),
    "Xor": Rule(_bitwise("xor"), BOOL),
}

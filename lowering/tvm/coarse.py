"""f32 functions, coarser and shorter than those of `mathematics`, for results that are only rounded to bf16 or to 8 bits.

Law: NaN gives NaN, infinities and zeros what `mathematics` gives, and the error stays below the bound that the function states:
about 2**-14, where rounding to bf16 takes up to 2**-9 and a step of 8 bits is 2**-8 of the range. Processors may differ in the
last bits, as their reciprocals do. Instructions of AVX-512 do most of the work, so a target without them has none of these.

Methods: polynomials and ratios are minimax fits, as in `mathematics`; each constant says its own error. A power of two needs no
bounds of its argument, since VREDUCEPS and VSCALEFPS know infinities, and a quotient is a product with VRCP14PS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .elements import SINGLE, Element
from .instructions import fraction, reciprocal, scaled
from .kernel import Writer, literal
from .mathematics import at_least, at_most, horner
from .pointwise import Rule

_LOG2_E = 1.4426950408889634
_ROOT = 0.7978845608028654
"""sqrt(2 / pi)."""

_EXP2 = (0.013426687568426132, 0.0522424690425396, 0.2412802129983902, 0.6930448412895203, 1.0)
"""2**r on 0 <= r < 1, to 2**-18.3 relative, and exactly 1 of 0."""
_LOGIT = (-0.000631897243449, 0.0735974565554, 1.59543518147)
"""log(p / (1 - p)) / x in x**2, where p is the normal distribution's share below x, to 2**-15.7 in p."""
_LOGIT_END = 8.0
"""Beyond it p is 0 or 1 in f32, and the polynomial would turn back at 8.7."""
_ERF_END = 2.84
_ERF = (
    *(-6.228544429702323e-07, 2.364968227734871e-05, -0.0003919789972156574, 0.003787933286951544),
    *(-0.024208819512469084, 0.11026033761221181, -0.37511696700795705, 1.1283093607849968),
)
"""erf(x) / x on |x| <= 2.84 in x**2, to 2**-13.9 relative; from there on erf is 1 to 2**-14."""
_TANH_END = 5.2
_TANH_NUMERATOR = (0.0016127518073596478, 0.11627693504627515, 0.9999972732841506)
_TANH_DENOMINATOR = (6.277428029306626e-05, 0.018169688904206567, 0.449589359479217, 1.0)
"""tanh(x) / x on |x| <= 5.2 in x**2, to 2**-18.4 relative; from there on tanh is 1 to 2**-14."""


def exp(writer: Writer, x: str) -> str:
    """e**x within 2**-17 relative, and of subnormal results one unit; exactly 1 of 0."""
    return _power_of_two(writer, writer.value("float32", f"{x} * {_f32(_LOG2_E)}"))


def sigmoid(writer: Writer, x: str) -> str:
    """1 / (1 + e**-x) within 2**-13.9 relative where it is above 2**-125; 0 where it would be subnormal."""
    return _sigmoid_of(writer, writer.value("float32", f"{x} * {_f32(-_LOG2_E)}"))


def swish(writer: Writer, x: str, alpha: float = 1.0) -> str:
    """x sigmoid(alpha x) within 2**-13.9 relative where |alpha x| <= 86; NaN at an infinity where the sigmoid is 0."""
    return _weighed(writer, x, writer.value("float32", f"{x} * {_f32(-alpha * _LOG2_E)}"))


def mish(writer: Writer, x: str) -> str:
    """x tanh(log(1 + e**x)) within 2**-13.9 relative where x >= -86; NaN at minus infinity, as the product is."""
    power = exp(writer, at_most(writer, x, 30.0))
    n = writer.value("float32", f"{power} * ({power} + {_f32(2)})")
    return writer.value("float32", f"{x} * ({n} * {writer.at_once('float32', reciprocal, f'{n} + {_f32(2)}')})")


def gelu(writer: Writer, x: str) -> str:
    """x (1 + erf(x / sqrt(2))) / 2 within |x| 2**-13.6, for negative x |x| 2**-14; NaN at minus infinity, as the product is.

    The normal distribution is the sigmoid of its logit, which is nearly a cubic.
    """
    square = at_most(writer, writer.value("float32", f"{x} * {x}"), _LOGIT_END**2)
    slope = horner(writer, square, [-_LOG2_E * each for each in _LOGIT])
    return _weighed(writer, x, writer.value("float32", f"{x} * {slope}"))


def gelu_tanh(writer: Writer, x: str) -> str:
    """gelu's approximation by tanh, x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x**3)), within 2**-13.9 relative where x >= -9."""
    scale = -2 * _ROOT * _LOG2_E
    slope = writer.value("float32", f"{x} * {x} * {_f32(0.044715 * scale)} + {_f32(scale)}")
    return _weighed(writer, x, writer.value("float32", f"{x} * {slope}"))


def erf(writer: Writer, x: str) -> str:
    """The error function within 2**-13.8 relative, exactly 1 from 2.9 on; odd."""
    square = at_most(writer, writer.value("float32", f"{x} * {x}"), _ERF_END**2)
    return _within_one(writer, f"{x} * {horner(writer, square, _ERF)}")


def tanh(writer: Writer, x: str) -> str:
    """The hyperbolic tangent within 2**-13.9 relative, exactly 1 from 5.3 on; odd."""
    square = at_most(writer, writer.value("float32", f"{x} * {x}"), _TANH_END**2)
    below = writer.at_once("float32", reciprocal, horner(writer, square, _TANH_DENOMINATOR))
    return _within_one(writer, f"{x} * {horner(writer, square, _TANH_NUMERATOR)} * {below}")


def _power_of_two(writer: Writer, x: str) -> str:
    """2**x, of infinities too."""
    rest = writer.at_once("float32", fraction, x)
    return writer.at_once("float32", scaled, horner(writer, rest, _EXP2), x)


def _sigmoid_of(writer: Writer, x: str) -> str:
    """1 / (1 + 2**x)."""
    return writer.at_once("float32", reciprocal, f"{_power_of_two(writer, x)} + {_f32(1)}")


def _weighed(writer: Writer, x: str, exponent: str) -> str:
    """x / (1 + 2**exponent)."""
    return writer.value("float32", f"{x} * {_sigmoid_of(writer, exponent)}")


def _within_one(writer: Writer, expression: str) -> str:
    return at_least(writer, at_most(writer, writer.value("float32", expression), 1.0), -1.0)


def _f32(value: float) -> str:
    return literal(value, "float32")


def _function(function: Callable[[Writer, str], str]) -> Rule:
    return Rule(lambda e: function(e.writer, e.x), SINGLE)


def _gelu(e: Element) -> str:
    return (gelu_tanh if e.op.string("approximate", "none") == "tanh" else gelu)(e.writer, e.x)


COARSE: Mapping[str, Rule] = {
    "Erf": _function(erf),
    "Exp": _function(exp),
    "Gelu": Rule(_gelu, SINGLE),
    "Mish": _function(mish),
    "Sigmoid": _function(sigmoid),
    "Swish": Rule(lambda e: swish(e.writer, e.x, e.attribute("alpha", 1.0)), SINGLE),
    "Tanh": _function(tanh),
}
"""The ops that are written so where their results are only made narrow; for f32, as their rules in POINTWISE."""

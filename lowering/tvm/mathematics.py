"""f32 functions as statements of a kernel: each takes the name of a value and gives back that of its result.

Law: NaN gives NaN, infinities and zeros what C's functions give, and the error stays below the bound that the function states,
in units in the last place of the true result (ulp; of the smallest normal number below that). A function may stand in scalar
and in vectorized loops. What rounds in f64 (sin, cos, power) calls the C library on x86-64 without SSE4.1, nothing else does.

Methods: arguments are reduced as in Cody and Waite, "Software Manual for the Elementary Functions" (1980); coefficients are
minimax fits in the relative error, computed in 40 digits by Lawson's reweighted least squares. To round to an integer, a number
is added whose last bit counts ones, which also leaves that integer in the low bits of the sum. Values are `Writer.value`s, and
comparisons with NaN go through the bits, since TVM's simplifier holds (x + c) - c for x and x != x for false.
"""

from __future__ import annotations

from collections.abc import Sequence

from .kernel import Writer, literal

_ROUNDER = 1.5 * 2**23
_LOG2_E = 1.4426950408889634
_LN2_HIGH = 0.693359375  # 9 bits, so that its products with exponents are exact
_LN2_LOW = -2.1219444005469057e-4

_EXP = (0.0013814467238262296, 0.008368780836462975, 0.04166839271783829, 0.1666651964187622, 0.4999999403953552, 1.0, 1.0)
"""exp(r) on |r| <= ln(2) / 2, to 3e-9."""
_LOG = (
    *(-0.07634492963552475, 0.12761574983596802, -0.13160182535648346, 0.14201758801937103),
    *(-0.16623356938362122, 0.20001226663589478, -0.2500081956386566, 0.3333333134651184, -0.5),
)
"""(log(1 + f) - f) / f**2 on sqrt(1/2) <= 1 + f <= sqrt(2), to 6e-9 of log(1 + f)."""
_ERF_END = 3.92
_ERF_NUMERATOR = (
    *(2.0500858681771206e-06, 0.000284883746644482, 0.0037656486965715885),
    *(0.052748821675777435, 0.1904071718454361, 1.1283791065216064),
)
_ERF_DENOMINATOR = (
    *(3.8091751775937155e-05, 0.0011625437764450908, 0.014969279989600182),
    *(0.11410940438508987, 0.5020766854286194, 1.0),
)
"""erf(x) / x on |x| <= 3.92, where erf becomes 1 in f32, in x**2, to 2e-8."""
_TANH_END = 9.02
_TANH_NUMERATOR = (
    *(1.8162501017049415e-11, -1.2743834432171752e-08, 9.255132681573741e-06),
    *(0.0029194115195423365, 0.1291797161102295, 0.9999999403953552),
)
_TANH_DENOMINATOR = (0.00022791375522501767, 0.023757638409733772, 0.4625125527381897, 1.0)
"""tanh(x) / x on |x| <= 9.02, where tanh becomes 1 in f32, in x**2, to 6e-8."""


# Exponentials


def exp(writer: Writer, x: str) -> str:
    """e**x within 1 ulp (1.2 without FMA), subnormal results included: 2**n is two factors, each within the range."""
    x = at_least(writer, at_most(writer, x, 89.0), -104.0)
    shifted = writer.value("float32", f"T.fma({x}, {_f32(_LOG2_E)}, {_f32(_ROUNDER)})")
    count = writer.value("int32", f"{_bits(shifted)} - {_i32(0x4B400000)}")
    fraction = _exp_fraction(writer, x, writer.value("float32", f"{shifted} - {_f32(_ROUNDER)}"))
    half = writer.value("int32", f"T.shift_right({count}, 1)")
    first, second = _power_of_two(half), _power_of_two(f"({count} - {half})")
    return writer.value("float32", f"{fraction} * {first} * {second}")


def exp_flushed(writer: Writer, x: str) -> str:
    """As `exp` for -87.6 <= x <= 88.3, 0 below that and infinity above it: what a sum of exponentials needs."""
    return exp_of_nonpositive(writer, at_most(writer, x, 88.75))


def exp_of_nonpositive(writer: Writer, x: str) -> str:
    """`exp_flushed` of what is at most 88.75 or NaN: the terms of a softmax. The cheapest of them."""
    x = at_least(writer, x, -88.0)
    # The sum's low bits are n + 127, 0 to 255: moved to the exponent's place they are 2**n, 0 or infinity.
    shifted = writer.value("float32", f"T.fma({x}, {_f32(_LOG2_E)}, {_f32(_ROUNDER + 127)})")
    scale = writer.value("float32", _float(f"T.shift_left({_bits(shifted)}, 23)"))
    fraction = _exp_fraction(writer, x, writer.value("float32", f"{shifted} - {_f32(_ROUNDER + 127)}"))
    return writer.value("float32", f"{fraction} * {scale}")


def _exp_fraction(writer: Writer, x: str, count: str) -> str:
    """e**(x - count ln 2)."""
    rest = writer.value("float32", f"{count} * {_f32(-_LN2_HIGH)} + {x}")
    rest = writer.value("float32", f"{count} * {_f32(-_LN2_LOW)} + {rest}")
    return horner(writer, rest, _EXP)


def sigmoid(writer: Writer, x: str) -> str:
    """1 / (1 + e**-x) within 3 ulp; 0 where it would be subnormal."""
    return writer.value("float32", f"{_f32(1)} / {_one_and_exp_of_minus(writer, x, 1.0)}")


def swish(writer: Writer, x: str, alpha: float = 1.0) -> str:
    """x sigmoid(alpha x) within 4 ulp where |alpha x| <= 87; NaN at an infinity where the sigmoid is 0. Swish of 1 is SiLU."""
    return writer.value("float32", f"{x} / {_one_and_exp_of_minus(writer, x, alpha)}")


def mish(writer: Writer, x: str) -> str:
    """x tanh(log(1 + e**x)) within 5 ulp; NaN at minus infinity, as the product is.

    With n = e**x (e**x + 2), the tanh is n / (n + 2).
    """
    power = exp_flushed(writer, at_most(writer, x, 30.0))
    n = writer.value("float32", f"{power} * ({power} + {_f32(2)})")
    return writer.value("float32", f"{x} * ({n} / ({n} + {_f32(2)}))")


def _one_and_exp_of_minus(writer: Writer, x: str, alpha: float) -> str:
    return f"({_f32(1)} + {exp_flushed(writer, writer.value('float32', f'{x} * {_f32(-alpha)}'))})"


def expm1_of_nonpositive(writer: Writer, x: str) -> str:
    """e**x - 1 for x <= 0 within 8 ulp, near 0 too: with t = tanh(x / 2) it is 2 t / (1 - t). For other x it is anything."""
    t = tanh(writer, writer.value("float32", f"{x} * {_f32(0.5)}"))
    return writer.value("float32", f"({t} + {t}) / ({_f32(1)} - {t})")


# Logarithms


def log(writer: Writer, x: str) -> str:
    """The natural logarithm within 1 ulp, of subnormal numbers too."""
    least = _f32(2.0**-126)
    normal = writer.value("float32", f"T.Select({x} < {least}, {x} * {_f32(2.0**23)}, {x})")
    exponent, fraction = _log_reduced(writer, normal)
    exponent = writer.value("int32", f"T.Select({x} < {least}, {exponent} - 23, {exponent})")
    result = _log_sum(writer, exponent, fraction)
    zero, infinity = _f32(0), _f32(float("inf"))
    special = f"T.Select({x} == {zero}, {_f32(-float('inf'))}, T.Select({x} < {zero}, {_f32(float('nan'))}, {x}))"
    return writer.value("float32", f"T.Select(T.And({x} > {zero}, {x} < {infinity}), {result}, {special})")


def log1p(writer: Writer, x: str) -> str:
    """log(1 + x) within 2 ulp, for x near 0 too: what rounding took from 1 + x is added to its fraction."""
    result = _log1p_of_finite(writer, x)
    infinity = _f32(float("inf"))
    special = f"T.Select({x} == {_f32(-1)}, {_f32(-float('inf'))}, T.Select({x} < {_f32(-1)}, {_f32(float('nan'))}, {x}))"
    inside = f"T.And(T.And({x} > {_f32(-1)}, {x} < {infinity}), {x} != {_f32(0)})"
    return writer.value("float32", f"T.Select({inside}, {result}, {special})")


def softplus(writer: Writer, x: str) -> str:
    """log(1 + e**x) within 3 ulp, as max(x, 0) + log(1 + e**-|x|); 0 where that would be subnormal."""
    power = exp_of_nonpositive(writer, writer.value("float32", f"T.Select({x} > {_f32(0)}, -{x}, {x})"))
    rest = _log1p_of_finite(writer, power)
    return writer.value("float32", f"T.Select({x} > {_f32(0)}, {x} + {rest}, T.Select({_is_nan(x)}, {x}, {rest}))")


def _log1p_of_finite(writer: Writer, x: str) -> str:
    """log1p of what is between -1 and infinity."""
    total = writer.value("float32", f"T.fma({x}, {_f32(1)}, {_f32(1)})")
    back = writer.value("float32", f"{total} - {_f32(1)}")
    # Knuth's exact error of a sum: total + lost = 1 + x.
    lost = writer.value("float32", f"({_f32(1)} - T.fma({back}, {_f32(-1)}, {total})) + ({x} - {back})")
    exponent, fraction = _log_reduced(writer, total)
    scale = _float(f"{_i32(0x3F800000)} - T.shift_left(T.min({exponent}, {_i32(64)}), 23)")
    return _log_sum(writer, exponent, writer.value("float32", f"{lost} * {scale} + {fraction}"))


def _log_reduced(writer: Writer, x: str) -> tuple[str, str]:
    """e and f of a positive normal number 2**e (1 + f) with 1 + f within sqrt(1/2) and sqrt(2)."""
    exponent = writer.value("int32", f"T.shift_right({_bits(x)} - {_i32(0x3F3504F3)}, 23)")
    mantissa = writer.value("float32", _float(f"{_bits(x)} - T.shift_left({exponent}, 23)"))
    return exponent, writer.value("float32", f"{mantissa} - {_f32(1)}")


def _log_sum(writer: Writer, exponent: str, f: str) -> str:
    """e ln 2 + log(1 + f), the small terms first."""
    turns = writer.value("float32", f'T.Cast("float32", {exponent})')
    square = writer.value("float32", f"{f} * {f}")
    curve = horner(writer, f, _LOG)
    small = writer.value("float32", f"{turns} * {_f32(_LN2_LOW)} + {curve} * {square}")
    return writer.value("float32", f"{turns} * {_f32(_LN2_HIGH)} + ({f} + {small})")


# Sigmoids


def erf(writer: Writer, x: str) -> str:
    """The error function within 6 ulp, exactly 1 from 3.93 on; odd."""
    return _odd_ratio(writer, x, _ERF_END, _ERF_NUMERATOR, _ERF_DENOMINATOR)


def tanh(writer: Writer, x: str) -> str:
    """The hyperbolic tangent within 6 ulp, exactly 1 from 9.1 on; odd."""
    return _odd_ratio(writer, x, _TANH_END, _TANH_NUMERATOR, _TANH_DENOMINATOR)


def _odd_ratio(writer: Writer, x: str, end: float, numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """x p(x**2) / q(x**2) up to |x| = `end`, and from there on 1 with the sign of x: the ratio no longer changes, and x grows.

    A ratio takes fewer instructions than one polynomial, and the divider works beside the multipliers.
    """
    square = at_most(writer, writer.value("float32", f"{x} * {x}"), end**2)
    above, below = horner(writer, square, numerator), horner(writer, square, denominator)
    ratio = writer.value("float32", f"{x} * {above} / {below}")
    return at_least(writer, at_most(writer, ratio, 1.0), -1.0)


def gelu(writer: Writer, x: str) -> str:
    """x (1 + erf(x / sqrt(2))) / 2 within |x| 2**-22, for positive x 3 ulp; NaN at minus infinity, as the product is."""
    cumulative = erf(writer, writer.value("float32", f"{x} * {_f32(0.5**0.5)}"))
    return writer.value("float32", f"{x} * {_f32(0.5)} * ({_f32(1)} + {cumulative})")


def gelu_tanh(writer: Writer, x: str) -> str:
    """gelu's approximation by tanh, x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2, within |x| 2**-21."""
    cubic = writer.value("float32", f"{x} * {x} * {_f32(0.044715)} + {_f32(1)}")
    cumulative = tanh(writer, writer.value("float32", f"{x} * {_f32(0.7978845608028654)} * {cubic}"))
    return writer.value("float32", f"{x} * {_f32(0.5)} * ({_f32(1)} + {cumulative})")


# Trigonometry, whose argument is reduced in f64


_SIN = (-0.00019516654720064253, 0.008332173340022564, -0.16666655242443085, 1.0)
"""sin(r) / r on |r| <= pi / 4 in r**2, to 4e-9."""
_COS = (2.4437729734927416e-05, -0.001388736185617745, 0.04166664555668831, -0.5, 1.0)
"""cos(r) on |r| <= pi / 4 in r**2, to 2e-10."""
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
"""pi / 2 in three parts, the first two of 33 bits: their products with integers below 2**20 are exact."""


def sin(writer: Writer, x: str) -> str:
    """The sine within 2 ulp for |x| <= 1e6, for 1e14 where the target has FMA, and some number within 1 beyond; odd."""
    return _circular(writer, x, 0)


def cos(writer: Writer, x: str) -> str:
    """The cosine within 2 ulp for |x| <= 1e6, for 1e14 where the target has FMA, and some number within 1 beyond."""
    return _circular(writer, x, 1)


def _circular(writer: Writer, x: str, shift: int) -> str:
    """sin(x + shift pi / 2): x less a multiple of pi / 2 picks one of the sine and cosine of the rest, and a sign."""
    wide = writer.value("float64", f'T.Cast("float64", {x})')
    scaled = f"{wide} * {literal(0.6366197723675814, 'float64')}"
    turns = writer.value("float64", f'T.call_llvm_pure_intrin("float64", "llvm.nearbyint", {scaled})')
    rest = wide
    for part in _HALF_PI:
        rest = writer.value("float64", f"{turns} * {literal(-part, 'float64')} + {rest}")
    # Of huge arguments the rest is noise; it must not leave the polynomials' range. Of -0 the sum is 0.
    rest = writer.value("float32", f'T.Select({x} == {_f32(0)}, {x}, T.Cast("float32", {rest}))')
    rest = at_least(writer, at_most(writer, rest, 0.8), -0.8)
    four = f"T.floor({turns} * {literal(0.25, 'float64')}) * {literal(-4.0, 'float64')} + {turns}"
    quadrant = writer.value(
        "int32", f'T.Cast("int32", T.Select({_is_finite(x)}, {four}, {literal(0.0, "float64")})) + {_i32(shift)}'
    )
    square = writer.value("float32", f"{rest} * {rest}")
    sine = writer.value("float32", f"{rest} * {horner(writer, square, _SIN)}")
    cosine = horner(writer, square, _COS)
    picked = writer.value("float32", f"T.Select(T.bitwise_and({quadrant}, {_i32(1)}) == {_i32(0)}, {sine}, {cosine})")
    sign = f"T.shift_left(T.bitwise_and({quadrant}, {_i32(2)}), 30)"
    return writer.value("float32", _float(f"T.bitwise_xor({_bits(picked)}, {sign})"))


# Powers, in f64 because an error in the logarithm counts |y log x| times


_LOG2 = (0.340780336849868, 0.4116700515866602, 0.5770836286976794, 0.9617966731158346, 2.885390081790265)
"""log2((1 + s) / (1 - s)) / s on sqrt(1/2) <= (1 + s) / (1 - s) <= sqrt(2) in s**2, to 1e-11."""
_EXP2 = (
    *(1.5201821493287072e-05, 0.00015469422117263612, 0.0013333924017189848, 0.009618026848345037),
    *(0.055504103503670396, 0.24022651201151432, 0.6931471807298039, 0.9999999999613787),
)
"""2**r on |r| <= 1/2, to 4e-11."""


def power(writer: Writer, x: str, y: str) -> str:
    """x**y within 1 ulp, with C's answers for zeros, infinities, NaN and negative x (a number only where y is an integer)."""
    zero, one, infinity = _f32(0), _f32(1), _f32(float("inf"))
    size = writer.value("float32", _float(f"T.bitwise_and({_bits(x)}, {_i32(0x7FFFFFFF)})"))
    result = _power_of_positive(writer, size, y)
    # The ends of the range: 0 and infinity, which the logarithm's bits do not know, and where x or y decides alone.
    result = writer.value("float32", f"T.Select({size} == {zero}, T.Select({y} < {zero}, {infinity}, {zero}), {result})")
    result = writer.value("float32", f"T.Select({size} == {infinity}, T.Select({y} < {zero}, {zero}, {infinity}), {result})")
    negative = f"({_bits(x)} < {_i32(0)})"
    whole = f"(T.floor({y}) == {y})"
    odd = f"T.And({whole}, T.floor({y} * {_f32(0.5)}) * {_f32(2)} != {y})"
    result = writer.value("float32", f"T.Select(T.And({negative}, {odd}), -{result}, {result})")
    forbidden = f"T.And(T.And({x} < {zero}, {size} < {infinity}), T.Not({whole}))"
    result = writer.value("float32", f"T.Select({forbidden}, {_f32(float('nan'))}, {result})")
    # An infinite y is an even integer, and a NaN gives NaN except beside 1**y and x**0.
    result = writer.value("float32", f"T.Select({_is_nan(x)}, {x}, T.Select({_is_nan(y)}, {y}, {result}))")
    size_is_one = f"T.And({size} == {one}, T.Not({_is_finite(y)}))"
    sure = f"T.Or(T.Or({y} == {zero}, {x} == {one}), T.And({size_is_one}, T.Not({_is_nan(y)})))"
    return writer.value("float32", f"T.Select({sure}, {one}, {result})")


def _power_of_positive(writer: Writer, x: str, y: str) -> str:
    """x**y of a positive finite x, by log2 and 2**r in f64; anything for other x."""
    bits = writer.value("int64", f'T.reinterpret("int64", T.Cast("float64", {x}))')
    exponent = writer.value("int64", f"T.shift_right({bits} - {_i64(0x3FE6A09E667F3BCD)}, {_i64(52)})")
    m = writer.value("float64", f'T.reinterpret("float64", {bits} - T.shift_left({exponent}, {_i64(52)}))')
    one = literal(1.0, "float64")
    s = writer.value("float64", f"({m} - {one}) / ({m} + {one})")
    curve = horner(writer, writer.value("float64", f"{s} * {s}"), _LOG2, "float64")
    logarithm = f'({s} * {curve} + T.Cast("float64", {exponent}))'
    product = writer.value("float64", f'T.Cast("float64", {y}) * {logarithm}')
    product = writer.value("float64", _at_most_text(product, 300.0, "float64"))
    product = writer.value("float64", _at_least_text(product, -300.0, "float64"))
    turns = writer.value("float64", f"T.floor({product} + {literal(0.5, 'float64')})")
    fraction = horner(writer, writer.value("float64", f"{product} - {turns}"), _EXP2, "float64")
    count = f'T.Cast("int64", T.Cast("int32", T.Select({_is_nan(y)}, {literal(0.0, "float64")}, {turns})))'
    scale = f'T.reinterpret("float64", T.shift_left({count} + {_i64(1023)}, {_i64(52)}))'
    return writer.value("float32", f'T.Cast("float32", {fraction} * {scale})')


# Parts


def at_most(writer: Writer, x: str, bound: float) -> str:
    """min(x, bound), and NaN where x is NaN: one instruction."""
    return writer.value("float32", _at_most_text(x, bound, "float32"))


def at_least(writer: Writer, x: str, bound: float) -> str:
    """max(x, bound), and NaN where x is NaN: one instruction."""
    return writer.value("float32", _at_least_text(x, bound, "float32"))


def _at_most_text(x: str, bound: float, kind: str) -> str:
    return f"T.Select({literal(bound, kind)} < {x}, {literal(bound, kind)}, {x})"


def _at_least_text(x: str, bound: float, kind: str) -> str:
    return f"T.Select({literal(bound, kind)} > {x}, {literal(bound, kind)}, {x})"


def horner(writer: Writer, x: str, coefficients: Sequence[float], kind: str = "float32") -> str:
    """A polynomial whose highest coefficient comes first."""
    result = literal(coefficients[0], kind)
    for coefficient in coefficients[1:]:
        result = writer.value(kind, f"{result} * {x} + {literal(coefficient, kind)}")
    return result


def _power_of_two(count: str) -> str:
    return _float(f"T.shift_left({count} + {_i32(127)}, 23)")


def _is_nan(x: str) -> str:
    return f"(T.bitwise_and({_bits(x)}, {_i32(0x7FFFFFFF)}) > {_i32(0x7F800000)})"


def _is_finite(x: str) -> str:
    return f"(T.bitwise_and({_bits(x)}, {_i32(0x7FFFFFFF)}) < {_i32(0x7F800000)})"


def _bits(x: str) -> str:
    return f'T.reinterpret("int32", {x})'


def _float(bits: str) -> str:
    return f'T.reinterpret("float32", {bits})'


def _f32(value: float) -> str:
    return literal(value, "float32")


def _i32(value: int) -> str:
    return literal(value, "int32")


def _i64(value: int) -> str:
    return literal(value, "int64")

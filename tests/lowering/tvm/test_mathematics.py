"""The functions' stated errors, over all of f32: every exponent with thousands of mantissas, both signs, against f64."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from irc.ir import DType
from irc.lowering.tvm import mathematics
from irc.lowering.tvm.adapter import object_file
from irc.lowering.tvm.kernel import Kernel, Writer
from irc.lowering.tvm.loops import elementwise
from irc.lowering.tvm.views import View
from irc.runtime import processor

from .running import lanes, needs_tvm, run

Single = NDArray[np.float32]
Double = NDArray[np.float64]
Function = Callable[..., str]

pytestmark = needs_tvm
NAN, INFINITY = float("nan"), float("inf")
LEAST_NORMAL = 2.0**-126


@cache
def numbers() -> Single:
    """Some 2**21 numbers: all exponents, NaN and infinity among them, and more where functions bend."""
    rng = np.random.default_rng(0)
    ends = [0, 1, 2, (1 << 23) - 2, (1 << 23) - 1]
    mantissas = np.concatenate([rng.integers(0, 1 << 23, 3000), np.arange(0, 1 << 23, 1 << 14), ends]).astype(np.uint32)
    bits = ((np.arange(256, dtype=np.uint32) << 23)[:, None] | mantissas).reshape(-1)
    near = np.concatenate([np.linspace(-110, 110, 200_000), np.linspace(-12, 12, 200_000), rng.normal(size=100_000) * 2])
    return np.concatenate([bits.view(np.float32), (bits | np.uint32(1 << 31)).view(np.float32), near.astype(np.float32)])


def kernel_of(function: Function, size: int, arity: int = 1) -> Kernel:
    def body(writer: Writer, names: Sequence[str]) -> str:
        return function(writer, *names)

    view = View.dense((size,))
    return elementwise(DType.F32, view, [(DType.F32, view)] * arity, body, lanes())


def results(function: Function, *arguments: Single) -> Single:
    out = np.empty(arguments[0].shape, np.float32)
    run(kernel_of(function, out.size, len(arguments)), *map(np.ascontiguousarray, arguments), out)
    return out


def of(function: Function, *values: float) -> list[float]:
    """The function of a few numbers."""
    return results(function, np.array(values, np.float32)).tolist()


def errors(out: Single, exact: Double) -> Double:
    """In units in the last place of the exact result; 0 where both are NaN or round alike, infinite where one is finite."""
    rounded = exact.astype(np.float32)
    unit = np.spacing(np.maximum(np.abs(rounded), np.float32(LEAST_NORMAL)))
    off = np.abs(out.astype(np.float64) - exact) / unit
    same = (out == rounded) | (np.isnan(out) & np.isnan(exact))
    return np.where(same, 0, np.where(np.isfinite(out) & np.isfinite(rounded), off, np.inf))


def softplus(x: Double) -> Double:
    return np.logaddexp(0, x)


EXACT: dict[str, tuple[float, Callable[[Double], Double], tuple[float, float]]] = {
    "exp": (1.2, np.exp, (-INFINITY, INFINITY)),
    "exp_flushed": (1.2, np.exp, (-87.6, 88.3)),
    "exp_of_nonpositive": (1.2, np.exp, (-87.6, 0)),
    "expm1_of_nonpositive": (8, np.expm1, (-INFINITY, 0)),
    "log": (1, np.log, (-INFINITY, INFINITY)),
    "log1p": (2, np.log1p, (-INFINITY, INFINITY)),
    "softplus": (3, softplus, (-87.3, INFINITY)),
    "sigmoid": (3, lambda x: 1 / (1 + np.exp(-x)), (-87.3, INFINITY)),
    "swish": (4, lambda x: x / (1 + np.exp(-x)), (-87, INFINITY)),
    "mish": (5, lambda x: x * np.tanh(softplus(x)), (-87, INFINITY)),
    "tanh": (6, np.tanh, (-INFINITY, INFINITY)),
    "sin": (2, np.sin, (-1e6, 1e6)),
    "cos": (2, np.cos, (-1e6, 1e6)),
}
"""The bound in ulp, the function in f64, and where it holds."""


@pytest.mark.parametrize("name", EXACT)
def test_error_over_all_of_f32(name: str) -> None:
    bound, function, (least, most) = EXACT[name]
    x = numbers()
    x = x[~((x < least) | (x > most))]
    with np.errstate(all="ignore"):
        found = errors(results(getattr(mathematics, name), x), function(x.astype(np.float64)))
    worst = int(np.argmax(found))
    assert found[worst] <= bound, f"{found[worst]:.2f} ulp at {x[worst]!r}"


def test_error_of_erf() -> None:
    """Against Python's own, number by number, so on fewer of them."""
    x = np.concatenate([numbers()[::101], np.linspace(-4.5, 4.5, 60_001).astype(np.float32)])
    exact = np.array([math.erf(each) for each in x.tolist()])
    assert errors(results(mathematics.erf, x), exact).max() <= 6


@pytest.mark.parametrize(
    ("function", "bound", "inner"),
    [
        (mathematics.gelu, 2.0**-22, lambda x: math.erf(x / math.sqrt(2))),
        (mathematics.gelu_tanh, 2.0**-21, lambda x: math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ],
)
def test_error_of_gelu_is_relative_to_its_operand(function: Function, bound: float, inner: Callable[[float], float]) -> None:
    x = np.concatenate([numbers()[::101], np.linspace(-10, 10, 60_001).astype(np.float32)])
    x = x[np.isfinite(x) & (np.abs(x) < 1e30)]
    exact = np.array([0.5 * each * (1 + inner(each)) for each in x.tolist()])
    assert np.all(np.abs(results(function, x) - exact) <= bound * np.abs(x.astype(np.float64)) + 2.0**-149)


def test_error_of_powers() -> None:
    rng = np.random.default_rng(1)
    x = np.exp(rng.uniform(-80, 88.7, 500_000)).astype(np.float32)
    y = (rng.uniform(-104, 89, x.size) / np.log(x.astype(np.float64))).astype(np.float32)
    whole = rng.integers(0, 3, x.size) == 0
    x, y = np.where(whole, -x, x), np.where(whole, np.round(y), y)
    with np.errstate(all="ignore"):
        assert errors(results(mathematics.power, x, y), np.power(x.astype(np.float64), y.astype(np.float64))).max() <= 1


def test_powers_of_special_numbers_are_those_of_c() -> None:
    some = [0.0, 1.0, 2.0, 3.0, 0.5, 1.5, INFINITY, 1e-45, 3e38, 16777215.0, 16777216.0]
    special = np.array([*some, *(-each for each in some), NAN], np.float32)
    x, y = (each.reshape(-1) for each in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    out = results(mathematics.power, x, y)
    np.testing.assert_allclose(out, expected, rtol=2e-7)
    np.testing.assert_array_equal(np.signbit(out[~np.isnan(out)]), np.signbit(expected[~np.isnan(out)]))


ENDS: dict[str, tuple[float, float, float]] = {
    "exp": (1, INFINITY, 0),
    "exp_flushed": (1, INFINITY, 0),
    "log": (-INFINITY, INFINITY, NAN),
    "log1p": (0, INFINITY, NAN),
    "softplus": (float(np.float32(math.log(2))), INFINITY, 0),
    "sigmoid": (0.5, 1, 0),
    "swish": (0, INFINITY, NAN),
    "mish": (0, INFINITY, NAN),
    "gelu": (0, INFINITY, NAN),
    "gelu_tanh": (0, INFINITY, NAN),
    "erf": (0, 1, -1),
    "tanh": (0, 1, -1),
    "sin": (0, NAN, NAN),
    "cos": (1, NAN, NAN),
}
"""What each function is of 0, of infinity and of minus infinity."""


@pytest.mark.parametrize("name", ENDS)
def test_zero_infinities_and_nan(name: str) -> None:
    out = of(getattr(mathematics, name), 0.0, INFINITY, -INFINITY, NAN)
    np.testing.assert_array_equal(out, [*ENDS[name], NAN])


@pytest.mark.parametrize("name", ["erf", "tanh", "sin", "log1p", "swish", "mish", "gelu", "gelu_tanh", "expm1_of_nonpositive"])
def test_minus_zero_stays(name: str) -> None:
    assert math.copysign(1, of(getattr(mathematics, name), -0.0)[0]) == -1


@pytest.mark.parametrize("name", ["erf", "tanh", "sin"])
def test_odd_functions_are_odd(name: str) -> None:
    x = numbers()[::17]
    np.testing.assert_array_equal(results(getattr(mathematics, name), -x), -results(getattr(mathematics, name), x))


@pytest.mark.parametrize("name", ["erf", "tanh"])
def test_sigmoids_end_at_one(name: str) -> None:
    out = results(getattr(mathematics, name), numbers())
    assert np.nanmax(np.abs(out)) == 1
    assert of(getattr(mathematics, name), 9.2, 1e30) == [1, 1]


@pytest.mark.skipif("fma" not in processor().features and processor().architecture == "x86-64", reason="needs FMA")
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_large_angles_are_reduced_with_fma(name: str) -> None:
    x = numbers()
    x = x[np.abs(x) <= 1e14]
    assert errors(results(getattr(mathematics, name), x), getattr(np, name)(x.astype(np.float64))).max() <= 2


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_huge_angles_stay_on_the_circle(name: str) -> None:
    x = numbers()
    assert np.nanmax(np.abs(results(getattr(mathematics, name), x[np.isfinite(x)]))) <= 1


@pytest.mark.parametrize("size", [1, 3, 21])
def test_scalar_and_short_loops_compute_the_same(size: int) -> None:
    """A loop of one turn is none, and the functions stand in no loop then."""
    x = np.linspace(-5, 5, 21).astype(np.float32)
    for name in ("exp", "erf", "log1p", "sin", "mish"):
        function = getattr(mathematics, name)
        np.testing.assert_array_equal(results(function, x[:size].copy()), results(function, x)[:size])


@pytest.mark.parametrize(("triple", "processor"), [("x86_64-linux-gnu", "x86-64-v3"), ("aarch64-linux-gnu", "generic")])
def test_functions_compile_for_other_targets_and_call_nothing(triple: str, processor: str, tmp_path: Path) -> None:
    names = [*ENDS, "exp_of_nonpositive"]
    kernels = {kernel_of(getattr(mathematics, name), 64, 1) for name in names} | {kernel_of(mathematics.power, 64, 2)}
    Path(tmp_path, "k.o").write_bytes(object_file([kernel.text for kernel in kernels], triple, processor, []))
    missing = subprocess.run(["nm", "-u", "k.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.split()
    assert not missing, f"calls of {missing}"

"""Functions whose results are only made narrow: their stated errors over all of f32, and that f32 never gets one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from irc.ir import DType, Graph, Op, capture, evaluate, via
from irc.lowering import find_target
from irc.lowering.driver import compile_graph
from irc.lowering.tvm import coarse, mathematics
from irc.lowering.tvm.casting import cast
from irc.lowering.tvm.coarse import COARSE
from irc.lowering.tvm.concluding import is_only_narrowed, rules_behind_sums
from irc.lowering.tvm.instructions import FEATURES, HALVING, halved
from irc.lowering.tvm.kernel import Kernel, Writer
from irc.lowering.tvm.loops import elementwise
from irc.lowering.tvm.narrow import is_narrowing
from irc.lowering.tvm.program import calls_of, machine_of
from irc.lowering.tvm.scaling import rule_of
from irc.lowering.tvm.views import View
from irc.runtime import processor

from ..models import node
from .programs import ALONE, Feeds, compiled, of
from .running import lanes, needs_tvm, run
from .test_mathematics import Double, Function, Single, numbers, results
from .test_narrow import Narrowed

WIDE = machine_of(find_target("cpu:sapphirerapids"))
"""A processor that has all that is asked for."""
HAS = frozenset(processor().features)
needs_avx512 = pytest.mark.skipif(not HAS >= FEATURES, reason="needs AVX-512")
needs_halving = pytest.mark.skipif(not HAS >= HALVING, reason="needs AVX-512 with bf16")

INFINITY = math.inf
ROOT = math.sqrt(2 / math.pi)


def logistic(x: Double) -> Double:
    return 1 / (1 + np.exp(-x))


def error_function(x: Double) -> Double:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


EXACT: dict[str, tuple[float, Callable[[Double], Double], tuple[float, float]]] = {
    "exp": (2.0**-17, np.exp, (-87.3, 88.7)),
    "sigmoid": (2.0**-13.9, logistic, (-86, INFINITY)),
    "swish": (2.0**-13.9, lambda x: x * logistic(x), (-86, INFINITY)),
    "mish": (2.0**-13.9, lambda x: x * np.tanh(np.logaddexp(0, x)), (-86, 2.0**127)),
    "gelu_tanh": (2.0**-13.9, lambda x: x * logistic(2 * ROOT * (x + 0.044715 * x**3)), (-9, INFINITY)),
    "erf": (2.0**-13.8, error_function, (-INFINITY, INFINITY)),
    "tanh": (2.0**-13.9, np.tanh, (-INFINITY, INFINITY)),
}
"""The bound of the relative error, the function in f64, and where it holds."""


@needs_tvm
@needs_avx512
@pytest.mark.parametrize("name", EXACT)
def test_error_over_all_of_f32(name: str) -> None:
    bound, function, (least, most) = EXACT[name]
    x = numbers()[:: 29 if name == "erf" else 1]
    x = x[(x >= least) & (x <= most) & np.isfinite(x)]
    with np.errstate(all="ignore"):
        exact = function(x.astype(np.float64))
    error = np.abs(results(getattr(coarse, name), x) - exact)
    off = error - np.maximum(bound * np.abs(exact), 2.0**-148)  # of subnormal results a last bit and its half
    assert off.max() <= 0, f"{error[np.argmax(off)]} at {x[np.argmax(off)]!r}"


@needs_tvm
@needs_avx512
def test_error_of_gelu_is_relative_to_its_operand() -> None:
    x = np.concatenate([numbers()[::29], np.linspace(-10, 10, 100_001).astype(np.float32)])
    x = x[np.isfinite(x)]
    wide = x.astype(np.float64)
    error = np.abs(results(coarse.gelu, x) - wide * (1 + error_function(wide / math.sqrt(2))) / 2)
    bound = np.where(x < 0, 2.0**-14, 2.0**-13.6) * np.abs(wide)
    assert (error <= np.maximum(bound, 2.0**-148)).all()


@needs_tvm
@needs_avx512
@pytest.mark.parametrize("name", [*EXACT, "gelu"])
def test_nan_infinities_and_zeros_are_those_of_the_fine_function(name: str) -> None:
    x = np.array([0.0, -0.0, INFINITY, -INFINITY, math.nan, -math.nan], np.float32)
    fine, own = results(getattr(mathematics, name), x), results(getattr(coarse, name), x)
    np.testing.assert_array_equal(own, fine)
    np.testing.assert_array_equal(np.signbit(own)[:4], np.signbit(fine)[:4])
    assert np.isnan(own[4:]).all()


@needs_tvm
@needs_avx512
@pytest.mark.parametrize("size", [1, 2, 5, 16, 31])
def test_an_element_does_not_depend_on_its_lane(size: int) -> None:
    x = np.linspace(-3, 3, size, dtype=np.float32)
    whole = results(coarse.gelu, np.resize(x, 64))[:size]
    np.testing.assert_array_equal(results(coarse.gelu, x), whole)


# Rounding to bf16


def halved_by(function: Function, x: Single) -> NDArray[np.uint16]:
    def body(writer: Writer, names: Sequence[str]) -> str:
        return function(writer, *names)

    view, out = View.dense(x.shape), np.empty(x.shape, np.uint16)
    kernel: Kernel = elementwise(DType.BF16, view, [(DType.F32, view)], body, lanes())
    run(kernel, np.ascontiguousarray(x), out)
    return out


def by_processor(writer: Writer, x: str) -> str:
    return writer.at_once("uint16", halved, x)


def by_integers(writer: Writer, x: str) -> str:
    return cast(writer, x, DType.F32, DType.BF16)


@needs_tvm
@needs_halving
@pytest.mark.parametrize("size", [None, 1, 3])
def test_the_processor_rounds_as_integers_do_but_for_denormals(size: int | None) -> None:
    x = numbers()[-1:] if size == 1 else numbers()[:size]
    normal = np.abs(x) >= 2.0**-126
    own, exact = halved_by(by_processor, x), halved_by(by_integers, x)
    np.testing.assert_array_equal(own[normal], exact[normal])
    np.testing.assert_array_equal(own[np.abs(x) < 2.0**-126], (x.view(np.uint32) >> 31 << 15)[np.abs(x) < 2.0**-126])
    assert ((own[np.isnan(x)] & 0x7FFF) > 0x7F80).all()


@needs_tvm
@pytest.mark.usefixtures("in_this_process")
def test_a_models_own_cast_of_its_input_is_exact_for_denormals() -> None:
    feeds = {"x": np.array([1e-39, -1e-40, 3e-39, 1.0, math.inf, -0.0], np.float32)}
    nodes = [node("Cast", ["x"], ["h"], to=TensorProto.BFLOAT16), node("Cast", ["h"], ["y"], to=TensorProto.FLOAT)]
    message = of(nodes, feeds, ["y"])
    (exact,) = evaluate(capture(message.SerializeToString()), dict(feeds))
    own = compiled(message).program.run(dict(feeds))["y"]
    assert own[0] != 0
    np.testing.assert_array_equal(own, exact)


# Where they are taken


FUNCTIONS = ["Erf", "Exp", "Mish", "Sigmoid", "Swish", "Tanh", "Gelu"]


def network(form: str, function: str, ending: str) -> tuple[ModelProto, Feeds]:
    """A product of what lies narrow, a function of it, and what is read of that."""
    made = Narrowed(form)
    product = made.op("MatMul", [made.data("x"), made.weight("w", np.eye(32, dtype=np.float32), 1)], "p")
    opened = made.op(function, [product], "f")
    if ending == "product":
        opened = made.op("Mul", [opened, "g"], "m")
    if ending == "sum":
        opened = made.op("Add", [opened, "g"], "m")
    outputs = ["f"] if ending == "wide" else [made.data(opened, 0.0625)]
    rng = np.random.default_rng(0)
    feeds: dict[str, np.ndarray] = {"x": rng.integers(-4, 5, (8, 32)).astype(np.float32) / 2}
    if ending in ("product", "sum"):
        feeds["g"] = rng.integers(-4, 5, (8, 32)).astype(np.float32)
    return made.model(feeds, *outputs, *(["f"] if ending == "both" else [])), feeds


def op_of(message: ModelProto, function: str) -> Op:
    return next(op for op in captured(message) if op.is_a(function))


def captured(message: ModelProto) -> Graph:
    """The graph of a model, made narrow because that was asked for."""
    graph = capture(message.SerializeToString())
    for op in graph:
        if is_narrowing(op):
            op.location = via("narrow", op.location)
    return graph


@pytest.mark.parametrize("form", ["bf16", "bytes"])
def test_what_a_model_makes_narrow_itself_gets_the_fine_function(form: str) -> None:
    own = capture(network(form, "Tanh", "narrow")[0].SerializeToString())
    op = next(op for op in own if op.is_a("Tanh"))
    assert rules_behind_sums(WIDE.features)(op) is rule_of(op)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("form", ["bf16", "bytes"])
@pytest.mark.parametrize(("ending", "taken"), [("narrow", 1), ("product", 1), ("sum", 0), ("wide", 0), ("both", 0)])
def test_only_what_is_made_narrow_is_coarse(form: str, function: str, ending: str, taken: int) -> None:
    op = op_of(network(form, function, ending)[0], function)
    assert is_only_narrowed(op) == bool(taken)
    assert rules_behind_sums(WIDE.features)(op) is (COARSE[function] if taken else rule_of(op))
    assert rules_behind_sums(WIDE.features - {"avx512dq"})(op) is rule_of(op)


@pytest.mark.parametrize("features", [WIDE.features, WIDE.features - HALVING], ids=["halves", "does not"])
def test_the_processor_rounds_where_it_can(features: frozenset[str]) -> None:
    op = next(op for op in reversed(list(captured(network("bf16", "Tanh", "narrow")[0]))) if is_narrowing(op))
    assert (rules_behind_sums(features)(op) is rule_of(op)) == (features != WIDE.features)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_kernels_of_f32_do_not_know_of_them(function: str) -> None:
    feeds = {"x": np.zeros((8, 32), np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node(function, ["p"], ["y"])]
    message = of(nodes, feeds, ["y"], {"w": np.eye(32, dtype=np.float32)})
    plain = replace(WIDE, features=frozenset[str]())
    sources = [[call.kernel.source for call in calls_of(captured(message), machine)] for machine in (WIDE, plain)]
    assert sources[0] == sources[1]
    assert not any("irc_" in source for source in sources[0])


@needs_tvm
@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(("form", "step"), [("bf16", 2.0**-8), ("bytes", 0.0)])
def test_answers_differ_by_a_step_at_most(form: str, step: float, function: str) -> None:
    message, feeds = network(form, function, "narrow")
    (exact,) = evaluate(captured(message), dict(feeds))
    (own,) = compile_graph(captured(message), ALONE).program.run(dict(feeds)).values()
    most = step * np.abs(exact) + 2.0**-13 if step else np.full_like(exact, 0.0625)
    assert (np.abs(own - exact) <= most).all()

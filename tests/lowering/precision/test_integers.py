"""What integers need: a model that computes the same, ranges and weights, and only what makes the error smaller."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path

import numpy as np
import pytest

from irc.ir import Graph, capture, evaluate
from irc.ir.text import parse_graph, print_graph
from irc.lowering import CompileOptions, find_target
from irc.lowering.calibration import read_calibration
from irc.lowering.engine import Wish
from irc.lowering.precision import integers
from irc.lowering.precision.integers import learn_integers
from irc.lowering.precision.judge import Judge
from irc.lowering.precision.knowledge import Knowledge
from irc.lowering.precision.learnt import learn
from irc.lowering.precision.lessons import Lesson
from irc.lowering.precision.lowered import as_asked, everywhere, optimized, with_forms
from irc.lowering.precision.metrics import METRICS
from irc.lowering.tvm.engine import Tvm
from irc.passes.precision import EXACT_TOGETHER, Form, Range, integer_weights, sites
from irc.runtime import SignatureEntry

DIGITS = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture(scope="module")
def digits() -> Graph:
    """The digits example, optimized."""
    return optimized(capture(DIGITS / "digits.onnx"), CompileOptions())


def samples(count: int = 16) -> list[dict[str, np.ndarray]]:
    """Images of the test set."""
    with np.load(DIGITS / "digits_test.npz") as arrays:
        return [{"x": arrays["x"][index : index + 1]} for index in range(count)]


def silent(event: str) -> None:
    """Hears nothing."""


def learnt(digits: Graph) -> integers.Balanced:
    """What is learnt from the samples."""
    inputs = [SignatureEntry("x", "f32", ("batch", 1, 8, 8))]
    return learn_integers(digits, read_calibration(samples(), inputs), silent)


def test_the_model_stays_and_its_balanced_copy_computes_the_same(digits: Graph) -> None:
    before = print_graph(digits)
    balanced = learnt(digits).model
    assert print_graph(digits) == before
    (feeds,) = samples(1)
    np.testing.assert_allclose(evaluate(balanced, feeds)[0], evaluate(digits, feeds)[0], rtol=1e-4, atol=1e-5)


def test_neighbouring_weights_are_small_where_the_engine_wishes_it(digits: Graph) -> None:
    inputs = [SignatureEntry("x", "f32", ("batch", 1, 8, 8))]
    data = read_calibration(samples(), inputs)
    for name, held in (("cpu:haswell", True), ("cpu:znver4", False), ("arm64", False)):
        wishes = Tvm().wishes(find_target(name))
        assert (Wish.SMALL_NEIGHBOURS in wishes) is held
        model, known = learn(digits, {Form.INT8}, data, silent, wishes)
        graph = with_forms(model, as_asked(model, Form.INT8, known), known)
        steps = [site.weights.op.constant_operand(0) for site in sites(graph) if site.weights.op is not None]
        summed = [site.summed_axis for site in sites(graph)]
        largest = [
            int(np.abs(by_twos(each.array, axis)).max(initial=0))
            for each, axis in zip(steps, summed, strict=True)
            if each is not None
        ]
        assert len(largest) == len(known.weights)
        assert (max(largest) <= EXACT_TOGETHER) is held


def by_twos(steps: np.ndarray, axis: int) -> np.ndarray:
    """Sums of neighbours of one sign along an axis."""
    moved = np.moveaxis(steps.astype(int), axis, -1)
    first, second = moved[..., 0 : moved.shape[-1] // 2 * 2 : 2], moved[..., 1::2]
    return np.where(first * second > 0, first + second, 0)


def loud_channel() -> tuple[Graph, list[dict[str, np.ndarray]]]:
    """A norm of which one channel is far larger than others, a product that reads it with small weights there, and samples."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((16, 16)).round(2)
    weights[3] /= 100
    scale = ["100.0" if index == 3 else "1.0" for index in range(16)]
    graph = parse_graph(
        f"""graph @main(%x: f32[32,16]) -> (%y: f32[*]) {{
  %s = const @_ : f32[16] = [{", ".join(scale)}]
  %w = const @_ : f32[16,16] = [{", ".join(str(each) for each in weights.ravel().tolist())}]
  %n = LayerNormalization(%x, %s)
  %y = MatMul(%n, %w)
  return %y
}}"""
    )
    return graph, [{"x": random.standard_normal((32, 16)).astype(np.float32)} for _ in range(12)]


def test_channels_are_balanced_where_that_makes_the_error_smaller() -> None:
    graph, feeds = loud_channel()
    heard: list[str] = []
    found = learn_integers(graph, read_calibration(feeds, [SignatureEntry("x", "f32", (32, 16))]), heard.append)
    norm = next(op for op in found.model if op.is_a("LayerNormalization"))
    scale = norm.constant_operand(1)
    assert scale is not None
    assert scale.array.max() < 20 * scale.array.min()
    assert any(event.startswith("channels balanced: error") for event in heard)


def test_channels_stay_where_balance_does_not_make_the_error_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, feeds = loud_channel()
    monkeypatch.setattr(integers, "BETTER", 0.0)
    found = learn_integers(graph, read_calibration(feeds, [SignatureEntry("x", "f32", (32, 16))]), silent)
    assert print_graph(found.model) == print_graph(graph)


def test_channels_stay_where_there_is_no_time_to_judge_their_balance() -> None:
    graph, feeds = loud_channel()
    found = learn_integers(graph, read_calibration(feeds, [SignatureEntry("x", "f32", (32, 16))]), silent, 0.0)
    assert print_graph(found.model) == print_graph(graph)


def test_all_sites_can_be_quantized_with_little_error(digits: Graph) -> None:
    found = learnt(digits)
    forms = everywhere(found.model, Form.INT8, found.knowledge)
    assert set(forms) == {Form.INT8}
    judge = Judge(digits, samples(24)[16:], METRICS["l2"])
    assert judge.of_graph(with_forms(found.model, forms, found.knowledge)).error < 0.03


def test_only_what_makes_the_error_smaller_is_kept() -> None:
    first, better, worse = Knowledge(), Knowledge(corrects_biases=True), Knowledge(magnitudes={})
    errors: dict[int, float] = {id(better): 0.5, id(worse): 0.6}
    steps: list[tuple[str, Callable[[Knowledge], Knowledge]]] = [("a", lambda _: better), ("b", lambda _: worse)]

    def lessons(judged: tuple[str, ...], deadline: float) -> list[tuple[Knowledge, tuple[str, ...], bool]]:
        begun = Lesson(1, None, first, 1.0, judged)
        found = integers.improved(begun, steps, lambda known: errors[id(known)], silent, deadline)
        return [(each.known, each.judged, each.is_whole) for each in found]

    beginning = (first, (), False)
    assert lessons((), inf) == [beginning, (better, ("a",), False), (better, ("a", "b"), False), (better, ("a", "b"), True)]
    assert lessons((), 0.0) == [beginning]
    assert lessons(("a",), inf)[1:] == [(worse, ("a", "b"), False), (worse, ("a", "b"), True)]


@pytest.mark.parametrize(("reach", "form"), [(1e-5, Form.F32), (1e-3, Form.F16), (0.0, Form.F16), (4e4, Form.F32)])
def test_data_that_f16_does_not_hold_stay(digits: Graph, reach: float, form: Form) -> None:
    known = Knowledge(magnitudes={site.data: reach for site in sites(digits)})
    assert set(everywhere(digits, Form.F16, known)) == {form}


def test_sites_without_ranges_stay(digits: Graph) -> None:
    assert set(everywhere(digits, Form.INT8)) == {Form.F32}


@pytest.mark.parametrize("first", [Form.INT8, Form.DYNAMIC_INT8])
@pytest.mark.parametrize("second", [Form.INT8, Form.DYNAMIC_INT8])
def test_a_product_of_a_product_reads_steps_behind_the_corrected_bias(first: Form, second: Form) -> None:
    graph = parse_graph(
        """graph @main(%x: f32[3,2]) -> (%y: f32[*]) {
  %v = const @_ : f32[2,2] = [1.0, 0.3, -0.7, 0.1]
  %w = const @_ : f32[2,2] = [1.0, 0.3, -0.7, 0.1]
  %p = MatMul(%x, %v)
  %y = MatMul(%p, %w)
  return %y
}"""
    )
    found = sites(graph)
    known = Knowledge(
        ranges={site.data: Range(-3.0, 3.0) for site in found},
        means={site.data: np.ones(2) for site in found},
        weights={
            site.weights: integer_weights(site.weights.constant, 1) for site in found if site.weights.constant is not None
        },
        varying={site.op: 3.0 for site in found},
        corrects_biases=True,
    )
    lowered = with_forms(graph, [first, second], known)
    for op in (op for op in lowered if op.is_a("MatMul")):
        makers = [value.op for value in op.operands if value is not None]
        assert all(maker is not None and maker.is_a("DequantizeLinear") for maker in makers)
    names = [op.name for op in lowered]
    assert [names.count(name) for name in ("Add", "QuantizeLinear", "DynamicQuantizeLinear")] == [
        2,
        [first, second].count(Form.INT8),
        [first, second].count(Form.DYNAMIC_INT8),
    ]

"""Ranges that are found anew in each run: which products read them, and what makes that worth while."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import Graph, evaluate, verify
from irc.ir.text import parse_graph, print_graph
from irc.passes import LEVELS, PassManager, Range, quantize, quantize_dynamically, sites
from irc.passes.precision import LEAST_GAIN, IntegerWeights, gain, why_not_dynamic

SHARED = """graph @main(%x: f32[4,2]) -> (%y: f32[*], %z: f32[*], %s: f32[*]) {
  %v = const @_ : f32[2,2] = [1.27, 0.5, -2.54, 0.0]
  %w = const @_ : f32[2,2] = [1.27, 0.5, -2.54, 0.0]
  %y = MatMul(%x, %v)
  %z = Gemm(%x, %w) {transB=1}
  %s = Softmax(%x)
  return %y, %z, %s
}"""


def text(graph: Graph) -> list[str]:
    """The ops of a graph but its constants, without their types."""
    lines = print_graph(graph, locations=False).splitlines()
    return [line.split(" : ")[0].strip() for line in lines if "const @" not in line and not line.startswith(("graph", "}"))]


def test_one_pair_serves_all_products_and_nothing_else() -> None:
    graph = parse_graph(SHARED)
    quantize_dynamically(sites(graph))
    verify(graph)
    assert text(graph) == [
        "%0, %1, %2 = DynamicQuantizeLinear(%x)",
        "%3 = DequantizeLinear(%0, %1, %2)",
        "%5 = DequantizeLinear(%v, %4) {axis=1}",
        "%7 = DequantizeLinear(%w, %6) {axis=0}",
        "%y = MatMul(%3, %5)",
        "%z = Gemm(%3, %7) {transB=1}",
        "%s = Softmax(%x)",
        "return %y, %z, %s",
    ]
    made = [op for op in graph if op.is_a("DynamicQuantizeLinear", "DequantizeLinear")]
    assert all("via quantize" in str(op.location) for op in made)


def test_samples_of_any_size_are_answered_alike() -> None:
    graph = parse_graph(SHARED)
    x = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    exact = parse_graph(SHARED)
    quantize_dynamically(sites(graph))
    for size in (1e-4, 1.0, 1e4):
        feeds = {"x": (size * x).astype(np.float32)}
        wanted, got = evaluate(exact, feeds)[0], evaluate(graph, feeds)[0]
        assert np.linalg.norm(wanted - got) < 0.02 * np.linalg.norm(wanted)


def test_optimizing_changes_no_answer() -> None:
    graph = parse_graph(SHARED)
    quantize_dynamically(sites(graph))
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)}
    optimized = PassManager(LEVELS["O2"]).run(parse_graph(print_graph(graph)))
    for wanted, got in zip(evaluate(graph, feeds), evaluate(optimized, feeds), strict=True):
        np.testing.assert_allclose(wanted, got, rtol=1e-6, atol=1e-6)


def test_integers_that_are_given_are_used() -> None:
    graph = parse_graph(SHARED)
    first, second = sites(graph)
    given = IntegerWeights(np.full((2, 2), 7, np.int8), np.array([0.5, 0.25], np.float32), 1)
    quantize_dynamically([first, second], {first.weights: given})
    stored = [op.value.array.reshape(-1).tolist() for op in graph if op.is_constant and str(op.result.type).startswith("i8")]
    assert stored == [[7, 7, 7, 7], [127, 50, -127, 0]]


OTHERS = """graph @main(%x: f32[1,2,4,4], %a: f32[3,2], %b: f32[2,3]) -> (%y: f32[*], %z: f32[*], %s: f32[*]) {
  %w = const @_ : f32[2,2,1,1] = [1.0, 0.5, -2.0, 0.0]
  %v = const @_ : f32[2,1] = [1.0, inf]
  %y = Conv(%x, %w)
  %z = MatMul(%a, %b)
  %s = MatMul(%a, %v)
  return %y, %z, %s
}"""


def test_only_products_by_constant_matrices_find_their_ranges() -> None:
    assert [why_not_dynamic(site) for site in sites(parse_graph(OTHERS))] == [
        "only products of matrices find their ranges in each run",
        "its weights are computed",
        "a constant is not finite",
    ]


def test_what_is_in_steps_already_stays() -> None:
    graph = parse_graph(SHARED)
    chosen = sites(graph)
    quantize(graph, chosen, {chosen[0].data: Range(-1.0, 1.0)})
    assert [why_not_dynamic(site) for site in sites(graph)] == ["its data are in steps already"] * 2


def test_a_range_of_each_sample_gains_what_samples_differ_by() -> None:
    assert gain(Range(-1.0, 1.0), [2.0, 2.0], [0.3, 0.3]) == pytest.approx(1.0)
    # All small samples but one: relative to them the one range is a hundred times too wide.
    assert gain(Range(-1.0, 1.0), [0.02, 0.02, 0.02], [1e-5] * 3) == pytest.approx(100.0)
    mixed = gain(Range(-1.0, 1.0), [2.0, 0.02], [0.3, 0.3e-4])
    assert LEAST_GAIN < mixed < 100.0


def test_lone_large_elements_in_each_sample_speak_for_one_range() -> None:
    assert gain(Range(-1.0, 1.0), [10.0, 11.0], [0.1, 0.1]) < 0.5


def test_samples_of_zeros_say_nothing() -> None:
    assert gain(Range(-1.0, 1.0), [0.0], [0.0]) == 1.0
    assert gain(Range(-1.0, 1.0), [], []) == 1.0
    assert gain(Range(-1.0, 1.0), [0.0, 1.0], [0.0, 0.1]) == pytest.approx(2.0)

"""Integers of 8 bits in the graph: which values get a pair, who reads it, and that what is moved is rounded once only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import Graph, Tensor, UsageError, Value, evaluate, verify
from irc.ir.text import parse_graph, print_graph
from irc.passes import LEVELS, PassManager, Range, quantize, site_of, sites, wanted_values, why_not_quantized
from irc.passes.precision import EXACT_TOGETHER, IntegerWeights, integer_weights, wanted_results

RANGE = Range(-2.0, 3.1)  # a step is 0.02, and zero is step 100


def ranges_of(graph: Graph) -> dict[Value, Range]:
    return dict.fromkeys(wanted_values(graph, sites(graph)), RANGE)


def text(graph: Graph) -> list[str]:
    """The ops of a graph but its constants, without their types."""
    lines = print_graph(graph, locations=False).splitlines()
    return [line.split(" : ")[0].strip() for line in lines if "const @" not in line and not line.startswith(("graph", "}"))]


def names(graph: Graph) -> list[str]:
    return [op.name for op in graph if not op.is_constant]


def as_quantized(graph: Graph) -> Graph:
    quantize(graph, sites(graph), ranges_of(graph))
    verify(graph)
    return graph


CONV = """graph @main(%x: f32[1,2,4,4]) -> (%y: f32[*]) {
  %w = const @_ : f32[2,2,1,1] = [1.27, 0.5, -2.54, 0.0]
  %y = Conv(%x, %w)
  return %y
}"""


def test_a_convolution_reads_a_pair_and_weights_by_channel() -> None:
    graph = as_quantized(parse_graph(CONV))
    assert text(graph) == [
        "%2 = QuantizeLinear(%x, %0, %1)",
        "%3 = DequantizeLinear(%2, %0, %1)",
        "%5 = DequantizeLinear(%w, %4) {axis=0}",
        "%y = Conv(%3, %5)",
        "return %y",
    ]
    weights = next(op for op in graph if op.is_a("DequantizeLinear") and op.operand(2) is None)
    assert weights.needed(0).constant is not None
    assert weights.constant_operand(0).array.reshape(-1).tolist() == [127, 50, -127, 0]  # type: ignore[union-attr]
    assert np.allclose(weights.constant_operand(1).array, [0.01, 0.02])  # type: ignore[union-attr]


def test_all_that_is_made_says_so_and_where_it_comes_from() -> None:
    graph = as_quantized(parse_graph(CONV))
    made = [op for op in graph if op.is_a("QuantizeLinear", "DequantizeLinear")]
    assert made
    assert all("via quantize" in str(op.location) for op in made)


def test_one_pair_serves_all_readers_and_pointwise_ones_beside_convolutions() -> None:
    graph = as_quantized(
        parse_graph(
            """graph @main(%x: f32[1,2,4,4]) -> (%y: f32[*], %z: f32[*], %s: f32[*]) {
  %w = const @_ : f32[2,2,1,1] = [1.0, 0.5, -2.0, 0.0]
  %r = Relu(%x)
  %a = Conv(%r, %w)
  %b = Conv(%r, %w)
  %y = Add(%a, %r)
  %z = Softmax(%r)
  %s = Add(%b, %b)
  return %y, %z, %s
}"""
        )
    )
    assert names(graph) == [
        "DequantizeLinear",
        "Relu",
        "QuantizeLinear",
        "DequantizeLinear",
        *("Conv",) * 2,
        "Add",
        "Softmax",
        "Add",
    ]
    by_name = {op.results[0].name: op for op in graph}
    pair = by_name["a"].operands[0]
    assert pair is by_name["b"].operands[0] is by_name["y"].operands[1]
    assert by_name["z"].operands[0] is by_name["r"].results[0]


def test_what_is_added_beside_a_product_of_matrices_stays_f32() -> None:
    graph = as_quantized(
        parse_graph(
            """graph @main(%x: f32[4,2]) -> (%y: f32[*]) {
  %w = const @_ : f32[2,2] = [1.0, 0.5, -2.0, 0.0]
  %a = MatMul(%x, %w)
  %y = Add(%a, %x)
  return %y
}"""
        )
    )
    assert text(graph)[-2] == "%y = Add(%a, %x)"


def test_what_is_moved_on_the_way_is_rounded_once() -> None:
    graph = parse_graph(
        """graph @main(%x: f32[1,2,4,4]) -> (%y: f32[*]) {
  %w = const @_ : f32[2,2,1,1] = [1.0, 0.5, -2.0, 0.25]
  %r = Relu(%x)
  %p = MaxPool(%r) {kernel_shape=[2, 2], strides=[2, 2]}
  %t = Transpose(%p) {perm=[0, 1, 3, 2]}
  %y = Conv(%t, %w)
  return %y
}"""
    )
    (wanted,) = wanted_values(graph, sites(graph))
    assert wanted.name == "r"
    quantize(graph, sites(graph), {wanted: Range(0.0, 5.1)})
    verify(graph)
    assert names(graph).count("QuantizeLinear") == 3
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    before = evaluate(graph, {"x": x})
    optimized = PassManager(LEVELS["O2"]).run(graph)
    # The pair around the Transpose is gone, and integers are transposed.
    assert names(optimized).count("QuantizeLinear") == 2
    assert np.array_equal(before, evaluate(optimized, {"x": x}))


A_PART_READ_BY_ITSELF = """graph @main(%a: f32[1,1,2,2], %b: f32[1,1,2,2]) -> (%y: f32[*], %z: f32[*]) {
  %w = const @_ : f32[1,2,1,1] = [1.0, 0.5]
  %v = const @_ : f32[1,1,1,1] = [0.5]
  %c = Concat(%a, %b) {axis=1}
  %y = Conv(%c, %w)
  %z = Conv(%a, %v)
  return %y, %z
}"""
"""A convolution of two images put together, and one of the first alone."""


def test_the_parts_of_a_concat_have_its_steps() -> None:
    graph = parse_graph(A_PART_READ_BY_ITSELF)
    ranges = {
        value: Range(-1.0, 1.0) if value.name == "a" else Range(-1.0, 1.5) for value in wanted_values(graph, sites(graph))
    }
    assert {value.name for value in ranges} == {"a", "c"}
    quantize(graph, sites(graph), ranges)
    verify(graph)
    pairs = [op for op in graph if op.is_a("QuantizeLinear")]
    assert len(pairs) == 3
    assert {float(op.constant_operand(1).array) for op in pairs} == {float(np.float32(2.5 / 255))}  # type: ignore[union-attr]
    optimized = PassManager(LEVELS["O2"]).run(graph)
    concat = next(op for op in optimized if op.is_a("Concat"))
    assert str(concat.result.type).startswith("u8")


def test_a_part_that_is_far_smaller_than_its_concat_keeps_its_own_steps() -> None:
    graph = parse_graph(A_PART_READ_BY_ITSELF)
    ranges = {v: Range(-0.1, 0.1) if v.name == "a" else Range(-1.0, 1.5) for v in wanted_values(graph, sites(graph))}
    quantize(graph, sites(graph), ranges)
    scales = [float(op.constant_operand(1).array) for op in graph if op.is_a("QuantizeLinear")]  # type: ignore[union-attr]
    assert sorted(scales)[0] == float(np.float32(0.2 / 255))


def test_products_of_computed_operands_read_a_pair_each() -> None:
    graph = as_quantized(
        parse_graph("graph @main(%a: f32[2,3], %b: f32[3,2]) -> (%y: f32[*]) {\n  %y = MatMul(%a, %b)\n  return %y\n}")
    )
    assert names(graph) == ["QuantizeLinear", "DequantizeLinear"] * 2 + ["MatMul"]


def test_results_of_convolutions_get_a_pair_where_their_range_is_given() -> None:
    graph = parse_graph(
        """graph @main(%x: f32[1,2,4,4]) -> (%y: f32[*]) {
  %w = const @_ : f32[2,2,1,1] = [1.0, 0.5, -2.0, 0.0]
  %a = Conv(%x, %w)
  %r = Relu(%a)
  %y = Add(%r, %x)
  return %y
}"""
    )
    (result,) = wanted_results(graph, sites(graph))
    assert result.name == "r"
    quantize(graph, sites(graph), {**ranges_of(graph), result: Range(0.0, 5.1)})
    verify(graph)
    add = graph.outputs[0].op
    assert add is not None
    assert all(
        operand is not None and operand.op is not None and operand.op.is_a("DequantizeLinear") for operand in add.operands
    )


def test_answers_stay_about_what_they_were() -> None:
    graph = parse_graph(CONV)
    x = np.random.default_rng(0).uniform(-2, 3, (1, 2, 4, 4)).astype(np.float32)
    (before,) = evaluate(graph, {"x": x})
    (after,) = evaluate(as_quantized(graph), {"x": x})
    error = np.linalg.norm(before - after) / np.linalg.norm(before)
    assert 0 < error < 1e-2


def test_a_range_that_is_missing_is_said_with_its_place() -> None:
    graph = parse_graph(CONV)
    with pytest.raises(UsageError, match="the range of %x is not known"):
        quantize(graph, sites(graph), {})


def test_what_is_not_finite_is_not_quantized() -> None:
    graph = parse_graph(CONV.replace("0.5,", "inf,"))
    assert why_not_quantized(sites(graph)[0]) == "a constant is not finite"
    assert why_not_quantized(sites(parse_graph(CONV))[0]) == ""


def test_what_is_dequantized_already_stays_as_it_is() -> None:
    graph = as_quantized(parse_graph(CONV))
    (op,) = (op for op in graph if op.is_a("Conv"))
    site = site_of(op)
    assert site is not None
    assert wanted_values(graph, [site]) == []
    before = text(graph)
    quantize(graph, [site], {})
    assert text(graph) == before


def test_integers_that_are_given_are_used() -> None:
    graph = parse_graph(CONV)
    (site,) = sites(graph)
    given = IntegerWeights(np.full((2, 2, 1, 1), 7, np.int8), np.array([0.5, 0.25], np.float32), 0)
    quantize(graph, [site], ranges_of(graph), {site.weights: given})
    stored = [op.value.array for op in graph if op.is_constant and str(op.result.type).startswith("i8")]
    assert [array.reshape(-1).tolist() for array in stored] == [[7, 7, 7, 7]]


def test_a_lone_large_weight_is_clipped_where_that_leaves_less_error() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((1, 20000)).astype(np.float32)
    weights[0, 0] = 6.5
    found = integer_weights(Tensor.from_array(weights), 0)
    assert found.scales[0] < 6.5 / 127
    off = np.square(found.values - weights).sum()
    plain = np.float32(6.5 / 127)
    assert off <= np.square(np.rint(weights / plain) * plain - weights).sum()


@given(
    seed=st.integers(0, 10**6),
    shape=st.sampled_from([(3, 7), (2, 8, 3, 3), (1, 1), (4, 5, 2)]),
    heavy=st.booleans(),
    axis=st.sampled_from([0, 1]),
)
@settings(max_examples=40)
def test_neighbours_are_held_together(seed: int, shape: tuple[int, ...], heavy: bool, axis: int) -> None:
    rng = np.random.default_rng(seed)
    weights = (rng.standard_cauchy if heavy else rng.standard_normal)(shape).astype(np.float32)
    found = integer_weights(Tensor.from_array(weights), axis, 1 - axis, EXACT_TOGETHER)
    steps = np.moveaxis(found.steps.astype(int), 1 - axis, -1)
    first, second = steps[..., 0::2][..., : steps.shape[-1] // 2], steps[..., 1::2]
    same = first * second > 0
    assert (np.abs(first + second)[same] <= EXACT_TOGETHER).all()
    assert np.abs(steps).max() <= 127
    assert (steps * np.moveaxis(weights, 1 - axis, -1) >= 0).all()


def test_holding_neighbours_costs_less_than_a_bit() -> None:
    weights = np.random.default_rng(0).standard_normal((8, 576)).astype(np.float32)
    free = integer_weights(Tensor.from_array(weights), 0, 1)
    held = integer_weights(Tensor.from_array(weights), 0, 1, EXACT_TOGETHER)
    assert np.array_equal(free.steps, integer_weights(Tensor.from_array(weights), 0).steps)
    assert np.linalg.norm(held.values - weights) < 1.5 * np.linalg.norm(free.values - weights)


def test_channels_of_zeros_stay_zeros() -> None:
    found = integer_weights(Tensor.from_array(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32)), 0)
    assert found.steps.tolist() == [[0, 0], [64, -127]]
    assert (found.scales > 0).all()

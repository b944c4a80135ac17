"""Weights of few bits in the graph: the ops they become, what they are shared by, and what stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import DType, Graph, Op, Tensor, UsageError, evaluate, verify
from irc.ir.text import parse_graph, print_graph
from irc.passes import (
    LEVELS,
    Context,
    PassManager,
    parse_pipeline,
    quantize_weights,
    registry,
    sites,
    why_not_quantized_weights,
)


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def product(weights: np.ndarray, kind: str = "MatMul", **attributes: int) -> Graph:
    """A graph of one product with constant weights."""
    flat = ", ".join(repr(float(number)) for number in weights.reshape(-1))
    shape = ",".join(map(str, weights.shape))
    rows = weights.shape[1 if attributes.get("transB") else -2]
    columns = weights.shape[0 if attributes.get("transB") else -1]
    text = ", ".join(f"{name}={value}" for name, value in attributes.items())
    return parse_graph(
        f"""graph @main(%x: f32[N,{rows}]) -> (%y: f32[N,{columns}]) {{
  %w = const @_ : f32[{shape}] = [{flat}]
  %y = {kind}(%x, %w){f" {{{text}}}" if text else ""}
  return %y
}}"""
    )


def dequantized(graph: Graph) -> list[Op]:
    return [op for op in graph if op.is_a("DequantizeLinear")]


def stored_bytes(graph: Graph) -> int:
    return sum(op.value.byte_count for op in graph if op.is_constant)


def test_four_bits_in_blocks_of_32_take_less_than_0_6_bytes_a_weight() -> None:
    for symmetric in (False, True):
        graph = product(numbers(256, 48))
        quantize_weights(graph, sites(graph), symmetric=symmetric)
        verify(graph)
        assert stored_bytes(graph) == 256 * 48 * (0.5625 if symmetric else 0.578125)


@pytest.mark.parametrize(
    ("bits", "symmetric", "dtype", "bound"),
    [(4, False, DType.U4, 0.09), (4, True, DType.I4, 0.1), (8, False, DType.U8, 6e-3), (8, True, DType.I8, 7e-3)],
)
def test_the_weights_stay_about_what_they_were(bits: int, symmetric: bool, dtype: DType, bound: float) -> None:
    weights = numbers(64, 16)
    graph = product(weights)
    quantize_weights(graph, sites(graph), bits, 32, symmetric=symmetric)
    verify(graph)
    (op,) = dequantized(graph)
    kept = op.constant_operand(0)
    assert kept is not None
    assert (kept.dtype, kept.shape) == (dtype, (64, 16))
    assert len(op.operands) == (2 if symmetric else 3)
    (found,) = evaluate(graph, {"x": np.eye(64, dtype=np.float32)})
    assert np.linalg.norm(found - weights) < bound * np.linalg.norm(weights)


@given(rows=st.integers(1, 70), columns=st.integers(1, 5), block=st.sampled_from([0, 16, 32]), turned=st.booleans())
@settings(max_examples=20)
def test_any_shape_and_either_order_of_a_gemm(rows: int, columns: int, block: int, turned: bool) -> None:
    weights = numbers(rows, columns, seed=rows)
    plain, gemm = product(weights), product(np.ascontiguousarray(weights.T) if turned else weights, "Gemm", transB=int(turned))
    feeds = {"x": numbers(2, rows, seed=1)}
    found: list[np.ndarray] = []
    for graph in (plain, gemm):
        quantize_weights(graph, sites(graph), 8, block)
        verify(graph)
        found += evaluate(graph, feeds)
    assert np.allclose(found[0], found[1], rtol=1e-5, atol=1e-5)
    exact = feeds["x"] @ weights
    assert np.linalg.norm(found[0] - exact) <= 0.03 * np.linalg.norm(feeds["x"]) * np.linalg.norm(weights) + 1e-6


def test_a_column_as_one_block_has_a_scale_a_channel() -> None:
    graph = product(numbers(40, 3))
    quantize_weights(graph, sites(graph), 8, 0, symmetric=True)
    (op,) = dequantized(graph)
    assert op.attributes == {"axis": 1}
    assert op.needed(1).shape == (3,)


def test_a_table_that_is_also_looked_up_in_stays_and_two_products_share_integers() -> None:
    graph = parse_graph(
        """graph @main(%i: i64[2], %x: f32[2,32]) -> (%e: f32[2,4], %a: f32[2,4], %b: f32[2,4]) {
  %w = const @_ : f32[32,4] = [%s]
  %e = Gather(%w, %i)
  %a = MatMul(%x, %w)
  %b = MatMul(%x, %w)
  return %e, %a, %b
}""".replace("%s]", ", ".join(str(float(n)) for n in numbers(128)) + "]")
    )
    quantize_weights(graph, sites(graph))
    verify(graph)
    assert len(dequantized(graph)) == 1
    gather = next(op for op in graph if op.is_a("Gather"))
    assert gather.constant_operand(0) is not None


def test_compensation_makes_the_product_nearer() -> None:
    weights = numbers(64, 24)
    random = np.random.default_rng(3)
    data = (random.standard_normal((400, 12)) @ random.standard_normal((12, 64))).astype(np.float32)
    errors: list[float] = []
    for compensate in (True, False):
        graph = product(weights)
        (site,) = sites(graph)
        quantize_weights(graph, [site], compensation={site.op: data.T @ data} if compensate else None)
        verify(graph)
        (found,) = evaluate(graph, {"x": data[:2]})
        errors.append(float(np.linalg.norm(found - data[:2] @ weights)))
    assert errors[0] < 0.7 * errors[1]


def test_what_is_not_finite_or_no_constant_stays() -> None:
    weights = numbers(32, 2)
    weights[3, 1] = np.inf
    graph = product(np.where(np.isinf(weights), 0, weights))
    maker = next(op for op in graph if op.is_constant)
    maker.attributes["value"] = Tensor.from_array(weights)
    (site,) = sites(graph)
    assert why_not_quantized_weights(site) == "a weight is NaN or infinite"
    quantize_weights(graph, [site])
    assert not dequantized(graph)


def test_other_numbers_of_bits_are_refused() -> None:
    graph = product(numbers(32, 2))
    with pytest.raises(UsageError, match="3 bits"):
        registry().pipeline("quantize-weights{bits=3}")
    with pytest.raises(UsageError, match="5 bits"):
        quantize_weights(graph, sites(graph), 5)
    with pytest.raises(UsageError, match="-1 weights"):
        quantize_weights(graph, sites(graph), 4, -1)


def test_the_pass_has_its_options_in_text_and_keeps_what_it_made() -> None:
    (one,) = parse_pipeline("quantize-weights{bits=8, block-size=64, symmetric=true}", registry().passes, {})
    graph = product(numbers(64, 2))
    context = Context()
    one.run(graph, context)
    assert context.counts == {"quantize-weights": 1}
    one.run(graph, context)
    assert context.counts == {"quantize-weights": 1}


def test_optimizing_again_leaves_integers_and_scales_as_they_are() -> None:
    graph = product(numbers(64, 2))
    quantize_weights(graph, sites(graph))
    before = print_graph(graph, locations=False)
    assert print_graph(PassManager(LEVELS["O2"]).run(graph), locations=False) == before

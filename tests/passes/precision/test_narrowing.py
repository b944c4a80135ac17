"""Narrow floats: pairs of casts stay what they are through the passes, and what does not fit stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import DType, Graph, Op, UsageError, clone_graph, evaluate
from irc.ir.text import parse_graph
from irc.passes import LEVELS, Contract, PassManager, registry
from irc.passes.precision import narrow, narrow_attention, sites, why_not_narrow

TEXT = """
graph @main(%x: f32[N,2]) -> (%y: f32[N,2]) {
  %w = const @_ : f32[2,2] = [1.001, 2.002, 3.003, 4.004]
  %p = MatMul(%x, %w)
  %a = Relu(%p)
  %q = MatMul(%a, %w)
  %y = Add(%q, %a)
  return %y
}
"""


def narrowed(dtype: DType) -> Graph:
    """The graph with both products narrow."""
    graph = parse_graph(TEXT, name="narrow")
    narrow(graph, sites(graph), dtype)
    return graph


def casts(graph: Graph) -> list[Op]:
    """All casts."""
    return [op for op in graph.walk() if op.is_a("Cast")]


@pytest.mark.parametrize("dtype", [DType.BF16, DType.F16])
def test_the_answer_is_that_of_rounded_operands(dtype: DType) -> None:
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    tensor = sites(parse_graph(TEXT, name="narrow"))[0].weights.constant
    assert tensor is not None

    def rounded(array: np.ndarray) -> np.ndarray:
        return array.astype(dtype.numpy).astype(np.float32)

    a = rounded(np.maximum(rounded(x) @ rounded(tensor.array), 0))
    wanted = a @ rounded(tensor.array) + a
    (got,) = evaluate(narrowed(dtype), {"x": x})
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_weight_of_two_sites_is_stored_once() -> None:
    stored = [op for op in narrowed(DType.BF16).walk() if op.is_constant and op.value.dtype is DType.BF16]
    assert len(stored) == 1


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_levels_leave_narrow_values_alone(level: str) -> None:
    graph = narrowed(DType.BF16)
    optimized = PassManager(LEVELS[level]).run(clone_graph(graph))
    assert len(casts(optimized)) == len(casts(graph)) == 5
    x = np.random.default_rng(1).standard_normal((3, 2)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})[0], evaluate(optimized, {"x": x})[0])


def test_a_narrow_constant_that_no_contraction_reads_is_still_folded() -> None:
    text = """
    graph @main(%x: f32[N,2]) -> (%y: f32[N,2]) {
      %c = const @_ : bf16[2] = [1.0, 2.0]
      %w = Cast(%c) {to=1}
      %y = Add(%x, %w)
      return %y
    }
    """
    assert not casts(PassManager(LEVELS["O1"]).run(parse_graph(text, name="folded")))


def test_a_value_that_is_narrow_already_is_not_narrowed_again() -> None:
    graph = narrowed(DType.BF16)
    before = len(casts(graph))
    narrow(graph, sites(graph), DType.BF16)
    assert len(casts(graph)) == before


def test_why_not() -> None:
    text = TEXT.replace("4.004", "7e4")
    (first, _) = sites(parse_graph(text, name="large"))
    assert why_not_narrow(first, DType.F16) == "a constant is too large for f16"
    assert why_not_narrow(first, DType.BF16) == ""


@pytest.mark.parametrize(("scale", "reason"), [("1e-5", "a constant is too small for f16"), ("1e-4", ""), ("0.0", "")])
def test_what_f16_has_few_digits_for_is_not_narrowed(scale: str, reason: str) -> None:
    graph = parse_graph(
        f"""graph @main(%x: f32[2,2]) -> (%y: f32[2,2]) {{
  %w = const @_ : f32[2,2] = [{scale}, -{scale}, 0.0, 0.0]
  %y = MatMul(%x, %w)
  return %y
}}"""
    )
    (site,) = sites(graph)
    assert why_not_narrow(site, DType.F16) == reason
    assert why_not_narrow(site, DType.BF16) == ""


def test_no_level_allows_the_pass() -> None:
    graph = parse_graph(TEXT, name="narrow")
    manager = PassManager(registry().pipeline("narrow"))
    assert not casts(manager.run(graph)), "reassociating is the loosest contract that is allowed by itself"
    manager = PassManager(registry().pipeline("narrow{dtype=f16}"), strictest=Contract.LOSSY)
    assert len(casts(manager.run(graph))) == 5


def test_a_dtype_that_is_none() -> None:
    with pytest.raises(UsageError, match="pass 'narrow' has no dtype 'f8'"):
        registry().pipeline("narrow{dtype=f8}")
    with pytest.raises(UsageError):
        registry().pipeline("narrow{dtyp=f16}")


ATTENTION = """
graph @main(%x: f32[1,4,8], %m: f32[1,4,8]) -> (%y: f32[1,4,8]) {
  %w = const @_ : f32[8,8] = [REPEAT]
  %b = const @_ : f32[8] = [1, 2, 3, 4, 5, 6, 7, 8]
  %h = MatMul(%x, %w)
  %q = Add(%h, %b)
  %k = MatMul(%x, %w)
  %v = MatMul(%m, %w)
  %y = Attention(%q, %k, %v) {q_num_heads=2, kv_num_heads=2}
  return %y
}
""".replace("REPEAT", ", ".join(map(str, range(64))))


@pytest.mark.parametrize(("lowered", "narrow_ones"), [([0, 1, 2], 3), ([0, 1], 0), ([], 0)])
def test_attention_reads_bf16_where_contractions_in_lower_precision_make_all_of_it(
    lowered: list[int], narrow_ones: int
) -> None:
    graph = parse_graph(ATTENTION, name="attention")
    found = sites(graph)
    narrow_attention(graph, [found[index] for index in lowered])
    (attention,) = [op for op in graph.walk() if op.is_a("Attention")]
    assert sum(attention.needed(index).op in casts(graph) for index in range(3)) == narrow_ones
    assert len(casts(graph)) == 2 * narrow_ones


def test_attention_of_what_is_fed_stays() -> None:
    graph = parse_graph(ATTENTION.replace("Attention(%q, %k, %v)", "Attention(%q, %k, %m)"), name="attention")
    narrow_attention(graph, sites(graph))
    assert not casts(graph)

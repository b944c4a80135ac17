"""Which engine runs which ops: pieces are convex, few, in order, and together compute what the graph does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irc.ir import Graph, UnsupportedError, evaluate, verify
from irc.ir.text import parse_graph
from irc.lowering import find_target
from irc.lowering.engine import Verdict
from irc.lowering.partitioning import MOST_PIECES, extract, partition, why_not_cut

HERE = find_target("cpu")


@dataclass(frozen=True)
class Picky:
    """An engine that takes the ops named, or every op where none is."""

    name: str
    ops: tuple[str, ...] = field(default=())

    def takes(self, op: Any, target: Any) -> Verdict:
        """Whether it takes an op."""
        return Verdict("" if not self.ops or op.name in self.ops else f"it has no {op.name}")


FAST: Any = Picky("fast", ("MatMul", "Relu", "Add"))
SAFE: Any = Picky("safe")


def pieces_of(text: str, *engines: Any) -> list[str]:
    """The pieces as `engine: op op`."""
    found = partition(parse_graph(text), engines or (FAST, SAFE), HERE)
    return [f"{piece.engine.name}: {' '.join(op.name for op in piece.ops)}" for piece in found]


def chain(*ops: str) -> str:
    """A graph of square products and elementwise ops, one after the other."""
    lines, last = [], "x"
    for index, op in enumerate(ops):
        operands = f"%{last}, %w" if op in ("MatMul", "Add") else f"%{last}"
        lines.append(f"  %v{index} = {op}({operands})")
        last = f"v{index}"
    body = "\n".join(lines)
    return f"graph @main(%x: f32[64,64], %w: f32[64,64]) -> (%{last}: f32[64,64]) {{\n{body}\n  return %{last}\n}}"


def test_what_one_engine_takes_whole_is_one_piece() -> None:
    assert pieces_of(chain("MatMul", "Relu", "MatMul")) == ["fast: MatMul Relu MatMul"]


def test_an_op_that_the_better_engine_does_not_take_cuts_the_graph() -> None:
    assert pieces_of(chain("MatMul", "Erf", "MatMul")) == ["fast: MatMul", "safe: Erf", "fast: MatMul"]


def test_a_light_op_stays_where_the_one_before_it_is() -> None:
    """Relu by itself is not worth another boundary."""
    wide = chain(*["MatMul"] * 40, "Erf", "Relu").replace("64,64", "512,512")
    assert pieces_of(wide) == [f"fast: {' '.join(['MatMul'] * 40)}", "safe: Erf Relu"]


def test_a_piece_that_costs_next_to_nothing_moves_to_its_neighbour() -> None:
    text = """
    graph @main(%x: f32[512,512], %s: f32[2,2]) -> (%y: f32[512,512], %z: f32[2,2]) {
      %a = Erf(%x)
      %b = Gemm(%a, %x)
      %y = Gemm(%b, %x)
      %c = Erf(%s)
      %z = MatMul(%c, %s)
      return %y, %z
    }"""
    assert pieces_of(text) == ["safe: Erf Gemm Gemm Erf MatMul"]


def test_pieces_are_convex() -> None:
    """The Add could join the MatMul it stands beside, but a path from that leads through the Erf back to it."""
    text = """
    graph @main(%x: f32[64,64]) -> (%y: f32[64,64]) {
      %a = MatMul(%x, %x)
      %b = Erf(%a)
      %y = Add(%a, %b)
      return %y
    }"""
    assert pieces_of(text) == ["fast: MatMul", "safe: Erf", "fast: Add"]


def test_many_pieces_are_one() -> None:
    alternating = chain(*["MatMul", "Erf"] * MOST_PIECES)
    assert pieces_of(alternating) == [f"safe: {' '.join(['MatMul', 'Erf'] * MOST_PIECES)}"]


def test_what_nobody_takes_is_listed_with_each_engines_reason() -> None:
    with pytest.raises(UnsupportedError, match=r"Erf at .*: fast: it has no Erf; other: it has no Erf"):
        pieces_of(chain("MatMul", "Erf"), FAST, Picky("other", ("MatMul",)))


def test_a_body_goes_with_its_op() -> None:
    text = """
    graph @main(%c: bool[], %x: f32[64,64]) -> (%y: f32[64,64]) {
      %m = MatMul(%x, %x)
      %y = If(%c) {
        then_branch=graph @then() captures(%m) -> (%t: f32[64,64]) {
          %t = Erf(%m)
          return %t
        },
        else_branch=graph @else() captures(%m) -> (%e: f32[64,64]) {
          %e = Relu(%m)
          return %e
        }
      } : f32[64,64]
      return %y
    }"""
    assert pieces_of(text, Picky("fast", ("MatMul", "If", "Relu")), SAFE) == ["fast: MatMul", "safe: If"]
    assert_same(parse_graph(text), Picky("fast", ("MatMul", "If", "Relu")), {"c": np.array(True)})


def test_an_input_with_a_default_and_an_unknown_type_are_not_cut() -> None:
    graph = parse_graph(chain("MatMul", "Erf"))
    found = partition(graph, (FAST, SAFE), HERE)
    assert why_not_cut(graph, found) == ""
    graph.defaults[graph.inputs[1]] = next(iter(parse_graph(CONSTANT))).value
    assert why_not_cut(graph, found) == "an input has a default"


def test_a_sparse_constant_cannot_pass_between_pieces() -> None:
    """Engines return dense tensors only."""
    constant = "%w = Constant() {sparse_value=sparse<4 : f32[1] = [1.0] at i64[1] = [2]>} : f32[4]"
    graph = parse_graph(f"graph @main(%x: f32[4]) -> (%y: f32[4]) {{\n  {constant}\n  %y = Add(%x, %w)\n  return %y\n}}")
    found = partition(graph, (FAST, SAFE), HERE)
    assert len(found) == 2
    assert why_not_cut(graph, found) == f"{graph.outputs[0].op.operand(1)} is a sparse constant"


CONSTANT = "graph @main() -> (%c: f32[1]) {\n  %c = const @_ : f32[1] = [1.0]\n  return %c\n}"


def test_values_that_go_straight_through_come_out() -> None:
    """An input and a constant as outputs, one value as two outputs, and a constant that two pieces use."""
    text = """
    graph @main(%x: f32[64,64]) -> (%x2: f32[64,64], %k: f32[1], %y: f32[64,64], %again: f32[64,64]) {
      %k = const @_ : f32[1] = [2.0]
      %a = MatMul(%x, %x)
      %b = Erf(%a)
      %c = Add(%b, %k)
      %y = MatMul(%c, %c)
      return %x, %k, %y, %y
    }"""
    assert_same(parse_graph(text), FAST, {})


def assert_same(graph: Graph, fast: Any, feeds: dict[str, Any]) -> None:
    """Running the pieces one after the other gives what the graph gives."""
    generator = np.random.default_rng(0)
    given_feeds = {name: generator.standard_normal((64, 64)).astype(np.float32) / 8 for name in graph.input_names} | feeds
    wanted = evaluate(graph, given_feeds)
    values: dict[str, Any] = dict(given_feeds)
    made: dict[str, Any] = {}
    for piece in extract(graph, partition(graph, (fast, SAFE), HERE)):
        verify(piece)
        results = evaluate(piece, {name: values[name] for name in piece.input_names})
        made.update(zip(piece.output_names, results, strict=True))
        values.update(made)
    for name, array in zip(graph.output_names, wanted, strict=True):
        np.testing.assert_array_equal(made[name], array)


@given(
    st.lists(
        st.tuples(st.sampled_from(["MatMul", "Erf", "Add", "Relu", "Tanh"]), st.integers(0, 5), st.integers(0, 5)),
        min_size=1,
        max_size=14,
    )
)
def test_any_graph_in_pieces_computes_the_same(ops: list[tuple[str, int, int]]) -> None:
    names = ["x"]
    lines: list[str] = []
    for index, (op, first, second) in enumerate(ops):
        a, b = names[-1 - first % len(names)], names[-1 - second % len(names)]
        lines.append(f"  %v{index} = {op}({f'%{a}, %{b}' if op in ('MatMul', 'Add') else f'%{a}'})")
        names.append(f"v{index}")
    outputs = [names[-1], names[len(names) // 2]]
    signature = ", ".join(f"%o{i}: f32[64,64]" for i in range(2))
    text = f"graph @main(%x: f32[64,64]) -> ({signature}) {{\n" + "\n".join(lines)
    graph = parse_graph(f"{text}\n  return %{outputs[0]}, %{outputs[1]}\n}}")
    assert_same(graph, FAST, {})

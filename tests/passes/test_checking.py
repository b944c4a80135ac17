"""Checking rewrites one by one: wrong ones do not happen, right ones do, also where they are right for reasons further up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from irc.ir import EvaluationError, Graph, Op, Tensor, Value, clone_graph, evaluate
from irc.ir.text import parse_graph, print_graph
from irc.passes import (
    LEVELS,
    PASSES,
    Contract,
    No,
    Pass,
    PassManager,
    RegionChecker,
    Rewriter,
    Rule,
    rule,
)
from irc.passes.checking.judging import apart
from irc.passes.registry import rule_pass

from .checked import checked
from .meaning import feeds_for
from .planted import PLACE, PLANTED, Planted
from .programs import programs

SIZES = {"M": 1, "N": 2}


# Wrong rules

planted = pytest.mark.parametrize("one", PLANTED, ids=lambda one: one.rule.name)


def test_ten_are_planted() -> None:
    assert len({one.rule.name for one in PLANTED}) == len({one.wrong for one in PLANTED}) == len(PLANTED) == 10


@planted
def test_a_planted_rule_changes_answers(one: Planted) -> None:
    """Otherwise finding it would prove nothing."""
    graph = parse_graph(one.text)
    manager = PassManager([rule_pass(one.rule)()])
    wrong = manager.run(clone_graph(graph))
    assert manager.totals[one.rule.name] == 1
    feeds = feeds_for(graph, SIZES, 0, special=False)
    pairs = zip(evaluate(graph, feeds), evaluate(wrong, feeds), strict=True)
    assert any(apart(a, b, finite_inputs=True).distance > 1e-3 for a, b in pairs)


@planted
@pytest.mark.parametrize("real", [True, False], ids=["real inputs", "made-up values"])
def test_a_planted_rule_is_undone(one: Planted, real: bool) -> None:
    graph = parse_graph(one.text)
    feeds = feeds_for(graph, SIZES, 0, special=False) if real else None
    result, checker, records = checked(graph, one.rule, feeds=feeds)
    assert print_graph(result) == print_graph(parse_graph(one.text))
    assert [(found.rewrite, found.location) for found in checker.undone] == [(one.rule.name, PLACE)]
    assert records[0].refused == {one.rule.name: 1}
    assert records[0].changes == 0


def test_what_is_said_of_it() -> None:
    one = PLANTED[0]
    graph = parse_graph(one.text)
    feeds = {"x": np.ones(4, np.float32), "z": np.full(4, 2.0, np.float32)}
    (found,) = checked(graph, one.rule, feeds=feeds)[1].undone
    assert found.text == f"{one.rule.name} at {PLACE}: off by 4.0e+00 (relative L2) on the given inputs"
    assert found.distance == 4.0


def test_the_rest_of_a_pass_is_done() -> None:
    text = """
    graph @main(%x: f32[4], %z: f32[4]) -> (%y: f32[4]) {
      %0 = Sub(%x, %z) : f32[4]   @place
      %1 = Identity(%0) : f32[4]   @identity
      %y = Sub(%1, %x) : f32[4]   @other
      return %y
    }
    """
    canonicalize = next(kind for kind in PASSES if kind.name == "canonicalize")
    result, checker, _ = checked(parse_graph(text), PLANTED[0].rule, canonicalize())
    assert [op.name for op in result] == ["Sub", "Sub"]
    assert {found.location for found in checker.undone} == {"place", "other"}


def test_equal_regions_are_evaluated_once() -> None:
    lines = [f"%{i} = Sub(%{i - 1 if i else 'x'}, %z) : f32[4]   @place{i}" for i in range(20)]
    text = "graph @main(%x: f32[4], %z: f32[4]) -> (%19: f32[4]) {\n" + "\n".join(lines) + "\nreturn %19\n}"
    _, checker, _ = checked(parse_graph(text), PLANTED[0].rule)
    assert len(checker.undone) == 20
    assert checker.evaluated < 40


# Right rules, for reasons that lie further up


RELU_TWICE = """
graph @main(%x: f32[N,4]) -> (%y: f32[N,4]) {
  %0 = Relu(%x) : f32[N,4]   @first
  %1 = Identity(%0) : f32[N,4]   @between
  %y = Relu(%1) : f32[N,4]   @second
  return %y
}
"""


@rule("Relu")
def relu_of_relu(op: Op, rewrite: Rewriter) -> Value | No:
    """Relu of what a Relu made is that."""
    value = op.needed(0)
    inner = value.op
    while inner is not None and inner.is_a("Identity"):
        inner = inner.needed(0).op
    return value if inner is not None and inner.is_a("Relu") else No("its input is made by no Relu")


@pytest.mark.parametrize("real", [True, False])
def test_a_rule_may_rely_on_what_made_its_input(real: bool) -> None:
    graph = parse_graph(RELU_TWICE)
    feeds = feeds_for(graph, SIZES, 0, special=False) if real else None
    result, checker, _ = checked(graph, relu_of_relu, feeds=feeds)
    assert not checker.undone
    assert [op.name for op in result] == ["Relu", "Identity"]


def test_a_rule_may_not_rely_on_what_did_not_make_it() -> None:
    """The same rule where it is wrong: the input may be negative."""

    @rule("Relu")
    def drop_relu(op: Op, rewrite: Rewriter) -> Value | No:
        """Relu is nothing."""
        return op.needed(0)

    graph = parse_graph(RELU_TWICE.replace("Relu(%x)", "Neg(%x)"))
    result, checker, _ = checked(graph, drop_relu)
    assert [found.location for found in checker.undone] == ["second"]
    assert [op.name for op in result] == ["Neg", "Identity", "Relu"]


def test_shapes_known_by_name_are_kept() -> None:
    """What a Shape of named dims holds is fed consistently with the sizes of the inputs."""
    text = """
    graph @main(%x: f32[N,4]) -> (%y: f32[N,4]) {
      %s = Shape(%x) : i64[2]   @shape
      %y = Reshape(%x, %s) : f32[N,4]   @reshape
      return %y
    }
    """
    result, checker, _ = checked(parse_graph(text), *LEVELS["O1"])
    assert not checker.undone
    assert not list(result)


# Exact and not


@rule("Neg", contract=Contract.EXACT)
def subtract_from_zero(op: Op, rewrite: Rewriter) -> Value | No:
    """-x is 0 - x, but for the sign of a zero."""
    zero = rewrite.constant(Tensor.from_array(np.zeros((), np.float32)))
    return rewrite.op("Sub", [zero, op.operand(0)])


def test_the_sign_of_a_zero_is_an_answer() -> None:
    graph = parse_graph("graph @main(%x: f32[4]) -> (%y: f32[4]) {\n%y = Neg(%x) : f32[4]   @place\nreturn %y\n}")
    (found,) = checked(graph, subtract_from_zero)[1].undone
    assert found.text == "subtract-from-zero at place: it differs in the sign of a zero on special values"


def test_another_rounding_is_no_change_below_exact() -> None:
    """(x * a) * b as x * (a * b): other bits, the same mathematics."""
    text = """
    graph @main(%x: f32[64]) -> (%y: f32[64]) {
      %a = const @a : f32[] = [0.1]
      %b = const @b : f32[] = [0.3]
      %0 = Mul(%x, %a) : f32[64]   @first
      %y = Mul(%0, %b) : f32[64]   @second
      return %y
    }
    """

    def merged(op: Op, rewrite: Rewriter) -> Value | No:
        """Two factors are one."""
        inner, second = op.needed(0).op, op.constant_operand(1)
        first = None if inner is None else inner.constant_operand(1)
        if inner is None or first is None or second is None:
            return No("its input is no Mul by a constant")
        return rewrite.op("Mul", [inner.operand(0), rewrite.constant(Tensor.from_array(first.array * second.array))])

    for contract, undone in ((Contract.REASSOCIATING, 0), (Contract.EXACT, 1)):
        result, checker, _ = checked(parse_graph(text), Rule("merge-factors", ("Mul",), contract, merged))
        assert len(checker.undone) == undone
        assert sum(not op.is_constant for op in result) == 1 + undone


def test_cancellation_is_told_from_a_mistake() -> None:
    """(x + c) - c in another order loses digits that both sides lose."""
    text = """
    graph @main(%x: f32[64]) -> (%y: f32[64]) {
      %c = const @c : f32[] = [10000.0]
      %0 = Add(%x, %c) : f32[64]   @add
      %y = Sub(%0, %c) : f32[64]   @sub
      return %y
    }
    """

    @rule("Sub", contract=Contract.REASSOCIATING)
    def cancel(op: Op, rewrite: Rewriter) -> Value | No:
        """(x + c) - c is x."""
        inner = op.needed(0).op
        return No("its input is no Add") if inner is None else inner.needed(0)

    result, checker, _ = checked(parse_graph(text), cancel)
    assert not checker.undone
    assert not list(result)


def test_lossy_rewrites_are_not_judged_here() -> None:
    graph = parse_graph(PLANTED[0].text)
    lossy = Rule("lose", ("Sub",), Contract.LOSSY, PLANTED[0].rule.function)
    _, checker, records = checked(graph, lossy, strictest=Contract.LOSSY)
    assert not checker.undone
    assert (checker.unknown, records[0].changes) == (1, 1)


# Other passes


def test_a_wrong_fold_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.passes import fold_constants

    honest = fold_constants._evaluate  # pyright: ignore[reportPrivateUsage]  # the defect is planted there

    def wrong(foldable: list[Op], roots: list[Op]) -> dict[Op, list[Tensor]]:
        """The honest results, one of them off by one."""
        return {op: [Tensor.from_array(t.array + 1, t.dtype) for t in found] for op, found in honest(foldable, roots).items()}

    monkeypatch.setattr(fold_constants, "_evaluate", wrong)
    text = """
    graph @main(%x: f32[2]) -> (%y: f32[2]) {
      %a = const @_ : f32[2] = [1.0, 2.0]
      %0 = Neg(%a) : f32[2]   @place
      %y = Add(%x, %0) : f32[2]   @add
      return %y
    }
    """
    result, checker, _ = checked(parse_graph(text), fold_constants.FoldConstants())
    assert [(found.rewrite, found.location) for found in checker.undone] == [("fold-constants", "place")]
    assert [op.name for op in result if not op.is_constant] == ["Neg", "Add"]


def test_a_wrong_merge_is_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    from irc.passes import cse

    def wrong(op: Op, constants: object) -> object:
        """A key that does not look at attributes."""
        return (op.qualified_name, tuple(map(id, op.operands))) if not op.is_constant else None

    monkeypatch.setattr(cse, "_key", wrong)
    text = """
    graph @main(%x: f32[3,4]) -> (%y: f32[3,4], %z: f32[3,4]) {
      %y = Softmax(%x) {axis=0} : f32[3,4]   @first
      %z = Softmax(%x) {axis=1} : f32[3,4]   @second
      return %y, %z
    }
    """
    result, checker, _ = checked(parse_graph(text), cse.CommonSubexpressions())
    assert [(found.rewrite, found.location) for found in checker.undone] == [("cse", "second")]
    assert len(list(result)) == 2


def test_a_rolled_back_pass_does_not_bring_back_what_was_undone() -> None:
    """Passes are replayed on a fresh graph after a rollback, and what was refused is refused again."""

    class Failing(Pass, name="failing"):
        def run(self, graph: Graph, context: object) -> None:
            raise ValueError("this pass does not work")

    checker = RegionChecker()
    manager = PassManager([rule_pass(PLANTED[0].rule)(), Failing()], checker=checker)
    result = manager.run(parse_graph(PLANTED[0].text))
    assert [record.name for record in manager.failures] == ["failing"]
    assert print_graph(result) == print_graph(parse_graph(PLANTED[0].text))
    assert len(checker.undone) == 1


# No false alarms


@given(programs(), st.booleans())
@settings(max_examples=40)
def test_nothing_is_undone_on_random_programs(graph: Graph, real: bool) -> None:
    note(print_graph(graph))
    feeds = feeds_for(graph, SIZES, 0, special=False) if real else None
    if feeds is not None:
        try:
            evaluate(graph, feeds)
        except EvaluationError:
            feeds = None
    _, checker, _ = checked(graph, *LEVELS["O2"], feeds=feeds)
    assert not checker.undone, [found.text for found in checker.undone]

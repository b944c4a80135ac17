"""Judging the two sides of a region: what counts as equal, and what the reference leaves open or rounds otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import Op, Tensor, Value, clone_graph, evaluate, verify
from irc.ir.text import parse_graph
from irc.passes import Contract, No, Rewriter, Rule, rule
from irc.passes.checking.judging import apart, bits_apart
from irc.passes.checking.pinning import pin

from .checked import checked
from .meaning import feeds_for
from .planted import PLANTED


def test_bits() -> None:
    nan = np.array([np.nan, 1.0], np.float32)
    assert bits_apart(nan, np.array([-np.nan, 1.0], np.float32)) is None
    assert bits_apart(np.array([0.0]), np.array([-0.0])) is not None
    assert bits_apart(np.array([1, 2]), np.array([1, 2])) is None
    assert bits_apart([np.array([1])], []) is not None
    assert bits_apart(np.zeros((2, 1)), np.zeros((1, 2))) is not None


def test_an_overflow_of_finite_inputs_says_nothing() -> None:
    old, new = np.array([np.inf, 1.0], np.float32), np.array([3e38, 1.0], np.float32)
    assert apart(old, new, finite_inputs=True).distance == 0.0
    assert apart(old, new, finite_inputs=False).distance == float("inf")
    assert apart(new, old, finite_inputs=True).distance == float("inf"), "an overflow that was not there"


def test_scalars_are_fed() -> None:
    """NumPy makes scalars of arrays without dims; fed as such the engine refused them, and nothing was checked."""
    text = """
    graph @main(%x: f32[], %z: f32[]) -> (%y: f32[]) {
      %y = Sub(%x, %z) : f32[]   @place
      return %y
    }
    """
    for feeds in (None, {"x": np.array(1, np.float32), "z": np.array(2, np.float32)}):
        assert len(checked(parse_graph(text), PLANTED[0].rule, feeds=feeds)[1].undone) == 1
    near = Rule("near", ("Sub",), Contract.REASSOCIATING, PLANTED[0].rule.function)
    assert len(checked(parse_graph(text), near)[1].undone) == 1


@pytest.mark.parametrize(("moved", "is_refused"), [(0.4, False), (-0.5, False), (1.0, True), (np.nan, True)])
def test_sums_of_integers_are_rounded_to_their_steps(moved: float, is_refused: bool) -> None:
    """Beside data near 0 the bias is all there is, and half a step of it is more than another rounding in f32 comes to."""

    @rule("Gemm", over=("DequantizeLinear",))
    def move_bias(op: Op, rewrite: Rewriter) -> Value | No:
        """The bias of the second channel is that many of the steps of its sums away."""
        bias = op.constant_operand(2)
        if bias is None or bias.array[0] != 0.25:
            return No("it is moved already")
        steps = np.array([0.5, 0.0625], np.float32)
        stored = rewrite.constant(Tensor.from_array(bias.array + steps * np.array([0.5, moved], np.float32)))
        return rewrite.op("Gemm", [*op.operands[:2], stored], dict(op.attributes))

    text = """
    graph @main(%x: u8[N,3]) -> (%y: f32[N,2]) {
      %s = const @_ : f32[] = [0.5]
      %z = const @_ : u8[] = [7]
      %t = const @_ : f32[2] = [1.0, 0.125]
      %w = const @_ : i8[2,3] = [1, -2, 3, 4, 5, -6]
      %b = const @_ : f32[2] = [0.25, 9.0]
      %d = DequantizeLinear(%x, %s, %z) : f32[N,3]   @place
      %v = DequantizeLinear(%w, %t) {axis=0} : f32[2,3]   @place
      %y = Gemm(%d, %v, %b) {transB=1} : f32[N,2]   @place
      return %y
    }
    """
    found = checked(parse_graph(text), Rule("move", ("Gemm",), Contract.REASSOCIATING, move_bias.function))[1]
    assert len(found.undone) == is_refused


def test_the_reference_loses_the_sign_of_a_chosen_zero() -> None:
    """So a Where may be turned around, though that changes bits there."""

    @rule("Where")
    def turn_around(op: Op, rewrite: Rewriter) -> Value | No:
        """Where(Not(c), a, b) is Where(c, b, a)."""
        inverse = op.needed(0).op
        if inverse is None or not inverse.is_a("Not"):
            return No("its condition is no Not")
        return rewrite.op("Where", [inverse.operand(0), op.operand(2), op.operand(1)])

    text = """
    graph @main(%c: bool[64], %x: f32[64], %z: f32[64]) -> (%y: f32[64]) {
      %n = Not(%c) : bool[64]   @not
      %y = Where(%n, %x, %z) : f32[64]   @where
      return %y
    }
    """
    assert not checked(parse_graph(text), turn_around)[1].undone


def test_only_the_sign_that_a_where_loses_is_excused() -> None:
    """A Where in the region is no excuse for what something else does to the sign of a zero."""
    text = """
    graph @main(%c: bool[64], %x: f32[64], %z: f32[64]) -> (%y: f32[64]) {
      %0 = Where(%c, %x, %z) : f32[64]   @where
      %1 = Relu(%0) : f32[64]   @relu
      %y = Neg(%1) : f32[64]   @place
      return %y
    }
    """

    @rule("Neg")
    def negate_in_front(op: Op, rewrite: Rewriter) -> Value | No:
        """-Relu(Where(c, x, z)) is 0 - Relu(Where(c, x, z)). Wrong: for 0 one is -0.0 and the other 0.0."""
        relu = op.needed(0).op
        chosen = None if relu is None else relu.needed(0).op
        if chosen is None or not chosen.is_a("Where"):
            return No("its input is no Relu of a Where")
        again = rewrite.op("Relu", [rewrite.op("Where", list(chosen.operands))])
        return rewrite.op("Sub", [rewrite.constant(Tensor.from_array(np.zeros((), np.float32))), again])

    (found,) = checked(parse_graph(text), negate_in_front)[1].undone
    assert found.what == "it differs in the sign of a zero"


@pytest.mark.parametrize("shape", ["[4]", "[N]", "[*]"])
def test_a_pinned_where_moves_bits(shape: str) -> None:
    text = (
        f"graph @main(%c: bool[2,1], %x: f32{shape}, %z: f32[]) -> (%y: f32[*]) {{\n%y = Where(%c, %x, %z)   @w\nreturn %y\n}}"
    )
    graph = parse_graph(text)
    pin(graph)
    verify(graph)
    x, z = np.array([-0.0, 0.0, np.nan, -np.inf], np.float32), np.array(-0.0, np.float32)
    (got,) = evaluate(graph, {"c": np.array([[True], [False]]), "x": x, "z": z})
    assert bits_apart(np.stack([x, np.broadcast_to(z, 4)]), got) is None


def test_what_the_reference_does_not_round_is_no_mistake() -> None:
    """Between two ops of f16 that it runs in f32 nothing is rounded, unless another op stands there."""

    @rule("Div")
    def divide_directly(op: Op, rewrite: Rewriter) -> Value | No:
        """What an Identity returns is what it takes."""
        between = op.needed(0).op
        if between is None or not between.is_a("Identity"):
            return No("its input is made by no Identity")
        return rewrite.op("Div", [between.operand(0), op.operand(1)])

    text = """
    graph @main(%x: f16[512]) -> (%y: f16[512]) {
      %three = const @three : f16[] = [3.0]
      %six = const @six : f16[] = [6.0]
      %0 = Add(%x, %three) : f16[512]   @add
      %1 = Identity(%0) : f16[512]   @between
      %y = Div(%1, %six) : f16[512]   @divide
      return %y
    }
    """
    graph = parse_graph(text)
    pinned = clone_graph(graph)
    pin(pinned)
    verify(pinned)
    feeds = feeds_for(graph, {}, 0, special=False)
    result, checker, _ = checked(clone_graph(graph), divide_directly, feeds=feeds)
    assert not checker.undone
    pin(result)
    assert bits_apart(evaluate(pinned, feeds)[0], evaluate(result, feeds)[0]) is None


def test_a_kernel_that_rounds_otherwise_is_no_mistake() -> None:
    """Near 0, Exp(x) - 1 loses the digits that Elu keeps; there is no Elu in f64, so the old side alone says what is right."""

    @rule("Sub", contract=Contract.REASSOCIATING)
    def expm1_as_elu(op: Op, rewrite: Rewriter) -> Value | No:
        """Exp(x) - 1 is Elu(x) where x is not positive."""
        inner = op.needed(0).op
        return No("its input is no Exp") if inner is None else rewrite.op("Elu", [inner.operand(0)])

    text = """
    graph @main(%z: f32[64]) -> (%y: f32[64]) {
      %one = const @one : f32[] = [1.0]
      %abs = Abs(%z) : f32[64]   @abs
      %x = Neg(%abs) : f32[64]   @neg
      %0 = Exp(%x) : f32[64]   @exp
      %y = Sub(%0, %one) : f32[64]   @sub
      return %y
    }
    """
    assert not checked(parse_graph(text), expm1_as_elu)[1].undone
    wrong = checked(parse_graph(text.replace("Neg(%abs)", "Identity(%abs)")), expm1_as_elu)[1].undone
    assert [found.location for found in wrong] == ["sub"]

# pyright: basic
"""The judge of rewrites: it knows rounding from mistakes at every scale, and excuses no more than the reference loses."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir.text import parse_graph
from irc.passes import Contract

from .judging import judge

X = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)


def graph(*lines: str, inputs: str = "%x: f32[4,8]") -> str:
    """A graph of these lines, whose result is %y."""
    return "\n".join([f"graph @main({inputs}) -> (%y: f32[4,8]) {{", *lines, "return %y\n}"])


def verdict(before: str, after: str, contract: Contract = Contract.REASSOCIATING, **feeds: np.ndarray) -> str:
    return judge(parse_graph(before), parse_graph(after), {"x": X, **feeds}, contract)


@pytest.mark.parametrize("scale", ["1.0", "0.0001", "10000.0"])
def test_fewer_digits_are_found_at_every_scale(scale: str) -> None:
    """In float64 there is no difference: a cast to f16 is none there."""
    small = f"%s = const @s : f32[] = [{scale}]"
    plain = graph(small, "%y = Mul(%x, %s) : f32[4,8]   @mul")
    half = "%h = Cast(%x) {to=10} : f16[4,8]   @half", "%w = Cast(%h) {to=1} : f32[4,8]   @whole"
    assert "where it was by" in verdict(plain, graph(small, *half, "%y = Mul(%w, %s) : f32[4,8]   @mul"))


def test_digits_lost_in_between_are_rounding() -> None:
    """(x + c) - c loses what x does, and the other way around."""
    number = "%c = const @c : f32[] = [10000.0]"
    long = graph(number, "%0 = Add(%x, %c) : f32[4,8]   @add", "%y = Sub(%0, %c) : f32[4,8]   @sub")
    short = graph("%y = Identity(%x) : f32[4,8]   @same")
    assert not verdict(long, short)
    assert not verdict(short, long)


def test_the_sign_of_a_zero_beside_a_where() -> None:
    zeros = np.zeros((4, 8), np.float32)
    mask = np.zeros((4, 8), np.bool_)
    inputs = "%x: f32[4,8], %m: bool[4,8]"
    chosen = "%0 = Where(%m, %x, %x) : f32[4,8]   @where"
    negated = graph(chosen, "%y = Neg(%0) : f32[4,8]   @neg", inputs=inputs)
    zero = "%z = const @z : f32[] = [0.0]"
    subtracted = graph(chosen, zero, "%y = Sub(%z, %0) : f32[4,8]   @sub", inputs=inputs)
    for contract in (Contract.EXACT, Contract.REASSOCIATING):
        assert verdict(negated, subtracted, contract, x=zeros, m=mask)
    turned = graph(
        "%n = Not(%m) : bool[4,8]   @not", "%y = Where(%n, %z, %x) : f32[4,8]   @where", inputs=inputs + ", %z: f32[4,8]"
    )
    straight = graph("%y = Where(%m, %x, %z) : f32[4,8]   @where", inputs=inputs + ", %z: f32[4,8]")
    assert not verdict(straight, turned, Contract.EXACT, x=-zeros, z=X, m=~mask)


def test_numbers_of_a_pattern_are_taken_as_meant() -> None:
    """In f16, 0.1 is off by 2e-4, and so is what it makes; the rule is right all the same, and a wrong number is not."""
    text = """graph @main(%x: f16[4,8]) -> (%y: f16[4,8]) {{
  %c = const @c : f16[] = [{}]
  %hundred = const @hundred : f16[] = [100.0]
  %0 = Mul(%x, %c) : f16[4,8]   @first
  %1 = Mul(%0, %c) : f16[4,8]   @second
  %y = Mul(%1, %hundred) : f16[4,8]   @third
  return %y
}}"""
    after = parse_graph("graph @main(%x: f16[4,8]) -> (%y: f16[4,8]) {\n%y = Identity(%x) : f16[4,8]   @same\nreturn %y\n}")
    feeds = {"x": X.astype(np.float16)}
    right, wrong = (parse_graph(text.format(number)) for number in ("0.1", "0.1005"))
    assert not judge(right, after, feeds, Contract.REASSOCIATING, (0.1,))
    assert judge(right, after, feeds, Contract.REASSOCIATING)
    assert judge(wrong, after, feeds, Contract.REASSOCIATING, (0.1,))

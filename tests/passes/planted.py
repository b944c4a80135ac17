"""Ten wrong rules, each with a small graph on which it is wrong: what every check of rewrites has to find.

The rules are in planted.rules, which can be given to `irc --load`; each is then a pass by its own name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irc.passes import Rule
from irc.passes.language import read_rules

FILE = Path(__file__).with_suffix(".rules")
RULES = {rule.name: rule for rule in read_rules(FILE.read_text(encoding="utf-8"), FILE.name)}


@dataclass(frozen=True)
class Planted:
    """A wrong rule, a graph in text form that contains one place for it, and what is wrong with it."""

    rule: Rule
    text: str
    wrong: str


PLACE = "the-place"
"""The location, in each graph, of the op that the rule is wrong about."""


PLANTED: tuple[Planted, ...] = (
    Planted(
        RULES["sub-to-add"],
        """graph @main(%x: f32[4], %z: f32[4]) -> (%y: f32[4]) {
  %0 = Relu(%x) : f32[4]   @before
  %1 = Sub(%0, %z) : f32[4]   @the-place
  %y = Relu(%1) : f32[4]   @after
  return %y
}
""",
        "sign flipped",
    ),
    Planted(
        RULES["softmax-of-rows"],
        """graph @main(%x: f32[N,3,4]) -> (%y: f32[N,3,4]) {
  %0 = Neg(%x) : f32[N,3,4]   @before
  %1 = Softmax(%0) {axis=-1} : f32[N,3,4]   @the-place
  %y = Neg(%1) : f32[N,3,4]   @after
  return %y
}
""",
        "axis off by one",
    ),
    Planted(
        RULES["largest-anywhere"],
        """graph @main(%x: f32[4], %z: f32[4]) -> (%y: f32[1]) {
  %one = const @one : i64[1] = [1]
  %0 = Neg(%x) : f32[4]   @before
  %1, %index = TopK(%0, %one) : f32[1], i64[1]   @the-place
  %2 = Gather(%z, %index) : f32[1]   @used
  %y = Add(%1, %2) : f32[1]   @after
  return %y
}
""",
        "missing use check",
    ),
    Planted(
        RULES["merge-transposes"],
        """graph @main(%x: f32[3,3,3]) -> (%y: f32[3,3,3]) {
  %0 = Transpose(%x) {perm=[1,2,0]} : f32[3,3,3]   @before
  %1 = Transpose(%0) {perm=[1,0,2]} : f32[3,3,3]   @the-place
  %y = Relu(%1) : f32[3,3,3]   @after
  return %y
}
""",
        "wrong composition of permutations",
    ),
    Planted(
        RULES["normalize-exactly"],
        """graph @main(%x: f32[2,4]) -> (%y: f32[2,4]) {
  %small = const @small : f32[] = [0.001]
  %scale = const @scale : f32[4] = [1.0, 2.0, 0.5, 1.5]
  %0 = Mul(%x, %small) : f32[2,4]   @before
  %1 = LayerNormalization(%0, %scale) {epsilon=0.00001} : f32[2,4]   @the-place
  %y = Relu(%1) : f32[2,4]   @after
  return %y
}
""",
        "epsilon dropped",
    ),
    Planted(
        RULES["times-ones"],
        """graph @main(%x: f32[M]) -> (%y: f32[?]) {
  %ones = const @ones : f32[3] = [1.0, 1.0, 1.0]
  %0 = Relu(%x) : f32[M]   @before
  %1 = Mul(%0, %ones) : f32[?]   @the-place
  %y = Neg(%1) : f32[?]   @after
  return %y
}
""",
        "broadcasting ignored",
    ),
    Planted(
        RULES["times-what-it-was-divided-by"],
        """graph @main(%x: i64[4]) -> (%y: i64[4]) {
  %three = const @three : i64[] = [3]
  %far = const @far : i64[] = [100]
  %0 = Div(%x, %three) : i64[4]   @before
  %1 = Mul(%0, %three) : i64[4]   @the-place
  %y = Mul(%1, %far) : i64[4]   @after
  return %y
}
""",
        "division of integers",
    ),
    Planted(
        RULES["swap-where"],
        """graph @main(%m: bool[4], %x: f32[4], %z: f32[4]) -> (%y: f32[4]) {
  %0 = Relu(%x) : f32[4]   @before
  %1 = Where(%m, %0, %z) : f32[4]   @the-place
  %y = Neg(%1) : f32[4]   @after
  return %y
}
""",
        "mask inverted",
    ),
    Planted(
        RULES["divide-by-multiplying"],
        """graph @main(%x: f32[2,4]) -> (%y: f32[2,4]) {
  %root = const @root : f32[] = [8.0]
  %0 = Neg(%x) : f32[2,4]   @before
  %1 = Div(%0, %root) : f32[2,4]   @the-place
  %y = Softmax(%1) {axis=-1} : f32[2,4]   @after
  return %y
}
""",
        "wrong scale",
    ),
    Planted(
        RULES["slice-after-the-first"],
        """graph @main(%x: f32[8]) -> (%y: f32[4]) {
  %zero = const @zero : i64[1] = [0]
  %four = const @four : i64[1] = [4]
  %0 = Relu(%x) : f32[8]   @before
  %1 = Slice(%0, %zero, %four) : f32[4]   @the-place
  %y = Neg(%1) : f32[4]   @after
  return %y
}
""",
        "slice off by one",
    ),
)

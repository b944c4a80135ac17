"""Ten wrong rules, each with a small graph on which it is wrong: what every check of rewrites has to find.

The file can be given to `irc --load`; each rule is then a pass by its own name.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import Op, Tensor, TensorType, Value
from irc.passes import Contract, No, Rewriter, Rule, rule


@rule("Sub")
def sub_to_add(op: Op, rewrite: Rewriter) -> Value | No:
    """x - y is x + y. Wrong: the sign is flipped."""
    return rewrite.op("Add", op.operands)


@rule("Softmax", contract=Contract.REASSOCIATING)
def softmax_of_rows(op: Op, rewrite: Rewriter) -> Value | No:
    """Softmax over the last axis is one over the axis before. Wrong: the axis is off by one."""
    if op.integer("axis", -1) != -1:
        return No("it is not over the last axis")
    return rewrite.op("Softmax", op.operands, {"axis": -2})


@rule("Dropout")
def drop_dropout(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """Dropout is its input and any mask. Wrong: whether somebody uses the mask, which is all true, is not asked."""
    kind = op.needed(0).type
    shape = kind.static_shape if isinstance(kind, TensorType) else None
    if shape is None or len(op.results) != 2:
        return No("it has no mask of a known shape")
    return op.needed(0), rewrite.constant(Tensor.from_array(np.zeros(shape, np.bool_)))


@rule("Transpose")
def merge_transposes(op: Op, rewrite: Rewriter) -> Value | No:
    """Two transposes are one. Wrong: the permutations are composed in the other order."""
    inner = op.needed(0).op
    first, second = op.integers("perm"), None if inner is None else inner.integers("perm")
    if inner is None or not inner.is_a("Transpose") or first is None or second is None:
        return No("its input is no Transpose")
    return rewrite.op("Transpose", [inner.operand(0)], {"perm": tuple(first[axis] for axis in second)})


@rule("LayerNormalization", contract=Contract.REASSOCIATING)
def normalize_exactly(op: Op, rewrite: Rewriter) -> Value | No:
    """LayerNormalization needs no epsilon. Wrong: the epsilon is dropped."""
    if op.attributes.get("epsilon") == 0.0:
        return No("it has no epsilon")
    return rewrite.op("LayerNormalization", op.operands, {**op.attributes, "epsilon": 0.0})


@rule("Mul")
def times_ones(op: Op, rewrite: Rewriter) -> Value | No:
    """x * 1 is x. Wrong: that the ones broadcast x to a larger shape is ignored."""
    ones = op.constant_operand(1)
    if ones is None or not bool((ones.array == 1).all()):
        return No("its second operand is not ones")
    return op.needed(0)


@rule("Mul")
def times_what_it_was_divided_by(op: Op, rewrite: Rewriter) -> Value | No:
    """(x / c) * c is x. Wrong: a division of integers drops the remainder."""
    quotient = op.needed(0).op
    divisor, factor = None if quotient is None else quotient.constant_operand(1), op.constant_operand(1)
    if quotient is None or not quotient.is_a("Div") or divisor is None or factor is None or not divisor.same_as(factor):
        return No("its input is no Div by the same constant")
    return quotient.needed(0)


@rule("Where")
def swap_where(op: Op, rewrite: Rewriter) -> Value | No:
    """A Where of a mask is one of its complement. Wrong: the mask is inverted, the branches are not swapped."""
    mask = op.needed(0)
    if mask.op is not None and mask.op.is_a("Not"):
        return No("its mask is inverted already")
    return rewrite.op("Where", [rewrite.op("Not", [mask]), op.operand(1), op.operand(2)])


@rule("Div", contract=Contract.REASSOCIATING)
def divide_by_multiplying(op: Op, rewrite: Rewriter) -> Value | No:
    """x / c is x * (1 / c). Wrong: the scale is 1 / c squared, as where a root was forgotten."""
    divisor = op.constant_operand(1)
    if divisor is None or not divisor.dtype.is_float:
        return No("its divisor is not a constant float")
    return rewrite.op("Mul", [op.operand(0), rewrite.constant(Tensor.from_array(1 / divisor.array**2, divisor.dtype))])


@rule("Slice")
def slice_after_the_first(op: Op, rewrite: Rewriter) -> Value | No:
    """A slice is one that starts and ends an element later. Wrong: it is off by one."""
    starts, ends = op.constant_operand(1), op.constant_operand(2)
    if starts is None or ends is None or bool(starts.array.any()):
        return No("it does not start at constant 0")
    moved = [rewrite.constant(Tensor.integers([int(v) + 1 for v in bound.to_list()])) for bound in (starts, ends)]
    return rewrite.op("Slice", [op.operand(0), *moved, *op.operands[3:]])


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
        sub_to_add,
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
        softmax_of_rows,
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
        drop_dropout,
        """graph @main(%x: f32[4], %z: f32[4]) -> (%y: f32[4]) {
  %0 = Relu(%x) : f32[4]   @before
  %1, %mask = Dropout(%0) : f32[4], bool[4]   @the-place
  %y = Where(%mask, %1, %z) : f32[4]   @after
  return %y
}
""",
        "missing use check",
    ),
    Planted(
        merge_transposes,
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
        normalize_exactly,
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
        times_ones,
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
        times_what_it_was_divided_by,
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
        swap_where,
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
        divide_by_multiplying,
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
        slice_after_the_first,
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

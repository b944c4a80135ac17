"""Expands that the op behind them does again: another Expand, or an elementwise op that broadcasts anyway."""

from __future__ import annotations

from irc.ir import Dim, Op, Value, shapes

from ..rewriter import No, Rewriter, Rule, rule

# Each result element depends on one element of each operand and in one way only. Pow is not here: engines compute x ** 2
# otherwise when the exponent is one number.
_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Where"),
)


@rule("Expand")
def expand_of_expand(op: Op, rewrite: Rewriter) -> Value | No:
    """Only the last of two expands counts when it alone gives the same shape."""
    inner, target = op.needed(0).op, shapes.content_of(op.operand(1))
    if inner is None or not inner.is_a("Expand"):
        return No("its input is no Expand")
    shape = inner.needed(0).shape
    if shape is None or target is None:
        return No("its shapes are not known")
    if not rewrite.same_dims(shapes.broadcast_shapes(shape, target), op.result.shape):
        return No("the inner one stretches what it does not")
    return rewrite.op("Expand", [inner.operand(0), op.operand(1)])


@rule(*_BROADCASTING, over=["Expand"])
def expand_before_broadcast(op: Op, rewrite: Rewriter) -> Value | No:
    """An elementwise op broadcasts by itself: an operand need not be expanded where the others give the shape."""
    operands = list(op.operands)
    for index, operand in enumerate(operands):
        expand = operand.op if operand is not None else None
        if expand is None or not expand.is_a("Expand"):
            continue
        trial = [*operands[:index], expand.operand(0), *operands[index + 1 :]]
        if rewrite.same_dims(_common_shape(trial), op.result.shape):
            operands = trial
    if operands == op.operands:
        return No("no operand is an Expand that the others make needless")
    return rewrite.op(op.name, operands, dict(op.attributes))


def _common_shape(operands: list[Value | None]) -> tuple[Dim, ...] | None:
    shape: tuple[Dim, ...] = ()
    for operand in operands:
        if operand is None or operand.shape is None:
            return None
        shape = shapes.broadcast_shapes(shape, operand.shape)
    return shape


RULES: tuple[Rule, ...] = (expand_of_expand, expand_before_broadcast)

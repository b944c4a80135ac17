"""Explicit padding: by nothing, and twice with the same value."""

from __future__ import annotations

from irc.ir import Op, Tensor, Value

from ..rewriter import No, Rewriter, Rule, rule


@rule("Pad")
def pad_of_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """Pad by zeros everywhere is its input."""
    pads = op.constant_operand(1)
    if pads is None or pads.array.any():
        return No("it pads something")
    return op.needed(0)


@rule("Pad")
def pad_of_pad(op: Op, rewrite: Rewriter) -> Value | No:
    """Two pads with one constant in a row are one: the amounts add up where none is negative."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Pad") or not inner.result.has_one_use:
        return No("its input is no Pad that only it uses")
    if op.string("mode", "constant") != "constant" or inner.string("mode", "constant") != "constant":
        return No("it does not pad with a constant")
    if not _same_value(op, inner):
        return No("the two pad with different values")
    outer_amounts, inner_amounts = _amounts(op), _amounts(inner)
    if outer_amounts is None or inner_amounts is None:
        return No("the amounts are not constant or one is negative")
    total = [a + b for a, b in zip(outer_amounts, inner_amounts, strict=True)]
    return rewrite.op(
        "Pad", [inner.operand(0), rewrite.constant(Tensor.integers(total)), *op.operands[2:3]], dict(op.attributes)
    )


def _same_value(op: Op, inner: Op) -> bool:
    """Whether both pad with the same bits; an absent value is zero."""
    tensors: list[Tensor | None] = []
    for pad in (op, inner):
        if pad.operand(2) is not None and pad.constant_operand(2) is None:
            return pad.operand(2) is (inner if pad is op else op).operand(2)
        tensors.append(pad.constant_operand(2))
    first, second = tensors
    if first is None or second is None:
        present = first or second
        return present is None or (not isinstance(present.data, tuple) and not any(bytes(present.data)))
    return (
        isinstance(first.data, tuple) == isinstance(second.data, tuple)
        and first.dtype is second.dtype
        and first.data == second.data
    )


def _amounts(pad: Op) -> list[int] | None:
    """What a Pad puts at the beginning of each axis, then at the end of each, or None when unknown or negative."""
    shape, pads = pad.needed(0).shape, pad.constant_operand(1)
    if shape is None or pads is None:
        return None
    rank, axes = len(shape), list(range(len(shape)))
    if pad.operand(3) is not None:
        written = pad.constant_operand(3)
        if written is None:
            return None
        axes = [int(v) % rank for v in written.to_list()]
    amounts = [int(v) for v in pads.to_list()]
    if len(amounts) != 2 * len(axes) or any(v < 0 for v in amounts):
        return None
    total = [0] * (2 * rank)
    for position, axis in enumerate(axes):
        total[axis], total[axis + rank] = amounts[position], amounts[position + len(axes)]
    return total


RULES: tuple[Rule, ...] = (pad_of_nothing, pad_of_pad)

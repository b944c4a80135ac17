"""Recurrent ops in Python: operands that say what is the default, and LSTM and GRU cells written out."""

from __future__ import annotations

from irc.ir import Op, Tensor, Value

from ..rewriter import No, Rewriter, Rule, rule
from . import cells

_COPYING = ("Expand", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Cast", "Identity", "Tile", "Flatten")
_DEEPEST = 8
_SEQUENCE_LENGTHS, _FIRST_STATE, _LAST_STATE = 4, 5, 6


@rule("LSTM", "GRU", "RNN")
def start_from_zero(op: Op, rewrite: Rewriter) -> Value | tuple[Value, ...] | No:
    """States are zero at first where none are given, so zeros need not be made."""
    states = [i for i in (_FIRST_STATE, _LAST_STATE) if i < len(op.operands) and _is_zero(op.operand(i))]
    if not states:
        return No("it starts from no state of zeros")
    return _with_absent(op, states, rewrite)


@rule("LSTM", "GRU", "RNN")
def whole_sequences(op: Op, rewrite: Rewriter) -> Value | tuple[Value, ...] | No:
    """Sequences are as long as the input where no lengths are given."""
    lengths, shape = op.constant_operand(_SEQUENCE_LENGTHS), op.needed(0).shape
    if lengths is None or not lengths.size or shape is None:
        return No("its lengths are absent or not constant")
    steps = shape[1 if op.integer("layout", 0) else 0]
    if not isinstance(steps, int) or not (lengths.array == steps).all():
        return No("its lengths are not all that of the input")
    return _with_absent(op, [_SEQUENCE_LENGTHS], rewrite)


def _with_absent(op: Op, places: list[int], rewrite: Rewriter) -> Value | tuple[Value, ...]:
    operands = [None if i in places else v for i, v in enumerate(op.operands)]
    while operands[-1] is None:
        operands.pop()
    made = rewrite.op(op.name, operands, dict(op.attributes), results=len(op.results)).op
    assert made is not None
    return tuple(made.results)


def _is_zero(value: Value | None) -> bool:
    """Whether a value is known to be zero everywhere, looking back over ops that only copy elements."""
    for _ in range(_DEEPEST):
        maker = None if value is None else value.op
        if value is None or maker is None or maker.domain:
            return False
        if value.constant is not None:
            return value.constant.size > 0 and not value.constant.array.any()
        if maker.is_a("ConstantOfShape"):
            fill = maker.attributes.get("value")
            return not isinstance(fill, Tensor) or not fill.array.any()
        if not maker.is_a(*_COPYING):
            return False
        value = maker.operand(0)
    return False


RULES: tuple[Rule, ...] = (start_from_zero, whole_sequences, *cells.RULES)

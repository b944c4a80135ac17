"""Constant operands of contractions as integers behind one DequantizeLinear: by channel where they are weights.

Law: a constant is there in one form for all sites that read it alike, and as it was only where something still reads it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from irc.ir import Attribute, Op, Tensor, Value, constant_op, make, via

from ..base import erase_dead
from .integers import IntegerWeights, integer_weights
from .sites import Site

BY = "quantize"
"""What the locations of all ops say that are made for integers."""


def read_integers(chosen: Iterable[Site], given: Mapping[Value, IntegerWeights]) -> None:
    """Let sites read constant operands as integers: those `given` for a constant, else the nearest."""
    known: dict[tuple[Value, int | None], Value] = {}
    for site in chosen:
        for index, value in enumerate((site.data, site.weights)):
            if value.constant is None or value.op is None:
                continue
            key = value, site.channel_axis if index else None
            if key not in known:
                known[key] = _dequantized(value.op, given.get(value) or integer_weights(value.constant, key[1]))
            site.op.set_operand(index, known[key])
    for value, _ in known:
        if value.op is not None:
            erase_dead(value.op)


def _dequantized(op: Op, chosen: IntegerWeights) -> Value:
    """Integers in front of the constant `op`, dequantized."""
    assert op.graph is not None
    location = via(BY, op.location)
    stored = constant_op(Tensor.from_array(chosen.steps), location, op.result.name)
    scales = constant_op(Tensor.from_array(chosen.scales), location)
    attributes: dict[str, Attribute] = {} if chosen.axis is None else {"axis": chosen.axis}
    wide = make("DequantizeLinear", [stored.result, scales.result], location, attributes=attributes)
    for new in (stored, scales, wide):
        op.graph.insert(new, op)
    return wide.result

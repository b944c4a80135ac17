"""Weights of 8 bits that OpenVINO's kernels sum wrongly on processors without VNNI: they are kept in f32 there.

Law: what is multiplied in integers cannot saturate; all else is multiplied in f32, where the answers are the graph's own.

Without VNNI, sums of u8 by i8 are VPMADDUBSW's, which adds two products in 16 bits: 255 * (v + w) has to be within them for
any two weights that it may pair. OpenVINO moves dequantizations behind pools, activations and more, so that data are quantized
is asked of the whole graph; where none are, weights keep their 8 bits.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Graph, Op, Tensor, TensorType, Value, clone_graph, constant_op, evaluate
from irc.passes import erase_dead

from ..alone import alone
from ..targets import Target

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_MOST = 128
"""The largest sum of two weights of one sign of which 255 are within 16 bits."""
_MOVED = ("Transpose", "Reshape", "Squeeze", "Unsqueeze")


def without_saturation(graph: Graph, target: Target) -> Graph:
    """A graph whose weights in i8 cannot saturate on a target; the graph itself where none can."""
    if not target.saturates_bytes or not any(map(_is_quantized, graph.walk())) or not any(map(_saturates, graph.walk())):
        return graph
    copy = clone_graph(graph)
    found = {id(maker): maker for op in copy.walk() if _saturates(op) and (maker := _dequantized(op.needed(1))) is not None}
    for maker in found.values():
        _widen(maker)
    return copy


def why_saturates(op: Op, target: Target) -> str:
    """Why products of an op whose factors are both computed are not OpenVINO's, as a clause; empty where they are."""
    if not target.saturates_bytes or not op.is_a(*_PRODUCTS):
        return ""
    right = _dequantized(op.needed(1))
    if right is None or right.needed(0).constant is not None or _dtype(right.needed(0)) is not DType.I8:
        return ""
    return "without VNNI its sums of bytes saturate"


def _is_quantized(op: Op) -> bool:
    """Whether an op dequantizes data."""
    return op.is_a("DequantizeLinear") and op.needed(0).constant is None


def _saturates(op: Op) -> bool:
    """Whether an op multiplies by constants in i8, of which two may be too large together."""
    if not op.is_a(*_PRODUCTS):
        return False
    maker = _dequantized(op.needed(1))
    weights = None if maker is None else maker.constant_operand(0)
    if weights is None or weights.dtype is not DType.I8 or weights.size < 2:
        return False
    flat = weights.array.reshape(-1).astype(np.int16)
    least, most = np.partition(flat, 1)[:2].sum(), np.partition(flat, flat.size - 2)[-2:].sum()
    return bool(most > _MOST or least < -_MOST)


def _dequantized(value: Value) -> Op | None:
    """The DequantizeLinear that a value comes from, moved perhaps."""
    maker = value.op
    while maker is not None and maker.is_a(*_MOVED):
        maker = maker.needed(0).op
    return maker if maker is not None and maker.is_a("DequantizeLinear") else None


def _widen(op: Op) -> None:
    """Put the f32 that constant weights stand for in the place of an op that dequantizes them."""
    constants = {f"x{index}": value.constant for index, value in enumerate(op.operands) if value is not None}
    if op.graph is None or any(tensor is None for tensor in constants.values()):
        return
    program = alone(op)
    (wide,) = evaluate(program, {name: tensor.array for name in program.input_names if (tensor := constants[name]) is not None})
    made = op.graph.insert(constant_op(Tensor.from_array(wide), op.location), op)
    op.result.replace_by(made.result)
    erase_dead(op)


def _dtype(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None


__all__ = ["without_saturation", "why_saturates"]

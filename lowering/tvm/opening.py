"""Quantized ops as the kernels see them: an op on bytes is one on f32 between pairs (`..opening`), and bytes are unsigned.

Law: a signed byte is an unsigned one whose zero point is 128 more.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from irc.ir import DType, Graph, Op, Tensor, Value, clone_graph
from irc.passes import erase_dead

from ..opening import Opening, is_opened, open_all, replace_op
from .elements import dtype_of
from .scaling import is_scaled

_SHIFT = 128
"""How far apart the signed and the unsigned byte of the same bits above the least one are."""


def opened(graph: Graph) -> Graph:
    """The graph, or a copy in which ops on bytes are pairs around plain ones, and pairs of signed bytes are unsigned.

    Products of what is quantized in the run are those of pairs, too, if they were spelled as sums of integers.
    """
    if not any(is_opened(op) or _is_signed_pair(op) or op.is_a("MatMulInteger") for op in graph.walk()):
        return graph
    copy = clone_graph(graph)
    for op in [op for op in copy.walk() if op.is_a("Mul")]:
        found = _sums_in_run(op)
        if found is not None:
            replace_op(op, _product_in_run(Opening(op), found))
    open_all(copy)
    for op in [op for op in copy.walk() if _is_signed_pair(op)]:
        _unsigned(op)
    return copy


class _InRun(NamedTuple):
    """A MatMulInteger of what is quantized in the run by constant weights, and their constant scales."""

    sums: Op
    scales: Tensor


def _sums_in_run(op: Op) -> _InRun | None:
    """What a Mul makes f32 of, as quantizers spell it: Cast(MatMulInteger(q, w, z)) times the product of both scales."""
    for wide, scales in ((op.needed(0).op, op.needed(1).op), (op.needed(1).op, op.needed(0).op)):
        sums = wide.needed(0).op if wide is not None and wide.is_a("Cast") and dtype_of(wide.result) is DType.F32 else None
        if sums is None or not sums.is_a("MatMulInteger") or scales is None or not scales.is_a("Mul"):
            continue
        made, zeros = sums.needed(0).op, sums.constant_operand(3)
        if made is None or not made.is_a("DynamicQuantizeLinear") or sums.operand(2) is not made.results[2]:
            continue
        if sums.constant_operand(1) is None or (zeros is None and sums.operand(3) is not None):
            continue
        given = [scales.constant_operand(1 - index) for index in (0, 1) if scales.operand(index) is made.results[1]]
        if given and given[0] is not None and _fit(sums, given[0], zeros):
            return _InRun(sums, given[0])
    return None


def _fit(sums: Op, scales: Tensor, zeros: Tensor | None) -> bool:
    """Whether scales and zero points are one for all or one for each column of a matrix."""
    columns = (sums.needed(1).shape or ())[-1:]
    shapes = [tensor.shape for tensor in (scales, zeros) if tensor is not None]
    return len(sums.needed(1).shape or ()) == 2 and all(shape in ((), (1,), columns) for shape in shapes)


def _product_in_run(opening: Opening, found: _InRun) -> Value:
    """The MatMul of pairs that is the same; weights are signed where their zero point allows it."""
    sums, made = found.sums, found.sums.needed(0).op
    tensor, zeros = sums.constant_operand(1), sums.constant_operand(3)
    assert made is not None
    assert tensor is not None
    columns = tensor.shape[1]
    scales = np.broadcast_to(found.scales.array.reshape(-1), (columns,)).astype(np.float32)
    points = np.zeros(1, np.int16) if zeros is None else zeros.array.reshape(-1).astype(np.int16)
    if tensor.dtype is DType.U8 and (points == _SHIFT).all():
        tensor, points = Tensor.from_array((tensor.array.astype(np.int16) - _SHIFT).astype(np.int8)), points - _SHIFT
    operands: list[Value | None] = [opening.constant(tensor), opening.constant(Tensor.from_array(scales))]
    if points.any():
        kind = tensor.dtype.numpy
        operands.append(opening.constant(Tensor.from_array(np.broadcast_to(points, (columns,)).astype(kind))))
    weights = opening.put("DequantizeLinear", operands, {"axis": 1})
    return opening.put("MatMul", [opening.put("DequantizeLinear", [*made.results]), weights])


def _is_signed_pair(op: Op) -> bool:
    """Whether a QuantizeLinear makes signed bytes by one scale that are only dequantized as they were quantized."""
    if not op.is_a("QuantizeLinear") or not is_scaled(op) or dtype_of(op.result) is not DType.I8 or op.result.is_output:
        return False
    return all(
        user.is_a("DequantizeLinear") and is_scaled(user) and _zero(user) == _zero(op) and user.needed(0) is op.result
        for user in op.result.users
    )


def _zero(op: Op) -> int:
    zero = op.constant_operand(2)
    return 0 if zero is None else int(zero.array.reshape(-1)[0])


def _unsigned(op: Op) -> None:
    """Let a pair go through unsigned bytes."""
    opening = Opening(op)
    zero = opening.constant(Tensor.from_array(np.array(_zero(op) + _SHIFT, np.uint8)))
    whole = opening.put("QuantizeLinear", [op.needed(0), op.needed(1), zero])
    for user in dict.fromkeys(op.result.users):
        plain = Opening(user).put("DequantizeLinear", [whole, user.needed(1), zero])
        replace_op(user, plain)
    erase_dead(op)

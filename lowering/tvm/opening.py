"""Quantized ops as the kernels see them: an op on bytes is one on f32 between pairs, and bytes are unsigned.

Law: x8 * w8 by their scales, rounded once to y8, is QuantizeLinear of the product of two DequantizeLinear; a signed byte is an
unsigned one whose zero point is 128 more. Kernels sum bytes exactly, so only the last rounding is another than the op's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from irc.ir import Attribute, DType, Graph, Location, Op, Tensor, Value, clone_graph, constant_op, make
from irc.passes import erase_dead

from .elements import dtype_of
from .scaling import BYTES, is_scaled

_SHIFT = 128
"""How far apart the signed and the unsigned byte of the same bits above the least one are."""


class _Quantized(NamedTuple):
    """A value in bytes, with its scale and its zero point."""

    value: Value
    scale: Value
    zero: Value | None


def opened(graph: Graph) -> Graph:
    """The graph, or a copy in which ops on bytes are pairs around plain ones, and pairs of signed bytes are unsigned.

    Products of what is quantized in the run are those of pairs, too, if they were spelled as sums of integers.
    """
    if not any(op.qualified_name in OPENED or _is_signed_pair(op) or op.is_a("MatMulInteger") for op in graph.walk()):
        return graph
    copy = clone_graph(graph)
    for op in [op for op in copy.walk() if op.is_a("Mul")]:
        found = _sums_in_run(op)
        if found is not None:
            _replace(op, _product_in_run(_Opening(op), found))
    for op in [op for op in copy.walk() if op.qualified_name in OPENED]:
        _replace(op, OPENED[op.qualified_name](op))
    for op in [op for op in copy.walk() if _is_signed_pair(op)]:
        _unsigned(op)
    return copy


def why_not_opened(op: Op) -> str:
    """Why there are no kernels for an op on bytes, as a clause; empty where there are."""
    names = _OPERANDS[op.qualified_name]
    parameters = [index for index, name in enumerate(names) if name not in ("x", "w")]
    if any(op.operand(index) is not None and op.constant_operand(index) is None for index in parameters):
        return "a scale or a zero point is computed"
    data = [op.needed(index) for index, name in enumerate(names) if name in ("x", "w")]
    if any(dtype_of(value) not in BYTES for value in (*data, op.result)) or dtype_of(op.needed(1)) is not DType.F32:
        return "it is not of 8 bits by scales in f32"
    single = [op.constant_operand(index) for index, name in enumerate(names) if name in ("xs", "xz", "ys", "yz")]
    return "" if all(tensor is None or tensor.size == 1 for tensor in single) else "its data have several scales"


class _Opening:
    """Puts ops in front of one that goes."""

    def __init__(self, op: Op) -> None:
        self._op = op

    def put(self, name: str, operands: list[Value | None], attributes: dict[str, Attribute] | None = None) -> Value:
        """One more op; operands left out at the end are not there."""
        while operands and operands[-1] is None:
            operands.pop()
        return self._insert(make(name, operands, self._location, attributes=attributes or {}))

    def constant(self, tensor: Tensor) -> Value:
        """One more constant."""
        return self._insert(constant_op(tensor, self._location))

    def wide(self, given: _Quantized, axis: int) -> Value:
        """The f32 that bytes stand for, by scales along an axis where there are several."""
        several = given.scale.constant is not None and given.scale.constant.size > 1
        return self.put("DequantizeLinear", [*given], {"axis": axis} if several else {})

    def _insert(self, op: Op) -> Value:
        assert self._op.graph is not None
        return self._op.graph.insert(op, self._op).result

    @property
    def _location(self) -> Location:
        return self._op.location


def _operand(op: Op, first: int) -> _Quantized:
    return _Quantized(op.needed(first), op.needed(first + 1), op.operand(first + 2))


def _convolution(op: Op) -> Value:
    opening = _Opening(op)
    data, filters = _operand(op, 0), _operand(op, 3)
    bias = op.constant_operand(8)
    operands: list[Value | None] = [opening.wide(data, 1), opening.wide(filters, 0)]
    if bias is not None:
        scales = [given.scale.constant for given in (data, filters)]
        assert scales[0] is not None
        assert scales[1] is not None
        step = scales[0].array.reshape(-1) * scales[1].array.reshape(-1)
        operands.append(opening.constant(Tensor.from_array((bias.array * step.astype(np.float64)).astype(np.float32))))
    product = opening.put("Conv", operands, dict(op.attributes))
    return opening.put("QuantizeLinear", [product, op.needed(6), op.operand(7)])


def _matmul(op: Op) -> Value:
    opening = _Opening(op)
    left, right = _operand(op, 0), _operand(op, 3)
    columns = len(right.value.shape or ()) - 1
    product = opening.put("MatMul", [opening.wide(left, 0), opening.wide(right, columns)])
    return opening.put("QuantizeLinear", [product, op.needed(6), op.operand(7)])


OPENED: Mapping[str, Callable[[Op], Value]] = {"QLinearConv": _convolution, "QLinearMatMul": _matmul}
"""The ops on bytes that kernels see as others, and what each is."""
_OPERANDS: Mapping[str, tuple[str, ...]] = {
    "QLinearConv": ("x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"),
    "QLinearMatMul": ("x", "xs", "xz", "w", "ws", "wz", "ys", "yz"),
}


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


def _product_in_run(opening: _Opening, found: _InRun) -> Value:
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


def _replace(op: Op, made: Value) -> None:
    made.name = op.result.name
    op.result.replace_by(made)
    erase_dead(op)


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
    opening = _Opening(op)
    zero = opening.constant(Tensor.from_array(np.array(_zero(op) + _SHIFT, np.uint8)))
    whole = opening.put("QuantizeLinear", [op.needed(0), op.needed(1), zero])
    for user in dict.fromkeys(op.result.users):
        plain = _Opening(user).put("DequantizeLinear", [whole, user.needed(1), zero])
        _replace(user, plain)
    erase_dead(op)

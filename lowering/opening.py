"""Ops on bytes as engines see them that have kernels for pairs: one on f32 between DequantizeLinear and QuantizeLinear.

Law: x8 * w8 by their scales, rounded once to y8, is QuantizeLinear of the product of two DequantizeLinear. Engines sum bytes
exactly, so only the last rounding is another than the op's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from irc.ir import (
    Attribute,
    DType,
    Graph,
    Location,
    OnBytes,
    Op,
    Tensor,
    TensorType,
    Value,
    constant_op,
    make,
    on_bytes,
    plain_of,
)
from irc.passes import erase_dead

BYTES = (DType.I8, DType.U8)


class _Quantized(NamedTuple):
    """A value in bytes, with its scale and its zero point."""

    value: Value
    scale: Value
    zero: Value | None


def open_all(graph: Graph) -> None:
    """Put pairs around plain ops in the place of all ops on bytes in a graph."""
    for op in [op for op in graph.walk() if is_opened(op)]:
        kind = on_bytes(op)
        replace_op(op, OPENED[op.qualified_name](op) if kind is None else _plain(op, kind))


def is_opened(op: Op) -> bool:
    """Whether engines see another op in the place of one."""
    return op.qualified_name in OPENED or on_bytes(op) is not None


def why_not_plain(op: Op, why_not: Callable[[Op], str]) -> str:
    """What `why_not` says of the op on numbers that one of ONNX Runtime's on bytes is opened to; empty for any other op."""
    kind = on_bytes(op)
    plain = None if kind is None else plain_of(op, kind)
    return "" if plain is None else why_not(plain)


def why_not_opened(op: Op) -> str:
    """Why an op on bytes is not opened, as a clause; empty where it is. Of the plain op nothing is asked."""
    kind = on_bytes(op)
    if kind is not None:
        return _why_not_plain(op, kind)
    names = _OPERANDS[op.qualified_name]
    parameters = [index for index, name in enumerate(names) if name not in ("x", "w")]
    if any(op.operand(index) is not None and op.constant_operand(index) is None for index in parameters):
        return "a scale or a zero point is computed"
    data = [op.needed(index) for index, name in enumerate(names) if name in ("x", "w")]
    if any(_dtype(value) not in BYTES for value in (*data, op.result)) or _dtype(op.needed(1)) is not DType.F32:
        return "it is not of 8 bits by scales in f32"
    single = [op.constant_operand(index) for index, name in enumerate(names) if name in ("xs", "xz", "ys", "yz")]
    return "" if all(tensor is None or tensor.size == 1 for tensor in single) else "its data have several scales"


def _why_not_plain(op: Op, kind: OnBytes) -> str:
    scales = [*kind.data, *([] if op.operand(kind.result) is None else [kind.result - 1])]
    parameters = [op.operand(index + more) for index in scales for more in (1, 2)]
    if any(value is not None and value.constant is None for value in parameters):
        return "a scale or a zero point is computed"
    if any(_dtype(op.needed(index)) not in BYTES or _dtype(op.needed(index + 1)) is not DType.F32 for index in kind.data):
        return "it is not of 8 bits by scales in f32"
    if kind.sums is not None and op.operand(kind.sums) is not None and op.constant_operand(kind.sums) is None:
        return "its bias is computed"
    several = [value for value in parameters if value is not None and value.constant is not None and value.constant.size > 1]
    return "its data have several scales" if several else ""


class Opening:
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
    opening = Opening(op)
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
    opening = Opening(op)
    left, right = _operand(op, 0), _operand(op, 3)
    columns = len(right.value.shape or ()) - 1
    product = opening.put("MatMul", [opening.wide(left, 0), opening.wide(right, columns)])
    return opening.put("QuantizeLinear", [product, op.needed(6), op.operand(7)])


def _plain(op: Op, kind: OnBytes) -> Value:
    """One of ONNX Runtime's ops on bytes."""
    opening = Opening(op)
    operands: list[Value | None] = [opening.wide(_operand(op, index), 1) for index in kind.data]
    bias = None if kind.sums is None else op.constant_operand(kind.sums)
    if bias is not None:
        steps = [tensor for index in kind.data if (tensor := op.constant_operand(index + 1)) is not None]
        alpha = op.attributes.get("alpha", 1.0)
        assert isinstance(alpha, float)
        step = alpha * np.prod([float(tensor.array.reshape(-1)[0]) for tensor in steps])
        operands.append(opening.constant(Tensor.from_array((bias.array * step).astype(np.float32))))
    made = opening.put(kind.plain, operands, dict(kind.attributes))
    if op.operand(kind.result) is None:
        return made
    return opening.put("QuantizeLinear", [made, op.needed(kind.result), op.operand(kind.result + 1)])


OPENED: Mapping[str, Callable[[Op], Value]] = {"QLinearConv": _convolution, "QLinearMatMul": _matmul}
"""The ops on bytes that kernels see as others, and what each is."""
_OPERANDS: Mapping[str, tuple[str, ...]] = {
    "QLinearConv": ("x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "bias"),
    "QLinearMatMul": ("x", "xs", "xz", "w", "ws", "wz", "ys", "yz"),
}


def replace_op(op: Op, made: Value) -> None:
    """Let `made` be what an op makes, in the place of that."""
    made.name = op.result.name
    op.result.replace_by(made)
    erase_dead(op)


def _dtype(value: Value) -> DType | None:
    return value.type.dtype if isinstance(value.type, TensorType) else None

"""ONNX Runtime's ops on bytes, beside ONNX's own QLinearConv and QLinearMatMul: what each is on the numbers they stand for.

Law: the result is that of the plain op on f32, rounded once to the steps of the result; so types follow from the plain op.

Source: ONNX Runtime's documentation of `com.microsoft` (ContribOperators.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .graph import Graph, Op, Value
from .operators import Attribute
from .types import UNKNOWN, DType, TensorType

DOMAIN = "com.microsoft"
BYTES = (DType.U8, DType.I8)


@dataclass(frozen=True, slots=True)
class OnBytes:
    """An op on bytes: the `plain` op of ONNX's, and where its operands in bytes stand, each before its scale and zero point.

    `result` is where the scale of the result is, before its zero point; `sums` an operand that counts steps of the sums.
    """

    plain: str
    data: tuple[int, ...]
    result: int
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    sums: int | None = None


_UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearSoftmax": "Softmax",
}
_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}
_FIRST_SOFTMAX = 13
"""The opset from which on Softmax has one axis."""


def on_bytes(op: Op) -> OnBytes | None:
    """What an op on bytes is; None for any other op, and for one whose channels lie last."""
    if op.domain != DOMAIN or op.integer("channels_last", 0):
        return None
    own = {name: value for name, value in op.attributes.items() if name not in ("channels_last", "opset")}
    if op.name in _UNARY:
        old = op.name == "QLinearSoftmax" and op.integer("opset", _FIRST_SOFTMAX) < _FIRST_SOFTMAX
        return None if old else OnBytes(_UNARY[op.name], (0,), 3, own)
    if op.name in _BINARY:
        return OnBytes(_BINARY[op.name], (0, 3), 6, own)
    if op.name == "QLinearConcat":
        return OnBytes("Concat", tuple(range(2, len(op.operands), 3)), 0, own)
    return OnBytes("Gemm", (0, 3), 7, own, sums=6) if op.name == "QGemm" else None


def plain_of(op: Op, kind: OnBytes) -> Op | None:
    """The plain op on numbers, in no graph, its result of the shape that is known of the op's; None where data are no bytes."""
    values = [op.operand(index) for index in (*kind.data, *(() if kind.sums is None else (kind.sums,)))]
    while values and values[-1] is None:
        values.pop()
    stand_ins, inside = list[Value](), Graph()
    for index, value in enumerate(values):
        wanted = (DType.I32,) if kind.sums is not None and index == len(kind.data) else BYTES
        if value is None or not isinstance(value.type, TensorType) or value.type.dtype not in wanted:
            return None
        stand_ins.append(inside.add_input(str(index), TensorType(DType.F32, value.type.shape)))
    made = op.result.type
    known = TensorType(DType.F32, made.shape) if isinstance(made, TensorType) else UNKNOWN
    return Op(kind.plain, stand_ins, kind.attributes, [known], op.location)


__all__ = ["OnBytes", "on_bytes", "plain_of"]

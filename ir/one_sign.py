"""Integer products whose factors are both u8, as ONNX Runtime sums them exactly on every processor.

Law: factors less their zero points are the numbers they were: i8 by the zero point z is u8 by z + 128.

Where a processor has no VNNI, its kernels multiply u8 by i8 with VPMADDUBSW, which adds two products in 16 bits and
saturates (255 * 127 twice does). Of two u8 or two i8 they widen first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .clone import clone_graph
from .graph import Graph, Op, Value, constant_op
from .infer import make
from .tensors import Tensor
from .types import DType, TensorType


class _Factor(NamedTuple):
    """Where a factor and its zero point stand among the operands."""

    data: int
    zero: int


class _Product(NamedTuple):
    """The two factors; `left` is None where the kernel makes u8 of it."""

    left: _Factor | None
    right: _Factor


_PRODUCTS: Mapping[str, tuple[_Product, ...]] = {
    "ConvInteger": (_Product(_Factor(0, 2), _Factor(1, 3)),),
    "MatMulInteger": (_Product(_Factor(0, 2), _Factor(1, 3)),),
    "QLinearConv": (_Product(_Factor(0, 2), _Factor(3, 5)),),
    "QLinearMatMul": (_Product(_Factor(0, 2), _Factor(3, 5)),),
    "com.microsoft::DynamicQuantizeLSTM": (_Product(None, _Factor(1, 9)), _Product(None, _Factor(2, 11))),
    "com.microsoft::DynamicQuantizeMatMul": (_Product(None, _Factor(1, 3)),),
    "com.microsoft::MatMulIntegerToFloat": (_Product(_Factor(0, 4), _Factor(1, 5)),),
    "com.microsoft::QAttention": (_Product(_Factor(0, 6), _Factor(1, 7)),),
    "com.microsoft::QGemm": (_Product(_Factor(0, 2), _Factor(3, 5)),),
}
"""Integer products that ONNX Runtime's CPU kernels compute, by name."""

_HALF = 128
"""How far the bits of u8 are from those of i8."""


def with_one_sign(graph: Graph) -> Graph:
    """A copy of a graph, bodies included, with u8 for each i8 that is multiplied by u8; the graph itself where none is."""
    if not any(_mixed(op) for op in graph.walk()):
        return graph
    copy = clone_graph(graph)
    for op in list(copy.walk()):
        if factors := _mixed(op):
            _unsign(op, factors)
    return copy


def unsigned(tensor: Tensor) -> Tensor:
    """Integers of i8 as u8, 128 larger."""
    return Tensor.from_array((tensor.array.astype(np.int16) + _HALF).astype(np.uint8))


def _mixed(op: Op) -> list[_Factor]:
    """The factors of i8 that an op multiplies by u8."""
    found = list[_Factor]()
    for left, right in _PRODUCTS.get(op.qualified_name, ()):
        kinds = (DType.U8 if left is None else _dtype(op, left), _dtype(op, right))
        if kinds == (DType.U8, DType.I8):
            found.append(right)
        if kinds == (DType.I8, DType.U8) and left is not None:
            found.append(left)
    return found


def _unsign(op: Op, factors: list[_Factor]) -> None:
    """Put a product of u8 in the place of an op."""
    assert op.graph is not None
    last = max(factor.zero for factor in factors)
    operands: list[Value | None] = [*op.operands, *([None] * (last + 1 - len(op.operands)))]
    used = list[Op]()
    for data, zero in factors:
        used += [value.op for value in (operands[data], operands[zero]) if value is not None and value.op is not None]
        operands[data] = _shifted(op, op.needed(data))
        point = operands[zero]
        operands[zero] = _constant(op, Tensor.from_array(np.uint8(_HALF))) if point is None else _shifted(op, point)
    kinds = [result.type for result in op.results]
    made = Op(op.name, operands, op.attributes, kinds, op.location, domain=op.domain, version=op.version)
    op.graph.insert(made, op)
    for old, new in zip(op.results, made.results, strict=True):
        new.name = old.name
        old.replace_by(new)
    op.graph.erase(op)
    for maker in used:
        if maker.is_constant and maker.graph is not None and maker.is_dead:
            maker.graph.erase(maker)


def _shifted(op: Op, value: Value) -> Value:
    """A value of i8 as u8, in front of an op that takes it."""
    if value.constant is not None:
        return _constant(op, unsigned(value.constant))
    wide = _put(op, "Cast", [value], DType.I32)
    return _put(op, "Cast", [_put(op, "Add", [wide, _constant(op, Tensor.from_array(np.int32(_HALF)))])], DType.U8)


def _put(op: Op, name: str, operands: list[Value | None], to: DType | None = None) -> Value:
    assert op.graph is not None
    return op.graph.insert(make(name, operands, op.location, attributes={} if to is None else {"to": to.onnx_code}), op).result


def _constant(op: Op, tensor: Tensor) -> Value:
    assert op.graph is not None
    return op.graph.insert(constant_op(tensor, op.location), op).result


def _dtype(op: Op, factor: _Factor) -> DType | None:
    value = op.operand(factor.data)
    return value.type.dtype if value is not None and isinstance(value.type, TensorType) else None


__all__ = ["unsigned", "with_one_sign"]

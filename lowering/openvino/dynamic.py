"""DynamicQuantizeLinear for OpenVINO, whose own rounds halves otherwise: said in ops that it computes as ONNX means them.

Law: the scale and the zero point are those that ONNX defines. Quotients are products with the reciprocal, as in OpenVINO's own
QuantizeLinear, so that one next to the middle of two steps may take the other; bytes that are an output are left to others.
"""

from __future__ import annotations

import numpy as np

from irc.ir import Attribute, DType, Graph, Op, Tensor, TensorType, Value, clone_graph, constant_op, make
from irc.passes import erase_dead

GREATEST = 255.0


def is_found_in_run(op: Op) -> bool:
    """Whether an op quantizes f32 by a range that is found when it runs, to bytes that are no output."""
    if op.is_a("DynamicQuantizeLinear") and op.results[0].is_output:
        return False
    kind = op.needed(0).type if op.is_a("DynamicQuantizeLinear") else None
    return isinstance(kind, TensorType) and kind.dtype is DType.F32 and kind.shape is not None and 0 not in kind.shape


def with_ranges(graph: Graph) -> Graph:
    """The graph, or a copy in which ranges are found by reductions."""
    if not any(is_found_in_run(op) for op in graph.walk()):
        return graph
    copy = clone_graph(graph)
    for op in [op for op in copy.walk() if is_found_in_run(op)]:
        for old, new in zip(op.results, _Ranges(op).results(), strict=True):
            new.name, old.name = old.name, ""
            old.replace_by(new)
        erase_dead(op)
    return copy


class _Ranges:
    """Puts ops in front of one that goes."""

    def __init__(self, op: Op) -> None:
        self._op = op

    def results(self) -> tuple[Value, Value, Value]:
        """The bytes, the scale and the zero point."""
        x, nothing, greatest = self._op.needed(0), self._number(0.0), self._number(GREATEST)
        low = self._put("Min", self._put("ReduceMin", x, keepdims=0), nothing)
        high = self._put("Max", self._put("ReduceMax", x, keepdims=0), nothing)
        width = self._put("Sub", high, low)
        scale = self._put("Where", self._put("Equal", width, nothing), self._number(1.0), self._put("Div", width, greatest))
        zero = self._held(self._put("Round", self._put("Div", self._put("Neg", low), scale)))
        whole = self._held(self._put("Add", self._put("Round", self._put("Div", x, scale)), zero))
        return self._byte(whole), scale, self._byte(zero)

    def _held(self, value: Value) -> Value:
        return self._put("Clip", value, self._number(0.0), self._number(GREATEST))

    def _byte(self, value: Value) -> Value:
        return self._put("Cast", value, to=DType.U8.onnx_code)

    def _number(self, number: float) -> Value:
        return self._insert(constant_op(Tensor.from_array(np.array(number, np.float32)), self._op.location))

    def _put(self, name: str, *operands: Value, **attributes: Attribute) -> Value:
        return self._insert(make(name, [*operands], self._op.location, attributes=attributes))

    def _insert(self, op: Op) -> Value:
        assert self._op.graph is not None
        return self._op.graph.insert(op, self._op).result

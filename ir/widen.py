"""A graph with f64 in the place of each f32, and its answers: what the model means to more digits than its own.

Law: the ops are the same, so what differs between the answers of a graph and of its wide copy is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from .cost import cost_of
from .diagnostics import EvaluationError
from .emit import to_model
from .graph import Graph, Op, Value, constant_op
from .operators import Attribute
from .reference import reason
from .tensors import Array, Tensor
from .types import DType, TensorType, Type

MOST_FLOPS = 20_000_000_000
"""Operations that `evaluate_wide` takes on, by the types of the ops: onnx's evaluator does about 10^9 of them a second."""


class GlobalMaxPool(OpRun):
    """The greatest over all spatial axes; onnx's own takes the channels too where there is one axis only."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def widen(graph: Graph) -> Graph:
    """A copy of a graph, bodies included, that computes in f64 wherever it computes in f32; its inputs are f64 then."""
    return _widen_into(graph, {})


def wide_op(op: Op, mapping: dict[Value, Value]) -> Op:
    """The wide copy of an op, in no graph yet; `mapping` gives its operands, and learns its results."""
    if op.is_constant:
        copy = constant_op(_wide_tensor(op.value), op.location)
    else:
        attributes = {name: _wide_attribute(name, value, mapping) for name, value in op.attributes.items()}
        operands = [None if v is None else mapping[v] for v in op.operands]
        kinds = [wide_type(r.type) for r in op.results]
        copy = Op(op.name, operands, attributes, kinds, op.location, domain=op.domain, version=op.version)
    mapping.update(zip(op.results, copy.results, strict=True))
    return copy


def wide_type(kind: Type) -> Type:
    """f64 for f32; every other type is its own."""
    return TensorType(DType.F64, kind.shape) if isinstance(kind, TensorType) and kind.dtype is DType.F32 else kind


def evaluate_wide(graph: Graph, feeds: Mapping[str, Array]) -> list[Any]:
    """The outputs of `widen(graph)` on `feeds` (input name to array), in signature order, by onnx's ReferenceEvaluator.

    ONNX Runtime has no kernels in f64 for many ops, convolutions among them. Raises EvaluationError for an op that the
    evaluator does not know either, and for a graph of more than MOST_FLOPS operations.
    """
    flops = sum(cost_of(op).flops for op in graph.walk())
    if flops > MOST_FLOPS:
        raise EvaluationError(f"{flops:.1e} operations are too many to evaluate in f64")
    wide = {name: array.astype(np.float64) if _is_f32(array) else array for name, array in feeds.items()}
    try:
        with np.errstate(all="ignore"):
            evaluator: Any = ReferenceEvaluator(to_model(widen(graph)), new_ops=[GlobalMaxPool])
            return list(evaluator.run(None, wide))
    except Exception as error:  # each op of the evaluator raises what it likes
        raise EvaluationError(f"it cannot be evaluated in f64: {reason(error)}") from error


def _is_f32(fed: object) -> bool:
    return isinstance(fed, np.ndarray) and cast("Array", fed).dtype == np.float32


def _widen_into(graph: Graph, mapping: dict[Value, Value]) -> Graph:
    copy = Graph(graph.name)
    copy.opsets, copy.metadata = dict(graph.opsets), dict(graph.metadata)
    for value, name in zip(graph.inputs, graph.input_names, strict=True):
        default = graph.defaults.get(value)
        mapping[value] = copy.add_input(name, wide_type(value.type), None if default is None else _wide_tensor(default))
    for op in graph:
        copy.append(wide_op(op, mapping))
    for value, name, kind in zip(graph.outputs, graph.output_names, graph.output_types, strict=True):
        copy.add_output(mapping[value], name, wide_type(kind))
    return copy


def _wide_attribute(name: str, value: Attribute, mapping: dict[Value, Value]) -> Attribute:
    if isinstance(value, Tensor):
        return _wide_tensor(value)
    if isinstance(value, Graph):
        return _widen_into(value, mapping)
    return DType.F64.onnx_code if name in ("to", "dtype") and value == DType.F32.onnx_code else value


def _wide_tensor(tensor: Tensor) -> Tensor:
    return Tensor.from_array(tensor.array, DType.F64) if tensor.dtype is DType.F32 else tensor


__all__ = ["MOST_FLOPS", "evaluate_wide", "wide_op", "wide_type", "widen"]

"""A graph with a wider type in the place of a narrower one: what the model means to more digits than its own.

Law: the ops are the same, so what differs between the answers of a graph and of its wide copy is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from .cost import cost_of
from .diagnostics import EvaluationError
from .emit import to_model
from .graph import Graph, Op, Value, constant_op
from .location import Location
from .operators import Attribute
from .reference import reason
from .schema import of as schema_of
from .tensors import Array, Tensor
from .types import DType, MapType, OptionalType, SequenceType, TensorType, Type

Wider: TypeAlias = "Mapping[DType, DType]"
"""What is put in the place of some types; the wider one holds all their numbers."""
IN_F64: Wider = {DType.F32: DType.F64}

MOST_FLOPS = 20_000_000_000
"""Operations that `evaluate_wide` takes on, by the types of the ops: onnx's evaluator does about 10^9 of them a second."""


class GlobalMaxPool(OpRun):
    """The greatest over all spatial axes; onnx's own takes the channels too where there is one axis only."""

    op_domain = ""

    def _run(self, x: Array) -> tuple[Array]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def widen(graph: Graph, wider: Wider = IN_F64) -> Graph:
    """A copy of a graph, bodies included, that computes in the wider types; so are its inputs and outputs then."""
    return _widen_into(graph, {}, wider)


def widen_inside(graph: Graph, wider: Wider) -> Graph | None:
    """As `widen`, with inputs and outputs of their own types, behind casts.

    None where something has to stay as it is: an op without a schema, or an input or output that is no tensor to be cast.
    """
    ends = [*(value.type for value in graph.inputs), *graph.output_types]
    if any(wide_type(kind, wider) != kind and not isinstance(kind, TensorType) for kind in ends):
        return None
    for op in graph.walk():
        values = [*op.results, *(value for value in op.operands if value is not None)]
        if schema_of(op, graph.opsets) is None and any(wide_type(value.type, wider) != value.type for value in values):
            return None
    copy, mapping = Graph(graph.name), dict[Value, Value]()
    copy.opsets, copy.metadata = dict(graph.opsets), dict(graph.metadata)
    own = {
        value: copy.add_input(name, value.type, graph.defaults.get(value))
        for value, name in zip(graph.inputs, graph.input_names, strict=True)
    }
    mapping.update({value: _cast(copy, its, wide_type(value.type, wider)) for value, its in own.items()})
    for op in graph:
        copy.append(wide_op(op, mapping, wider))
    for value, name, kind in zip(graph.outputs, graph.output_names, graph.output_types, strict=True):
        copy.add_output(own[value] if value in own else _cast(copy, mapping[value], kind), name, kind)
    return copy


def _cast(graph: Graph, value: Value, kind: Type) -> Value:
    """A value as a tensor of another type, which it may have already."""
    if not isinstance(kind, TensorType) or (isinstance(value.type, TensorType) and value.type.dtype is kind.dtype):
        return value
    made = () if value.op is None else (value.op.location,)
    location = Location("" if made else value.name, "widen", made)
    return graph.append(Op("Cast", [value], {"to": kind.dtype.onnx_code}, [kind], location)).result


def wide_op(op: Op, mapping: dict[Value, Value], wider: Wider = IN_F64) -> Op:
    """The wide copy of an op, in no graph yet; `mapping` gives its operands, and learns its results."""
    if op.is_constant:
        copy = constant_op(_wide_tensor(op.value, wider), op.location)
    else:
        attributes = {name: _wide_attribute(name, value, mapping, wider) for name, value in op.attributes.items()}
        operands = [None if v is None else mapping[v] for v in op.operands]
        kinds = [wide_type(r.type, wider) for r in op.results]
        copy = Op(op.name, operands, attributes, kinds, op.location, domain=op.domain, version=op.version)
    mapping.update(zip(op.results, copy.results, strict=True))
    return copy


def wide_type(kind: Type, wider: Wider = IN_F64) -> Type:
    """The type with the wider one in the place of those that have one, inside of sequences, optionals and maps as well."""
    match kind:
        case TensorType():
            return TensorType(wider.get(kind.dtype, kind.dtype), kind.shape)
        case SequenceType():
            return SequenceType(wide_type(kind.element, wider))
        case OptionalType():
            return OptionalType(wide_type(kind.element, wider))
        case MapType():
            return MapType(kind.key, wide_type(kind.value, wider))
        case _:
            return kind


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


def _widen_into(graph: Graph, mapping: dict[Value, Value], wider: Wider) -> Graph:
    copy = Graph(graph.name)
    copy.opsets, copy.metadata = dict(graph.opsets), dict(graph.metadata)
    for value, name in zip(graph.inputs, graph.input_names, strict=True):
        default = graph.defaults.get(value)
        wide = None if default is None else _wide_tensor(default, wider)
        mapping[value] = copy.add_input(name, wide_type(value.type, wider), wide)
    for op in graph:
        copy.append(wide_op(op, mapping, wider))
    for value, name, kind in zip(graph.outputs, graph.output_names, graph.output_types, strict=True):
        copy.add_output(mapping[value], name, wide_type(kind, wider))
    return copy


def _wide_attribute(name: str, value: Attribute, mapping: dict[Value, Value], wider: Wider) -> Attribute:
    if isinstance(value, Tensor):
        return _wide_tensor(value, wider)
    if isinstance(value, Graph):
        return _widen_into(value, mapping, wider)
    codes = {narrow.onnx_code: wide.onnx_code for narrow, wide in wider.items()}
    return codes.get(value, value) if name in ("to", "dtype", "output_dtype") and isinstance(value, int) else value


def _wide_tensor(tensor: Tensor, wider: Wider) -> Tensor:
    wide = wider.get(tensor.dtype)
    return tensor if wide is None else Tensor.from_array(tensor.array.astype(wide.numpy), wide)


__all__ = ["IN_F64", "MOST_FLOPS", "Wider", "evaluate_wide", "wide_op", "wide_type", "widen", "widen_inside"]

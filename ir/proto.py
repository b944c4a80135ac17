"""Between the IR's types, tensors and attributes and ONNX's messages; each function here has its inverse here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx
from onnx import AttributeProto, TensorProto, TypeProto

from .diagnostics import ModelError
from .dims import Dim, SymbolicDim, named
from .graph import Graph
from .operators import Attribute, EmptyList
from .tensors import SparseTensor, Tensor
from .types import (
    BY_ONNX_CODE,
    UNKNOWN,
    DType,
    MapType,
    OptionalType,
    SequenceType,
    SparseType,
    TensorType,
    Type,
    UnknownType,
)

LARGEST_RANK = 32


def dim_name(dim: SymbolicDim) -> str:
    """How a symbolic dim is called in an ONNX file: the model's own name, or the expression."""
    return dim.plain_name or str(dim)


def type_message(kind: Type, spell: Callable[[SymbolicDim], str] = dim_name) -> TypeProto:
    """The ONNX message of a type; an unknown type is an empty message."""
    message = TypeProto()
    if isinstance(kind, UnknownType):
        return message
    if isinstance(kind, (SequenceType, OptionalType)):
        inner = message.sequence_type if isinstance(kind, SequenceType) else message.optional_type
        inner.elem_type.CopyFrom(type_message(kind.element, spell))
        return message
    if isinstance(kind, MapType):
        message.map_type.key_type = kind.key.onnx_code
        message.map_type.value_type.CopyFrom(type_message(kind.value, spell))
        return message
    tensor = message.sparse_tensor_type if isinstance(kind, SparseType) else message.tensor_type
    tensor.elem_type = kind.dtype.onnx_code
    if kind.shape is None:
        return message
    tensor.shape.SetInParent()
    for dim in kind.shape:
        entry = tensor.shape.dim.add()
        if isinstance(dim, SymbolicDim):
            entry.dim_param = spell(dim)
        elif dim is not None:
            entry.dim_value = dim
    return message


def dtype_from_code(code: int) -> DType:
    """The dtype of an ONNX element type number; raises ModelError for one ONNX does not have."""
    dtype = BY_ONNX_CODE.get(code)
    if dtype is None:
        raise ModelError(f"element type {code} does not exist in ONNX")
    return dtype


def type_from_message(message: TypeProto, symbols: Mapping[str, SymbolicDim] | None = None) -> Type:
    """The type of an ONNX message; `symbols` finds the dims that a spelled-out name stands for."""
    which = message.WhichOneof("value")
    if which == "sequence_type":
        return SequenceType(type_from_message(message.sequence_type.elem_type, symbols))
    if which == "optional_type":
        return OptionalType(type_from_message(message.optional_type.elem_type, symbols))
    if which == "map_type":
        return MapType(dtype_from_code(message.map_type.key_type), type_from_message(message.map_type.value_type, symbols))
    if which not in ("tensor_type", "sparse_tensor_type"):
        return UNKNOWN
    tensor = message.tensor_type if which == "tensor_type" else message.sparse_tensor_type
    if tensor.elem_type == 0:
        return UNKNOWN
    make = TensorType if which == "tensor_type" else SparseType
    dtype = dtype_from_code(tensor.elem_type)
    if not tensor.HasField("shape"):
        return make(dtype, None)
    if len(tensor.shape.dim) > LARGEST_RANK:
        raise ModelError(f"a type has {len(tensor.shape.dim)} dims; at most {LARGEST_RANK} are taken")
    return make(dtype, tuple(_dim(entry, symbols) for entry in tensor.shape.dim))


def _dim(entry: onnx.TensorShapeProto.Dimension, symbols: Mapping[str, SymbolicDim] | None) -> Dim:
    # A negative size is how old exporters write "unknown".
    if entry.HasField("dim_value"):
        return entry.dim_value if entry.dim_value >= 0 else None
    if not entry.dim_param:
        return None
    # protobuf hands out bytes for a string that is no UTF-8, whatever its stubs say
    if not isinstance(entry.dim_param, str):  # type: ignore[unnecessary-isinstance]
        raise ModelError(f"the dim {entry.dim_param!r} is not UTF-8")
    found = symbols.get(entry.dim_param) if symbols else None
    return found or named(entry.dim_param)


def tensor_message(tensor: Tensor, name: str = "") -> TensorProto:
    """The ONNX message of a constant, bytes included."""
    message = TensorProto(data_type=tensor.dtype.onnx_code, dims=tensor.shape, name=name)
    if isinstance(tensor.data, tuple):
        message.string_data.extend(tensor.data)
    else:
        message.raw_data = bytes(tensor.data)
    return message


def sparse_message(sparse: SparseTensor, name: str = "") -> onnx.SparseTensorProto:
    """The ONNX message of a sparse constant."""
    return onnx.SparseTensorProto(
        values=tensor_message(sparse.values, name), indices=tensor_message(sparse.indices), dims=sparse.shape
    )


_LIST_KINDS = {
    "ints": AttributeProto.INTS,
    "floats": AttributeProto.FLOATS,
    "strings": AttributeProto.STRINGS,
    "tensors": AttributeProto.TENSORS,
    "graphs": AttributeProto.GRAPHS,
    "types": AttributeProto.TYPE_PROTOS,
    "sparse_tensors": AttributeProto.SPARSE_TENSORS,
}
LIST_KIND_NAMES: dict[int, str] = {code: text for text, code in _LIST_KINDS.items()}


def attribute_message(
    name: str, value: Attribute, graph_message: Callable[[Graph], onnx.GraphProto] | None = None
) -> AttributeProto:
    """The ONNX message of an attribute; `graph_message` writes the bodies of control flow."""
    message = AttributeProto(name=name)
    if isinstance(value, EmptyList):
        message.type = _LIST_KINDS[value.kind]
    elif isinstance(value, int):
        message.type, message.i = AttributeProto.INT, value
    elif isinstance(value, float):
        message.type, message.f = AttributeProto.FLOAT, value
    elif isinstance(value, (str, bytes)):
        message.type, message.s = AttributeProto.STRING, value.encode() if isinstance(value, str) else value
    elif isinstance(value, Tensor):
        message.type = AttributeProto.TENSOR
        message.t.CopyFrom(tensor_message(value))
    elif isinstance(value, SparseTensor):
        message.type = AttributeProto.SPARSE_TENSOR
        message.sparse_tensor.CopyFrom(sparse_message(value))
    elif isinstance(value, Graph):
        assert graph_message is not None
        message.type = AttributeProto.GRAPH
        message.g.CopyFrom(graph_message(value))
    elif isinstance(value, tuple):
        _fill_list(message, value, graph_message)
    else:
        message.type = AttributeProto.TYPE_PROTO
        message.tp.CopyFrom(type_message(value))
    return message


def _fill_list(
    message: AttributeProto, items: tuple[object, ...], graph_message: Callable[[Graph], onnx.GraphProto] | None
) -> None:
    first = items[0] if items else 0  # an empty tuple is one of integers, as perm of a scalar; others are an EmptyList
    if isinstance(first, int):
        message.type = AttributeProto.INTS
        message.ints.extend(i for i in items if isinstance(i, int))
    elif isinstance(first, float):
        message.type = AttributeProto.FLOATS
        message.floats.extend(f for f in items if isinstance(f, float))
    elif isinstance(first, (str, bytes)):
        message.type = AttributeProto.STRINGS
        message.strings.extend(s.encode() if isinstance(s, str) else s for s in items if isinstance(s, (str, bytes)))
    elif isinstance(first, Tensor):
        message.type = AttributeProto.TENSORS
        message.tensors.extend(tensor_message(t) for t in items if isinstance(t, Tensor))
    elif isinstance(first, SparseTensor):
        message.type = AttributeProto.SPARSE_TENSORS
        message.sparse_tensors.extend(sparse_message(s) for s in items if isinstance(s, SparseTensor))
    elif isinstance(first, Graph):
        assert graph_message is not None
        message.type = AttributeProto.GRAPHS
        message.graphs.extend(graph_message(g) for g in items if isinstance(g, Graph))
    else:
        message.type = AttributeProto.TYPE_PROTOS
        message.type_protos.extend(
            type_message(t)
            for t in items
            if isinstance(t, (TensorType, SparseType, SequenceType, OptionalType, MapType, UnknownType))
        )

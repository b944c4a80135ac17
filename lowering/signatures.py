"""The inputs and outputs of a graph as the runtime writes them down: names, element types, shapes, kinds."""

from __future__ import annotations

from irc.ir import DType, Graph, MapType, OptionalType, SequenceType, SymbolicDim, TensorType, Type
from irc.runtime import SignatureEntry


def input_entries(graph: Graph) -> tuple[SignatureEntry, ...]:
    """The inputs, in order; one with a default need not be fed."""
    named = zip(graph.input_names, graph.inputs, strict=True)
    return tuple(_entry(name, value.type, value in graph.defaults) for name, value in named)


def output_entries(graph: Graph) -> tuple[SignatureEntry, ...]:
    """The outputs, in order, by their declared types; by what is known of them where nothing is declared."""
    declared = zip(graph.output_names, graph.output_types, graph.outputs, strict=True)
    known = (TensorType, SequenceType, OptionalType, MapType)
    return tuple(_entry(name, kind if isinstance(kind, known) else value.type, False) for name, kind, value in declared)


def _entry(name: str, kind: Type, optional: bool) -> SignatureEntry:
    wrapper, key = "tensor", None
    while isinstance(kind, (SequenceType, OptionalType, MapType)):
        wrapper = (
            {SequenceType: "sequence", OptionalType: "optional", MapType: "map"}[type(kind)] if wrapper == "tensor" else wrapper
        )
        key = kind.key.text if isinstance(kind, MapType) else key
        kind = kind.value if isinstance(kind, MapType) else kind.element
    if not isinstance(kind, TensorType):
        return SignatureEntry(name, DType.F32.text, None, wrapper, optional, key)  # type: ignore[arg-type]  # wrapper is a Kind
    shape = None if kind.shape is None else tuple(_dim(d) for d in kind.shape)
    return SignatureEntry(name, kind.dtype.text, shape, wrapper, optional, key)  # type: ignore[arg-type]  # wrapper is a Kind


def _dim(dim: int | SymbolicDim | None) -> int | str | None:
    return dim.plain_name or str(dim) if isinstance(dim, SymbolicDim) else dim

"""Graphs as text. Large constants are elided to their digest; every name printed is unique, so the text parses back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import numpy as np

from .. import dims
from ..emit import unique_name
from ..graph import Graph, Op, Value
from ..location import Location
from ..operators import Attribute, EmptyList
from ..tensors import SparseTensor, Tensor
from ..types import DType, Type

WeightTable = dict[str, Tensor]

_BARE = re.compile(r"[A-Za-z0-9_.$/-]+\Z")
_DECIMAL = frozenset({DType.F32, DType.F64, DType.F16, DType.BF16})
LONGEST_LIST = 16
LONGEST_HEX = 64


def print_graph(
    graph: Graph, *, weights: WeightTable | None = None, locations: bool = True, notes: Mapping[Op, str] | None = None
) -> str:
    """The text of a graph. Elided constants are added to `weights`; without `locations` the text is for reading only.

    `notes`, each of one line, stand behind their ops as comments, which are not read back.
    """
    printer = _Printer(weights, locations, notes or {})
    return "\n".join(printer.graph(graph, "graph ", "")) + "\n"


class _Printer:
    def __init__(self, weights: WeightTable | None, locations: bool, notes: Mapping[Op, str]) -> None:
        self.weights = weights
        self.locations = locations
        self.notes = notes
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.number = 0
        self.numbers: dict[str, int] = {}

    def graph(self, graph: Graph, lead: str, indent: str) -> Iterator[str]:
        inputs = ", ".join(self._input(graph, value, index) for index, value in enumerate(graph.inputs))
        outputs = ", ".join(f"%{_word(n)}: {t}" for n, t in zip(graph.output_names, graph.output_types, strict=True))
        captured = graph.captures() if graph.owner is not None else []
        captures = f" captures({', '.join(map(self.value, captured))})" if captured else ""
        extras = "".join(
            f" {word} {{{', '.join(f'{_quote(k)}={v}' for k, v in entries)}}}"
            for word, entries in (
                ("opsets", sorted(graph.opsets.items())),
                ("metadata", [(k, _quote(v)) for k, v in sorted(graph.metadata.items())]),
            )
            if entries
        )
        yield f"{lead}@{_word(graph.name)}({inputs}){captures} -> ({outputs}){extras} {{"
        for op in graph:
            yield from self._op(op, indent + "  ")
        yield f"{indent}  return {', '.join(map(self.value, graph.outputs))}".rstrip()
        yield f"{indent}}}"

    def _input(self, graph: Graph, value: Value, index: int) -> str:
        # An input's printed name is the signature's; a value elsewhere that wants the same name gets another.
        name = graph.input_names[index]
        self.names[value] = self._unique(name)
        shown = f"%{_word(self.names[value])}"
        if self.names[value] != name:
            shown += f" as {_quote(name)}"
        default = graph.defaults.get(value)
        return f"{shown}: {value.type}" + ("" if default is None else f" = {self._data(default)}")

    def value(self, value: Value | None) -> str:
        if value is None:
            return "_"
        if value not in self.names:
            if value.name:
                self.names[value] = self._unique(value.name)
            else:
                self.names[value] = self._numbered()
        return f"%{_word(self.names[value])}"

    def _numbered(self) -> str:
        while str(self.number) in self.taken:
            self.number += 1
        self.taken.add(str(self.number))
        return str(self.number)

    def _unique(self, hint: str) -> str:
        return unique_name(hint, self.taken, self.numbers, ".")

    def _op(self, op: Op, indent: str) -> Iterator[str]:
        results = ", ".join(map(self.value, op.results))
        if op.is_constant:
            location = self._location(op.location, " ") or " @_"
            yield f"{indent}{results} = const{location} : {op.value.type} = {self._data(op.value)}{self._note(op)}"
            return
        operands = ", ".join(map(self.value, op.operands))
        types = ", ".join(str(r.type) for r in op.results)
        tail = (f" : {types}" if types else "") + self._location(op.location, "   ") + self._note(op)
        head = f"{indent}{results + ' = ' if results else ''}{_op_name(op)}({operands})"
        if not op.bodies:
            attributes = ", ".join(f"{_word(k)}={self._attribute(v)}" for k, v in op.attributes.items())
            yield head + (f" {{{attributes}}}" if attributes else "") + tail
            return
        yield head + " {"
        entries = list(op.attributes.items())
        for position, (name, value) in enumerate(entries):
            comma = "," if position + 1 < len(entries) else ""
            lines = list(self._body_attribute(name, value, indent + "  "))
            yield from lines[:-1]
            yield lines[-1] + comma
        yield f"{indent}}}{tail}"

    def _body_attribute(self, name: str, value: Attribute, indent: str) -> Iterator[str]:
        if isinstance(value, Graph):
            yield from self.graph(value, f"{indent}{_word(name)}=graph ", indent)
        elif isinstance(value, tuple) and any(isinstance(item, Graph) for item in value):
            yield f"{indent}{_word(name)}=["
            graphs = [item for item in value if isinstance(item, Graph)]
            for index, item in enumerate(graphs):
                lines = list(self.graph(item, f"{indent}  graph ", indent + "  "))
                yield from lines[:-1]
                yield lines[-1] + ("," if index + 1 < len(graphs) else "")
            yield f"{indent}]"
        else:
            yield f"{indent}{_word(name)}={self._attribute(value)}"

    def _attribute(self, value: Attribute) -> str:
        if isinstance(value, EmptyList):
            return f"{value.kind}[]"
        if isinstance(value, tuple):
            return f"[{', '.join(self._attribute(item) for item in value)}]"
        if isinstance(value, (bool, int)):
            return str(int(value))
        if isinstance(value, float):
            return _float(value, np.dtype(np.float32))
        if isinstance(value, str):
            return _quote(value)
        if isinstance(value, bytes):
            return f"0x{value.hex()}"
        if isinstance(value, Tensor):
            return f"dense<{value.type} = {self._data(value)}>"
        if isinstance(value, SparseTensor):
            parts = " at ".join(f"{t.type} = {self._data(t)}" for t in (value.values, value.indices))
            return f"sparse<{','.join(map(str, value.shape)) or '_'} : {parts}>"
        assert not isinstance(value, Graph)
        return f"type<{value}>"

    def _data(self, tensor: Tensor) -> str:
        inline = _inline(tensor)
        if inline is not None:
            return inline
        if self.weights is not None:
            self.weights[tensor.digest] = tensor
        return f"#{tensor.digest}"

    def _note(self, op: Op) -> str:
        note = self.notes.get(op, "")
        assert "\n" not in note
        return f"   // {note}" if note else ""

    def _location(self, location: Location, lead: str) -> str:
        if not self.locations:
            return ""
        origins, rewrites = location.flatten()
        shown = _word(origins[0]) if len(origins) == 1 else f"[{', '.join(map(_quote, origins))}]"
        via = f" via [{', '.join(map(_quote, rewrites))}]" if rewrites else ""
        return f"{lead}@{shown}{via}"


def _op_name(op: Op) -> str:
    return (
        op.qualified_name
        if re.fullmatch(r"([A-Za-z0-9_.\-]+(@\d+)?::)?[A-Za-z_][A-Za-z0-9_]*", op.qualified_name)
        else f"op {_quote(op.qualified_name)}"
    )


def _word(text: str) -> str:
    return text if _BARE.match(text) else _quote(text)


def _quote(text: str) -> str:
    return json.dumps(text)


def _inline(tensor: Tensor) -> str | None:
    """The elements written out, when they are few and reading them back gives the same bits."""
    if tensor.size > LONGEST_LIST:
        return None
    if isinstance(tensor.data, tuple):
        try:
            return f"[{', '.join(_quote(s.decode()) for s in tensor.data)}]"
        except UnicodeDecodeError:
            return None
    if tensor.dtype in _DECIMAL:
        width = np.dtype(np.float32) if tensor.dtype in (DType.F16, DType.BF16) else tensor.dtype.numpy
        texts = [_float(float(v), width) for v in tensor.array.reshape(-1)]
        again = np.array([float(t) for t in texts], np.float64).astype(tensor.dtype.numpy)
        return f"[{', '.join(texts)}]" if again.tobytes() == bytes(tensor.data) else f"0x{bytes(tensor.data).hex()}"
    if tensor.dtype.is_integer and tensor.dtype.bits >= 8:
        return f"[{', '.join(str(int(v)) for v in tensor.array.reshape(-1))}]"
    return f"0x{bytes(tensor.data).hex()}" if tensor.data.nbytes <= LONGEST_HEX else None


def _float(value: float, width: np.dtype[np.generic]) -> str:
    """The shortest decimal that reads back as `value` in `width`; it always looks like a float, never like an integer."""
    text = (
        repr(float(np.format_float_scientific(np.float32(value))))
        if width == np.float32 and np.isfinite(value)
        else repr(value)
    )
    return text if any(c in text for c in ".en") else text + ".0"


def type_text(kind: Type) -> str:
    """The text of a type, for messages."""
    return str(kind)


__all__ = ["WeightTable", "dims", "print_graph", "type_text"]

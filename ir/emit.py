"""A graph as an ONNX model, and a model as a file: large weights are streamed from where they are, never gathered in memory.

Laws: signature names and types come out as they came in; every other name is unique in the whole model; opset and IR
version stay within what engines take.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, TensorProto

from . import dialect, proto, schema
from .capture.names import LOCATION_KEY
from .capture.wire import field_prefix
from .files import replacing
from .garbage import collector_paused
from .graph import Graph, Op, Value
from .location import Location
from .tensors import Tensor
from .types import DType, UnknownType

LARGEST_SINGLE_FILE = 2**31 - 2**20
SMALLEST_WEIGHT = 1024

# Where a node keeps all origins and rewrites of its op as JSON, which profiles are attributed by; `LOCATION_KEY` is for people.
HISTORY_KEY = "irc.history"
MOST_ORIGINS = 32
"""Origins of one op that a model keeps, the first ones: folded constants can have thousands."""


@dataclass
class Emitted:
    """An ONNX model in parts: `shell` is all but the graph, `graph` has no initializers, `weights` are the large ones' tensors.

    An initializer whose name is in `weights` has no data; the others have theirs inside.
    """

    shell: ModelProto = field(default_factory=ModelProto)
    graph: GraphProto = field(default_factory=GraphProto)
    initializers: list[TensorProto] = field(default_factory=list[TensorProto])
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    op_names: dict[str, Op] = field(default_factory=dict[str, Op])

    @property
    def weight_bytes(self) -> int:
        """The bytes of all weights kept apart."""
        return sum(tensor.byte_count for tensor in self.weights.values())

    def declare_operands(self, *ops: str) -> None:
        """Write down the types of what ops of these names take and other ops make: an engine may not find them by itself."""
        made = {name for node in self.graph.node for name in node.output} - {output.name for output in self.graph.output}
        for node in self.graph.node:
            op = self.op_names.get(node.name)
            for name, value in zip(node.input, op.operands if op is not None and op.is_a(*ops) else (), strict=False):
                if name in made and value is not None and not isinstance(value.type, UnknownType):
                    made.discard(name)
                    self.graph.value_info.add(name=name, type=proto.type_message(value.type))

    def complete(self) -> ModelProto:
        """The model with all weights inside; for models that fit one message."""
        tensors = (self.weights.get(i.name) for i in self.initializers)
        filled = (i if t is None else proto.tensor_message(t, i.name) for i, t in zip(self.initializers, tensors, strict=True))
        return self._assemble(filled)

    def refer(self, place: Callable[[str], tuple[str, int, int]]) -> ModelProto:
        """The model with its weights as external data; `place` tells file, offset and length of each."""
        return self._assemble(self._referring(i, place) for i in self.initializers)

    def _referring(self, initializer: TensorProto, place: Callable[[str], tuple[str, int, int]]) -> TensorProto:
        if initializer.name not in self.weights:
            return initializer
        location, offset, length = place(initializer.name)
        message = TensorProto(data_location=TensorProto.EXTERNAL)
        message.MergeFrom(initializer)
        for key, value in (("location", location), ("offset", str(offset)), ("length", str(length))):
            message.external_data.add(key=key, value=value)
        return message

    def _assemble(self, initializers: Iterable[TensorProto]) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(self.shell)
        model.graph.CopyFrom(self.graph)
        model.graph.initializer.extend(initializers)
        return model


def emit(graph: Graph, *, opset: int | None = None, keep_inline: frozenset[DType] = frozenset()) -> Emitted:
    """The ONNX model of a graph; tensors of SMALLEST_WEIGHT bytes and more stay apart in `weights`.

    `opset` is what the model imports of ONNX's own domain, by default the oldest that has every op as it stands and is not
    older than the canonical one; dtypes in `keep_inline` always stay in the model.
    """
    with collector_paused():
        return _Emitter(graph, opset, keep_inline).run()


def to_model(graph: Graph) -> ModelProto:
    """The ONNX model of a graph with all weights inside."""
    return emit(graph).complete()


class _Emitter:
    def __init__(self, graph: Graph, opset: int | None, keep_inline: frozenset[DType]) -> None:
        self.graph = graph
        self.opset = opset
        self.keep_inline = keep_inline
        self.body_names: dict[tuple[int, int], str] = {}
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.emitted = Emitted()
        self.node_names: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.node_numbers: dict[str, int] = {}

    def run(self) -> Emitted:
        model = self.emitted.shell
        model.producer_name = "irc"
        model.ir_version = schema.IR_VERSION
        newest = max((op.version for op in self.graph.walk() if op.version is not None), default=schema.CANONICAL_OPSET)
        model.opset_import.append(onnx.helper.make_opsetid("", self.opset or newest))
        used = {op.domain for op in self.graph.walk() if not dialect.is_fused(op)}
        for domain in sorted(used - {""}):
            model.opset_import.append(onnx.helper.make_opsetid(domain, self.graph.opsets.get(domain, 1)))
        for key, value in sorted(self.graph.metadata.items()):
            model.metadata_props.add(key=key, value=value)
        self.taken.update(self.graph.input_names, self.graph.output_names)
        self.fill(self.emitted.graph, self.graph, outermost=True)
        return self.emitted

    def fill(self, message: GraphProto, graph: Graph, *, outermost: bool) -> None:
        message.name = graph.name
        self._name_inputs(message, graph, outermost)
        aliases = self._name_outputs(graph)
        for op in graph:
            if op.is_constant and outermost:
                self._initializer(op)
            elif dialect.is_fused(op):
                self._region(message, op, outermost)
            else:
                self._node(message, op)
        for index, value in aliases:
            source = self.names[value]
            message.node.add(
                op_type="Identity",
                input=[source],
                output=[graph.output_names[index] if outermost else self._body_output(graph, index)],
            )
        for index, value in enumerate(graph.outputs):
            name = graph.output_names[index] if outermost else self._output_name(graph, index, value, aliases)
            kind = graph.output_types[index]
            entry = message.output.add(name=name)
            entry.type.CopyFrom(proto.type_message(value.type if isinstance(kind, UnknownType) else kind))

    def _name_inputs(self, message: GraphProto, graph: Graph, outermost: bool) -> None:
        for value, name in zip(graph.inputs, graph.input_names, strict=True):
            self.names[value] = name if outermost else self._unique(name or "input")
            entry = message.input.add(name=self.names[value])
            entry.type.CopyFrom(proto.type_message(value.type))
            default = graph.defaults.get(value)
            if default is not None:
                self._tensor(self.names[value], default)

    def _name_outputs(self, graph: Graph) -> list[tuple[int, Value]]:
        """Give output names to the values that can carry them; the rest need an Identity and are returned."""
        aliases: list[tuple[int, Value]] = []
        for index, value in enumerate(graph.outputs):
            name = graph.output_names[index]
            own = value.op is not None and value.op.graph is graph
            if graph.owner is None and self.names.get(value) == name:
                continue
            if own and value not in self.names:
                self.names[value] = name if graph.owner is None else self._unique(name)
            else:
                aliases.append((index, value))
        return aliases

    def _output_name(self, graph: Graph, index: int, value: Value, aliases: list[tuple[int, Value]]) -> str:
        return self._body_output(graph, index) if any(i == index for i, _ in aliases) else self.names[value]

    def _body_output(self, graph: Graph, index: int) -> str:
        key = (id(graph), index)
        if key not in self.body_names:
            self.body_names[key] = self._unique(graph.output_names[index])
        return self.body_names[key]

    def _unique(self, hint: str) -> str:
        return unique_name(hint, self.taken, self.numbers, "_")

    def name_of(self, value: Value) -> str:
        """The name of a value, made from its hint the first time."""
        name = self.names.get(value)
        if name is None:
            name = self.names[value] = self._unique(value.name or (value.op.name.lower() if value.op else "value"))
        return name

    def _initializer(self, op: Op) -> None:
        if not op.result.uses:
            return
        self._tensor(self.name_of(op.result), op.value)

    def _tensor(self, name: str, tensor: Tensor) -> None:
        if tensor.dtype is DType.STR or tensor.byte_count < SMALLEST_WEIGHT or tensor.dtype in self.keep_inline:
            self.emitted.initializers.append(proto.tensor_message(tensor, name))
            return
        self.emitted.weights[name] = tensor
        self.emitted.initializers.append(TensorProto(name=name, data_type=tensor.dtype.onnx_code, dims=tensor.shape))

    def _node(self, message: GraphProto, op: Op) -> None:
        node = message.node.add(op_type=op.name, domain=op.domain)
        node.input.extend("" if v is None else self.name_of(v) for v in op.operands)
        outputs = [self.name_of(v) if v.uses or schema.needs_result(op, index) else "" for index, v in enumerate(op.results)]
        while outputs and not outputs[-1]:
            outputs.pop()
        node.output.extend(outputs)
        node.name = self._node_name(op)
        self.emitted.op_names[node.name] = op
        text = str(op.location)
        if text != node.name:
            node.metadata_props.add(key=LOCATION_KEY, value=text)
        if op.location.parents:
            node.metadata_props.add(key=HISTORY_KEY, value=_history(op.location))
        for name, value in op.attributes.items():
            node.attribute.append(proto.attribute_message(name, value, self._body))

    def _region(self, message: GraphProto, op: Op, outermost: bool) -> None:
        """The ops of a fused region one after the other: ONNX has no op for it."""
        body = dialect.body_of(op)
        for inside, operand in zip(body.inputs, op.operands, strict=True):
            assert operand is not None
            self.names[inside] = self.name_of(operand)
        for inside, result in zip(body.outputs, op.results, strict=True):
            self.names[inside] = self.name_of(result)
        for inner in body:
            if inner.is_constant and outermost:
                self._initializer(inner)
            else:
                self._node(message, inner)

    def _node_name(self, op: Op) -> str:
        return unique_name(op.location.name or op.name, self.node_names, self.node_numbers, "_")

    def _body(self, graph: Graph) -> GraphProto:
        message = GraphProto()
        self.fill(message, graph, outermost=False)
        return message


def _history(location: Location) -> str:
    origins, rewrites = location.flatten()
    return json.dumps({"origins": origins[:MOST_ORIGINS], "rewrites": rewrites}, ensure_ascii=False, separators=(",", ":"))


def unique_name(hint: str, taken: set[str], numbers: dict[str, int], separator: str) -> str:
    """`hint`, or `hint` with the next number where it is taken; the name is noted in `taken`, the number in `numbers`."""
    name = hint
    while name in taken:
        numbers[hint] = numbers.get(hint, 0) + 1
        name = f"{hint}{separator}{numbers[hint]}"
    taken.add(name)
    return name


def save_onnx(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph as an .onnx file; weights beyond 2 GiB go to `<name>.data` beside it.

    The file appears whole or not at all: it is written under a temporary name, synced and renamed.
    """
    target = Path(path)
    with collector_paused():
        emitted = emit(graph)
        if emitted.weight_bytes > LARGEST_SINGLE_FILE:
            _save_with_data_file(emitted, target)
            return
        with replacing(target, expected=emitted.weight_bytes) as file:
            for chunk in serialized(emitted):
                file.write(chunk)


def serialized(emitted: Emitted) -> Iterator[bytes | memoryview]:
    """The chunks of the ONNX file of a model; a weight is looked at only when its chunk is asked for."""
    headers: list[tuple[bytes, Tensor | None]] = []
    for initializer in emitted.initializers:
        tensor = emitted.weights.get(initializer.name)
        message = initializer.SerializeToString()
        if tensor is None:
            headers.append((field_prefix(5, len(message)) + message, None))
            continue
        message += field_prefix(9, tensor.byte_count)
        headers.append((field_prefix(5, len(message) + tensor.byte_count) + message, tensor))
    head = emitted.graph.SerializeToString(deterministic=True)
    total = len(head) + sum(len(h) + (t.byte_count if t is not None else 0) for h, t in headers)
    yield emitted.shell.SerializeToString(deterministic=True) + field_prefix(7, total) + head
    for header, tensor in headers:
        yield header
        if tensor is not None:
            assert isinstance(tensor.data, memoryview)
            yield tensor.data


def _save_with_data_file(emitted: Emitted, target: Path) -> None:
    places: dict[str, tuple[str, int, int]] = {}
    data_name = target.name + ".data"
    offset = 0
    with replacing(target.with_name(data_name), expected=emitted.weight_bytes) as file:
        for name, tensor in emitted.weights.items():
            padding = -offset % 4096
            file.write(b"\0" * padding)
            offset += padding
            assert not isinstance(tensor.data, tuple)
            file.write(tensor.data)
            places[name] = (data_name, offset, tensor.data.nbytes)
            offset += tensor.data.nbytes
    with replacing(target) as file:
        file.write(emitted.refer(places.__getitem__).SerializeToString())

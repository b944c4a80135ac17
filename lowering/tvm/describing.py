"""What a program of kernels says of itself: the graph it was made of, and the names of what lies in its arena.

Law: running a program needs none of this. The graph holds no large weights, which kernels have in a form of their own: each
is an input of it, by its name.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from irc.ir import Emitted, Graph, Op, Value
from irc.runtime import NativeBuffer

from .memory import Arena, Span
from .places import Buffer, Call, Storage


def ops_model(emitted: Emitted) -> bytes:
    """The bytes of an ONNX model with the nodes that were lowered and where they come from."""
    model = onnx.ModelProto()
    model.CopyFrom(emitted.shell)
    model.graph.CopyFrom(emitted.graph)
    for initializer in emitted.initializers:
        if initializer.name in emitted.weights:
            kind = onnx.helper.make_tensor_type_proto(initializer.data_type, list(initializer.dims))
            model.graph.input.add(name=initializer.name, type=kind)
        else:
            model.graph.initializer.append(initializer)
    return model.SerializeToString(deterministic=True)


def named_buffers(
    calls: Sequence[Call], spans: Mapping[Buffer, Span], arena: Arena[Buffer], emitted: Emitted, graph: Graph
) -> tuple[NativeBuffer, ...]:
    """What lies in the arena, each after the value that the last call to write it makes; copies of one value are numbered."""
    values = _values(emitted)
    names: dict[Buffer, str] = {}
    for call in calls:
        if call.result.storage is Storage.ARENA:
            names[call.result] = _name(call, values, names, graph)
        names.update((buffer, values.get(call.ops[0], call.ops[0].name)) for buffer in call.beside)
    taken = dict.fromkeys((*graph.input_names, *graph.output_names), 1)
    buffers: list[NativeBuffer] = []
    for buffer, span in spans.items():
        name = names.get(buffer, "workspace")
        taken[name] = taken.get(name, 0) + 1
        unique = name if taken[name] == 1 else f"{name}#{taken[name]}"
        buffers.append(NativeBuffer(unique, arena.offsets[buffer], span.byte_count, span.first, span.last))
    return tuple(buffers)


def value_names(emitted: Emitted) -> dict[Value, str]:
    """What the values that ops make are called in the emitted graph."""
    nodes = ((emitted.op_names.get(node.name), node.output) for node in emitted.graph.node)
    pairs = (pair for op, names in nodes if op is not None for pair in zip(op.results, names, strict=False))
    return {value: name for value, name in pairs if name}


def _values(emitted: Emitted) -> dict[Op, str]:
    """The first value that each op makes, as it is called in the emitted graph."""
    nodes = ((emitted.op_names.get(node.name), node.output) for node in emitted.graph.node)
    return {op: next(filter(None, outputs)) for op, outputs in nodes if op is not None and any(outputs)}


def _name(call: Call, values: Mapping[Op, str], names: Mapping[Buffer, str], graph: Graph) -> str:
    if call.ops:
        return values.get(call.ops[-1], call.ops[-1].name)
    given = next((buffer for buffer in call.buffers[:-1] if buffer.storage is Storage.INPUT), None)
    if given is not None:
        return graph.input_names[given.index]
    return names.get(call.result, "workspace")

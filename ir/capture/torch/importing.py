"""From torch's ONNX model in memory to a graph: no file, and no second copy of the weights.

The model is written as a message without its weights and goes through the importer that reads ONNX files; wherever that
asks for a weight, it gets a view of the module's own tensor.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_ir
import torch

from ... import dims, graph, tensors
from ...diagnostics import UnsupportedError
from ...types import BY_ONNX_CODE
from ..external import ExternalFiles
from ..importer import import_model
from ..limits import Limits
from ..onnx_file import Source
from .dynamic import spelled_all
from .locations import PREFIX
from .trees import unique


@dataclass
class TorchSource(Source):
    """An opened model whose large constants are torch's tensors, by name."""

    held: Mapping[str, tensors.Tensor] = field(default_factory=dict[str, tensors.Tensor])

    def tensor(self, message: onnx.TensorProto) -> tensors.Tensor:
        """The constant a TensorProto stands for: a view of torch's memory where it names one."""
        found = self.held.get(message.name) if message.data_location == onnx.TensorProto.EXTERNAL else None
        return super().tensor(message) if found is None else found


def to_graph(model: onnx_ir.Model, symbols: Mapping[str, str]) -> graph.Graph:
    """The graph of a model whose symbolic sizes are called by `symbols`; takes the weights out of `model`."""
    held = _take_weights(model)
    message = onnx_ir.to_proto(model)
    spelled = spelled_all(_spellings(message.graph), symbols)
    _forget_unspelled(message.graph, spelled)
    known = {text: dim for text, dim in spelled.items() if isinstance(dim, dims.SymbolicDim)}
    return import_model(TorchSource(message, None, ExternalFiles(None), "module", Limits(), symbols=known, held=held))


def name_values(model: onnx_ir.Model, inputs: list[str], outputs: list[str]) -> None:
    """Call inputs and outputs as given, weights by their path in the user's module, and everything else by what is free."""
    taken: set[str] = set()
    for value, name in zip(model.graph.inputs, unique(inputs, taken), strict=True):
        value.name = name
    _separate_outputs(model.graph)
    weights = list(model.graph.initializers.values())
    wanted = [(value.name or "").removeprefix(PREFIX) for value in weights]
    for value in weights:  # out of the way of each other's new names
        value.name = f"{PREFIX}{PREFIX}{value.name}"
    for value, name in zip(weights, unique(wanted, taken), strict=True):
        value.name = name
    for value, name in zip(model.graph.outputs, unique(outputs, taken), strict=True):
        value.name = name
    settled = {id(value) for value in (*model.graph.inputs, *weights, *model.graph.outputs)}
    rest = [value for value in _made(model) if id(value) not in settled]
    for value, name in zip(rest, unique((value.name or "value" for value in rest), taken), strict=True):
        value.name = name


def _separate_outputs(graph: onnx_ir.Graph) -> None:
    """An output is a value of its own: what is returned twice, or passed through, goes through an Identity."""
    seen = {id(value) for value in (*graph.inputs, *graph.initializers.values())}
    for index, value in enumerate(graph.outputs):
        if id(value) in seen:
            copy = onnx_ir.Value(name=f"{value.name}_again", shape=value.shape, type=value.type)
            graph.append(onnx_ir.Node("", "Identity", [value], outputs=[copy], name=f"{value.name}_returned"))
            graph.outputs[index] = copy
        seen.add(id(value))


def _made(model: onnx_ir.Model) -> Iterator[onnx_ir.Value]:
    """Every value that some node makes or some body takes."""
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        yield from (value for value in node.outputs if value.name)
        for attribute in node.attributes.values():
            if attribute.type is onnx_ir.AttributeType.GRAPH:
                yield from attribute.as_graph().inputs


def _take_weights(model: onnx_ir.Model) -> dict[str, tensors.Tensor]:
    """The weights by name; in the model they become references to data elsewhere."""
    held: dict[str, tensors.Tensor] = {}
    for name, value in model.graph.initializers.items():
        weight = value.const_value
        raw = getattr(weight, "raw", None)
        if weight is None or not isinstance(raw, torch.Tensor):
            continue
        if type(raw) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
            raise UnsupportedError(
                f"the weight '{name}' is a {type(raw).__name__}", hint="convert it to an ordinary tensor before compiling"
            )
        dtype, shape = BY_ONNX_CODE[int(weight.dtype)], tuple(weight.shape.numpy())
        held[name] = tensors.Tensor(dtype, shape, bytes_of(raw))
        size = dtype.byte_count(held[name].size)
        value.const_value = onnx_ir.ExternalTensor("torch", 0, size, weight.dtype, shape=onnx_ir.Shape(shape), name=name)
    return held


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor, read-only: its own memory where it lies in order on the CPU, which it keeps alive."""
    ordered = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    array: Any = ordered.reshape(-1).view(torch.uint8).numpy()
    array.flags.writeable = False
    return memoryview(array)


def _spellings(message: onnx.GraphProto) -> Iterator[str]:
    return (entry.dim_param for entry in _dims(message) if entry.dim_param)


def _forget_unspelled(message: onnx.GraphProto, spelled: Mapping[str, dims.Dim]) -> None:
    """Make sizes that no Dim can say unknown, and those that turn out to be numbers numbers."""
    for entry in _dims(message):
        if not entry.dim_param:
            continue
        dim = spelled[entry.dim_param]
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is None:
            entry.ClearField("dim_param")


def _dims(message: onnx.GraphProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    for value in (*message.input, *message.output, *message.value_info):
        yield from value.type.tensor_type.shape.dim
    for node in message.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _dims(attribute.g)

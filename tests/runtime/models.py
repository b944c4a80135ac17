"""Small models made by hand for these tests: manifests, ONNX bytes and weights, as a compiler would hand them over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from irc.runtime import EngineFiles, Manifest, OnnxRuntimeOptions, Program, SignatureEntry, WeightView, layout_weights

CODES = {"f32": 1, "u8": 2, "i8": 3, "i64": 7, "str": 8, "bool": 9, "f16": 10, "bf16": 16, "i4": 22}


def view(array: np.ndarray, dtype: str = "f32") -> WeightView:
    """An array's memory as a weight."""
    return WeightView(dtype, array.shape, memoryview(array.reshape(-1).view(np.uint8)))


def value(entry: SignatureEntry) -> onnx.ValueInfoProto:
    """A signature entry as ONNX writes it."""
    tensor = helper.make_tensor_type_proto(CODES[entry.dtype], entry.shape)
    wrap = {"sequence": helper.make_sequence_type_proto, "optional": helper.make_optional_type_proto}
    return helper.make_value_info(entry.name, wrap[entry.kind](tensor) if entry.kind in wrap else tensor)


def external(name: str, weight: WeightView, offset: int) -> onnx.TensorProto:
    """An initializer whose bytes lie in weights.safetensors."""
    tensor = onnx.TensorProto(name=name, data_type=CODES[weight.dtype], dims=weight.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    places = {"location": "weights.safetensors", "offset": str(offset), "length": str(weight.data.nbytes)}
    for key, text in places.items():
        tensor.external_data.add(key=key, value=text)
    return tensor


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[SignatureEntry],
    outputs: Sequence[SignatureEntry],
    weights: Mapping[str, WeightView] | None = None,
    inline: Sequence[onnx.TensorProto] = (),
) -> bytes:
    """The bytes of a model, its weights outside."""
    weights = weights or {}
    ranges = layout_weights(weights).ranges
    initializers = [*inline, *(external(name, each, ranges[name][0]) for name, each in weights.items())]
    graph = helper.make_graph(list(nodes), "g", list(map(value, inputs)), list(map(value, outputs)), initializers)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)]).SerializeToString()


def program(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[SignatureEntry],
    outputs: Sequence[SignatureEntry],
    weights: Mapping[str, WeightView] | None = None,
    inline: Sequence[onnx.TensorProto] = (),
    options: OnnxRuntimeOptions | None = None,
    dims_must_agree: tuple[str, ...] = (),
) -> Program:
    """The program of a few nodes."""
    manifest = Manifest(
        engine="onnxruntime",
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        engine_options=(options or OnnxRuntimeOptions(threads=1)).to_manifest(),
        dims_must_agree=dims_must_agree,
    )
    files = {"model.onnx": [model(nodes, inputs, outputs, weights, inline)]}
    return Program.from_files(manifest, EngineFiles(files, weights or {}))


def mlp() -> tuple[Program, np.ndarray, np.ndarray]:
    """relu(x @ w + b) with x: f32[N,4], w: f32[4,3], b: f32[3]; the program, w and b."""
    generator = np.random.default_rng(0)
    w, b = generator.standard_normal((4, 3), np.float32), generator.standard_normal(3, np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    inputs, outputs = [SignatureEntry("x", "f32", ("N", 4))], [SignatureEntry("y", "f32", ("N", 3))]
    return program(nodes, inputs, outputs, {"w": view(w), "b": view(b)}), w, b

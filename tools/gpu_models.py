# pyright: basic
"""Small models for a GPU: one of each kind of work, with fixed weights, so that answers can be compared anywhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 23


def convolutions(width: int = 16, size: int = 32) -> onnx.ModelProto:
    """Convolutions with a residual, `x` f32[N,3,size,size] to `y` f32[N,10]."""
    weights = {
        "w1": _random(1, width, 3, 3, 3),
        "b1": _random(2, width),
        "w2": _random(3, width, width, 3, 3),
        "w3": _random(4, width, 10),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["a"]),
        helper.make_node("Relu", ["a"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["y"]),
    ]
    return _model(nodes, {"x": ["N", 3, size, size]}, {"y": ["N", 10]}, weights)


def attention(length: int = 16, width: int = 64, heads: int = 4, half: bool = False) -> onnx.ModelProto:
    """A transformer block, `x` [1,length,width] to `y` of the same shape, f32 or f16."""
    dtype = np.float16 if half else np.float32
    sizes = {"q": (width, width), "k": (width, width), "v": (width, width), "o": (width, width)}
    sizes |= {"up": (width, 2 * width), "down": (2 * width, width)}
    weights: dict[str, np.ndarray] = {
        name: _random(index, *shape).astype(dtype) for index, (name, shape) in enumerate(sizes.items())
    }
    weights |= {"one": np.ones(width, dtype), "zero": np.zeros(width, dtype)}
    weights["scale"] = np.array((width // heads) ** -0.5, dtype)
    weights["split"] = np.array([0, 0, heads, width // heads], np.int64)
    weights["join"] = np.array([0, 0, width], np.int64)
    nodes = [helper.make_node("LayerNormalization", ["x", "one", "zero"], ["n"])]
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes.append(helper.make_node("MatMul", ["n", name], [f"{name}1"]))
        nodes.append(helper.make_node("Reshape", [f"{name}1", "split"], [f"{name}2"]))
        nodes.append(helper.make_node("Transpose", [f"{name}2"], [f"{name}3"], perm=order))
    nodes += [
        helper.make_node("MatMul", ["q3", "k3"], ["s"]),
        helper.make_node("Mul", ["s", "scale"], ["t"]),
        helper.make_node("Softmax", ["t"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v3"], ["h"]),
        helper.make_node("Transpose", ["h"], ["g"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["g", "join"], ["j"]),
        helper.make_node("MatMul", ["j", "o"], ["o1"]),
        helper.make_node("Add", ["x", "o1"], ["r"]),
        helper.make_node("MatMul", ["r", "up"], ["u"]),
        helper.make_node("Gelu", ["u"], ["e"]),
        helper.make_node("MatMul", ["e", "down"], ["d"]),
        helper.make_node("Add", ["r", "d"], ["y"]),
    ]
    shape = [1, length, width]
    return _model(nodes, {"x": shape}, {"y": shape}, weights, TensorProto.FLOAT16 if half else TensorProto.FLOAT)


def control_flow() -> onnx.ModelProto:
    """An If on a sum, `x` f32[8] to `y` f32[8]; the two branches differ."""
    scalar = helper.make_tensor_value_info("branch", TensorProto.FLOAT, [8])
    doubled = helper.make_graph([helper.make_node("Add", ["x", "x"], ["branch"])], "then", [], [scalar])
    squared = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["branch"])], "else", [], [scalar])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "none"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=doubled, else_branch=squared),
    ]
    return _model(nodes, {"x": [8]}, {"y": [8]}, {"none": np.array(0, np.float32)})


def built_in(folder: Path) -> list[Path]:
    """Models that are large enough to measure, as files in `folder`."""
    models = {"convolutions": convolutions(64, 112), "attention": attention(128, 512, 8)}
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")
    return [folder / f"{name}.onnx" for name in models]


def _random(seed: int, *shape: int) -> np.ndarray:
    scale = (np.prod(shape[1:]) if len(shape) == 4 else shape[0]) ** -0.5
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list],
    outputs: dict[str, list],
    weights: dict[str, np.ndarray],
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    taken, made = ([helper.make_tensor_value_info(n, dtype, s) for n, s in each.items()] for each in (inputs, outputs))
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "gpu", taken, made, tensors)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", OPSET)])


__all__ = ["attention", "built_in", "control_flow", "convolutions"]

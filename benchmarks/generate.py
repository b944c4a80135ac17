"""Graphs of any size for scaling measurements: repeated blocks of what exporters write, seeded, with small weights."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 16
OPS_PER_BLOCK = 20


def block(index: int, source: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """One residual block of 20 nodes: a linear layer, a norm written out, shape arithmetic around a reshape, identities."""
    generator = np.random.default_rng(index)
    p = f"b{index}."
    weight = (generator.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
    constants = {
        "w": weight,
        "b": generator.standard_normal(WIDTH).astype(np.float32),
        "axis": np.array([-1]),
        "eps": np.float32(1e-5),
        "two": np.float32(2),
        "i0": np.array(0),
        "ax0": np.array([0]),
        "rest": np.array([4, WIDTH // 4]),
        "one": np.float32(1),
    }
    n = helper.make_node
    nodes = [
        n("Transpose", [p + "w"], [p + "wt"], perm=[1, 0]),
        n("MatMul", [source, p + "wt"], [p + "mm"]),
        n("Add", [p + "mm", p + "b"], [p + "lin"]),
        n("Identity", [p + "lin"], [p + "id"]),
        n("ReduceMean", [p + "id", p + "axis"], [p + "mu"]),
        n("Sub", [p + "id", p + "mu"], [p + "d"]),
        n("Pow", [p + "d", p + "two"], [p + "sq"]),
        n("ReduceMean", [p + "sq", p + "axis"], [p + "var"]),
        n("Add", [p + "var", p + "eps"], [p + "ve"]),
        n("Sqrt", [p + "ve"], [p + "sd"]),
        n("Div", [p + "d", p + "sd"], [p + "norm"]),
        n("Mul", [p + "norm", p + "one"], [p + "scaled"]),
        n("Shape", [p + "scaled"], [p + "shape"]),
        n("Gather", [p + "shape", p + "i0"], [p + "n"]),
        n("Unsqueeze", [p + "n", p + "ax0"], [p + "n1"]),
        n("Concat", [p + "n1", p + "rest"], [p + "target"], axis=0),
        n("Reshape", [p + "scaled", p + "target"], [p + "heads"]),
        n("Relu", [p + "heads"], [p + "act"]),
        n("Reshape", [p + "act", p + "shape"], [p + "flat"]),
        n("Add", [p + "flat", source], [p + "out"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), p + name) for name, value in constants.items()]
    return nodes, tensors, p + "out"


def generate(ops: int, path: Path) -> None:
    """Write a model of about `ops` nodes."""
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    value = "x"
    for index in range(max(1, ops // OPS_PER_BLOCK)):
        more, weights, value = block(index, value)
        nodes += more
        tensors += weights
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])]
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["batch", WIDTH])]
    graph = helper.make_graph(nodes, f"generated_{ops}", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def tower(path: Path) -> None:
    """Write a small recommender tower, 64-256-256-1 with Relu and Sigmoid: calling it costs more than computing it."""
    generator = np.random.default_rng(0)
    sizes = (64, 256, 256, 1)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []
    value = "x"
    for index, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        weight = (generator.standard_normal((rows, columns)) / rows**0.5).astype(np.float32)
        tensors += [
            numpy_helper.from_array(weight, f"w{index}"),
            numpy_helper.from_array(np.zeros(columns, np.float32), f"b{index}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"w{index}", f"b{index}"], [f"h{index}"]))
        value = f"a{index}"
        nodes.append(helper.make_node("Relu" if columns > 1 else "Sigmoid", [f"h{index}"], [value]))
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])]
    outputs = [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, 1])]
    graph = helper.make_graph(nodes, "tower", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)

"""Models for these tests, and graphs and programs made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

F16, F32, I8, I64, STRING = TensorProto.FLOAT16, TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT64, TensorProto.STRING
BF16 = TensorProto.BFLOAT16
node = helper.make_node
info = helper.make_tensor_value_info


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random f32 numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: dict[str, Any] | None = None,
) -> ModelProto:
    """A model of opset 21."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), initializers)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def mlp(width: int = 4) -> ModelProto:
    """x: f32[N,width] -> y: f32[N,width], with two transposes that undo each other."""
    nodes = [
        node("MatMul", ["x", "w"], ["m"], name="product"),
        node("Transpose", ["m"], ["t"], name="there", perm=[1, 0]),
        node("Transpose", ["t"], ["b"], name="back", perm=[1, 0]),
        node("Relu", ["b"], ["y"], name="relu"),
    ]
    inputs, outputs = [info("x", F32, ["N", width])], [info("y", F32, ["N", width])]
    return model(nodes, inputs, outputs, {"w": normal(width, width)})


def saved(message: ModelProto, folder: Path) -> Path:
    """The path of a model's file."""
    path = folder / "model.onnx"
    onnx.save(message, path)
    return path


WRONG_PASS = '''
from dataclasses import dataclass

import numpy as np

from irc.ir import Tensor, constant_op
from irc.passes import Pass


@dataclass(frozen=True)
class DoubleConstants(Pass, name="double-constants"):
    """Wrong on purpose."""

    def run(self, graph, context):
        for op in [op for op in graph if op.is_constant]:
            context.take("double-constants")
            twice = Tensor.from_array(op.value.array * np.float32(2))
            op.result.replace_by(graph.insert(constant_op(twice, op.location), op).result)
            graph.erase(op)
'''

"""Graphs written down quickly: what the forms are written with."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import ModelProto, helper, numpy_helper

Ways = tuple[dict[str, ModelProto], dict[str, np.ndarray]]
MS = "com.microsoft"


class Sketch:
    """A graph being written down: calling it adds a node and gives the name of its first result."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def __call__(self, op: str, *operands: str, domain: str = "", results: int = 1, **attributes: object) -> str:
        names = [f"v{len(self.nodes)}_{index}" for index in range(results)]
        self.nodes.append(helper.make_node(op, operands, names, domain=domain, **attributes))
        return names[0]

    def constant(self, value: object, dtype: type = np.float32) -> str:
        """The name of a new constant."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def second(self, index: int) -> str:
        """The result `index` of the last node."""
        return self.nodes[-1].output[index]

    def model(self, feeds: dict[str, np.ndarray], *outputs: str) -> ModelProto:
        """The model, with inputs of the shapes that are fed."""
        element = helper.np_dtype_to_tensor_dtype
        inputs = [helper.make_tensor_value_info(n, element(v.dtype), v.shape) for n, v in feeds.items()]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(self.nodes, "form", inputs, results, self.constants)
        imports = [helper.make_opsetid("", 24), helper.make_opsetid(MS, 1)]
        return helper.make_model(graph, ir_version=11, opset_imports=imports)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random f32 numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ways_of(feeds: dict[str, np.ndarray], **writes: Callable[[Sketch], str | tuple[str, ...]]) -> Ways:
    """Ways whose names are the keywords, with `_` for blanks."""
    models = {}
    for way, write in writes.items():
        s = Sketch()
        results = write(s)
        models[way.replace("__", ",").replace("_", " ")] = s.model(
            feeds, *((results,) if isinstance(results, str) else results)
        )
    return models, feeds

"""What the tests of forms share: graphs in ONNX's own ops, what became of them, and whether the answers are the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from irc.ir import Graph, capture, clone_graph, evaluate, to_model, verify
from irc.lowering import distance, find_target
from irc.lowering.onnxruntime import OnnxRuntime
from irc.lowering.onnxruntime.forms import legalize
from irc.passes import Context

node = helper.make_node
Dims = Sequence[int | str]


def written(
    nodes: Sequence[NodeProto], inputs: dict[str, tuple[int, Dims | None]], outputs: Sequence[str], **constants: Any
) -> ModelProto:
    """A model of the canonical opset; `inputs` are element types and shapes."""
    given = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "g", given, [onnx.ValueInfoProto(name=name) for name in outputs], weights)
    return helper.make_model(graph, ir_version=11, opset_imports=[helper.make_opsetid("", 24)])


def like(feeds: dict[str, np.ndarray], **shapes: Dims | None) -> dict[str, tuple[int, Dims | None]]:
    """Inputs of the types that are fed; where `shapes` does not say otherwise, of their shapes."""
    return {
        name: (helper.np_dtype_to_tensor_dtype(value.dtype), shapes.get(name, value.shape) if name in shapes else value.shape)
        for name, value in feeds.items()
    }


def lowered(message: ModelProto) -> tuple[Graph, Context]:
    """The graph in ONNX Runtime's forms, and what was done to it."""
    graph = capture(message.SerializeToString())
    context = legalize(graph)
    verify(graph)
    again = clone_graph(graph)
    assert not legalize(again).total, "the second run still finds something to do"
    return graph, context


def names(graph: Graph) -> list[str]:
    """The ops of a graph, in order, without constants."""
    return [op.qualified_name for op in graph if not op.is_constant]


def by_onnx(message: ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What ONNX's own reference answers."""
    return list(ReferenceEvaluator(message).run(None, feeds))


def assert_same(
    message: ModelProto, feeds: dict[str, np.ndarray], bound: float = 2e-6, *, wanted: list[np.ndarray] | None = None
) -> tuple[Graph, Context]:
    """Check that the lowered graph answers as the model does, without and with the engine's own optimizations.

    `wanted` is what the model answers where irc's reference takes less than ONNX defines.
    """
    wanted = evaluate(capture(message.SerializeToString()), feeds) if wanted is None else wanted
    graph, context = lowered(message)
    for want, got in zip(wanted, evaluate(graph, feeds), strict=True):
        assert distance(want, got) <= bound
    for want, got in zip(wanted, optimized(graph, feeds), strict=True):
        assert distance(want, got) <= bound
    return graph, context


def optimized(graph: Graph, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The answers of a graph with all of ONNX Runtime's optimizations that its best setting allows."""
    best = OnnxRuntime().settings(2, find_target("cpu"))[0]
    without: Any = best["disabled_optimizers"]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    model = to_model(graph).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(without))
    return list(session.run(None, feeds))


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Random numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


F16, F32, F64, I64, BOOL = (
    TensorProto.FLOAT16,
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.BOOL,
)

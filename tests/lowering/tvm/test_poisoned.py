"""A run in an arena full of NaN answers the same bits: no kernel reads what no kernel wrote before it in the same run.

The arena is within a twentieth of the largest live set, too. Models as networks are made are small ones here; IRC_ZOO names a
folder of .onnx files to check.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from irc.ir import Graph
from irc.ir.capture import import_model, load_onnx
from irc.lowering import find_engine, find_target
from irc.lowering.signatures import input_entries, output_entries
from irc.lowering.tvm.memory import ALIGNMENT, Span, largest_live_set
from irc.passes import LEVELS, PassManager, unfused
from irc.runtime import NATIVE_PLAN_FILE, NativeExecutor, NativeOptions, NativePlan, random_inputs

from .programs import RandomModel
from .running import needs_tvm

ZOO = sorted(Path(os.environ["IRC_ZOO"]).glob("*.onnx")) if "IRC_ZOO" in os.environ else []


class Model:
    """An ONNX model written node by node; weights are made up."""

    def __init__(self, **inputs: tuple[int, ...]) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.inputs = inputs
        self.random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        """A weight of made-up numbers."""
        return self.constant(self.random.standard_normal(shape).astype(np.float32) / 4)

    def constant(self, array: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def op(self, kind: str, *operands: str, **attributes: Any) -> str:
        """One more node; the name of its result."""
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, operands, [result], name=f"{kind}{len(self.nodes)}", **attributes))
        return result

    def proto(self, *outputs: str) -> onnx.ModelProto:
        def entry(name: str, shape: tuple[int, ...] | None) -> Any:
            kind = TensorProto.INT64 if name.startswith("ids") else TensorProto.FLOAT
            return helper.make_tensor_value_info(name, kind, shape)

        inputs = [entry(name, shape) for name, shape in self.inputs.items()]
        graph = helper.make_graph(self.nodes, "small", inputs, [entry(each, None) for each in outputs], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def convolutions() -> onnx.ModelProto:
    """Borders of several widths, a depthwise and a strided convolution, a residual, pools, a head."""
    m = Model(x=(1, 3, 19, 17))
    stem = m.op("Relu", m.op("Conv", "x", m.weight(20, 3, 3, 3), m.weight(20), pads=[1, 1, 1, 1], strides=[2, 2]))
    deep = m.op("Conv", stem, m.weight(20, 1, 5, 5), m.weight(20), pads=[2, 2, 2, 2], group=20)
    wide = m.op("Clip", m.op("Conv", deep, m.weight(37, 20, 1, 1)), m.constant(np.float32(0)), m.constant(np.float32(6)))
    back = m.op("Conv", wide, m.weight(20, 37, 3, 3), m.weight(20), pads=[1, 1, 1, 1])
    pooled = m.op("MaxPool", m.op("Relu", m.op("Add", stem, back)), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    flat = m.op("Flatten", m.op("GlobalAveragePool", pooled))
    return m.proto(m.op("Gemm", flat, m.weight(20, 11), m.weight(11)), pooled)


def upsampling() -> onnx.ModelProto:
    """A transposed convolution, a skip that is joined, a resize."""
    m = Model(x=(1, 8, 8, 12))
    down = m.op("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2])
    low = m.op("Relu", m.op("Conv", down, m.weight(16, 8, 3, 3), pads=[1, 1, 1, 1]))
    up = m.op("ConvTranspose", low, m.weight(16, 8, 2, 2), m.weight(8), strides=[2, 2])
    joined = m.op("Conv", m.op("Concat", "x", up, axis=1), m.weight(5, 16, 3, 3), pads=[1, 1, 1, 1])
    scales = m.constant(np.array([1, 1, 2, 2], np.float32))
    return m.proto(m.op("Resize", joined, "", scales, mode="linear"), m.op("Sigmoid", joined))


def attention() -> onnx.ModelProto:
    """An embedding, a norm, heads that are split and joined by transposes, softmax, and a feed-forward part."""
    m = Model(ids=(1, 13))
    x = m.op("Gather", m.weight(50, 24), "ids")
    normal = m.op("LayerNormalization", x, m.weight(24), m.weight(24), axis=-1)
    split = m.constant(np.array([1, 13, 3, 8], np.int64))
    heads = [m.op("Reshape", m.op("MatMul", normal, m.weight(24, 24)), split) for _ in range(3)]
    query, value = (m.op("Transpose", each, perm=[0, 2, 1, 3]) for each in (heads[0], heads[2]))
    key = m.op("Transpose", heads[1], perm=[0, 2, 3, 1])
    scores = m.op("Softmax", m.op("Mul", m.op("MatMul", query, key), m.constant(np.float32(0.35))), axis=-1)
    mixed = m.op("Transpose", m.op("MatMul", scores, value), perm=[0, 2, 1, 3])
    back = m.op("MatMul", m.op("Reshape", mixed, m.constant(np.array([1, 13, 24], np.int64))), m.weight(24, 24))
    x = m.op("Add", x, back)
    wide = m.op("Gelu", m.op("Add", m.op("MatMul", x, m.weight(24, 70)), m.weight(70)))
    x = m.op("Add", x, m.op("MatMul", wide, m.weight(70, 24)))
    return m.proto(x, m.op("ReduceMean", x, m.constant(np.array([1], np.int64))))


def movement() -> onnx.ModelProto:
    """Slices, pads, splits, an output that is an input's view and one that is returned twice."""
    m = Model(x=(2, 6, 10), y=(1, 6, 1))
    total = m.op("Mul", m.op("Add", "x", "y"), m.constant(np.float32(3)))
    padded = m.op("Pad", total, m.constant(np.array([0, 1, 0, 0, 0, 2], np.int64)))
    cut = m.op("Slice", padded, *(m.constant(np.array([each], np.int64)) for each in (1, 9, 2, 2)))
    turned = m.op("Transpose", m.op("Exp", cut), perm=[2, 0, 1])
    return m.proto(turned, m.op("Reshape", "x", m.constant(np.array([12, 10], np.int64))), m.op("ReduceMax", turned))


def lowered(graph: Graph) -> tuple[NativeExecutor, dict[str, Any]]:
    """A graph on the engine, and inputs for it."""
    inputs, outputs = input_entries(graph), output_entries(graph)
    files = find_engine("tvm").lower(graph, find_target("cpu"), 2).to_runtime()
    plan = NativePlan.from_bytes(files.read(NATIVE_PLAN_FILE))
    live = {number: Span(each.first, each.last, each.size) for number, each in enumerate(plan.buffers)}
    assert plan.arena <= max(1.05 * largest_live_set(live), largest_live_set(live) + ALIGNMENT * len(live))
    return NativeExecutor(files, NativeOptions(2), inputs, outputs), random_inputs(inputs, {}, 0)


def optimized(model: Any) -> Graph:
    source = load_onnx(model)
    return unfused(PassManager(LEVELS["O2"]).run(import_model(source), lambda: import_model(source)))


def check(graph: Graph) -> None:
    executor, feeds = lowered(graph)
    first: list[Any] = executor.run(feeds)
    for _ in range(2):
        executor.poison()
        for one, other in zip(first, executor.run(feeds), strict=True):
            assert one.tobytes() == np.asarray(other).tobytes()
    assert all(np.isfinite(each).all() for each in first if each.dtype.kind == "f")
    executor.close()


@needs_tvm
@pytest.mark.parametrize("make", [convolutions, upsampling, attention, movement], ids=lambda each: each.__name__)
def test_small_networks(make: Callable[[], onnx.ModelProto]) -> None:
    check(optimized(make()))


@needs_tvm
@pytest.mark.usefixtures("in_this_process")
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 30))
def test_random_graphs(seed: int) -> None:
    check(optimized(RandomModel(seed).message))


@needs_tvm
@pytest.mark.slow
@pytest.mark.skipif(not ZOO, reason="IRC_ZOO names no folder with .onnx files")
@pytest.mark.parametrize("path", ZOO, ids=lambda path: path.stem)
def test_the_zoo(path: Path) -> None:
    graph = optimized(path)
    if any(not find_engine("tvm").takes(op, find_target("cpu")) for op in graph.walk() if not op.is_constant):
        pytest.skip("not all of it runs on the engine")
    check(graph)

"""ONNX models built for these tests, and the question asked of most of them: does capture keep meaning and signature?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from irc.ir import Graph, capture, emit, verify

ort.set_default_logger_severity(4)

F32, F64, F16, I64, I32, BOOL = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.INT64,
    TensorProto.INT32,
    TensorProto.BOOL,
)
node = helper.make_node
info = helper.make_tensor_value_info


def const(name: str, value: object) -> TensorProto:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(value), name)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Random f32 numbers, the same each time."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[ValueInfoProto | str],
    initializers: Iterable[TensorProto] = (),
    *,
    opset: int | None = 17,
    ir_version: int = 8,
    domains: Mapping[str, int] | None = None,
    **extra: Any,
) -> ModelProto:
    """A model; an output given by its name alone has no declared type."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        list(inputs),
        [helper.make_empty_tensor_value_info(o) if isinstance(o, str) else o for o in outputs],
        list(initializers),
        value_info=extra.pop("value_info", None),
        sparse_initializer=extra.pop("sparse_initializer", None),
    )
    imports = [helper.make_opsetid(d, v) for d, v in {**({"": opset} if opset else {}), **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **extra)


def body(
    name: str,
    nodes: Iterable[NodeProto],
    inputs: Iterable[ValueInfoProto],
    outputs: Iterable[ValueInfoProto],
    initializers: Iterable[TensorProto] = (),
) -> GraphProto:
    """A graph for an attribute."""
    return helper.make_graph(list(nodes), name, list(inputs), list(outputs), list(initializers))


def run(message: ModelProto | str, feeds: Mapping[str, Any]) -> list[Any]:
    """What ONNX Runtime with all optimizations off answers."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    source = message if isinstance(message, str) else message.SerializeToString()
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(feeds))


def same(got: Any, wanted: Any) -> None:
    """Fail unless both are the same to the bit, whatever they are made of."""
    assert type(got) is type(wanted)
    if isinstance(wanted, list):
        assert len(got) == len(wanted)
        for a, b in zip(got, wanted, strict=True):
            same(a, b)
    elif isinstance(wanted, np.ndarray):
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(got, wanted)
    else:
        assert got == wanted


def signature(message: ModelProto) -> tuple[list[tuple[str, object]], list[tuple[str, object]]]:
    """Names, types and symbolic dims of inputs and outputs, with which inputs have defaults; in order."""
    graph = message.graph
    initialized = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    overridable = initialized if message.ir_version >= 4 else set()
    fixed = initialized - overridable
    inputs = [(v.name, (_shape(v), v.name in overridable)) for v in graph.input if v.name not in fixed]
    return inputs, [(v.name, _shape(v)) for v in graph.output]


def _shape(value: ValueInfoProto) -> object:
    return value.type.SerializeToString(deterministic=True)


def check_capture(
    message: ModelProto, feeds: Mapping[str, Any], *, tolerance: float | None = None, opset: int | None = None
) -> Graph:
    """Capture a model, write it again, and demand the same signature and the same answers; the graph is handed back."""
    wanted = run(message, feeds)
    graph = capture(message.SerializeToString())
    verify(graph)
    again = emit(graph, opset=opset).complete()
    if is_valid(message):
        onnx.checker.check_model(again)
    check_signature(message, again)
    got = run(again, feeds)
    if tolerance is None:
        same(got, wanted)
    else:
        for a, b in zip(got, wanted, strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
    return graph


def is_valid(message: ModelProto) -> bool:
    """Whether ONNX's checker takes a model; it wants a rank of every output, which many models do not have."""
    try:
        onnx.checker.check_model(message)
    except onnx.checker.ValidationError:
        return False
    return True


def check_signature(message: ModelProto, again: ModelProto) -> None:
    """Fail unless both have one signature; what the model left undeclared may have become known."""
    inputs, outputs = signature(message)
    new_inputs, new_outputs = signature(again)
    assert new_inputs == inputs
    assert [name for name, _ in new_outputs] == [name for name, _ in outputs]
    for (_, new), (name, old) in zip(new_outputs, outputs, strict=True):
        assert old in (new, b""), f"the type of output {name} has changed"


def ops(graph: Graph) -> list[str]:
    """The names of the ops of a graph that are no constants, bodies included."""
    return [op.qualified_name for op in graph.walk() if not op.is_constant]


def if_model(then: Sequence[NodeProto], otherwise: Sequence[NodeProto], **extra: Any) -> ModelProto:
    """x: f32[4], k: bool -> y: f32[4], one branch per list of nodes making `t` and `e`."""
    branches = [body(n, nodes, [], [info(n, F32, [4])]) for n, nodes in (("t", then), ("e", otherwise))]
    choice = node("If", ["k"], ["y"], then_branch=branches[0], else_branch=branches[1])
    return model([choice], [info("x", F32, [4]), info("k", BOOL, [])], [info("y", F32, [4])], **extra)

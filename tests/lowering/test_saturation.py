"""Sums of u8 by i8 on processors without VNNI, whose fast instruction saturates: programs answer as the graph means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import NodeProto

from irc.ir import Graph, Op, capture, evaluate
from irc.lowering import CompileOptions, Verify, compile_model, find_target
from irc.lowering.openvino.saturating import why_saturates, without_saturation

from .forms import like, lowered, names, node, written
from .tvm.running import needs_tvm

OLDER, NEWER = "cpu:x86-64-v3", "cpu:avx512vnni"
CONSTANTS = {
    "s": np.array(0.02, np.float32),
    "z": np.array(0, np.uint8),
    "w": np.array([[127, 127, -128, 5]] * 4, np.int8),
    "t": np.array(0.01, np.float32),
}
PAIR = [
    node("QuantizeLinear", ["x", "s", "z"], ["q"]),
    node("DequantizeLinear", ["q", "s", "z"], ["d"]),
    node("DequantizeLinear", ["w", "t"], ["v"]),
]
ROUNDED = [
    node("QuantizeLinear", ["p", "t2", "z"], ["r"]),
    node("DequantizeLinear", ["r", "t2", "z"], ["y"]),
]
LARGE = {"x": np.full((1, 4), 9.0, np.float32)}
"""All quantized to 255."""


def network(*nodes: NodeProto, **changed: np.ndarray) -> Any:
    return written([*PAIR, *nodes], like(LARGE), ["y"], **{**CONSTANTS, "t2": np.array(0.2, np.float32), **changed})


def on_bytes() -> Any:
    product = node("QLinearMatMul", ["q", "s", "z", "w", "t", "wz", "t2", "z"], ["p"])
    nodes = [PAIR[0], product, node("DequantizeLinear", ["p", "t2", "z"], ["y"])]
    return written(nodes, like(LARGE), ["y"], **CONSTANTS, wz=np.array(0, np.int8), t2=np.array(0.2, np.float32))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", pytest.param("tvm", marks=needs_tvm)])
@pytest.mark.parametrize("which", ["f32", "rounded", "on bytes"])
def test_a_program_for_a_processor_without_vnni_is_exact(engine: str, which: str) -> None:
    if engine == "openvino":
        pytest.importorskip("openvino", reason="needs the extra openvino")
    product = node("MatMul", ["d", "v"], ["y" if which == "f32" else "p"])
    message = on_bytes() if which == "on bytes" else network(product, *([] if which == "f32" else ROUNDED))
    (wanted,) = evaluate(capture(message.SerializeToString()), LARGE)
    options = CompileOptions(engine=engine, target=OLDER, verify=Verify.NOTHING)
    found = compile_model(message.SerializeToString(), options).program.run(LARGE)["y"]
    exact = np.array([[255 * 4 * 127, 255 * 4 * 127, -255 * 4 * 128, 255 * 4 * 5]]) * 0.02 * 0.01
    if which != "f32":
        exact = np.clip(exact, 0, 255 * 0.2)
    np.testing.assert_allclose(wanted, exact, atol=0.11)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 if which == "f32" else 0.21)


def test_only_processors_without_vnni_saturate() -> None:
    said = {
        name: find_target(name).saturates_bytes for name in (OLDER, "cpu:x86-64-v4", NEWER, "cpu:alderlake", "arm64", "cuda")
    }
    assert [name for name, saturates in said.items() if saturates] == [OLDER, "cpu:x86-64-v4"]


def test_onnxruntime_gets_weights_in_u8() -> None:
    graph, context = lowered(network(node("MatMul", ["d", "v"], ["y"])))
    assert context.total == 1
    stored = next(op for op in graph if op.is_a("DequantizeLinear") and op.constant_operand(0) is not None)
    integers, zeros = stored.constant_operand(0), stored.constant_operand(2)
    assert integers is not None
    assert zeros is not None
    assert (integers.dtype.text, integers.array[0].tolist()) == ("u8", [255, 255, 0, 133])
    assert (zeros.shape, zeros.array.tolist()) == ((), 128)


def test_openvino_multiplies_in_f32_what_could_saturate() -> None:
    graph = capture(network(node("MatMul", ["d", "v"], ["y"])).SerializeToString())
    older = without_saturation(graph, find_target(OLDER))
    assert names(older) == ["QuantizeLinear", "DequantizeLinear", "MatMul"]
    assert without_saturation(graph, find_target(NEWER)) is graph
    feeds = {"x": np.array([[0.1, 3.0, 5.1, 0.7]], np.float32)}
    np.testing.assert_array_equal(evaluate(older, feeds)[0], evaluate(graph, feeds)[0])


def test_data_may_be_quantized_before_a_pool() -> None:
    """OpenVINO dequantizes behind the pool, and so multiplies integers."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    nodes = [node("Relu", ["d"], ["a"]), node("MaxPool", ["a"], ["m"], kernel_shape=[1, 1]), node("Conv", ["m", "v"], ["p"])]
    weights = {**CONSTANTS, "w": np.full((4, 4, 1, 1), 127, np.int8), "t2": np.array(0.2, np.float32)}
    feeds = {"x": np.full((1, 4, 3, 3), 9.0, np.float32)}
    message = written([*PAIR, *nodes, *ROUNDED], like(feeds), ["y"], **weights)
    options = CompileOptions(engine="openvino", target=OLDER, verify=Verify.NOTHING)
    found = compile_model(message.SerializeToString(), options).program.run(feeds)["y"]
    np.testing.assert_allclose(found, np.clip(np.full_like(found, 255 * 4 * 127 * 0.02 * 0.01), 0, 255 * 0.2), atol=0.11)


def test_weights_alone_in_integers_stay_so() -> None:
    graph = capture(written([PAIR[2], node("MatMul", ["x", "v"], ["y"])], like(LARGE), ["y"], **CONSTANTS).SerializeToString())
    assert without_saturation(graph, find_target(OLDER)) is graph


def test_openvino_multiplies_small_weights_in_integers() -> None:
    graph = capture(network(node("MatMul", ["d", "v"], ["y"]), w=np.full((4, 4), 64, np.int8)).SerializeToString())
    assert without_saturation(graph, find_target(OLDER)) is graph


def test_openvino_is_not_given_two_computed_factors_of_other_signs() -> None:
    more = {"sy": np.array(0.1, np.float32), "zy": np.array(0, np.int8)}
    nodes = [
        node("QuantizeLinear", ["u", "sy", "zy"], ["uq"]),
        node("DequantizeLinear", ["uq", "sy", "zy"], ["v2"]),
        node("MatMul", ["d", "v2"], ["y"]),
    ]
    feeds = {**LARGE, "u": np.ones((4, 2), np.float32)}
    graph = capture(written([*PAIR, *nodes], like(feeds), ["y"], **CONSTANTS, **more).SerializeToString())
    assert why_saturates(matmul_of(graph), find_target(OLDER)) == "without VNNI its sums of bytes saturate"
    assert not why_saturates(matmul_of(graph), find_target(NEWER))


def matmul_of(graph: Graph) -> Op:
    """The only product of a graph."""
    return next(op for op in graph if op.is_a("MatMul"))

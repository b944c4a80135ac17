"""Ops on bytes: they are products of bytes between pairs, and answer as the reference does but for the last rounding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper

from irc.ir import capture, evaluate
from irc.lowering import find_target
from irc.lowering.tvm.legality import why_not
from irc.lowering.tvm.opening import opened
from irc.lowering.tvm.program import calls_of, machine_of

from ..models import node
from .programs import Feeds, compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

WIDE = machine_of(find_target("cpu:sapphirerapids"))


def some(dtype: Any, *shape: int, seed: int = 0) -> np.ndarray:
    """Bytes, all there are."""
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(least, most + 1, shape).astype(dtype)


def scales(first: float, *more: float) -> np.ndarray:
    """A scale, or several."""
    return np.array([first, *more] if more else first, np.float32)


def assert_a_step_apart(message: ModelProto, feeds: Feeds) -> None:
    """The engine answers as the reference does; where a number lies between two steps, it may take the other."""
    wanted = evaluate(capture(message.SerializeToString()), dict(feeds))
    for given, own in zip(wanted, compiled(message).program.run(dict(feeds)).values(), strict=True):
        assert own.dtype == given.dtype
        apart = np.abs(own.astype(np.float64) - given)
        if given.dtype.kind == "f":
            np.testing.assert_allclose(own, given, rtol=1e-5, atol=1e-5)
        else:
            assert apart.max() <= 1
            assert (apart > 0).mean() < 0.01


def multiplies_bytes(message: ModelProto) -> bool:
    """Whether the kernels of a model multiply bytes, where the processor does."""
    graph = opened(capture(message.SerializeToString()))
    return any("vpdpbusd" in call.kernel.source for call in calls_of(graph, WIDE))


@pytest.mark.parametrize("data", [np.uint8, np.int8])
@pytest.mark.parametrize("several", [False, True])
def test_a_convolution_of_bytes(data: Any, several: bool) -> None:
    weights = {
        "xs": scales(0.02),
        "xz": np.array(np.iinfo(data).max - 100, data),
        "w": some(np.int8, 6, 8, 3, 3, seed=1),
        "ws": scales(*np.linspace(0.001, 0.004, 6)) if several else scales(0.003),
        "wz": np.zeros(6 if several else (), np.int8),
        "ys": scales(0.5),
        "yz": np.array(7, data),
        "b": np.arange(-300, 300, 100).astype(np.int32),
    }
    nodes = [node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], pads=[1, 1, 1, 1])]
    feeds = {"x": some(data, 1, 8, 7, 7)}
    assert_a_step_apart(of(nodes, feeds, ["y"], weights), feeds)


@pytest.mark.parametrize("weight", [np.uint8, np.int8])
def test_a_product_of_bytes(weight: Any) -> None:
    weights = {
        "xs": scales(0.02),
        "xz": np.array(100, np.uint8),
        "w": some(weight, 16, 5, seed=1),
        "ws": scales(0.01),
        "wz": np.array(0 if weight is np.int8 else 128, weight),
        "ys": scales(0.3),
        "yz": np.array(128, np.uint8),
    }
    nodes = [node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])]
    feeds = {"x": some(np.uint8, 2, 4, 16)}
    message = of(nodes, feeds, ["y"], weights)
    assert_a_step_apart(message, feeds)
    assert multiplies_bytes(message) == (weight is np.int8)


def pairs(dtype: Any, between: Sequence[NodeProto] = ()) -> tuple[ModelProto, Feeds]:
    """A product of what is quantized to a dtype and dequantized."""
    weights = {
        "s": scales(0.05),
        "z": np.array(-3 if dtype is np.int8 else 125, dtype),
        "ws": scales(0.01),
        "w": some(np.int8, 8, 5, seed=1),
    }
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        *between,
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "ws"], ["v"]),
        node("MatMul", ["d", "v"], ["y"]),
    ]
    feeds = {"x": np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32) * 4}
    return of(nodes, feeds, ["y"], weights), feeds


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_signed_bytes_are_multiplied_as_unsigned_ones_are(dtype: Any) -> None:
    message, feeds = pairs(dtype)
    assert_a_step_apart(message, feeds)
    assert multiplies_bytes(message)


def test_signed_bytes_that_are_returned_stay_as_they_are() -> None:
    message, feeds = pairs(np.int8)
    del message.graph.output[:]
    outputs = of([node("Identity", ["q"], ["q2"])], {"q": np.zeros((4, 8), np.int8)}, ["q2"]).graph.output
    outputs[0].name = "q"
    message.graph.output.extend(outputs)
    assert opened(capture(message.SerializeToString())) is not None
    assert_a_step_apart(message, feeds)


UNARY = ("x", "xs", "xz", "ys", "yz")
BINARY = ("x", "xs", "xz", "v", "vs", "vz", "ys", "yz")
OWN_OPS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("QLinearAdd", BINARY, {}),
    ("QLinearMul", BINARY, {}),
    ("QLinearAveragePool", UNARY, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("QLinearGlobalAveragePool", UNARY, {}),
    ("QLinearLeakyRelu", UNARY, {"alpha": 0.2}),
    ("QLinearSigmoid", UNARY, {}),
    ("QLinearSoftmax", UNARY, {"axis": 1, "opset": 13}),
    ("QLinearConcat", ("ys", "yz", "x", "xs", "xz", "v", "vs", "vz"), {"axis": 1}),
]


def of_onnxruntime(name: str, operands: Sequence[str], attributes: Mapping[str, Any], data: Any) -> tuple[ModelProto, Feeds]:
    """One of ONNX Runtime's own ops on bytes: x and v [1, 6, 4, 4], by other scales."""
    weights = {
        "xs": scales(0.02),
        "xz": np.array(np.iinfo(data).max - 100, data),
        "vs": scales(0.03),
        "vz": np.array(np.iinfo(data).max - 120, data),
        "ys": scales(1 / 256 if name in ("QLinearSigmoid", "QLinearSoftmax") else 0.05),
        "yz": np.array(np.iinfo(data).min if name == "QLinearSoftmax" else np.iinfo(data).max - 127, data),
    }
    feeds = {"x": some(data, 1, 6, 4, 4), "v": some(data, 1, 6, 4, 4, seed=1)}
    taken = {key: array for key, array in feeds.items() if key in operands}
    known = {key: array for key, array in weights.items() if key in operands}
    message = of([node(name, list(operands), ["y"], domain="com.microsoft", **attributes)], taken, ["y"], known)
    message.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return message, taken


@pytest.mark.parametrize(("name", "operands", "attributes"), OWN_OPS, ids=[name for name, *_ in OWN_OPS])
@pytest.mark.parametrize("data", [np.uint8, np.int8])
def test_onnxruntimes_own_ops_on_bytes(name: str, operands: Sequence[str], attributes: Mapping[str, Any], data: Any) -> None:
    message, feeds = of_onnxruntime(name, operands, attributes, data)
    (op,) = (op for op in capture(message.SerializeToString()) if not op.is_constant)
    assert why_not(op) == ""
    assert_a_step_apart(message, feeds)


def test_those_whose_channels_lie_last_are_left_to_others() -> None:
    pooled = {"kernel_shape": [2, 2], "strides": [2, 2], "channels_last": 1}
    message, _ = of_onnxruntime("QLinearAveragePool", UNARY, pooled, np.uint8)
    (op,) = (op for op in capture(message.SerializeToString()) if not op.is_constant)
    assert why_not(op) != ""


@pytest.mark.parametrize("rounded", [False, True])
def test_a_quantized_gemm(rounded: bool) -> None:
    weights = {
        "xs": scales(0.02),
        "xz": np.array(100, np.uint8),
        "w": some(np.int8, 5, 16, seed=1),
        "ws": scales(0.01),
        "wz": np.array(0, np.int8),
        "c": np.arange(-2000, 3000, 1000).astype(np.int32),
        **({"ys": scales(0.3), "yz": np.array(128, np.uint8)} if rounded else {}),
    }
    feeds = {"x": some(np.uint8, 4, 16)}
    message = of([node("QGemm", ["x", *weights], ["y"], domain="com.microsoft", transB=1)], feeds, ["y"], weights)
    message.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert_a_step_apart(message, feeds)


def test_what_has_computed_scales_is_left_to_others() -> None:
    feeds = {
        "x": some(np.uint8, 4, 8),
        "xs": scales(0.02),
        "xz": np.array(3, np.uint8),
        "w": some(np.int8, 8, 5),
        "ws": scales(0.01),
        "wz": np.array(0, np.int8),
        "ys": scales(0.3),
        "yz": np.array(128, np.uint8),
    }
    message = of([node("QLinearMatMul", list(feeds), ["y"])], feeds, ["y"])
    (op,) = (op for op in capture(message.SerializeToString()) if not op.is_constant)
    assert why_not(op) == "a scale or a zero point is computed"

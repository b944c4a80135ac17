"""Products with integer weights in ONNX Runtime's form: MatMulNBits."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import Graph, capture, evaluate
from irc.lowering import distance
from irc.lowering.onnxruntime.forms import legalize
from irc.passes import Context, Contract

from .forms import F32, assert_same, like, lowered, names, node, numbers, optimized, written

N_BITS = "com.microsoft::MatMulNBits"
TYPES = {"u4": ml_dtypes.uint4, "i4": ml_dtypes.int4, "u8": np.uint8, "i8": np.int8}
LIMITS = {"u4": (0, 16), "i4": (-8, 8), "u8": (0, 256), "i8": (-128, 128)}


def integers(shape: tuple[int, ...], kind: str, seed: int = 0) -> np.ndarray:
    """Random integers of a type."""
    return np.random.default_rng(seed).integers(*LIMITS[kind], size=shape).astype(TYPES[kind])


def product(
    kind: str, rows: int, columns: int, block: int, *, zeros: bool, half: bool = False, gemm: int | None = None
) -> tuple[ModelProto, dict[str, np.ndarray]]:
    """x times weights in blocks along the rows; a Gemm with a bias where `gemm` says what its transB is."""
    blocks = -(-rows // block)
    turned = gemm == 1
    scales = (np.abs(numbers(blocks, columns, seed=2)) + 0.1).astype(np.float16 if half else np.float32)
    constants: dict[str, Any] = {"q": integers((rows, columns), kind), "s": scales}
    if zeros:
        constants["z"] = integers((blocks, columns), kind, 1)
    constants = {name: np.ascontiguousarray(value.T) if turned else value for name, value in constants.items()}
    read = [node("Cast", ["s"], ["wide"], name="c", to=F32)] if half else []
    operands = ["q", "wide" if half else "s", *(["z"] if zeros else [])]
    read.append(node("DequantizeLinear", operands, ["w"], name="d", axis=int(turned), block_size=block))
    if gemm is None:
        read.append(node("MatMul", ["x", "w"], ["y"], name="m"))
    else:
        read.append(node("Gemm", ["x", "w", "b"], ["y"], name="m", transB=gemm))
        constants["b"] = numbers(columns, seed=4)
    feeds = {"x": numbers(*((3, rows) if gemm is not None else (2, 3, rows)), seed=3)}
    return written(read, like(feeds), ["y"], **constants), feeds


def exactly_lowered(message: ModelProto) -> Graph:
    """The forms without anything lossy."""
    graph = capture(message.SerializeToString())
    legalize(graph, Context(strictest=Contract.REASSOCIATING))
    return graph


def levels(graph: Graph) -> list[int]:
    """The accuracy levels of the products with integers."""
    return [op.integer("accuracy_level", 0) for op in graph if op.qualified_name == N_BITS]


def assert_exact(message: ModelProto, feeds: dict[str, np.ndarray]) -> Graph:
    """Check that the products come out as they were."""
    graph, wanted = exactly_lowered(message), evaluate(capture(message.SerializeToString()), feeds)
    for answers in (evaluate(graph, feeds), optimized(graph, feeds)):
        assert distance(wanted[0], answers[0]) <= 2e-6
    return graph


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("kind", ["u4", "i4"])
@pytest.mark.parametrize(("rows", "columns", "block"), [(64, 5, 32), (96, 1, 32), (40, 3, 16), (300, 2, 128)])
def test_a_product_with_blocks_reads_the_integers(
    kind: str, zeros: bool, half: bool, rows: int, columns: int, block: int
) -> None:
    graph = assert_exact(*product(kind, rows, columns, block, zeros=zeros, half=half))
    assert names(graph) == [*(["Cast"] if half else []), N_BITS]


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("kind", ["u8", "i8"])
@pytest.mark.parametrize(("rows", "columns", "block"), [(64, 5, 32), (40, 3, 16), (300, 2, 128)])
def test_bytes_are_read_as_they_are_where_losses_are_allowed(
    kind: str, zeros: bool, rows: int, columns: int, block: int
) -> None:
    message, feeds = product(kind, rows, columns, block, zeros=zeros)
    graph, _ = assert_same(message, feeds, bound=2e-2)
    assert levels(graph) == [4]
    assert N_BITS not in names(exactly_lowered(message))


@pytest.mark.parametrize("turned", [0, 1])
def test_a_gemm_in_either_order_brings_its_bias(turned: int) -> None:
    graph = assert_exact(*product("u4", 64, 5, 32, zeros=True, gemm=turned))
    assert names(graph) == [N_BITS]


def test_what_is_added_behind_becomes_the_bias() -> None:
    message, feeds = product("i4", 64, 5, 32, zeros=False)
    message.graph.node[-1].output[0] = "p"
    message.graph.node.append(node("Add", ["b", "p"], ["y"], name="a"))
    message.graph.initializer.append(written([], {}, [], b=numbers(5)).graph.initializer[0])
    assert names(assert_exact(message, feeds)) == [N_BITS]


@pytest.mark.parametrize("zeros", [False, True])
def test_one_scale_a_channel_is_said_again_for_every_block(zeros: bool) -> None:
    feeds = {"x": numbers(3, 200)}
    constants: dict[str, Any] = {"q": integers((200, 4), "i8"), "s": np.abs(numbers(4, seed=1)) + 0.1}
    constants |= {"z": integers((4,), "i8", 2)} if zeros else {}
    nodes = [
        node("DequantizeLinear", list(constants), ["w"], name="d", axis=1),
        node("MatMul", ["x", "w"], ["y"], name="m"),
    ]
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], **constants), feeds, bound=2e-2)
    assert levels(graph) == [4]


def test_weights_of_one_scale_and_of_few_rows() -> None:
    feeds = {"x": numbers(3, 5)}
    constants = {"q": integers((5, 4), "u8"), "s": np.float32(0.3), "z": np.uint8(7)}
    nodes = [node("DequantizeLinear", ["q", "s", "z"], ["w"], name="d"), node("MatMul", ["x", "w"], ["y"], name="m")]
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], **constants), feeds, bound=2e-2)
    assert levels(graph) == [4]


def test_where_losses_are_allowed_data_are_rounded_to_8_bits() -> None:
    message, feeds = product("u4", 256, 16, 32, zeros=True)
    graph, context = assert_same(message, feeds, bound=2e-2)
    assert context.counts["blocks-on-integers"] == 1
    assert levels(graph) == [4]


OTHERS: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({"axis": 0, "block_size": 20}, (2, 8)),
    ({"axis": 1, "block_size": 4}, (40, 2)),
    ({"axis": 0}, (40,)),
]


@pytest.mark.parametrize(("attributes", "shape"), OTHERS)
def test_blocks_of_other_sizes_or_along_the_columns_stay(attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    feeds = {"x": numbers(3, 40)}
    constants: dict[str, Any] = {"q": integers((40, 8), "i8"), "s": np.abs(numbers(*shape)) + 0.1}
    nodes = [
        node("DequantizeLinear", ["q", "s"], ["w"], name="d", **attributes),
        node("MatMul", ["x", "w"], ["y"], name="m"),
    ]
    graph, _ = lowered(written(nodes, like(feeds), ["y"], **constants))
    assert N_BITS not in names(graph)


def test_computed_scales_scaled_gemms_and_vectors_stay() -> None:
    feeds = {"x": numbers(3, 32), "s": np.abs(numbers(1, 4)) + 0.1}
    scaled = [
        node("DequantizeLinear", ["q", "s"], ["w"], name="d", axis=0, block_size=32),
        node("MatMul", ["x", "w"], ["y"], name="m"),
    ]
    graph, _ = lowered(written(scaled, like(feeds), ["y"], q=integers((32, 4), "i8")))
    assert N_BITS not in names(graph)
    message, _ = product("u4", 64, 5, 32, zeros=True, gemm=0)
    message.graph.node[-1].attribute.append(node("Gemm", [], [], alpha=0.5).attribute[0])
    assert N_BITS not in names(lowered(message)[0])
    feeds = {"x": numbers(32)}
    flat = [
        node("DequantizeLinear", ["q", "s"], ["w"], name="d", axis=0, block_size=32),
        node("MatMul", ["x", "w"], ["y"], name="m"),
    ]
    constants = {"q": integers((32, 4), "i8"), "s": np.abs(numbers(1, 4)) + 0.1}
    assert N_BITS not in names(lowered(written(flat, like(feeds), ["y"], **constants))[0])

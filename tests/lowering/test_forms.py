"""Normalizations and activations in ONNX Runtime's fastest form, on ordinary and special values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import Graph, capture, emit, evaluate
from irc.lowering import distance, find_target
from irc.lowering.onnxruntime import OnnxRuntime
from irc.lowering.onnxruntime.engine import SLOWER
from irc.lowering.onnxruntime.forms import RULES, legalize
from irc.passes import LEVELS, PassManager

from .forms import assert_same, like, lowered, names, node, numbers, optimized, written

SPECIAL = np.array([np.nan, np.inf, 0.0, -0.0, 1e-40, -1e-40, 88.0, -88.0, 120.0, -120.0, 3e38, -3e38, 20.0, 21.0], np.float32)


def one(op: str, feeds: dict[str, np.ndarray], shapes: dict[str, Any] | None = None, **attributes: Any) -> ModelProto:
    """One op of all that is fed."""
    return written([node(op, list(feeds), ["y"], name="it", **attributes)], like(feeds, **(shapes or {})), ["y"])


# Activations


@pytest.mark.parametrize("alpha", [None, 1.0, 1.702, -0.5])
def test_swish_is_quick_gelu(alpha: float | None) -> None:
    feeds = {"x": np.concatenate([numbers(200) * 5, SPECIAL])}
    attributes = {} if alpha is None else {"alpha": alpha}
    graph, _ = assert_same(one("Swish", feeds, **attributes), feeds)
    assert names(graph) == ["com.microsoft::QuickGelu"]


def test_mish_by_one_exp() -> None:
    feeds = {"x": np.concatenate([numbers(200) * 5, np.linspace(-90, 90, 500, dtype=np.float32), SPECIAL])}
    graph, _ = assert_same(one("Mish", feeds), feeds)
    assert names(graph) == ["Min", "Exp", "Add", "Mul", "Add", "Div", "Mul"]


@pytest.mark.parametrize("op", ["Swish", "Mish"])
@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_activations_of_other_precisions_stay(op: str, dtype: Any) -> None:
    feeds = {"x": numbers(50, dtype=dtype)}
    graph, context = lowered(one(op, feeds))
    assert names(graph) == [op]
    assert not context.total
    if op == "Swish":
        assert_same(one(op, feeds), feeds, 1e-3)


@pytest.mark.parametrize("shape", [None, ("N", "C"), (3, None)])
def test_activations_of_unknown_shapes(shape: Any) -> None:
    feeds = {"x": numbers(3, 4)}
    assert_same(one("Swish", feeds, {"x": shape}), feeds)
    assert_same(one("Mish", feeds, {"x": shape}), feeds)


def test_what_has_the_fastest_kernel_stays() -> None:
    for op, feeds in (
        ("Gelu", {"x": numbers(4, 8)}),
        ("HardSwish", {"x": numbers(4, 8)}),
        ("LayerNormalization", {"x": numbers(4, 8), "scale": numbers(8), "bias": numbers(8)}),
        ("RMSNormalization", {"x": numbers(4, 8), "scale": numbers(8)}),
        ("InstanceNormalization", {"x": numbers(2, 3, 8), "scale": numbers(3), "bias": numbers(3)}),
    ):
        graph, context = lowered(one(op, feeds))
        assert names(graph) == [op]
        assert not context.total


# GroupNormalization


@pytest.mark.parametrize(
    ("shape", "groups", "declared"),
    [
        ((2, 6, 5), 3, None),
        ((2, 6, 5, 4), 2, None),
        ((1, 8, 3, 2, 2), 8, None),
        ((2, 6, 5, 4), 1, ("N", 6, 5, 4)),
        ((2, 6, 5, 4), 3, ("N", 6, "H", "W")),
    ],
)
def test_group_norm_by_instances(shape: tuple[int, ...], groups: int, declared: Any) -> None:
    feeds = {"x": numbers(*shape) * 3 + 10, "scale": numbers(shape[1], seed=1), "bias": numbers(shape[1], seed=2)}
    shapes = {} if declared is None else {"x": declared}
    graph, _ = assert_same(one("GroupNormalization", feeds, shapes, num_groups=groups, epsilon=1e-3), feeds, 5e-6)
    kept = [name for name in names(graph) if name != "Shape"]
    assert kept == ["Reshape", "InstanceNormalization", "Reshape", "BatchNormalization"]


@pytest.mark.parametrize(("dtype", "declared"), [(np.float16, (2, 6, 5)), (np.float64, (2, 6, 5)), (np.float32, None)])
def test_group_norm_stays_where_it_cannot_be_said_otherwise(dtype: Any, declared: Any) -> None:
    feeds = {"x": numbers(2, 6, 5, dtype=dtype), "scale": numbers(6, dtype=dtype), "bias": numbers(6, dtype=dtype)}
    graph, context = lowered(one("GroupNormalization", feeds, {"x": declared}, num_groups=3))
    assert names(graph) == ["GroupNormalization"]
    assert not context.total


# Matrix products


@pytest.mark.parametrize("bias", [(5,), (1, 5)])
@pytest.mark.parametrize("rows", [3, "N", None])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_product_of_matrices_and_a_row_is_a_gemm(bias: tuple[int, ...], rows: Any, swapped: bool) -> None:
    feeds = {"a": numbers(3, 4)}
    nodes = [
        node("MatMul", ["a", "b"], ["m"], name="product"),
        node("Add", ["c", "m"] if swapped else ["m", "c"], ["y"], name="sum"),
    ]
    message = written(nodes, like(feeds, a=(rows, 4)), ["y"], b=numbers(4, 5, seed=1), c=numbers(*bias, seed=2))
    graph, _ = assert_same(message, feeds)
    assert names(graph) == ["Gemm"]


@pytest.mark.parametrize(
    ("a", "c", "dtype"),
    [
        ((2, 3, 4), (5,), np.float32),  # a stack
        ((3, 4), (3, 5), np.float32),  # another matrix, such as a residual
        ((3, 4), (1,), np.float32),
        ((3, 4), (3, 1), np.float32),
        ((3, 4), (2, 3, 5), np.float32),  # the sum has a higher rank
        ((3, 4), (5,), np.float16),
    ],
)
def test_other_sums_stay(a: tuple[int, ...], c: tuple[int, ...], dtype: Any) -> None:
    feeds = {"a": numbers(*a, dtype=dtype), "c": numbers(*c, seed=2, dtype=dtype)}
    nodes = [node("MatMul", ["a", "b"], ["m"], name="product"), node("Add", ["m", "c"], ["y"], name="sum")]
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], b=numbers(4, 5, seed=1, dtype=dtype)), feeds, 2e-3)
    assert names(graph) == ["MatMul", "Add"]


def test_a_product_that_others_use_stays() -> None:
    feeds = {"a": numbers(3, 4)}
    nodes = [node("MatMul", ["a", "b"], ["m"], name="product"), node("Add", ["m", "c"], ["y"], name="sum")]
    graph, _ = assert_same(written(nodes, like(feeds), ["y", "m"], b=numbers(4, 5), c=numbers(5)), feeds)
    assert names(graph) == ["MatMul", "Add"]


# Layout


def between(reshape: list[int], back: list[int], perm: list[int] | None = None, *, use: str = "Conv") -> ModelProto:
    """Tokens to an image, something between, and back."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=perm or [0, 2, 1], name="t"),
        node("Reshape", ["t", "image"], ["i"], name="i"),
        node(use, ["i", "w"] if use == "Conv" else ["i"], ["c"], name="c"),
        node("Reshape", ["c", "flat"], ["f"], name="f"),
        node("Transpose", ["f"], ["y"], perm=[0, 2, 1], name="y"),
    ]
    inputs = like({"x": numbers(2, 12, 5)})
    constants = {"image": np.array(reshape), "flat": np.array(back)} | ({"w": numbers(5, 5, 1, 1)} if use == "Conv" else {})
    return written(nodes, inputs, ["y"], **constants)


def test_transposes_stand_next_to_the_convolution() -> None:
    feeds = {"x": numbers(2, 12, 5)}
    graph, _ = assert_same(between([2, 5, 3, 4], [2, 5, 12]), feeds)
    assert names(graph) == ["Reshape", "Transpose", "Conv", "Transpose", "Reshape"]


def test_the_number_of_samples_need_not_be_known() -> None:
    feeds = {"x": numbers(2, 12, 5)}
    message = between([-1, 5, 3, 4], [0, 5, -1])
    message.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    graph, _ = assert_same(message, feeds)
    assert names(graph) == ["Reshape", "Transpose", "Conv", "Transpose", "Reshape"]


def test_other_reshapes_stay() -> None:
    """Rows that are not whole, and an image nobody convolves."""
    feeds = {"x": numbers(2, 12, 5)}
    graph, _ = assert_same(between([1, 10, 3, 4], [2, 5, 12], use="Relu"), feeds)
    assert names(graph) == ["Transpose", "Reshape", "Relu", "Reshape", "Transpose"]
    graph, _ = assert_same(between([2, 5, 3, 4], [2, 15, 4], use="Relu"), feeds)
    assert names(graph) == ["Transpose", "Reshape", "Relu", "Reshape", "Transpose"]
    graph, _ = assert_same(between([4, 5, 2, 3], [2, 5, 12]), feeds)
    assert names(graph) == ["Transpose", "Reshape", "Conv", "Reshape", "Transpose"]


# The engine


def test_forms_are_chosen_from_o2_on_and_leave_the_graph_as_it_was() -> None:
    feeds = {"x": numbers(4)}
    message = one("Swish", feeds)
    for level, form in ((0, b"Swish"), (1, b"Swish"), (2, b"QuickGelu"), (3, b"QuickGelu")):
        graph = capture(message.SerializeToString())
        files = OnnxRuntime().lower(graph, find_target("cpu"), level)
        assert form in b"".join(files.files["model.onnx"])
        assert names(graph) == ["Swish"]


def test_bodies_are_put_in_form_too() -> None:
    inner = written([node("Swish", ["x"], ["a"], name="inner")], {}, ["a"]).graph
    other = written([node("Neg", ["x"], ["b"], name="other")], {}, ["b"]).graph
    feeds = {"x": numbers(4), "c": np.array(True)}
    chosen = node("If", ["c"], ["y"], name="choice", then_branch=inner, else_branch=other)
    graph, _ = assert_same(written([chosen], like(feeds), ["y"]), feeds)
    assert b"QuickGelu" in emit(graph).complete().SerializeToString()


def test_fusions_that_are_slower_are_left_out() -> None:
    for setting in OnnxRuntime().settings(2, find_target("cpu"))[:2]:
        without: Any = setting["disabled_optimizers"]
        assert set(SLOWER) <= set(without)


def test_rules_have_names_of_their_own_and_say_what_they_do() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert all(rule.doc for rule in RULES)


def test_a_graph_without_such_ops_is_not_touched() -> None:
    graph = capture(one("Relu", {"x": numbers(4)}).SerializeToString())
    assert not legalize(graph).total


# Weights that lie transposed


def transposed_weight(rows: int, columns: int) -> Graph:
    """x @ w, where w is a transposed view of what the model holds, as folding a Transpose leaves it."""
    stored = numbers(columns, rows, seed=3)
    nodes = [node("Transpose", ["stored"], ["w"], perm=[1, 0]), node("MatMul", ["x", "w"], ["y"])]
    graph = capture(written(nodes, {"x": (1, (2, 3, rows))}, ["y"], stored=stored).SerializeToString())
    PassManager(LEVELS["O2"]).run(graph)
    return graph


def test_a_transposed_view_is_read_as_it_lies() -> None:
    graph = transposed_weight(128, 192)
    files = OnnxRuntime().lower(graph, find_target("cpu"), 2)
    [op] = [op for op in files.op_names.values() if op.name == "FusedMatMul"]
    assert op.attributes == {"transB": 1}
    [weight] = files.weights.values()
    assert weight.shape == (192, 128)
    feeds = {"x": numbers(2, 3, 128)}
    for want, got in zip(evaluate(graph, feeds), optimized(graph, feeds), strict=True):
        assert distance(want, got) <= 2e-6


def test_a_small_transposed_view_is_put_in_order() -> None:
    files = OnnxRuntime().lower(transposed_weight(4, 8), find_target("cpu"), 2)
    assert [op.name for op in files.op_names.values()] == ["MatMul"]


# Weights that a session may use where they lie


def test_large_weights_of_products_are_not_copied() -> None:
    constants = {"w": numbers(128, 192, seed=1), "k": numbers(64, 64, 3, 3, seed=2), "small": numbers(192, seed=4)}
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("Add", ["p", "small"], ["y"]),
        node("Conv", ["image", "k"], ["z"]),
    ]
    inputs = {"x": (1, (2, 3, 128)), "image": (1, (1, 64, 8, 8))}
    graph = capture(written(nodes, inputs, ["y", "z"], **constants).SerializeToString())
    files = OnnxRuntime().lower(graph, find_target("cpu"), 2)
    assert files.options == {"shared_weights": ("w",)}  # the blocked layout replaces filters of convolutions


def test_a_weight_that_something_else_reads_is_copied() -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Add", ["w", "w2"], ["z"])]
    inputs = {"x": (1, (2, 3, 128)), "w2": (1, (128, 192))}
    graph = capture(written(nodes, inputs, ["y", "z"], w=numbers(128, 192)).SerializeToString())
    assert OnnxRuntime().lower(graph, find_target("cpu"), 2).options == {"shared_weights": ()}

"""Attention in ONNX Runtime's fastest form: which form that is, and that masks, pasts and shared heads mean the same in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, NodeProto

from irc.ir import capture, evaluate
from irc.lowering import CompileOptions, Verify, compile_model

from .forms import assert_same, by_onnx, like, lowered, names, node, numbers, written


def heads(x: str, y: str, shape: str) -> list[NodeProto]:
    """[B,S,H*D] to [B,H,S,D]."""
    split = node("Reshape", [x, shape], [f"{y}_split"], name=f"{y}_split")
    return [split, node("Transpose", [f"{y}_split"], [y], perm=[0, 2, 1, 3], name=y)]


def joined(x: str, y: str) -> list[NodeProto]:
    """[B,H,S,D] to [B,S,H*D]."""
    swapped = node("Transpose", [x], [f"{y}_apart"], perm=[0, 2, 1, 3], name=f"{y}_apart")
    return [swapped, node("Reshape", [f"{y}_apart", "flat"], [y], name=y)]


def block(queries: int, keys: int, own: int, shared: int, size: int, *, batch: int = 2, **attributes: Any) -> tuple[Any, ...]:
    """Nodes, feeds and constants of attention in 4D between its transposes."""
    nodes = [
        *heads("q", "q4", "own"),
        *heads("k", "k4", "shared"),
        *heads("v", "v4", "shared"),
        node("Attention", ["q4", "k4", "v4"], ["y4"], name="attention", **attributes),
        *joined("y4", "y"),
    ]
    feeds = {
        "q": numbers(batch, queries, own * size, seed=1),
        "k": numbers(batch, keys, shared * size, seed=2),
        "v": numbers(batch, keys, shared * size, seed=3),
    }
    constants = {"own": [0, 0, own, size], "shared": [0, 0, shared, size], "flat": [0, 0, own * size]}
    return nodes, feeds, {name: np.array(value) for name, value in constants.items()}


def alone(
    feeds: dict[str, np.ndarray], *, outputs: int = 1, shapes: dict[str, Any] | None = None, **attributes: Any
) -> ModelProto:
    """One Attention of `feeds`, by operand: q k v mask past_k past_v nonpad."""
    order = ["q", "k", "v", "mask", "past_k", "past_v", "nonpad"]
    operands = [name if name in feeds else "" for name in order]
    while not operands[-1]:
        operands.pop()
    results = [f"y{index}" for index in range(outputs)]
    one = node("Attention", operands, results, name="attention", **attributes)
    return written([one], like(feeds, **(shapes or {})), results)


def qkv(
    *, queries: int = 5, keys: int = 7, own: int = 3, shared: int = 3, size: int = 8, batch: int = 2
) -> dict[str, np.ndarray]:
    """Operands in 4D."""
    return {
        "q": numbers(batch, own, queries, size, seed=1),
        "k": numbers(batch, shared, keys, size, seed=2),
        "v": numbers(batch, shared, keys, size, seed=3),
    }


# On [B,S,H*D]


@pytest.mark.parametrize(
    ("own", "shared", "size", "attributes"),
    [(4, 4, 8, {}), (6, 2, 8, {}), (3, 3, 7, {"scale": 0.25}), (4, 4, 8, {"is_causal": 1}), (4, 1, 5, {"softcap": 2.0})],
)
def test_transposes_around_attention_vanish(own: int, shared: int, size: int, attributes: dict[str, Any]) -> None:
    nodes, feeds, constants = block(5, 7, own, shared, size, **attributes)
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], **constants), feeds)
    assert names(graph) == ["Attention"]


def test_sizes_of_samples_and_sequences_need_not_be_known() -> None:
    nodes, feeds, constants = block(5, 7, 4, 2, 8)
    shapes = {"q": ("N", "S", 32), "k": ("N", "T", 16), "v": ("N", "T", 16)}
    graph, _ = assert_same(written(nodes, like(feeds, **shapes), ["y"], **constants), feeds)
    assert names(graph) == ["Attention"]


def test_rotations_move_along() -> None:
    nodes, feeds, constants = block(6, 6, 4, 2, 8, is_causal=1)
    turned = [node("RotaryEmbedding", [f"{x}4", "cos", "sin", "at"], [f"{x}5"], name=f"{x}5") for x in "qk"]
    attention = next(n for n in nodes if n.op_type == "Attention")
    attention.input[:2] = ["q5", "k5"]
    at = nodes.index(attention)
    nodes[at:at] = turned
    angles = numbers(16, 4, seed=5)
    constants |= {"cos": np.cos(angles), "sin": np.sin(angles), "at": np.tile(np.arange(6), (2, 1))}
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], **constants), feeds)
    assert names(graph) == ["RotaryEmbedding", "RotaryEmbedding", "Attention"]


@pytest.mark.parametrize("attributes", [{"interleaved": 1}, {"rotary_embedding_dim": 4}])
def test_rotations_of_every_kind_move_along(attributes: dict[str, int]) -> None:
    nodes, feeds, constants = block(6, 6, 2, 2, 8)
    half = attributes.get("rotary_embedding_dim", 8) // 2
    nodes.insert(2, node("RotaryEmbedding", ["q4", "cos", "sin"], ["q5"], name="q5", **attributes))
    next(n for n in nodes if n.op_type == "Attention").input[0] = "q5"
    angles = numbers(2, 6, half, seed=5)
    model = written(nodes, like(feeds), ["y"], cos=np.cos(angles), sin=np.sin(angles), **constants)
    graph, _ = assert_same(model, feeds)
    assert names(graph) == ["RotaryEmbedding", "Attention"]


def test_one_transpose_may_be_made_for_it() -> None:
    nodes, feeds, constants = block(5, 7, 4, 4, 8)
    feeds["k"] = numbers(2, 4, 7, 8)
    kept = [n for n in nodes if not n.output[0].startswith("k4")]
    next(n for n in kept if n.op_type == "Attention").input[1] = "k"
    graph, _ = assert_same(written(kept, like(feeds), ["y"], **constants), feeds)
    assert names(graph) == ["Transpose", "Reshape", "Attention"]


def test_a_result_used_elsewhere_stays_in_4d_as_well() -> None:
    nodes, feeds, constants = block(5, 7, 4, 4, 8)
    graph, _ = assert_same(written(nodes, like(feeds), ["y", "y4"], **constants), feeds)
    assert names(graph) == ["Attention", "Reshape", "Transpose"]


def test_attention_without_transposes_around_it_stays_in_4d() -> None:
    feeds = qkv()
    graph, context = assert_same(alone(feeds), feeds)
    assert names(graph) == ["Attention"]
    assert not context.total


def test_unknown_heads_stay_in_4d() -> None:
    nodes, feeds, constants = block(5, 7, 4, 4, 8)
    constants["own"] = np.array([0, 0, -1, 8])
    shapes = {"q": ("N", "S", "W")}
    graph, context = lowered(written(nodes, like(feeds, **shapes), ["y"], **constants))
    assert "attention-on-joined-heads" not in context.counts
    assert names(graph).count("Transpose") == 4


def test_presents_stay_in_4d() -> None:
    nodes, feeds, constants = block(1, 1, 4, 2, 8, is_causal=1)
    attention = next(n for n in nodes if n.op_type == "Attention")
    attention.input.extend(["", "past_k", "past_v"])
    attention.output.extend(["present_k", "present_v"])
    feeds |= {"past_k": numbers(2, 2, 3, 8, seed=4), "past_v": numbers(2, 2, 3, 8, seed=5)}
    shapes = {"past_k": (2, 2, "P", 8), "past_v": (2, 2, "P", 8)}
    graph, _ = assert_same(written(nodes, like(feeds, **shapes), ["y", "present_k", "present_v"], **constants), feeds)
    assert names(graph) == ["Attention"]


def test_half_precision_is_computed_in_single() -> None:
    nodes, feeds, constants = block(5, 7, 4, 2, 8)
    feeds = {name: value.astype(np.float16) for name, value in feeds.items()}
    graph, _ = assert_same(written(nodes, like(feeds), ["y"], **constants), feeds, 2e-3)
    assert {"Attention", "Cast"} <= set(names(graph))
    assert names(graph)[-1] in ("Cast", "Reshape")


def test_double_precision_has_no_kernel_but_runs() -> None:
    nodes, feeds, constants = block(5, 7, 4, 2, 8)
    feeds = {name: value.astype(np.float64) for name, value in feeds.items()}
    assert_same(written(nodes, like(feeds), ["y"], **constants), feeds)


# One head


def test_one_head_runs_on_all_threads() -> None:
    feeds = {"q": numbers(1, 9, 8, seed=1), "k": numbers(1, 4, 8, seed=2), "v": numbers(1, 4, 6, seed=3)}
    graph, _ = assert_same(alone(feeds, q_num_heads=1, kv_num_heads=1, scale=0.3), feeds)
    assert names(graph) == ["com.microsoft::FusedMatMul", "Softmax", "MatMul"]
    feeds = qkv(own=1, shared=1, batch=1)
    graph, _ = assert_same(alone(feeds), feeds)
    assert names(graph) == ["com.microsoft::FusedMatMul", "Softmax", "MatMul"]


@pytest.mark.parametrize(
    ("change", "attributes"),
    [({"batch": 2}, {}), ({"own": 2}, {}), ({}, {"is_causal": 1}), ({}, {"softcap": 1.0})],
)
def test_more_than_one_head_or_a_mask_stays_with_the_kernel(change: dict[str, int], attributes: dict[str, Any]) -> None:
    feeds = qkv(**{"own": 1, "shared": 1, "batch": 1, **change})
    graph, _ = assert_same(alone(feeds, **attributes), feeds)
    assert names(graph) == ["Attention"]


def test_one_head_in_half_precision_is_computed_in_single() -> None:
    feeds = {name: value.astype(np.float16) for name, value in qkv(own=1, shared=1, batch=1).items()}
    graph, _ = assert_same(alone(feeds), feeds, 2e-3)
    assert names(graph) == ["Cast", "Cast", "Cast", "com.microsoft::FusedMatMul", "Softmax", "MatMul", "Cast"]


# Masks


def blocked(*shape: int, kind: str) -> np.ndarray:
    """A mask, boolean or additive, with a row that masks everything where there are rows."""
    allowed = np.random.default_rng(7).random(shape) < 0.7
    allowed[..., 0] = True
    if shape[-2] > 1:
        allowed[..., 1, :] = False
    return allowed if kind == "bool" else np.where(allowed, 0, -np.inf).astype(np.float32)


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("shape", [(5, 7), (3, 5, 7), (2, 1, 5, 7), (1, 3, 5, 7), (2, 3, 5, 7)])
def test_a_row_for_each_query_is_what_the_kernel_takes(kind: str, shape: tuple[int, ...]) -> None:
    feeds = qkv() | {"mask": blocked(*shape, kind=kind)}
    graph, _ = assert_same(alone(feeds), feeds)
    assert names(graph) == ["Attention"]


def repeated(feeds: dict[str, np.ndarray], **attributes: Any) -> list[np.ndarray]:
    """The answers with the mask repeated for each query."""
    mask = feeds["mask"]
    whole = np.broadcast_to(mask, (*mask.shape[:-2], feeds["q"].shape[2], mask.shape[-1]))
    full = feeds | {"mask": np.ascontiguousarray(whole)}
    return evaluate(capture(alone(full, **attributes).SerializeToString()), full)


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("shape", [(1, 7), (2, 1, 1, 7), (1, 1, 1, 7), (2, 3, 1, 7)])
def test_a_mask_that_is_broadcast_is_expanded(kind: str, causal: int, shape: tuple[int, ...]) -> None:
    feeds = qkv() | {"mask": blocked(*shape, kind=kind)}
    graph, _ = assert_same(alone(feeds, is_causal=causal), feeds, wanted=repeated(feeds, is_causal=causal))
    assert names(graph) == ["Expand", "Attention"]


def test_a_fully_masked_sample_answers_zero() -> None:
    mask = np.ones((2, 1, 1, 7), bool)
    mask[1] = False
    feeds = qkv() | {"mask": mask}
    wanted = repeated(feeds)
    assert not wanted[0][1].any()
    assert_same(alone(feeds), feeds, wanted=wanted)


@pytest.mark.parametrize("queries", ["S", None])
def test_a_mask_is_expanded_to_queries_of_unknown_number(queries: str | None) -> None:
    feeds = qkv() | {"mask": blocked(2, 1, 1, 7, kind="bool")}
    shapes = {"q": (2, 3, queries, 8), "k": (2, 3, "T", 8), "v": (2, 3, "T", 8), "mask": (2, 1, 1, "T")}
    graph, _ = assert_same(alone(feeds, shapes=shapes), feeds, wanted=repeated(feeds))
    assert names(graph) == ["Shape", "Concat", "Expand", "Attention"]


def test_a_mask_of_unknown_rows_is_expanded_in_case_it_has_one() -> None:
    feeds = qkv() | {"mask": blocked(2, 1, 1, 7, kind="bool")}
    assert_same(alone(feeds, shapes={"mask": (2, 1, "R", 7)}), feeds, wanted=repeated(feeds))


def test_masks_of_unknown_rank_are_left_alone() -> None:
    feeds = qkv() | {"mask": blocked(5, 7, kind="bool")}
    graph, _ = assert_same(alone(feeds, shapes={"mask": None}), feeds)
    assert names(graph) == ["Attention"]


def test_a_padding_mask_and_transposes() -> None:
    nodes, feeds, constants = block(5, 5, 4, 4, 8, is_causal=1)
    next(n for n in nodes if n.op_type == "Attention").input.append("mask")
    feeds["mask"] = blocked(2, 1, 5, 5, kind="bool")[:, :, :1]
    full = feeds | {"mask": np.repeat(feeds["mask"], 5, axis=2)}
    wanted = evaluate(capture(written(nodes, like(full), ["y"], **constants).SerializeToString()), full)
    shapes = dict.fromkeys("qkv", ("N", "S", 32)) | {"mask": ("N", 1, 1, "S")}
    graph, _ = assert_same(written(nodes, like(feeds, **shapes), ["y"], **constants), feeds, wanted=wanted)
    assert [name for name in names(graph) if name not in ("Shape", "Concat")] == ["Expand", "Attention"]


@pytest.mark.parametrize("columns", [1, 6])
@pytest.mark.parametrize("kind", ["bool", "additive"])
def test_keys_beyond_a_shorter_mask_are_not_attended_to(kind: str, columns: int) -> None:
    short = blocked(5, columns, kind=kind)
    whole = np.pad(short, ((0, 0), (0, 7 - columns)), constant_values=False if kind == "bool" else -np.inf)
    feeds, padded = qkv() | {"mask": short}, qkv() | {"mask": whole}
    wanted = evaluate(capture(alone(padded).SerializeToString()), padded)
    graph, _ = assert_same(alone(feeds), feeds, wanted=wanted)
    assert names(graph) == ["Pad", "Attention"]
    np.testing.assert_allclose(by_onnx(alone(feeds), feeds)[0], wanted[0], atol=1e-6)


@pytest.mark.parametrize("mask", [np.ones((5, 7), bool), np.zeros((1, 1, 5, 7), np.float32), np.ones((1, 1, 1, 7), bool)])
@pytest.mark.parametrize("causal", [0, 1])
def test_a_mask_that_hides_nothing_is_none(mask: np.ndarray, causal: int) -> None:
    feeds = qkv()
    one = node("Attention", ["q", "k", "v", "mask"], ["y"], name="attention", is_causal=causal)
    wanted = evaluate(capture(alone(feeds, is_causal=causal).SerializeToString()), feeds)
    graph, _ = assert_same(written([one], like(feeds), ["y"], mask=mask), feeds, wanted=wanted)
    assert [len(op.operands) for op in graph if op.name == "Attention" and op.operand(3) is None]


def test_a_mask_that_hides_something_stays() -> None:
    feeds = qkv()
    mask = np.ones((5, 7), bool)
    mask[4, 6] = False
    one = node("Attention", ["q", "k", "v", "mask"], ["y"], name="attention")
    _, context = assert_same(written([one], like(feeds), ["y"], mask=mask), feeds)
    assert not context.total
    _, context = lowered(written([one], like(feeds), ["y"], mask=np.ones((5, 6), bool)))
    assert "mask-that-hides-nothing" not in context.counts


# Past


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_past_whose_present_is_not_asked_for_is_joined_in_front(causal: int, outputs: int) -> None:
    feeds = qkv(queries=3, keys=3) | {"past_k": numbers(2, 3, 4, 8, seed=4), "past_v": numbers(2, 3, 4, 8, seed=5)}
    message = alone(feeds, outputs=outputs, is_causal=causal)
    graph, _ = assert_same(message, feeds, wanted=by_onnx(message, feeds))
    assert names(graph) == ["Concat", "Concat", "Attention"]
    with_present = alone(feeds, outputs=3, is_causal=causal)
    graph, context = assert_same(with_present, feeds)
    assert names(graph) == ["Attention"]
    assert not context.total


def test_a_past_of_unknown_length_keeps_its_causal_frontier() -> None:
    flat = {"q": numbers(2, 3, 24, seed=1), "k": numbers(2, 3, 24, seed=2), "v": numbers(2, 3, 24, seed=3)}
    feeds = flat | {"past_k": numbers(2, 3, 4, 8, seed=4), "past_v": numbers(2, 3, 4, 8, seed=5)}
    shapes = {"past_k": ("N", 3, "P", 8), "past_v": ("N", 3, "P", 8)}
    message = alone(feeds, shapes=shapes, is_causal=1, q_num_heads=3, kv_num_heads=3)
    assert_same(message, feeds, wanted=by_onnx(message, feeds))


def test_attention_of_rows_whose_width_only_irc_knows() -> None:
    """ONNX Runtime does not follow the target of the Reshape, and gave the result of the attention another width."""
    sizes = {"columns": np.array([24]), "parts": np.array([8] * 3), "weight": numbers(8, 8)}
    nodes = [
        node("Shape", ["ids"], ["rows"], start=0, end=2),
        node("Concat", ["rows", "columns"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["stack"]),
        node("Split", ["stack", "parts"], ["q", "k", "v"], axis=2),
        node("Attention", ["q", "k", "v"], ["a"], q_num_heads=2, kv_num_heads=2),
        node("MatMul", ["a", "weight"], ["y"]),
    ]
    message = written(nodes, {"x": (1, ("rows", 24)), "ids": (7, ("batch", "sequence"))}, ["y"], **sizes)
    with compile_model(message.SerializeToString(), CompileOptions(opt_level=0, verify=Verify.NOTHING)).program as program:
        [answer] = program.run({"x": numbers(6, 24), "ids": np.zeros((2, 3), np.int64)}).values()
    assert answer.shape == (2, 3, 8)

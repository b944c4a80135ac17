"""Attention as one kernel: the answers of ONNX Runtime for every cut of heads, keys and queries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irc.ir import DType, Op, capture, evaluate
from irc.lowering.tvm import attention_plan
from irc.lowering.tvm.attention import attention
from irc.lowering.tvm.attention_plan import AttentionRequest, plan_of, takes
from irc.lowering.tvm.views import View

from ..forms import like, node, written
from .running import lanes, needs_tvm, run

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def heads_of(array: np.ndarray, heads: int) -> View:
    """[batch, tokens, heads * size] as [batch, heads, tokens, size]."""
    batch, tokens, width = array.shape
    view = View.dense(array.shape).reshaped((batch, tokens, heads, width // heads))
    assert view is not None
    return view.permuted((0, 2, 1, 3))


class Case:
    """Queries, keys and values of [batch, tokens, heads * size], and what Attention is asked of them."""

    def __init__(
        self,
        heads: tuple[int, int],
        tokens: tuple[int, int],
        sizes: tuple[int, int] = (16, 16),
        batch: int = 1,
        mask: np.ndarray | None = None,
        **attributes: Any,
    ) -> None:
        self.q = numbers(batch, tokens[0], heads[0] * sizes[0], seed=1)
        self.k = numbers(batch, tokens[1], heads[1] * sizes[0], seed=2)
        self.v = numbers(batch, tokens[1], heads[1] * sizes[1], seed=3)
        self.mask, self.heads, self.attributes = mask, heads, {"scale": sizes[0] ** -0.5, **attributes}
        self.shape = (batch, tokens[0], heads[0] * sizes[1])

    def request(self, vector: int = 0, registers: int = 32) -> AttentionRequest:
        q, k, v = heads_of(self.q, self.heads[0]), heads_of(self.k, self.heads[1]), heads_of(self.v, self.heads[1])
        view = None
        if self.mask is not None:
            view = View.dense(self.mask.shape).broadcast((*q.shape[:3], k.shape[2]))
        return AttentionRequest(
            q,
            k,
            v,
            heads_of(np.empty(self.shape), self.heads[0]),
            self.attributes["scale"],
            vector or lanes(),
            registers,
            bool(self.attributes.get("is_causal", 0)),
            view,
            None if self.mask is None else DType.BOOL if self.mask.dtype == bool else DType.F32,
            self.attributes.get("softcap", 0.0),
        )

    def got(self, request: AttentionRequest | None = None) -> np.ndarray:
        result = np.full(self.shape, np.nan, np.float32)
        masks = [] if self.mask is None else [self.mask]
        run(attention(request or self.request()), self.q, self.k, self.v, *masks, result)
        return result

    def wanted(self) -> np.ndarray:
        feeds = {"q": self.q, "k": self.k, "v": self.v, **({} if self.mask is None else {"mask": self.mask})}
        one = node("Attention", list(feeds), ["y"], q_num_heads=self.heads[0], kv_num_heads=self.heads[1], **self.attributes)
        return evaluate(capture(written([one], like(feeds), ["y"]).SerializeToString()), feeds)[0]

    def check(self, request: AttentionRequest | None = None) -> None:
        np.testing.assert_allclose(self.got(request), self.wanted(), rtol=2e-5, atol=2e-6)


@needs_tvm
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize(
    ("heads", "tokens", "sizes"),
    [
        pytest.param((2, 2), (128, 128), (64, 64), id="bert"),
        pytest.param((2, 2), (197, 197), (64, 64), id="vit"),
        pytest.param((6, 2), (40, 40), (64, 64), id="llama"),
        pytest.param((1, 1), (1024, 64), (32, 32), id="segformer"),
        pytest.param((2, 1), (70, 1100), (40, 24), id="several panels"),
        pytest.param((1, 1), (900, 900), (64, 70), id="several panels, square"),
        pytest.param((3, 1), (1, 50), (16, 16), id="one query"),
        pytest.param((1, 1), (1, 1), (1, 1), id="one of everything"),
    ],
)
def test_shapes_of_real_models(heads: tuple[int, int], tokens: tuple[int, int], sizes: tuple[int, int], causal: int) -> None:
    Case(heads, tokens, sizes, is_causal=causal).check()


@needs_tvm
@few
@given(
    st.integers(1, 2),
    st.tuples(st.integers(1, 3), st.integers(1, 2)),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.booleans(),
)
def test_any_shape(
    batch: int, heads: tuple[int, int], tokens: tuple[int, int], sizes: tuple[int, int], is_causal: bool
) -> None:
    group, shared = heads
    Case((group * shared, shared), tokens, sizes, batch, is_causal=int(is_causal)).check()


@needs_tvm
@few
@given(
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.tuples(st.integers(1, 60), st.integers(1, 200)),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([(), (1,), (2, 1)]),
    st.booleans(),
)
def test_any_cut(
    heads: tuple[int, int], tokens: tuple[int, int], sizes: tuple[int, int], lead: tuple[int, ...], is_causal: bool
) -> None:
    """Small panels and few queries to a task make of a small attention what large ones are."""
    group, shared = heads
    mask = np.random.default_rng(1).random((*lead, *tokens)) < 0.8
    case = Case((group * shared, shared), tokens, sizes, 2, mask, is_causal=int(is_causal))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_plan, "STACK", 4096)
        patch.setattr(attention_plan, "MOST_QUERIES", 16)
        case.check()


@needs_tvm
@pytest.mark.parametrize(("vector", "registers"), [(4, 32), (8, 16), (16, 32)])
def test_any_vector(vector: int, registers: int) -> None:
    """Longer vectors than the machine has are cut by LLVM, so every kernel runs everywhere."""
    case = Case((2, 2), (37, 53), (20, 24), is_causal=1)
    case.check(case.request(vector, registers))


@needs_tvm
@pytest.mark.parametrize("shape", [(21, 35), (1, 1, 21, 35), (2, 1, 21, 35), (1, 4, 21, 35)])
@pytest.mark.parametrize("kind", ["bool", "f32", "f32 with infinities"])
def test_masks(shape: tuple[int, ...], kind: str) -> None:
    seen = np.random.default_rng(5).random(shape) < 0.6
    added = np.where(seen, numbers(*shape), -np.inf if "inf" in kind else -10).astype(np.float32)
    Case((4, 2), (21, 35), batch=2, mask=seen if kind == "bool" else added).check()
    Case((4, 2), (21, 35), batch=2, mask=seen if kind == "bool" else added, is_causal=1).check()


@needs_tvm
def test_masks_over_several_panels() -> None:
    mask = np.random.default_rng(5).random((33, 1500)) < 0.01
    case = Case((2, 2), (33, 1500), (64, 64), mask=mask)
    assert plan_of(case.request()).keys < 1500
    case.check()


@needs_tvm
def test_a_query_that_may_see_nothing_gets_zeros() -> None:
    mask = np.ones((3, 5), bool)
    mask[1] = False
    case = Case((1, 1), (3, 5), mask=mask)
    case.check()
    assert not case.got()[0, 1].any()
    mask = np.where(mask, 0, -np.inf).astype(np.float32)
    assert not Case((1, 1), (3, 5), mask=mask).got()[0, 1].any()


@needs_tvm
@pytest.mark.parametrize("number", [-1e9, -3e38, np.finfo(np.float32).min])
def test_large_numbers_as_masks(number: float) -> None:
    """The least number in a whole row means what -inf does there, as ONNX Runtime has it; others cancel out."""
    mask = np.zeros((3, 5), np.float32)
    mask[1], mask[2, 3:] = number, number
    Case((1, 1), (3, 5), mask=mask).check()


@needs_tvm
@pytest.mark.parametrize("softcap", [0.5, 30.0])
def test_soft_cap(softcap: float) -> None:
    Case((2, 2), (20, 30), softcap=softcap).check()
    Case((2, 2), (20, 30), softcap=softcap, is_causal=1, mask=numbers(20, 30)).check()


@needs_tvm
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_scale(scale: float) -> None:
    Case((2, 2), (20, 30), scale=scale).check()


@needs_tvm
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", ["q", "k", "v"])
def test_specials_spread_as_in_the_reference(place: str, special: float) -> None:
    case = Case((2, 2), (9, 21))
    getattr(case, place)[0, 3, 2] = special
    case.check()


@needs_tvm
def test_a_causal_query_does_not_read_what_is_far_behind_it() -> None:
    case = Case((1, 1), (64, 64), is_causal=1)
    case.k[0, 60:] = np.nan
    assert np.isfinite(case.got()[0, :32]).all()


@needs_tvm
def test_heads_of_one_buffer_need_no_copies() -> None:
    """Queries, keys and values of a fused projection, [batch, tokens, (3 heads size)], are views of it."""
    case = Case((2, 2), (19, 19), (16, 16))
    fused = np.concatenate([case.q, case.k, case.v], axis=2)
    whole = View.dense((1, 19, 6, 16)).permuted((0, 2, 1, 3))
    q, k, v = (whole.sliced(1, 2 * part, 2) for part in range(3))
    result = np.empty(case.shape, np.float32)
    run(attention(replace(case.request(), query=q, key=k, value=v)), fused, fused, fused, result)
    np.testing.assert_allclose(result, case.wanted(), rtol=2e-5, atol=2e-6)


@needs_tvm
def test_keys_and_values_with_tokens_behind_each_other() -> None:
    case = Case((2, 2), (19, 23), (16, 16))
    keys, values = (np.ascontiguousarray(each.transpose(0, 2, 1)) for each in (case.k, case.v))
    turned = View.dense((1, 2, 16, 23)).permuted((0, 1, 3, 2))
    result = np.empty(case.shape, np.float32)
    run(attention(replace(case.request(), key=turned, value=turned)), case.q, keys, values, result)
    np.testing.assert_allclose(result, case.wanted(), rtol=2e-5, atol=2e-6)


@needs_tvm
def test_the_order_of_tasks_does_not_matter() -> None:
    case = Case((1, 1), (512, 700), (64, 64), is_causal=1)
    kernel, result = attention(case.request()), np.empty(case.shape, np.float32)
    assert kernel.tasks > 1
    run(kernel, case.q, case.k, case.v, result, tasks=reversed(range(kernel.tasks)))
    assert (result == case.got()).all()


@pytest.mark.parametrize("tokens", [(1, 100_000), (100_000, 1), (4096, 4096)])
@pytest.mark.parametrize("sizes", [(64, 64), (256, 128)])
def test_panels_fit_a_stack(tokens: tuple[int, int], sizes: tuple[int, int]) -> None:
    query, key, value = (
        View.dense((1, 8, count, size)) for count, size in zip((*tokens, tokens[1]), (*sizes[:1], *sizes), strict=True)
    )
    request = AttentionRequest(query, key, value, View.dense((1, 8, tokens[0], sizes[1])), 1.0, 16, 32)
    plan = plan_of(request)
    state = 8 * plan.span * (plan.keys < tokens[1])
    panels = 4 * (plan.keys * sum(sizes) + plan.block * (plan.keys + sizes[0] + 2))
    assert panels <= attention_plan.STACK + 1024
    assert state <= 8 * (attention_plan.MOST_QUERIES + 8)


def attentions(feeds: dict[str, np.ndarray], results: int = 1, **attributes: Any) -> Op:
    order = ["q", "k", "v", "mask", "past_k", "past_v"]
    operands = [name if name in feeds else "" for name in order]
    outputs = [f"y{index}" for index in range(results)]
    graph = capture(written([node("Attention", operands, outputs, **attributes)], like(feeds), outputs).SerializeToString())
    return next(op for op in graph if op.is_a("Attention"))


def test_what_is_not_taken_is_said() -> None:
    plain = {name: numbers(1, 2, 5, 8) for name in "qkv"}
    assert takes(attentions(plain)) == ""
    assert takes(attentions({**plain, "mask": np.ones((5, 5), bool)})) == ""
    assert "shorter" in takes(attentions({**plain, "mask": np.ones((5, 3), bool)}))
    assert "f32" in takes(attentions({name: each.astype(np.float16) for name, each in plain.items()}))
    past = {"past_k": numbers(1, 2, 3, 8), "past_v": numbers(1, 2, 3, 8)}
    assert takes(attentions({**plain, **past}, results=3)) == ""
    assert "softmax" in takes(attentions(plain, softmax_precision=11))

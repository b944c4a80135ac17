"""Norms, softmaxes and attentions that are read narrow: kernels write bf16 or bytes, and f32 beside it where that is read.

Sums of a row are in an order of their own, so what lies next to where two narrow numbers meet may become either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import capture, evaluate
from irc.lowering import find_target
from irc.lowering.tvm import attention_plan
from irc.lowering.tvm.places import Call
from irc.lowering.tvm.program import calls_of, machine_of

from .programs import Feeds, compiled
from .running import needs_tvm
from .test_narrow import MULTIPLIES, WIDE, Narrowed, forms, whole

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

LOW = {"bf16": "bf16", "bytes": "u8"}
STEP = 2.0**-4


def calls(message: ModelProto) -> list[Call]:
    """The calls of a model for a processor with all arithmetics."""
    return calls_of(capture(message.SerializeToString()), machine_of(WIDE))


def ops_of(each: Call) -> list[str]:
    """What a call computes."""
    return [op.name for op in each.ops]


def assert_near(message: ModelProto, feeds: Feeds, within: float = 0.02) -> None:
    """The engine answers as the reference does, but for a narrow number that is the next one."""
    wanted = evaluate(capture(message.SerializeToString()), dict(feeds))
    for given, own in zip(wanted, compiled(message).program.run(dict(feeds)).values(), strict=True):
        assert np.linalg.norm(own - given) <= within * np.linalg.norm(given)


def normalized(made: Narrowed, name: str, source: str, result: str, width: int) -> str:
    """A norm with parameters, or a softmax."""
    if name == "Softmax":
        return made.op(name, [source], result)
    made.weights |= {"scale": whole(width, seed=5) / 4 + 1, "bias": whole(width, seed=6) / 8}
    return made.op(name, [source, "scale", *(["bias"] if name.startswith("Layer") else [])], result, epsilon=0.1)


@forms
@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization", "Softmax"])
def test_what_is_read_narrow_alone_is_written_so(form: str, name: str) -> None:
    made = Narrowed(form)
    low = made.data(normalized(made, name, "x", "n", 24), STEP)
    made.op("MatMul", [low, made.weight("w", whole(24, 7, seed=1), 1)], "y")
    feeds = {"x": whole(2, 5, 24)}
    message = made.model(feeds, "y")
    assert_near(message, feeds)
    first, second = calls(message)
    assert ops_of(first)[0] == name
    assert (first.result.dtype.text, first.beside) == (LOW[form], ())
    assert MULTIPLIES[form] in second.kernel.source


@forms
@pytest.mark.parametrize("name", ["LayerNormalization", "RMSNormalization"])
def test_one_kernel_writes_both_forms_of_a_norm(form: str, name: str) -> None:
    """As behind the norms of a transformer: products read it narrow, and the sum behind them as it is."""
    made = Narrowed(form)
    n = normalized(made, name, "x", "n", 24)
    product = made.op("MatMul", [made.data(n, STEP), made.weight("w", whole(24, 24, seed=1), 1)], "p")
    made.op("Add", [product, n], "y")
    feeds = {"x": whole(2, 5, 24)}
    message = made.model(feeds, "y")
    assert_near(message, feeds)
    first, second = calls(message)
    assert [each.dtype.text for each in first.written] == ["f32", LOW[form]]
    assert set(first.written) <= set(second.buffers)


@forms
def test_the_wide_form_may_be_an_output_and_read_before_the_narrow_one_is_made(form: str) -> None:
    made = Narrowed(form)
    n = normalized(made, "LayerNormalization", "x", "n", 24)
    made.op("Relu", [n], "z")
    made.op("MatMul", [made.data(n, STEP), made.weight("w", whole(24, 9, seed=1), 1)], "y")
    feeds = {"x": whole(2, 5, 24)}
    message = made.model(feeds, "y", "z", "n")
    assert_near(message, feeds)
    assert [ops_of(each)[0] for each in calls(message)].count("LayerNormalization") == 1
    assert not any(ops_of(each)[0] in ("Cast", "QuantizeLinear") for each in calls(message))


@forms
def test_what_is_pointwise_behind_a_norm_is_computed_with_it(form: str) -> None:
    made = Narrowed(form)
    n = normalized(made, "LayerNormalization", "x", "n", 24)
    made.op("Add", [n, "z"], "s")
    made.op("Relu", ["s"], "r")
    made.op("MatMul", [made.data("r", STEP), made.weight("w", whole(24, 9, seed=1), 1)], "y")
    feeds = {"x": whole(2, 5, 24), "z": whole(5, 24, seed=3)}
    message = made.model(feeds, "y")
    assert_near(message, feeds)
    assert len(calls(message)) == 2


def attending(form: str, tokens: tuple[int, int], size: int = 16, **attributes: Any) -> tuple[ModelProto, Feeds]:
    """An attention of two heads whose result is read narrow by a product."""
    made = Narrowed(form)
    made.op("Attention", ["q", "k", "v"], "a", q_num_heads=2, kv_num_heads=2, **attributes)
    made.op("MatMul", [made.data("a", STEP), made.weight("w", whole(2 * size, 7, seed=1), 1)], "y")
    shapes: Sequence[tuple[str, int]] = (("q", tokens[0]), ("k", tokens[1]), ("v", tokens[1]))
    feeds = {name: whole(1, count, 2 * size, seed=seed) / 4 for seed, (name, count) in enumerate(shapes)}
    return made.model(feeds, "y"), feeds


@forms
@pytest.mark.parametrize("stack", [attention_plan.STACK, 1 << 14], ids=["one panel", "several panels"])
@pytest.mark.parametrize(("tokens", "size"), [((9, 150), 16), ((70, 131), 20)], ids=str)
def test_an_attention_is_written_narrow(
    form: str, stack: int, tokens: tuple[int, int], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_plan, "STACK", stack)
    message, feeds = attending(form, tokens, size)
    assert_near(message, feeds, 0.03)
    made = calls(message)
    assert [ops_of(each)[0] for each in made if each.ops] == ["Attention", "MatMul"]
    assert made[0].result.dtype.text == LOW[form]
    assert len(made[0].beside) == (stack == 1 << 14)


def test_what_is_added_to_an_attention_is_added_in_its_kernel() -> None:
    made = Narrowed("bf16")
    made.op("Attention", ["q", "k", "v"], "a", q_num_heads=2, kv_num_heads=2)
    made.op("Add", ["a", "z"], "y")
    feeds = {name: whole(1, 9, 32, seed=seed) for seed, name in enumerate("qkvz")}
    message = made.model(feeds, "y")
    assert_near(message, feeds, 1e-5)
    assert len(calls(message)) == 1


def reading(form: str, names: str, tokens: tuple[int, int], size: int, **attributes: Any) -> tuple[ModelProto, Feeds]:
    """An attention of two heads of which the operands called `names` are read narrow."""
    made = Narrowed(form)
    operands = [made.data(name, 2.0**-6) if name in names else name for name in "qkv"]
    made.op("Attention", operands, "y", q_num_heads=2, kv_num_heads=2, **attributes)
    counts = {"q": tokens[0], "k": tokens[1], "v": tokens[1]}
    random = np.random.default_rng(size)
    feeds = {name: random.standard_normal((1, count, 2 * size)).astype(np.float32) for name, count in counts.items()}
    return made.model(feeds, "y"), feeds


@pytest.mark.parametrize("names", ["qkv", "qk", "v", "q"])
@pytest.mark.parametrize(
    ("tokens", "size", "attributes"),
    [
        ((9, 33), 16, {}),
        ((40, 40), 64, {"is_causal": 1}),
        ((5, 131), 20, {"softcap": 3.0}),
        ((7, 20), 15, {"scale": 0.5}),
        ((1, 64), 32, {}),
    ],
    ids=str,
)
def test_an_attention_reads_bf16_as_it_lies(names: str, tokens: tuple[int, int], size: int, attributes: dict[str, Any]) -> None:
    """Products of bf16 are exact in f32, so answers are those of the numbers that were read."""
    message, feeds = reading("bf16", names, tokens, size, **attributes)
    assert_near(message, feeds, 1e-5)
    (last,) = [each for each in calls(message) if ops_of(each)[0] == "Attention"]
    assert [buffer.dtype.text for buffer in last.buffers[:3]] == ["bf16" if name in names else "f32" for name in "qkv"]
    assert (MULTIPLIES["bf16"] in last.kernel.source) == ("q" in names and "k" in names and size % 2 == 0)
    assert not any(op == "Cast" and each.result.dtype.text == "f32" for each in calls(message) for op in ops_of(each)[-1:])


def test_an_attention_of_bf16_in_several_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_plan, "STACK", 1 << 14)
    message, feeds = reading("bf16", "qkv", (70, 131), 32, is_causal=1)
    assert_near(message, feeds, 1e-5)


def test_an_attention_of_bytes_reads_them_wide() -> None:
    message, feeds = reading("bytes", "qkv", (9, 33), 16)
    assert_near(message, feeds, 1e-5)


def test_processors_without_products_of_bf16_widen_them() -> None:
    message, _ = reading("bf16", "qkv", (9, 33), 16)
    made = calls_of(capture(message.SerializeToString()), machine_of(find_target("cpu:x86-64-v3")))
    assert not any(MULTIPLIES["bf16"] in each.kernel.source for each in made)
    assert [buffer.dtype.text for buffer in made[-1].buffers[:3]] == ["bf16"] * 3


def test_keys_that_lie_across_memory_are_read_wide() -> None:
    """Heads [batch, heads, tokens, size] of which the tokens lie side by side: what shares a lane does not."""
    made = Narrowed("bf16")
    turned = made.op("Transpose", [made.data("k")], "kt", perm=[0, 1, 3, 2])
    made.op("Attention", [made.data("q"), turned, "v"], "y")
    feeds = {"q": whole(1, 2, 5, 16) / 4, "k": whole(1, 2, 16, 21, seed=1) / 4, "v": whole(1, 2, 21, 16, seed=2)}
    assert_near(made.model(feeds, "y"), feeds, 1e-5)

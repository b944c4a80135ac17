"""Ops that TVM computes for us: they answer as the reference does, and what TVM says is asked for once."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from irc.ir import Graph, Op, UnsupportedError, UsageError, capture
from irc.lowering import find_target
from irc.lowering.tvm import foreign
from irc.lowering.tvm.engine import TILES, Tvm
from irc.lowering.tvm.expressing_worker import answer
from irc.lowering.tvm.foreign import DEFAULT, alone, expressed, key_of
from irc.runtime import NATIVE_PLAN_FILE, EngineFailure, Entry, NativePlan, parse_object

from ..models import node, normal
from .programs import assert_right, compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process", "asked_here")]

ask_elsewhere = foreign.ask
"""As it is where nothing is replaced."""

SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 3e38, 0.5, 2.0, -3.0], np.float32)


@pytest.fixture(autouse=True, scope="module")
def asked_here() -> Iterator[None]:
    """TVM is asked in this process: the other one has a test of its own."""

    def ask(model: bytes, **question: str) -> dict[str, str]:
        line = json.dumps({"model": base64.b64encode(model).decode(), **question}).encode()
        return answer(parse_object(line, "the op"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(foreign, "ask", ask)
        yield


def right(nodes: list[Any], feeds: dict[str, Any], weights: dict[str, Any] | None = None, outputs: str = "y") -> None:
    """The named outputs are those of the reference."""
    assert_right(of(nodes, feeds, outputs.split(), weights), feeds)


@pytest.mark.parametrize("op", ["Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh", "Tan"])
def test_functions(op: str) -> None:
    """Of numbers in and out of their domain, and of none."""
    right([node(op, ["x"], ["y"])], {"x": np.concatenate([SPECIAL, normal(40), normal(40) * 5])})


@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_sampling_at_places(mode: str, padding: str) -> None:
    """Whatever the pixels are; what is linear at edges that repeat is left to others, for the sake of infinite ones."""
    image = normal(2, 3, 5, 6)
    image[0, 0, 2, 2], image[1, 1, 1, 1] = np.nan, np.inf
    feeds = {"x": image, "g": normal(2, 30, 40, 2)}
    for aligned in (0, 1):
        nodes = [node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding, align_corners=aligned)]
        if mode == "linear" and padding != "zeros":
            with pytest.raises(UnsupportedError, match="it repeats what is at its edges"):
                right(nodes, feeds)
        else:
            right(nodes, feeds)


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.int64])
def test_products_that_are_not_of_single_floats(kind: Any) -> None:
    big = 40_000 if kind is np.int32 else 9
    a, b = (normal(5, 7) * big).astype(kind), (normal(7, 33, seed=1) * big).astype(kind)
    right([node("MatMul", ["a", "b"], ["y"])], {"a": a, "b": b})
    right([node("MatMul", ["a", "b"], ["y"])], {"a": np.stack([a, a + 1]), "b": b[:, 0]})
    right([node("MatMul", ["a", "b"], ["c"]), node("Abs", ["c"], ["y"])], {"a": a}, {"b": b})


def test_gemm_in_double() -> None:
    feeds = {"a": normal(7, 5).astype(np.float64), "b": normal(6, 7).astype(np.float64), "c": normal(6).astype(np.float64)}
    right([node("Gemm", ["a", "b", "c"], ["y"], alpha=0.5, beta=2.0, transA=1, transB=1)], feeds)


@pytest.mark.parametrize("kinds", [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)], ids=str)
def test_products_of_bytes(kinds: tuple[Any, Any]) -> None:
    numbers = np.random.default_rng(0)
    a, b = (numbers.integers(np.iinfo(kind).min, np.iinfo(kind).max, (9, 9)).astype(kind) for kind in kinds)
    zeros = {"p": np.array(3, kinds[0]), "q": np.array(5, kinds[1])}
    right([node("MatMulInteger", ["a", "b"], ["y"])], {"a": a, "b": b})
    right([node("MatMulInteger", ["a", "b", "p", "q"], ["y"])], {"a": a}, {"b": b, **zeros})


@pytest.mark.parametrize(
    "equation", ["bij,bjk->bik", "ij->ji", "i,j->ij", "bhqd,bhkd->bhqk", "ii->i", "ij->", "...i,...i->..."]
)
def test_einstein_sums(equation: str) -> None:
    shapes = {"b": 2, "h": 2, "i": 3, "j": 4, "k": 5, "q": 3, "d": 4}
    terms = [[shapes[each] for each in term.replace("...", "bh")] for term in equation.split("->")[0].split(",")]
    feeds = {f"x{number}": normal(*sizes, seed=number) for number, sizes in enumerate(terms)}
    right([node("Einsum", list(feeds), ["y"], equation=equation)], feeds)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_pooling_by_norms(p: int) -> None:
    x = {"x": normal(2, 3, 7, 8)}
    right([node("GlobalLpPool", ["x"], ["y"], p=p)], x)
    right([node("LpPool", ["x"], ["y"], p=p, kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])], x)


def test_pooling_of_bytes() -> None:
    for kind in (np.int8, np.uint8):
        x = np.random.default_rng(0).integers(np.iinfo(kind).min, np.iinfo(kind).max, (1, 3, 7, 8)).astype(kind)
        right([node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], {"x": x})


def test_averages_that_count_the_pads_of_windows_that_are_cut_off() -> None:
    window: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1] * 4}
    pool = node("AveragePool", ["x"], ["y"], ceil_mode=1, count_include_pad=1, **window)
    right([pool], {"x": normal(1, 2, 8, 9)})


def test_normalizations_over_channels_and_space() -> None:
    right([node("LRN", ["x"], ["y"], size=3, alpha=0.01, beta=0.6, bias=1.5)], {"x": normal(2, 7, 4, 5)})
    right([node("MeanVarianceNormalization", ["x"], ["y"])], {"x": normal(2, 3, 4, 5)})
    right([node("MeanVarianceNormalization", ["x"], ["y"], axes=[1, 3])], {"x": normal(2, 3, 4, 5)})


def test_grids_of_affine_maps() -> None:
    for aligned in (0, 1):
        grid = node("AffineGrid", ["t", "s"], ["y"], align_corners=aligned)
        right([grid], {"t": normal(2, 2, 3)}, {"s": np.array([2, 3, 4, 5])})
        right([grid], {"t": normal(1, 3, 4)}, {"s": np.array([1, 2, 3, 4, 5])})


def test_shrinking() -> None:
    right([node("Shrink", ["x"], ["y"], lambd=0.5, bias=0.25)], {"x": np.concatenate([SPECIAL, normal(40)])})


def _product() -> Graph:
    """A graph that TVM computes, of a product that takes a moment."""
    feeds = {"a": normal(64, 128).astype(np.float64), "b": normal(128, 96).astype(np.float64)}
    return capture(of([node("MatMul", ["a", "b"], ["y"])], feeds, ["y"]).SerializeToString())


def _op() -> Op:
    (op,) = [each for each in _product() if not each.is_constant]
    return op


def _ways(engine: Tvm) -> set[str]:
    """The ways of the kernels of the product."""
    files = engine.lower(_product(), find_target("cpu"), 2).files
    return {step.way for step in NativePlan.from_bytes(b"".join(files[NATIVE_PLAN_FILE])).steps}


def test_tvm_is_asked_in_a_process_of_its_own() -> None:
    """What it says there is what it says here; what it does not know is a reason."""
    model = alone(_op())[0]
    assert ask_elsewhere(model, chosen="{}") == foreign.ask(model, chosen="{}")
    loop = of([node("Unique", ["x"], ["y"])], {"x": normal(3)}, ["y"]).SerializeToString()
    assert "run time" in ask_elsewhere(loop, chosen="{}")["reason"]


def test_where_tvm_fails_the_op_is_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies is a reason, and is asked again another time."""

    def ask(model: bytes, **question: str) -> dict[str, str]:
        raise EngineFailure("it died", location="asking TVM")

    def read(name: str) -> Entry:
        return Entry(None)

    monkeypatch.setattr(foreign, "ask", ask)
    monkeypatch.setattr(foreign, "read_entry", read)
    model = of([node("Tan", ["x"], ["y"])], {"x": normal(3, 1, 7, 2)}, ["y"])
    with pytest.raises(UnsupportedError, match="TVM fails on it"):
        compiled(model)
    monkeypatch.undo()
    expressed.cache_clear()
    assert compiled(model)


def test_metaschedule_is_another_way_of_a_kernel() -> None:
    """A trial searches; what it found is a setting from which the same kernels follow without a search."""
    key = key_of(_op())
    assert _ways(Tvm()) == {f"{key} {DEFAULT}"}
    assert _ways(Tvm().trial(2, [key], math.inf)) == {f"{key} {DEFAULT}"}
    (way,) = _ways(Tvm().trial(1, [key], time.monotonic() + 10))
    assert way.startswith(f"{key} ")
    chosen = {key: "matmul:3"}
    assert _ways(Tvm().with_settings({TILES: chosen})) == {f"{key} matmul:3"}


def test_a_proposal_computes_the_same() -> None:
    """Numbers of proposals are said for functions by their names; the default computes what the reference does."""
    model = alone(_op())[0]
    usual, other = expressed(model), expressed(model, "matmul:3")
    assert not isinstance(usual, str)
    assert not isinstance(other, str)
    assert [kernel.source for kernel, _ in usual.calls] != [kernel.source for kernel, _ in other.calls]


@pytest.mark.parametrize("way", ["matmul:100000", "nonsense", "matmul:"])
def test_a_setting_that_names_no_proposal_is_refused(way: str) -> None:
    with pytest.raises(UsageError, match="is no way to make it"):
        _ways(Tvm().with_settings({TILES: {key_of(_op()): way}}))


def test_what_tvm_said_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the cache, and there is no second question."""
    kept: dict[str, bytes] = {}

    def read(name: str) -> Entry:
        return Entry(kept.get(name))

    def write(name: str, content: bytes) -> str:
        kept[name] = content
        return ""

    monkeypatch.setattr(foreign, "read_entry", read)
    monkeypatch.setattr(foreign, "write_entry", write)
    model = alone(_op())[0]
    expressed.cache_clear()
    first = expressed(model)
    monkeypatch.setattr(foreign, "ask", None)
    expressed.cache_clear()
    assert expressed(model) == first
    assert len(kept) == 1

"""Programs in lower precision: within the bound or said not to be, never in place of a faster one in f32, and told of."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.ir import UsageError
from irc.lowering import Compiled, CompileOptions, Precision, Target, compile_model, find_engine, find_target
from irc.lowering.precision import driver, integers
from irc.lowering.precision.tries import Try
from irc.runtime import load

from ..models import F16, F32, info, model, node, normal

WIDTH = 16


def network() -> Any:
    """x: f32[N,16] -> y: f32[N,16], two layers and a softmax."""
    nodes = [
        node("Gemm", ["x", "v", "b"], ["p"], name="first"),
        node("Relu", ["p"], ["a"], name="relu"),
        node("MatMul", ["a", "w"], ["q"], name="second"),
        node("Softmax", ["q"], ["y"], name="softmax"),
    ]
    weights = {"v": normal(WIDTH, WIDTH), "b": normal(WIDTH, seed=1), "w": normal(WIDTH, WIDTH, seed=2)}
    return model(nodes, [info("x", F32, ["N", WIDTH])], [info("y", F32, ["N", WIDTH])], weights)


def compiled(**asked: Any) -> Compiled:
    """The network, compiled as asked for."""
    asked.setdefault("calib", [{"x": normal(4, WIDTH, seed=seed)} for seed in range(10)])
    return compile_model(network(), replace(CompileOptions(), **asked))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("precision", [each for each in Precision if each is not Precision.AUTO])
def test_every_precision_is_near_f32_and_says_how_near(precision: Precision) -> None:
    found = compiled(precision=precision)
    assert found.precision is not None
    (row,) = found.precision.rows
    assert row.name == precision.value
    assert row.fate == "kept"
    assert row.error is not None
    assert 1e-6 < row.error < 0.2
    assert found.precision.met
    assert all(choice.form != "f32" for choice in found.precision.choices)


def test_weights_of_4_bits_share_a_scale_by_blocks_of_the_size_asked_for() -> None:
    kinds = [info("x", F32, [4, 256])], [info("y", F32, [4, 64])]
    product = model([node("MatMul", ["x", "w"], ["y"], name="product")], *kinds, {"w": normal(256, 64)})
    samples = [{"x": normal(4, 256, seed=seed)} for seed in range(4)]
    sizes: list[int] = []
    for block_size in (16, None, 128):
        options = CompileOptions(precision=Precision.INT4_WEIGHTS, block_size=block_size, calib=samples)
        found = compile_model(product, options).precision
        assert found is not None
        sizes.append(found.rows[0].bytes or 0)
    assert sizes[0] > sizes[1] > sizes[2] > 0


def halves() -> Any:
    """The network in f16."""
    nodes = [
        node("Gemm", ["x", "v", "b"], ["p"], name="first"),
        node("Relu", ["p"], ["a"], name="relu"),
        node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    weights = {"v": normal(WIDTH, WIDTH), "b": normal(WIDTH, seed=1), "w": normal(WIDTH, WIDTH, seed=2)}
    ends = [info("x", F16, ["N", WIDTH])], [info("y", F16, ["N", WIDTH])]
    return model(nodes, *ends, {name: weight.astype(np.float16) for name, weight in weights.items()})


@pytest.mark.parametrize("precision", [each for each in Precision if each is not Precision.AUTO])
def test_a_model_in_f16_is_lowered_from_f32(precision: Precision) -> None:
    samples = [{"x": normal(4, WIDTH, seed=seed).astype(np.float16)} for seed in range(10)]
    found = compile_model(halves(), CompileOptions(precision=precision, calib=samples))
    report = found.precision
    assert report is not None
    assert found.program.run(samples[0])["y"].dtype == np.float16
    if precision is Precision.FP16:
        assert [row.name for row in report.rows] == ["f32"], "it is as narrow as was asked for"
        return
    assert [(row.name, row.fate) for row in report.rows] == [(precision.value, "kept")]
    assert 1e-4 < (report.rows[0].error or 0.0) < 0.2
    assert all(choice.form != "f32" for choice in report.choices)
    assert any("in 16 bits" in note for note in found.notes)


def test_random_outputs_are_said_not_to_be_compared() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["p"], name="product"),
        node("Swish", ["p"], ["y"], name="swish"),  # newer than the last kernel that draws
        node("RandomNormalLike", ["p"], ["r"], name="noise"),
        node("Add", ["y", "r"], ["noisy"], name="sum"),
    ]
    ends = [info("x", F32, [4, WIDTH])], [info("y", F32, [4, WIDTH]), info("noisy", F32, [4, WIDTH])]
    samples = [{"x": normal(4, WIDTH, seed=seed)} for seed in range(4)]
    found = compile_model(
        model(nodes, *ends, {"w": normal(WIDTH, WIDTH)}), CompileOptions(precision=Precision.INT8, calib=samples)
    )
    assert "not compared, because they depend on random numbers: noisy" in found.notes
    assert found.precision is not None
    assert 1e-4 < (found.precision.rows[0].error or 0.0) < 0.1


def test_integers_are_learnt_once_for_all_levels_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_PROGRAMS", "1GiB")
    first = compiled(precision=Precision.INT8)
    monkeypatch.setattr(integers, "_Seen", None)
    second = compiled(precision=Precision.INT8, max_error=0.5, opt_level=2)
    assert second.precision is not None
    assert first.precision is not None
    assert second.precision.rows[0].error == first.precision.rows[0].error


def test_the_error_is_measured_on_what_was_held_back() -> None:
    found = compiled(precision=Precision.INT8)
    assert found.precision is not None
    assert found.precision.inputs == "5 of the samples given"
    held = [{"x": normal(4, WIDTH, seed=seed)} for seed in range(1, 10, 2)]
    exact = compile_model(network(), CompileOptions()).program
    wanted, got = (np.concatenate([p.run(feeds)["y"] for feeds in held]) for p in (exact, found.program))
    error = float(np.linalg.norm(wanted - got) / np.linalg.norm(wanted))
    assert found.precision.rows[0].error == pytest.approx(error, rel=1e-3)


def test_what_is_not_within_the_bound_gives_way_to_f32() -> None:
    found = compiled(precision=Precision.INT8, max_error=1e-5)
    assert found.precision is not None
    assert not found.precision.met
    assert [row.fate.partition(" is ")[2] or row.fate for row in found.precision.rows] == [
        "beyond the bound of 1.0e-05",
        "kept",
    ]
    assert found.program.manifest.precision == found.precision


def residual() -> Any:
    """x: f32[2,4,6,6] -> y: f32[2,4,6,6], the sum of two convolutions."""
    nodes = [
        node("Conv", ["x", "v"], ["p"], name="first", pads=[1, 1, 1, 1]),
        node("Conv", ["x", "w"], ["q"], name="second", pads=[1, 1, 1, 1]),
        node("Add", ["p", "q"], ["y"], name="sum"),
    ]
    weights = {"v": normal(4, 4, 3, 3), "w": normal(4, 4, 3, 3, seed=1)}
    return model(nodes, [info("x", F32, [2, 4, 6, 6])], [info("y", F32, [2, 4, 6, 6])], weights)


@pytest.mark.parametrize(("engine", "rounded"), [("onnxruntime", 3), ("openvino", 1), (None, 3)])
def test_results_of_convolutions_are_rounded_for_an_engine_that_wants_it(engine: str | None, rounded: int) -> None:
    if engine is not None and not find_engine(engine).version:
        pytest.skip(f"{engine} is not installed")
    samples = [{"x": normal(2, 4, 6, 6, seed=seed)} for seed in range(4)]
    found = compile_model(residual(), CompileOptions(precision=Precision.INT8, calib=samples, engine=engine))
    assert sum(op.is_a("QuantizeLinear") for op in found.graph) == rounded
    assert found.precision is not None
    assert found.precision.met


def test_at_o3_what_can_be_had_within_the_bound_is_looked_for() -> None:
    found = compiled(precision=Precision.INT8, max_error=5e-3, opt_level=3, tune_budget=10.0, engine="onnxruntime")
    assert found.precision is not None
    assert not found.precision.met
    first, *others = found.precision.rows
    assert "beyond the bound" in first.fate
    (kept,) = [row for row in others if row.fate == "kept"]
    assert kept.loss is not None
    assert kept.loss <= 5e-3


def test_types_and_names_stay() -> None:
    found = compiled(precision=Precision.FP16)
    assert [str(each) for each in (*found.program.inputs, *found.program.outputs)] == ["x: f32[N,16]", "y: f32[N,16]"]


def test_an_artifact_keeps_the_report(tmp_path: Path) -> None:
    found = compiled(precision=Precision.BF16)
    found.program.save(tmp_path / "m.irc")
    with load(tmp_path / "m.irc") as program:
        assert program.manifest.precision == found.precision


def test_the_same_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        compiled(precision=Precision.INT8).program.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def varying() -> Any:
    """x: f32[N,16] -> y: f32[N,16], a norm behind a product of data as they come."""
    nodes = [
        node("MatMul", ["x", "v"], ["p"], name="first"),
        node("LayerNormalization", ["p", "g"], ["n"], name="norm"),
        node("MatMul", ["n", "w"], ["y"], name="second"),
    ]
    weights = {"v": normal(WIDTH, WIDTH), "g": np.ones(WIDTH, np.float32), "w": normal(WIDTH, WIDTH, seed=2)}
    return model(nodes, [info("x", F32, ["N", WIDTH])], [info("y", F32, ["N", WIDTH])], weights)


def samples_of_all_sizes() -> list[dict[str, np.ndarray]]:
    """Of which the largest is ten thousand times as large as the smallest."""
    return [{"x": (10.0 ** (seed % 5 - 2) * normal(4, WIDTH, seed=seed)).astype(np.float32)} for seed in range(17)]


def test_data_that_vary_from_sample_to_sample_find_their_range_in_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = replace(CompileOptions(), precision=Precision.INT8, calib=samples_of_all_sizes())
    report = compile_model(varying(), asked).precision
    assert report is not None
    first, second = report.choices
    assert (first.form, second.form) == ("dynamic-int8", "int8")
    assert re.fullmatch(r"one range for all samples makes [\d.]+ times the error of one for each", first.why)

    def nothing(*_: object) -> float:
        return 1.0

    monkeypatch.setattr(integers, "gain", nothing)
    static = compile_model(varying(), asked).precision
    assert static is not None
    assert [choice.form for choice in static.choices] == ["int8", "int8"]
    dynamic_error, static_error = (each.rows[0].error or 0.0 for each in (report, static))
    assert dynamic_error < 0.05
    assert static_error > 5 * dynamic_error


def test_data_that_do_not_vary_keep_one_range() -> None:
    found = compiled(precision=Precision.INT8)
    assert found.precision is not None
    assert {choice.form for choice in found.precision.choices} == {"int8"}


def test_auto_may_choose_ranges_of_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(driver._Work, "_tell", lambda self, event: heard.append(event))  # type: ignore[private]  # what is tried
    options = replace(CompileOptions(), precision=Precision.AUTO, opt_level=3, tune_budget=10.0, engine="onnxruntime")
    found = compile_model(varying(), replace(options, calib=samples_of_all_sizes())).precision
    assert found is not None
    assert found.met
    assert any("dynamic-int8" in event for event in heard)
    (kept,) = [row for row in found.rows if row.fate == "kept"]
    assert kept.error is not None
    assert kept.error <= 1e-2


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_tries_bf16_where_the_processor_multiplies_it(monkeypatch: pytest.MonkeyPatch, has_bf16: bool) -> None:
    heard: list[str] = []
    monkeypatch.setattr(driver._Work, "_tell", lambda self, event: heard.append(event))  # type: ignore[private]  # what is tried
    monkeypatch.setattr(Target, "multiplies_bf16", has_bf16)
    found = compiled(precision=Precision.AUTO, opt_level=3, tune_budget=10.0, engine="onnxruntime").precision
    assert found is not None
    assert found.met
    assert any("bf16" in event for event in heard) is has_bf16


def faster(name: str) -> Any:
    """Timing in which the program of this name is twice as fast as all others."""

    def timed(tries: list[Try], feeds: Any) -> tuple[list[Try], str]:
        return [replace(each, times=tuple([1.0 if each.name == name else 2.0] * 8)) for each in tries], ""

    return timed


@pytest.mark.parametrize(("fast", "kept"), [("bf16", "bf16"), ("f32", "f32")])
def test_at_o3_the_faster_one_is_kept(monkeypatch: pytest.MonkeyPatch, fast: str, kept: str) -> None:
    monkeypatch.setattr(driver, "timed", faster(fast))
    found = compiled(precision=Precision.BF16, opt_level=3, tune_budget=4.0, engine="onnxruntime")
    assert found.precision is not None
    fates = {row.name: row.fate for row in found.precision.rows}
    assert fates == {kept: "kept", **({"f32": "slower"} if kept == "bf16" else {"bf16": "slower"})}
    assert found.precision.met


def test_auto_is_within_its_bound_and_explains_itself() -> None:
    found = compiled(precision=Precision.AUTO, opt_level=3, tune_budget=10.0, engine="onnxruntime")
    assert found.precision is not None
    assert (found.precision.met, found.precision.limit) == (True, 1e-2)
    (kept,) = [row for row in found.precision.rows if row.fate == "kept"]
    assert kept.error is not None
    assert kept.error <= 1e-2
    assert [choice.place for choice in found.precision.choices] == ["Gemm at first", "MatMul at second"]
    assert all(choice.why if choice.form == "f32" else choice.saved is not None for choice in found.precision.choices)


@pytest.mark.skipif(bool(find_engine("onnxruntime").runs(find_target("arm64"))), reason="this machine is arm64")
def test_auto_for_another_machine_lowers_nothing_and_says_why() -> None:
    found = compiled(precision=Precision.AUTO, opt_level=3, target="arm64")
    assert "nothing is lowered: no program for arm64 can be timed here" in found.notes
    assert found.precision is not None
    assert [(row.name, row.fate) for row in found.precision.rows] == [("f32", "kept")]


def test_a_bound_by_a_metric() -> None:
    def largest(outputs: dict[str, Any]) -> float:
        return float(outputs["y"].max())

    found = compiled(precision=Precision.BF16, metric=largest, max_drop=0.5)
    assert found.precision is not None
    assert (found.precision.metric, found.precision.limit, found.precision.met) == ("drop of largest", 0.5, True)


def test_what_f16_does_not_hold_stays_f32() -> None:
    found = compiled(precision=Precision.FP16, calib=[{"x": 1e5 * normal(4, WIDTH, seed=seed)} for seed in range(5)])
    assert found.precision is not None
    first = found.precision.choices[0]
    assert first.form == "f32"
    assert "f16 ends at 65504" in first.why


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_error": 1e-2}, "a bound on the error was given, but no precision"),
        ({"calib": "x.npz"}, "data to calibrate with was given, but no precision"),
        ({"precision": Precision.BF16, "opt_level": 1}, "changes answers, which O1 does not allow"),
        ({"precision": Precision.AUTO}, "decides by measuring, and nothing is measured here"),
        ({"precision": Precision.BF16, "max_error": -1.0}, "is nothing --max-error can be"),
        ({"precision": Precision.BF16, "max_error": 1e-2, "max_drop": 0.1}, "two bounds for one search"),
        ({"precision": Precision.BF16, "max_drop": 0.1}, "bounds what a metric says, and there is none"),
        ({"precision": Precision.BF16, "metric": len}, "a metric of your own needs a bound"),
        ({"precision": Precision.BF16, "metric": "top2"}, "there is no metric 'top2'"),
        ({"precision": Precision.INT8, "calib": []}, "there are no samples"),
        ({"precision": Precision.INT8, "calib": [{"z": normal(4, WIDTH)}]}, "input"),
        ({"precision": Precision.INT8, "calib": [{"x": normal(4, 3)}]}, "input x"),
        ({"precision": Precision.INT8, "calib": [{"x": np.full((4, WIDTH), np.nan, np.float32)}]}, "holds NaN"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    def work(*_: object) -> None:
        pytest.fail("work was done")

    monkeypatch.setattr(driver, "optimized", work)
    with pytest.raises(UsageError, match=message):
        compile_model(network(), replace(CompileOptions(), **asked))

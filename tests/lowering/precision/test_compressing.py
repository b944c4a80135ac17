"""Compression under a bound: kept where it is good enough and pays, left out with the reason where not, and told of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.ir import UsageError
from irc.lowering import Compiled, CompileOptions, Precision, compile_model, find_engine, find_target
from irc.lowering.precision import compressing, driver
from irc.lowering.precision.tries import Try
from irc.runtime import PrecisionReport, load

from ..models import F32, info, model, node, normal

WIDTH, HIDDEN = 16, 64
TINY = 1e-4


def network(inner: Any = None, outer: Any = None) -> Any:
    """x: f32[N,16] -> y: f32[N,16] by 64 hidden channels, of which 32 do next to nothing."""
    if inner is None:
        inner = normal(WIDTH, HIDDEN)
        inner[:, HIDDEN // 2 :] *= TINY
    nodes = [
        node("Gemm", ["x", "v", "b"], ["p"], name="first"),
        node("Relu", ["p"], ["a"], name="relu"),
        node("MatMul", ["a", "w"], ["y"], name="second"),
    ]
    outer = normal(HIDDEN, WIDTH, seed=2) if outer is None else outer
    weights = {"v": inner, "b": np.zeros(HIDDEN, np.float32), "w": outer}
    return model(nodes, [info("x", F32, ["N", WIDTH])], [info("y", F32, ["N", WIDTH])], weights)


def compiled(compress: str, made: Any = None, **asked: Any) -> Compiled:
    """A network, by default the one above, compiled as asked for."""
    asked.setdefault("calib", [{"x": normal(4, WIDTH, seed=seed)} for seed in range(10)])
    return compile_model(made or network(), replace(CompileOptions(), compress=compress, **asked))


def report(found: Compiled) -> PrecisionReport:
    assert found.precision is not None
    return found.precision


def fates(found: Compiled) -> dict[str, str]:
    return {row.name: row.fate for row in report(found).rows}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def take(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, float]], None]:
    """Lets programs take so many milliseconds, by what their names begin with; others 2."""

    def took(each: Try, milliseconds: Mapping[str, float]) -> float:
        return next((ms for name, ms in milliseconds.items() if each.name.startswith(name)), 2.0)

    def install(milliseconds: Mapping[str, float]) -> None:
        def timed(tries: list[Try], feeds: Any) -> tuple[list[Try], str]:
            return [replace(each, times=(took(each, milliseconds),) * 8) for each in tries], ""

        monkeypatch.setattr(compressing, "timed", timed)
        monkeypatch.setattr(driver, "timed", timed)

    return install


Take = Callable[[Mapping[str, float]], None]


def test_what_is_faster_and_good_enough_is_kept(take: Take) -> None:
    take({"prune-channels": 1.0, "compressed": 1.0})
    found = compiled("prune-channels{share=0.5}")
    assert fates(found) == {
        "prune-channels{share=0.5}": "taken: 1.000 ms faster",
        "compressed": "kept",
        "f32": "not compressed",
    }
    step, kept, original = report(found).rows
    assert report(found).met
    assert (report(found).asked, report(found).limit) == ("f32", 1e-2)
    assert [row.milliseconds for row in (step, kept, original)] == [1.0, 1.0, 2.0]
    assert step.bytes is not None
    assert original.bytes is not None
    assert step.bytes < 0.7 * original.bytes
    x = normal(3, WIDTH, seed=20)
    exact = compile_model(network(), CompileOptions()).program
    np.testing.assert_allclose(found.program.run({"x": x})["y"], exact.run({"x": x})["y"], rtol=0, atol=0.1)


def test_what_is_slower_is_not_kept(take: Take) -> None:
    take({"prune-channels": 3.0})
    found = compiled("prune-channels{share=0.5}")
    assert fates(found) == {"prune-channels{share=0.5}": "1.000 ms slower", "f32": "kept"}
    assert report(found).met


def test_what_is_no_faster_is_not_kept(take: Take) -> None:
    take({})
    assert fates(compiled("share-weights"))["share-weights{clusters=256}"] == "no faster beyond noise"


def test_what_is_beyond_the_bound_is_not_kept_and_the_bound_not_met(take: Take) -> None:
    take({"prune-channels": 1.0})
    found = compiled("prune-channels{share=0.75}")
    assert not report(found).met
    assert "is beyond the bound of 1.0e-02" in fates(found)["prune-channels{share=0.75}"]
    assert fates(found)["f32"] == "kept"
    assert found.program.manifest.precision == report(found)


def test_the_share_that_is_not_given_is_the_largest_within_the_bound(take: Take) -> None:
    take({"prune-channels": 1.0})
    found = compiled("prune-channels{norm=l1}")
    assert list(fates(found)) == ["prune-channels{norm=l1, share=0.50}", "compressed", "f32"]


def test_a_share_that_is_not_given_and_not_found_is_no_bound_that_is_not_met(take: Take) -> None:
    take({})
    found = compiled("prune-channels", network(inner=normal(WIDTH, HIDDEN)))
    (step, _) = report(found).rows
    assert step.name == "prune-channels{share=0.10}"
    assert "beyond the bound" in step.fate
    assert report(found).met


def test_what_is_smaller_is_kept_where_that_is_asked_for(take: Take) -> None:
    take({})
    found = compiled("share-weights", smaller=True)
    step, kept, original = report(found).rows
    assert step.fate.endswith("% smaller, no faster beyond noise")
    assert step.fate.startswith("taken: ")
    assert (kept.name, kept.fate) == ("compressed", "kept")
    assert kept.bytes is not None
    assert original.bytes is not None
    assert kept.bytes < 0.7 * original.bytes


def test_what_is_faster_and_smaller_says_both_where_smaller_is_asked_for(take: Take) -> None:
    take({"prune-channels": 1.0, "compressed": 1.0})
    found = compiled("prune-channels{share=0.5}", smaller=True)
    assert fates(found)["prune-channels{share=0.5}"].endswith("% smaller, 1.000 ms faster")


def test_what_is_neither_faster_nor_smaller_says_so(take: Take) -> None:
    take({})
    assert fates(compiled("prune-weights{share=0.1}", max_error=1.0, smaller=True))["prune-weights{share=0.1}"] == (
        "no faster beyond noise, and no smaller"
    )


def test_at_o2_what_is_smaller_may_be_slower(take: Take) -> None:
    take({"share-weights": 3.0, "compressed": 3.0})
    found = compiled("share-weights{clusters=16}", smaller=True, max_error=1.0)
    assert fates(found)["share-weights{clusters=16}"].endswith("smaller, 1.000 ms slower")
    assert fates(found)["compressed"] == "kept"


def test_at_o3_nothing_is_slower_than_the_original(take: Take) -> None:
    take({"share-weights": 3.0, "compressed": 3.0})
    asked: dict[str, Any] = {"opt_level": 3, "tune_budget": 4.0, "engine": "onnxruntime"}
    found = compiled("share-weights{clusters=16}", smaller=True, max_error=1.0, **asked)
    assert fates(found)["share-weights{clusters=16}"].endswith("smaller, but slower than the original")
    assert fates(found)["f32"] == "kept"


def test_at_o3_the_program_itself_has_to_be_faster_again(take: Take) -> None:
    take({"prune-channels": 1.0, "compressed": 3.0})
    asked: dict[str, Any] = {"opt_level": 3, "tune_budget": 4.0, "engine": "onnxruntime"}
    found = compiled("prune-channels{share=0.5}", **asked)
    assert fates(found) == {"prune-channels{share=0.5}": "taken: 1.000 ms faster", "compressed": "slower", "f32": "kept"}


def test_each_step_is_tried_on_the_best_so_far(take: Take) -> None:
    take({"prune-channels": 1.0, "compressed": 1.0, "prune-weights": 1.5, "share-weights": 0.5})
    found = compiled("prune-channels{share=0.5}, prune-weights{share=0.1}, share-weights{clusters=256}", max_error=0.5)
    assert [row.fate for row in report(found).rows] == [
        "taken: 1.000 ms faster",
        "0.500 ms slower",
        "taken: 0.500 ms faster",
        "kept",
        "not compressed",
    ]


def test_low_rank_is_kept_where_it_is_exact_and_faster(take: Take) -> None:
    take({"low-rank": 1.0})
    inner = normal(WIDTH, 2, seed=3) @ normal(2, HIDDEN, seed=4)
    outer = normal(HIDDEN, 2, seed=3) @ normal(2, WIDTH, seed=4)
    found = compiled("low-rank", network(inner, outer))
    assert list(fates(found)) == ["low-rank{share=0.75}", "compressed", "f32"]
    error = report(found).rows[0].error
    assert error is not None
    assert error < 1e-5


def test_what_is_too_strong_to_change_anything_is_not_the_end_of_the_search(take: Take) -> None:
    take({"low-rank": 1.0})
    weights = {"w": normal(4, 1) @ normal(1, 4)}
    made = model([node("MatMul", ["x", "w"], ["y"])], [info("x", F32, ["N", 4])], [info("y", F32, ["N", 4])], weights)
    found = compiled("low-rank", made, calib=[{"x": normal(4, 4, seed=seed)} for seed in range(10)])
    assert next(iter(fates(found))) == "low-rank{share=0.50}"


def test_samples_say_which_channels_others_stand_in_for(take: Take) -> None:
    take({"prune-channels": 1.0})
    half = normal(WIDTH, HIDDEN // 2)
    calib = [{"x": normal(64, WIDTH, seed=seed)} for seed in range(10)]
    found = compiled("prune-channels{share=0.5}", network(inner=np.concatenate([half, 0.5 * half], axis=1)), calib=calib)
    assert report(found).rows[0].fate.startswith("taken")


def test_where_samples_are_too_few_norms_decide(take: Take) -> None:
    take({"prune-channels": 1.0})
    outer = normal(HIDDEN, 2, seed=3) @ normal(2, WIDTH, seed=4)
    found = compiled("prune-channels{share=0.5}", network(outer=outer), calib=[{"x": normal(2, WIDTH)}] * 2)
    assert report(found).rows[0].fate.startswith("taken")


def test_what_changes_nothing_says_so(take: Take) -> None:
    take({})
    found = compiled("low-rank{max-error=0.01}")
    assert fates(found) == {"low-rank{max-error=0.01}": "it changes nothing", "f32": "kept"}


def test_precision_comes_after_it_and_within_the_same_bound(take: Take) -> None:
    take({"prune-channels": 1.0, "compressed": 1.0})
    found = compiled("prune-channels{share=0.5}", precision=Precision.INT8, max_error=0.1)
    step, lowered, _ = report(found).rows
    assert (step.fate, lowered.name, lowered.fate) == ("taken: 1.000 ms faster", "int8", "kept")
    assert step.error is not None
    assert lowered.error is not None
    assert step.error < lowered.error < 0.1
    assert lowered.bytes is not None
    assert step.bytes is not None
    assert lowered.bytes < step.bytes


def test_precision_beyond_the_bound_leaves_what_was_compressed(take: Take) -> None:
    take({"prune-channels": 1.0, "compressed": 1.0})
    found = compiled("prune-channels{share=0.5}", precision=Precision.BF16, max_error=5e-4)
    assert not report(found).met
    assert fates(found)["compressed"] == "kept"
    assert "beyond the bound" in fates(found)["bf16"]


@pytest.mark.skipif(bool(find_engine("onnxruntime").runs(find_target("arm64"))), reason="this machine is arm64")
def test_for_another_machine_arithmetic_decides_and_the_report_says_so() -> None:
    found = compiled("prune-channels{share=0.5}, share-weights", target="arm64")
    assert fates(found) == {
        "prune-channels{share=0.5}": "taken: fewer multiply-adds, not timed",
        "share-weights{clusters=256}": "no fewer multiply-adds, not timed",
        "compressed": "kept",
        "f32": "not compressed",
    }
    assert any(note.startswith("no step of compression was timed: ") for note in found.notes)


def test_without_a_budget_nothing_is_timed() -> None:
    found = compiled("share-weights", tune_budget=0.0, smaller=True)
    assert fates(found)["share-weights{clusters=256}"].endswith("% smaller, not timed")


def test_when_the_time_is_over_what_was_found_so_far_decides(take: Take) -> None:
    take({"prune-channels": 1.0})
    found = compiled("prune-channels, share-weights", tune_budget=1e-6)
    assert list(fates(found).items())[:2] == [
        ("prune-channels{share=0.45}", "taken: 1.000 ms faster"),
        ("share-weights", "no time was left"),
    ]


def test_times_are_measured() -> None:
    found = compiled("prune-channels{share=0.5}")
    assert all(row.milliseconds for row in report(found).rows if row.name != "compressed")


def test_an_artifact_keeps_the_report(tmp_path: Path) -> None:
    found = compiled("share-weights", tune_budget=0.0, smaller=True)
    found.program.save(tmp_path / "m.irc")
    with load(tmp_path / "m.irc") as program:
        assert program.manifest.precision == report(found)
        assert report(found).compress == "share-weights"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"compress": "prune"}, "there is no pass 'prune'"),
        ({"compress": "prune-channels{shares=1}"}, "has no option 'shares'"),
        ({"compress": "prune-channels{share=1}"}, "share is 1.0, which no channels are"),
        ({"compress": "prune-channels, cse"}, "'cse' is no compression"),
        ({"compress": "narrow"}, "'narrow' is no compression"),
        ({"compress": "O2, share-weights"}, "is no compression"),
        ({"compress": " "}, "--compress names no compression"),
        ({"compress": "O0"}, "--compress names no compression"),
        ({"smaller": True}, "--smaller is about compression, and none is asked for"),
        ({"smaller": True, "precision": Precision.INT8}, "--smaller is about compression"),
        ({"compress": "share-weights", "opt_level": 1}, "--compress changes answers, which O1 does not allow"),
        ({"compress": "share-weights", "max_error": -1.0}, "is nothing --max-error can be"),
        ({"compress": "share-weights", "max_drop": 0.1}, "bounds what a metric says, and there is none"),
        ({"compress": "share-weights", "calib": []}, "there are no samples"),
    ],
)
def test_what_makes_no_sense_is_said_before_any_work(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    def work(*_: object) -> None:
        pytest.fail("work was done")

    monkeypatch.setattr(compressing, "optimized", work)
    monkeypatch.setattr(driver, "optimized", work)
    with pytest.raises(UsageError, match=message):
        compile_model(network(), replace(CompileOptions(), **asked))

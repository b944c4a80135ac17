"""Measuring: the verdict on samples made up, and contestants in processes of their own that never outlive their use."""

from __future__ import annotations

import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from irc.runtime import (
    Contestant,
    EngineFailure,
    SignatureEntry,
    Verdict,
    Workload,
    compare,
    measure,
    measure_reference,
    random_inputs,
)
from irc.runtime.worker import relative_error
from irc.runtime.workers import Worker

from .models import mlp, model

QUICK = Workload(dims={"N": 2}, threads=1, rounds=2, seconds=0.01, timeout=60)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    entries = [SignatureEntry(name, "f32", ("N", 4)) for name in "xy"]
    path = tmp_path / "m.onnx"
    path.write_bytes(model([helper.make_node("Relu", ["x"], ["y"])], entries[:1], entries[1:]))
    return path


# The verdict


@pytest.mark.parametrize(
    ("times", "baseline", "verdict"),
    [
        ([10, 10.1, 9.9, 10, 10], [20, 20.2, 19.9, 20, 20], Verdict.FASTER),
        ([20, 20.2, 19.9, 20, 20], [10, 10.1, 9.9, 10, 10], Verdict.SLOWER),
        ([10, 10, 10, 10, 10], [10, 10, 10, 10, 10], Verdict.SAME),
        ([10, 12, 9, 11, 10], [11, 10, 10, 10, 11], Verdict.SAME),  # rounds disagree
        ([10, 10, 10, 10, 10], [10.1, 10.1, 10.1, 10.1, 10.1], Verdict.SAME),  # sure, but 1 %
        ([10, 10, 10], [20, 20, 20], Verdict.SAME),  # three rounds agree by chance one time in four
        ([10, 10, 10, 10, 500], [20, 20, 20, 20, 20], Verdict.SAME),  # the interval reaches across 1
        ([10] * 9 + [500], [20] * 10, Verdict.FASTER),  # one bad minute in ten
    ],
)
def test_a_difference_is_claimed_only_beyond_noise(times: list[float], baseline: list[float], verdict: Verdict) -> None:
    assert compare("a", times, "b", baseline).verdict is verdict


def test_noise_alone_is_hardly_ever_called_a_difference() -> None:
    generator = np.random.default_rng(0)
    drawn = [(generator.lognormal(0, 0.1, 5).tolist(), generator.lognormal(0, 0.1, 5).tolist()) for _ in range(200)]
    claims = [compare("a", a, "b", b).verdict is not Verdict.SAME for a, b in drawn]
    assert sum(claims) / len(claims) <= 0.1


def test_a_comparison_reads_as_a_sentence() -> None:
    assert str(compare("irc", [10] * 5, "ort", [20] * 5)) == "irc is 2.00 times faster than ort"
    assert str(compare("irc", [30] * 5, "ort", [20] * 5)) == "irc is 1.50 times slower than ort"
    assert str(compare("irc", [20] * 5, "ort", [20] * 5)) == "irc against ort: no difference beyond noise"
    with pytest.raises(ValueError, match="cannot be paired"):
        compare("irc", [10], "ort", [20, 20])


# Contestants


def test_contestants_are_measured_side_by_side(tmp_path: Path, onnx_file: Path) -> None:
    mlp()[0].save(tmp_path / "a.irc")
    heard: list[tuple[str, int]] = []
    contestants = [Contestant("irc", tmp_path / "a.irc"), Contestant("ort", onnx_file)]
    results = measure(contestants, QUICK, lambda name, index: heard.append((name, index)))
    assert heard == [("irc", 0), ("ort", 0), ("irc", 1), ("ort", 1)]
    for result in results:
        assert result.runs >= 6
        assert 0 < result.p50 <= result.p90 <= result.p99
        assert result.load_ms > 0
        assert result.first_run_ms > 0
        assert result.throughput > 0
        assert result.peak_memory > 1
        assert result.error is None
        assert isinstance(result.to_json(), dict)


def test_the_error_is_measured_from_a_reference(tmp_path: Path, onnx_file: Path) -> None:
    reference = tmp_path / "reference.npz"
    measure_reference(Contestant("reference", onnx_file, optimize=False), QUICK, reference)
    workload = Workload(dims={"N": 2}, threads=1, rounds=1, seconds=0.01, reference=reference)
    assert measure([Contestant("ort", onnx_file)], workload)[0].error == 0
    np.savez(reference, y=np.zeros((1, 1), np.float32))
    assert measure([Contestant("ort", onnx_file)], workload)[0].error == float("inf")


def test_relative_error(tmp_path: Path) -> None:
    reference = tmp_path / "r.npz"
    np.savez(reference, a=np.array([3.0, 4.0, np.nan]), b=np.array(["x"]))
    a, b = np.array([3.0, 4.5, np.nan]), np.array(["x"], object)
    assert relative_error({"a": a, "b": b}, reference) == pytest.approx(0.1)
    assert relative_error({"a": a, "b": np.array(["y"], object)}, reference) == float("inf")
    assert relative_error({"a": np.array([3.0, np.nan, np.nan]), "b": b}, reference) == float("inf")
    assert relative_error({"a": a}, reference) == float("inf")


def test_a_contestant_that_cannot_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.irc").write_bytes(b"junk")
    with pytest.raises(EngineFailure, match=r"^broken: .*this is not an artifact"):
        measure([Contestant("broken", tmp_path / "a.irc")], QUICK)
    (tmp_path / "a.onnx").write_bytes(b"junk")
    with pytest.raises(EngineFailure, match=r"^broken: ONNX Runtime cannot load it"):
        measure([Contestant("broken", tmp_path / "a.onnx")], QUICK)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that stands in for the worker; write its code."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "stand_in.py"


def test_a_crash_is_told_with_the_last_words(stand_in: Path) -> None:
    stand_in.write_text("import os, sys; print('one', file=sys.stderr); print('last', file=sys.stderr); os.abort()")
    with (
        Worker("crasher", [], "stand_in") as worker,
        pytest.raises(EngineFailure, match=r"^crasher: .* was killed by SIGABRT: last$"),
    ):
        worker.answer(30)


def test_silence_is_waited_for_only_so_long(stand_in: Path) -> None:
    stand_in.write_text("import time; time.sleep(600)")
    begin = time.monotonic()
    with pytest.raises(EngineFailure, match=r"^sleeper: did not answer within 0.1 s"):  # noqa: SIM117
        with Worker("sleeper", [], "stand_in") as worker:
            worker.answer(0.1)
    assert worker._process.returncode is not None
    assert time.monotonic() - begin < 300


def test_an_interrupt_leaves_no_process(stand_in: Path) -> None:
    stand_in.write_text("import time; time.sleep(600)")
    with pytest.raises(KeyboardInterrupt):  # noqa: SIM117
        with Worker("sleeper", [], "stand_in") as worker:
            raise KeyboardInterrupt
    assert worker._process.returncode is not None


# Inputs


def test_made_up_inputs_are_the_same_for_the_same_signature() -> None:
    inputs = [
        SignatureEntry("x", "f32", ("N", 3)),
        SignatureEntry("ids", "i64", ("N", "M")),
        SignatureEntry("mask", "bool", (2,)),
        SignatureEntry("s", "str", ()),
        SignatureEntry("half", "bf16", (None,)),
        SignatureEntry("k", "f32", (), optional=True),
    ]
    first, second = (random_inputs(each, {"N": 5}, 0) for each in (inputs, inputs[::-1]))
    assert first.keys() == {"x", "ids", "mask", "s", "half"}
    for name, array in first.items():
        assert np.array_equal(np.asarray(array), np.asarray(second[name]))
    ids = np.asarray(first["ids"])
    assert (ids.shape, ids.min() >= 0) == ((5, 1), True)
    assert np.asarray(first["mask"]).all()


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed (the extra 'openvino')")
def test_openvino_runs_a_file_in_f32_and_in_what_it_prefers(onnx_file: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference.npz"
    workload = Workload(threads=1, rounds=1, seconds=0.01, timeout=60)
    measure_reference(Contestant("reference", onnx_file, optimize=False), workload, reference)
    field = [Contestant(engine, onnx_file, engine=engine) for engine in ("openvino", "openvino-default")]
    exact, preferred = (each.error for each in measure(field, replace(workload, reference=reference)))
    assert exact == 0.0
    assert preferred is not None
    assert preferred < 1e-2

"""The command for a GPU machine, as far as one without shows it: what it says, its table, and its contestants in turns."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

import irc
from irc.runtime import Driver, Gpu, write_arrays
from irc.tools import gpu
from irc.tools.gpu_models import built_in, convolutions

H100 = Driver("13.0", (Gpu("NVIDIA H100", (9, 0), 132, 80 << 30, 50 << 20),))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "TURNS", 1)


def test_without_a_gpu_it_says_why_in_one_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gpu, "cuda_driver", lambda: Driver("", (), "there is no NVIDIA driver"))
    for arguments in ([], ["--check"]):
        assert gpu.main(arguments) == 4
        assert capsys.readouterr().err == "irc: nothing was run: there is no NVIDIA driver\n"


def test_checking_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "cuda_driver", lambda: H100)
    assert gpu.main(["--check"]) == 0


def test_the_table_has_a_row_for_each_model_and_says_what_is_missing() -> None:
    times = dict(zip(gpu.CONTESTANTS, (8.0, 2.0, 1.6, 1.0, 1.3), strict=True))
    rows = [
        gpu.Row("a", times),
        gpu.Row("b", {gpu.CONTESTANTS[0]: 1.25}, "failed: it is gone"),
        gpu.Row("c", remark="no time was left"),
    ]
    assert gpu.table(rows).splitlines() == [
        "| model | irc, CPU, ms | onnxruntime-gpu, ms | irc, CUDA, ms | irc, CUDA graph, ms"
        " | irc, own kernels, ms | faster | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
        "| a | 8 | 2 | 1.6 | 1 | 1.3 | 2.00 x |  |",
        "| b | 1.25 | – | – | – | – | – | failed: it is gone |",
        "| c | – | – | – | – | – | – | no time was left |",
    ]


@pytest.mark.usefixtures("quick")
def test_a_failed_contestant_leaves_the_others_their_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu.cuda_driver().gpus:
        pytest.skip("there is a GPU here")
    onnx.save(convolutions(), tmp_path / "m.onnx")
    row = gpu.compare(tmp_path / "m.onnx", tmp_path, time.monotonic() + 60)
    assert row.times[gpu.CONTESTANTS[0]] > 0
    assert row.remark.startswith("failed: ")
    assert set(row.times) == {gpu.CONTESTANTS[0]}


def test_a_contestant_that_dies_or_hangs_is_said_to(tmp_path: Path) -> None:
    write_arrays(tmp_path / "inputs.npz", {"x": np.zeros(1)})
    with pytest.raises(RuntimeError, match=r"nothing\.irc"):
        gpu._Contestant(gpu.CONTESTANTS[0], tmp_path / "nothing.irc", tmp_path / "inputs.npz", 60)
    with pytest.raises(RuntimeError, match="died or took too long"):
        gpu._Contestant(gpu.CONTESTANTS[0], tmp_path / "nothing.irc", tmp_path / "inputs.npz", 0.0)


def test_built_in_models_compile(tmp_path: Path) -> None:
    for path in built_in(tmp_path):
        assert irc.compile(path, opt_level=1).outputs


def test_the_module_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--check"])
    assert gpu.main() in (0, 4)

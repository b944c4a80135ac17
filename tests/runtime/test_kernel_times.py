"""Times of kernels in place: asked of a program in a process of its own, which is gone afterwards, whatever it does."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.runtime import Contestant, EngineFailure, Plan, SignatureEntry, Step, Timed, Variant, Workload, kernel_times
from irc.runtime.native_executor import NativeOptions
from irc.runtime.plan_executor import PlanExecutor
from irc.runtime.workers import Late, Worker

from .models import mlp
from .native_programs import called, executor, needs_compiler, numbers, program, reversing

READY = '{"load_ms": 1, "first_run_ms": 1}'
DOES = {
    "hangs at the start": "time.sleep(600)",
    "hangs in a turn": f"say('{READY}'); input(); time.sleep(600)",
    "dies": f"say('{READY}'); input(); os.kill(os.getpid(), 9)",
}


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The process does what its name says, and leaves its number."""
    head = "import os, sys, time\ndef say(text): print(text, flush=True)\n"
    number = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    (tmp_path / "irc_timed_actor.py").write_text(f"{head}{number}exec({DOES!r}[sys.argv[1]])\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(kernel_times, "Worker", lambda name, arguments: Worker(name, [name], "irc_timed_actor"))


def asked(name: str, folder: Path, seconds: float) -> None:
    """Ask a process of that name for one turn, and see that it is gone."""
    try:
        with Timed(Contestant(name, folder), Workload(seconds=0.01), folder / "o.npz", time.monotonic() + seconds) as timed:
            timed.kernels()
    finally:
        with pytest.raises(ProcessLookupError):
            os.kill(int((folder / "pid").read_text()), 0)


@needs_compiler
def test_a_turn_has_the_time_of_each_kernel_by_its_name_or_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "model.irc"
    program().save(path)
    with Timed(Contestant("it", path), Workload(seconds=0.01), tmp_path / "o.npz", time.monotonic() + 60) as timed:
        turns = timed.kernels(), timed.run(), timed.kernels()
    assert [set(turns[0]), set(turns[2])] == [{"irc_scale", "irc_reverse"}] * 2
    assert all(milliseconds > 0 for milliseconds in (*turns[0].values(), turns[1]))
    with np.load(tmp_path / "o.npz") as answers:
        assert answers["y"].shape == (64,)


@needs_compiler
def test_a_timed_run_sums_up_the_steps_of_a_kernel() -> None:
    with program() as made:
        times = made.run_timed({"x": numbers()})
    assert list(times) == ["irc_scale", "irc_reverse"]
    built = executor(reversing())
    results, by_kernel = built.run_by_kernel({"x": numbers()})
    np.testing.assert_array_equal(results[0], called(built, x=numbers())[0])
    assert list(by_kernel) == list(times)


class Half:
    """An engine of a part that tells no times."""

    def run(self, feeds: dict[str, Any]) -> list[object]:
        return [feeds["y"] / 2]

    def close(self) -> None:
        return


@needs_compiler
def test_a_part_of_another_engine_is_timed_as_a_whole() -> None:
    native = reversing()
    x, y, z = (SignatureEntry(name, "f32", (64,)) for name in "xyz")
    steps = Step("0", "tvm", {}, (x,), (y,)), Step("1", "half", {}, (y,), (z,))
    executors = {"tvm": executor(native), "half": Half()}
    built = PlanExecutor(Plan((Variant(steps),)), (x,), (z,), lambda step: executors[step.engine])
    results, by_kernel = built.run_by_kernel({"x": numbers()})
    np.testing.assert_array_equal(results[0], built.run({"x": numbers()})[0])
    assert list(by_kernel) == ["irc_scale", "irc_reverse", "1"]


def test_another_engine_tells_no_times(tmp_path: Path) -> None:
    path = tmp_path / "model.irc"
    mlp()[0].save(path)
    with Timed(Contestant("it", path), Workload(seconds=0.01), tmp_path / "o.npz", time.monotonic() + 60) as timed:
        assert timed.run() > 0
        with pytest.raises(EngineFailure, match="onnxruntime tells no times of kernels while it runs"):
            timed.kernels()


@pytest.mark.usefixtures("actor")
@pytest.mark.parametrize("name", ["hangs at the start", "hangs in a turn"])
def test_who_hangs_is_waited_for_until_the_deadline_and_no_longer(tmp_path: Path, name: str) -> None:
    begin = time.monotonic()
    with pytest.raises(Late):
        asked(name, tmp_path, 2.0)
    assert time.monotonic() - begin < 60, "it is not the ten minutes that the process sleeps"


@pytest.mark.usefixtures("actor")
def test_who_dies_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="its process was killed by SIGKILL"):
        asked("dies", tmp_path, 60.0)


def test_measured_tiles_are_an_option_of_the_engine() -> None:
    options = {"tiles": {"128x96x64-0a1b2c3d": "6x4 1x1 rows"}}
    assert NativeOptions.from_manifest(options).to_manifest() == options

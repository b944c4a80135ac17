"""Compiling at O3 when something happens to it: a kill, an interrupt, a full disk. What is there afterwards is whole, and the
next run works.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from irc.runtime import load, open_artifact

from .models import F32, info, model, node, normal

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it looks for processes in /proc")

needs_tvm = pytest.mark.skipif(
    importlib.util.find_spec("tvm") is None or shutil.which("cc") is None, reason="needs TVM, and a C compiler"
)

POINTS = 20
BUDGET = 1.2
AMPLE = 30.0
"""Seconds in which something is measured on the slowest machine; one engine needs a fraction."""
ONE_ENGINE = ("--engine", "onnxruntime")
WAIT = 120.0
"""Seconds after which a test gives up waiting for something that has to happen."""


@dataclass(frozen=True)
class Place:
    """A folder with `small.onnx` and what a compiler needs: a temporary folder and a cache of its own."""

    folder: Path

    @property
    def temporary(self) -> Path:
        """For temporary files."""
        return self.folder / "temporary"

    @property
    def out(self) -> Path:
        """The artifact."""
        return self.folder / "work" / "out.irc"

    def start(self, plan: dict[str, Any], *more: str, budget: float = BUDGET) -> subprocess.Popen[str]:
        """`irc compile -O3` under a plan of `doomed.py`."""
        words = ["compile", "small.onnx", "-O3", "--tune-budget", str(budget), "-o", "out.irc", *more]
        places = {"TMPDIR": str(self.temporary), "IRC_CACHE_DIR": str(self.folder / "cache")}
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("doomed.py")), json.dumps(plan), *words],
            cwd=self.out.parent,
            env={**os.environ, **places, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def compile(self, plan: dict[str, Any], *more: str, budget: float = BUDGET) -> tuple[int, str, str]:
        """As `start`, to the end: exit code, stdout, stderr."""
        process = self.start(plan, *more, budget=budget)
        out, err = process.communicate(timeout=WAIT)
        return process.returncode, out, err

    def check_answers(self) -> None:
        """The artifact is there, whole, and right."""
        x = normal(3, 64, seed=1)
        with load(self.out) as program:
            y = program.run({"x": x})["y"]
        np.testing.assert_allclose(y, np.maximum(x @ normal(64, 64), 0), rtol=1e-4, atol=1e-4)

    def leftovers(self) -> list[str]:
        """What of irc's is in the temporary folder, and what lies beside the artifact and is none of ours."""
        beside = [each.name for each in self.out.parent.iterdir() if each.name not in ("small.onnx", "out.irc")]
        return [*(each.name for each in self.temporary.glob("irc-*")), *beside]

    def processes(self) -> list[int]:
        """The measuring processes that belong to this folder."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:  # it ended meanwhile
                continue
            if b"irc.runtime.worker" in words and str(self.temporary).encode() in words:
                found.append(int(entry.name))
        return sorted(found)


def prepared(folder: Path) -> Place:
    made = Place(folder)
    made.temporary.mkdir()
    made.out.parent.mkdir()
    nodes = [node("MatMul", ["x", "w"], ["product"], name="product"), node("Relu", ["product"], ["y"], name="relu")]
    small = model(nodes, [info("x", F32, ["N", 64])], [info("y", F32, ["N", 64])], {"w": normal(64, 64)})
    onnx.save(small, made.out.parent / "small.onnx")
    return made


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds all but what a search finds."""
    made = prepared(tmp_path_factory.mktemp("known"))
    code, _, said = made.compile({})
    assert code == 0, said
    for entry in (made.folder / "cache").glob("tuning-*"):
        entry.unlink()
    return made.folder / "cache"


@pytest.fixture
def place(tmp_path: Path, known: Path) -> Place:
    shutil.copytree(known, tmp_path / "cache")
    return prepared(tmp_path)


def until(met: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for something that has to happen, while `process` runs."""
    end = time.monotonic() + WAIT
    while not met():
        assert process is None or process.poll() is None, "it ended before that"
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_any_point_it_leaves_nothing_half_written_and_the_next_run_works(place: Place) -> None:
    def compile(plan: dict[str, Any]) -> tuple[int, str]:
        for entry in (place.folder / "cache").glob("tuning-*"):
            entry.unlink()
        code, _, said = place.compile(plan)
        return code, said

    code, said = compile({})
    assert code == 0, said
    changes = int(said.splitlines()[-1])
    assert changes >= POINTS
    place.out.unlink()
    killed = 0
    for point in range(1, POINTS + 1):
        plan = {"kill_at": max(1, changes * point // POINTS)}
        code, said = compile(plan)
        assert code in (-signal.SIGKILL, 0), said
        killed += code != 0
        until(lambda: not place.processes())
        if place.out.exists():
            open_artifact(place.out)
        folders = list(place.temporary.glob("irc-*"))
        assert len(folders) <= 3, "what earlier ones left was removed"
    assert killed > POINTS // 2, "a run may make fewer changes than the first did, and end before its point"
    code, said = compile({})
    assert code == 0, said
    place.check_answers()
    assert place.leftovers() == []


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["the first starts", "the second starts", "the first runs"])
def test_a_candidate_that_is_killed_fails_and_the_others_go_on(place: Place, moment: str) -> None:
    process = place.start({}, "--json", *ONE_ENGINE, budget=60.0)  # the race is over when one is left
    until(lambda: len(place.processes()) >= 1, process)
    (first,) = place.processes()
    if moment != "the first starts":
        until(lambda: any(each != first for each in place.processes()), process)
    seen = place.processes()
    victim = next((each for each in seen if each != first), first) if moment == "the second starts" else first
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    decisions = json.loads(out)["decisions"]
    killed = [each for each in decisions if each["fate"] == "failed"]
    assert [each["why"] for each in killed] == ["its process was killed by SIGKILL"]
    assert [each["fate"] for each in decisions].count("won") == 1
    place.check_answers()
    assert place.leftovers() == []


@pytest.mark.slow
def test_an_interrupt_keeps_the_best_so_far(place: Place) -> None:
    process = place.start({}, budget=60.0)
    until(lambda: len(place.processes()) >= 2, process)  # the first has had a turn
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert "irc: the search was interrupted, and the best so far is kept\n" in err
    assert place.processes() == []
    place.check_answers()
    assert place.leftovers() == []


@pytest.mark.slow
def test_an_interrupt_before_anything_was_measured_is_one(place: Place) -> None:
    process = place.start({}, budget=60.0)
    until(lambda: len(place.processes()) == 1, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT)
    assert (process.returncode, err.splitlines()[0]) == (130, "irc: error: stopped")
    assert place.processes() == []
    assert not place.out.exists()
    assert place.leftovers() == []


@pytest.mark.slow
def test_a_second_interrupt_ends_it_with_nothing_half_written(place: Place) -> None:
    process = place.start({"interrupt": r"\.out\.irc\."}, budget=60.0)
    until(lambda: len(place.processes()) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=WAIT)  # the second one comes while the artifact is being written
    assert (process.returncode, err.splitlines()[-2]) == (130, "irc: error: stopped")
    assert not place.out.exists()
    assert place.leftovers() == []


@needs_tvm
@pytest.mark.slow
@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"interrupt": r"tuning-.*kernels\.irc"}, "irc: the search was interrupted, and the best so far is kept\n"),
        ({"refuse": r"tuning-.*kernels\.irc", "errno": errno.ENOSPC}, ""),
    ],
    ids=["interrupted", "no room"],
)
def test_kernels_that_cannot_be_tried_are_those_of_the_model(place: Place, plan: dict[str, Any], said: str) -> None:
    process = place.start(plan, "--json", "--engine", "tvm", "--dim", "N=3", budget=60.0)
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    assert said in err
    fates = {each["candidate"]: each["fate"] for each in json.loads(out)["decisions"]}
    assert "tvm, measured kernels" not in fates
    assert list(fates.values()).count("won") == 1
    assert (list(fates.values()).count("failed") > 0) == ("refuse" in plan)
    assert place.processes() == []
    place.check_answers()
    assert place.leftovers() == []


# What the system refuses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refuse", "reason"),
    [("irc-scratch-tuning-", errno.EROFS), (r"inputs\.npz", errno.ENOSPC), (r"tuning-.*\.irc", errno.ENOSPC)],
    ids=["the folder", "inputs", "candidates"],
)
def test_without_room_for_temporary_files_one_is_compiled_by_rules(place: Place, refuse: str, reason: int) -> None:
    code, _, err = place.compile({"refuse": refuse, "errno": reason}, *ONE_ENGINE)
    assert code == 0, err
    (remark,) = [line for line in err.splitlines() if line.startswith("irc: nothing was measured: ")]
    assert f"no temporary file can be written: {os.strerror(reason).lower()}" in remark
    assert str(place.temporary) in remark
    assert "(set TMPDIR to a folder that can be written to and has room)" in remark
    place.check_answers()


@pytest.mark.slow
def test_without_a_cache_it_compiles_and_says_so(place: Place) -> None:
    code, _, err = place.compile({"refuse": str(place.folder / "cache"), "errno": errno.EROFS}, *ONE_ENGINE, budget=AMPLE)
    assert code == 0, err
    kept = f"nothing is kept in the cache {place.folder / 'cache'}: read-only file system"
    assert f"irc: {kept} (set IRC_CACHE_DIR to another folder)\n" in err
    place.check_answers()


@pytest.mark.slow
def test_an_artifact_that_cannot_be_written_is_one_sentence(place: Place) -> None:
    place.out.write_bytes(b"old")
    code, _, err = place.compile({"refuse": r"\.out\.irc\.", "errno": errno.ENOSPC}, *ONE_ENGINE)
    assert code == 2
    why = "irc: error: out.irc: cannot be written: no space left on device"
    assert err.splitlines()[-2] == f"{why} (check the path, the permissions and the space left)"
    assert place.out.read_bytes() == b"old"
    assert place.leftovers() == []

"""Building kernels: equal ones once, from the cache where they are there, and no process is left behind, whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.ir import DType, UnsupportedError
from irc.lowering import Target, find_target
from irc.lowering.tvm import building, making
from irc.lowering.tvm.building import llvm_target, objects
from irc.lowering.tvm.kernel import Kernel, Writer
from irc.runtime import EngineFailure, Worker, cache_folder

from .running import needs_tvm, run

CPU = replace(find_target("cpu:x86-64-v3"), not_here="")


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cache that holds nothing."""
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "installed_version", lambda: "some")


def adding(constant: int) -> Kernel:
    """x[i] += constant, eight elements a task."""
    writer = Writer()
    x = writer.buffer(DType.F32, 32)
    with writer.loop(8, "vectorized") as i:
        writer.line(f"{x}[task * 8 + {i}] = {x}[task * 8 + {i}] + T.float32({constant})")
    return writer.kernel(4)


def worker(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> None:
    """Kernels are built by another module than ours."""
    (folder / "other_worker.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))

    def start(name: str, arguments: Any, module: str) -> Worker:
        return Worker(name, arguments, "other_worker")

    monkeypatch.setattr(making, "Worker", start)


ECHO = """
import json, pathlib, sys
for line in sys.stdin:
    asked = json.loads(line)
    pathlib.Path(sys.argv[1], asked["name"]).write_text(asked["text"])
    print(json.dumps({"file": asked["name"]}), flush=True)
"""


def test_equal_kernels_are_built_once_and_the_next_time_not_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(monkeypatch, tmp_path, ECHO)
    kernels = [adding(1), adding(2), adding(1)]
    built = objects(kernels, CPU, 2)
    assert built == {each.name: each.text.encode() for each in kernels}
    assert list(built) == [adding(1).name, adding(2).name]
    assert len(list(cache_folder().iterdir())) == 2
    monkeypatch.setattr(making, "Worker", None)  # whoever starts one fails
    assert objects(kernels, CPU, 2) == built


@pytest.mark.parametrize("other", [find_target("cpu:znver4"), find_target("arm64"), find_target("cpu:avx512")])
def test_another_target_is_another_entry_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: Target) -> None:
    worker(monkeypatch, tmp_path, ECHO)
    objects([adding(1)], CPU, 1)
    objects([adding(1)], other, 1)
    monkeypatch.setattr(building, "installed_version", lambda: "another")
    objects([adding(1)], CPU, 1)
    assert len(list(cache_folder().iterdir())) == 3


def test_a_damaged_entry_is_built_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(monkeypatch, tmp_path, ECHO)
    built = objects([adding(1)], CPU, 1)
    (entry,) = cache_folder().iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    assert objects([adding(1)], CPU, 1) == built


def test_more_jobs_than_kernels_start_no_process_for_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(monkeypatch, tmp_path, ECHO)
    started: list[str] = []
    start: Any = making.Worker
    monkeypatch.setattr(making, "Worker", lambda *each: started.append("one") or start(*each))
    objects([adding(1), adding(2)], CPU, 16)
    assert len(started) == 2
    assert objects([], CPU, 16) == {}
    assert len(started) == 2


# What can go wrong


def test_a_process_that_dies_is_an_error_that_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(monkeypatch, tmp_path, "import os, signal, sys\nsys.stdin.readline()\nos.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(EngineFailure, match=r"building kernels: its process was killed by SIGSEGV"):
        objects([adding(each) for each in range(5)], CPU, 2)
    assert not cache_folder().exists() or not list(cache_folder().iterdir())


def test_a_failure_ends_the_other_processes_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(
        monkeypatch,
        tmp_path,
        "import json, os, pathlib, sys, time\n"
        "line = sys.stdin.readline()\n"
        f"pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch()\n"
        "if 'float32(0)' in line:\n"
        f"    while len(list(pathlib.Path({str(tmp_path)!r}).glob('*.pid'))) < 2: time.sleep(0.01)\n"
        "    print(json.dumps({'failure': 'it is broken'}), flush=True)\n"
        "time.sleep(100)",
    )
    with pytest.raises(EngineFailure, match="building kernels: it is broken"):
        objects([adding(0), adding(1)], CPU, 2)
    assert_ended(tmp_path, 2)


def test_what_is_not_built_in_time_is_given_up_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(
        monkeypatch,
        tmp_path,
        "import os, pathlib, sys, time\n"
        "line = sys.stdin.readline()\n"
        f"pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch()\n"
        "time.sleep(100)",
    )
    with pytest.raises(EngineFailure, match="building kernels: did not answer within"):
        objects([adding(1)], CPU, 1, time.monotonic() + 2.0)
    assert_ended(tmp_path, 1)


BUILDING = """
import signal
from dataclasses import replace
from irc.lowering import find_target
from irc.lowering.tvm import building, making
from irc.lowering.tvm.kernel import Kernel
from irc.runtime import Worker

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background has it ignored
making.Worker = lambda name, arguments, module: Worker(name, arguments, "other_worker")
building.installed_version = lambda: "some"
building.objects([Kernel(text, 1, 0) for text in "ab"], replace(find_target("cpu:x86-64-v3"), not_here=""), 2)
"""
"""A process of its own that builds two kernels: an interrupt is for a whole process, and that of the tests has more to do."""


def test_ctrl_c_leaves_no_process_and_no_half_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker(
        monkeypatch,
        tmp_path,
        f"import os, pathlib, time\npathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch()\ntime.sleep(100)",
    )
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        [sys.executable, "-c", BUILDING], env={**os.environ, "PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(list(tmp_path.glob("*.pid"))) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert_ended(tmp_path, 2)
    assert not cache_folder().exists() or not list(cache_folder().iterdir())


def assert_ended(folder: Path, count: int) -> None:
    """All processes that left a file with their number are gone."""
    numbers = [int(each.stem) for each in folder.glob("*.pid")]
    assert len(numbers) == count
    for number in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_without_tvm_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "installed_version", lambda: "")
    with pytest.raises(UnsupportedError, match=r"TVM.* is not installed \(pip install 'irc-compiler\[tvm\]'\)"):
        objects([adding(1)], CPU, 1)


@needs_tvm
def test_tvm_builds_the_same_object_in_every_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built = objects([adding(1), adding(2)], CPU, 2)
    assert all(content[:4] == b"\x7fELF" for content in built.values())
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "another"))
    assert objects([adding(2), adding(1)], CPU, 1) == built


@needs_tvm
def test_a_kernel_runs_as_a_function_of_a_task_and_of_pointers() -> None:
    x = np.arange(32, dtype=np.float32)
    run(adding(3), x, tasks=[2, 0])
    want = np.arange(32, dtype=np.float32)
    want[16:24] += 3
    want[:8] += 3
    np.testing.assert_array_equal(x, want)
    run(adding(3), x)
    np.testing.assert_array_equal(x, want + 3)


@needs_tvm
def test_a_text_that_tvm_does_not_take_is_named() -> None:
    wrong = Kernel(adding(1).source.replace("T.float32(1)", "nonsense"), 1, 1)
    with pytest.raises(EngineFailure, match=rf"building kernels: kernel {wrong.name} cannot be built: .*nonsense"):
        objects([wrong], CPU, 1)


# What LLVM is told


def test_a_processor_that_llvm_knows_goes_by_its_name() -> None:
    assert llvm_target(find_target("cpu:znver4")) == building.LlvmTarget("x86_64-linux-gnu", "znver4", ())
    named = llvm_target(find_target("arm64:neoverse-v1"))
    assert (named.triple, named.processor) == ("aarch64-linux-gnu", "neoverse-v1")


def test_what_a_target_lacks_of_a_processor_is_taken_away_and_more_is_added() -> None:
    known = find_target("cpu:znver4")
    fewer = replace(known, features=tuple(each for each in known.features if each != "avx512bf16"))
    assert llvm_target(fewer).features == ("-avx512bf16",)
    assert llvm_target(replace(known, features=(*known.features, "avxvnni"))).features == ("+avxvnni",)


def test_any_other_processor_is_its_instruction_sets() -> None:
    level = llvm_target(find_target("cpu:x86-64-v3"))
    assert level.processor == "x86-64"
    assert {"+avx2", "+fma"} <= set(level.features)
    assert llvm_target(find_target("arm64")).features == ("+neon",)


def test_every_feature_that_we_know_has_a_name_in_llvm() -> None:
    from irc.lowering.processors import NAMED
    from irc.runtime import FEATURES

    named = {each for names in building.LLVM_FEATURES.values() for each in names}
    assert named == set(FEATURES.values())
    assert all(feature in building.LLVM_FEATURES[each.architecture] for each in NAMED.values() for feature in each.features)


def test_a_gpu_has_no_kernels_of_this_kind() -> None:
    with pytest.raises(UnsupportedError, match="there are no kernels for the target cuda:sm_90"):
        llvm_target(find_target("cuda:sm_90"))

"""Programs of kernels: what they compute, on whose memory, from how many threads and processes, and what a plan may not ask."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from irc.runtime import (
    Argument,
    ArtifactError,
    EngineFailure,
    NativeExecutor,
    NativeOptions,
    NativeStep,
    SignatureEntry,
    load,
)

from .native_programs import (
    SIZE,
    TWICE,
    X,
    Y,
    called,
    entries,
    executor,
    files_of,
    gathering,
    library,
    needs_compiler,
    numbers,
    planned,
    program,
    reversing,
    value,
)

pytestmark = needs_compiler


# What is computed, and where


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_steps_run_in_order_on_any_number_of_threads(threads: int) -> None:
    built = executor(reversing(), threads)
    for seed in range(5):
        x = numbers(seed)
        np.testing.assert_array_equal(called(built, x=x)[0], (x * 3)[::-1])


def test_each_run_has_outputs_of_its_own() -> None:
    built, x = executor(reversing()), numbers()
    one, other = called(built, x=x)[0], called(built, x=x + 1)[0]
    assert not np.shares_memory(one, other)
    np.testing.assert_array_equal(one, (x * 3)[::-1])


def test_a_poisoned_arena_shows_what_reads_before_it_writes() -> None:
    built, x = executor(reversing()), numbers()
    built.poison()
    np.testing.assert_array_equal(called(built, x=x)[0], (x * 3)[::-1])
    careless = executor(replace(reversing(), steps=reversing().steps[1:]))
    careless.poison()
    assert np.isnan(called(careless, x=x)[0]).all()


def misaligned(array: np.ndarray) -> np.ndarray:
    room = np.zeros(array.nbytes + 1, np.uint8)
    result = room[1:].view(array.dtype)
    result[:] = array
    return result


def read_only(array: np.ndarray) -> np.ndarray:
    result = array.copy()
    result.flags.writeable = False
    return result


@pytest.mark.parametrize(
    "kept", [np.array, lambda x: np.repeat(x, 2)[::2], lambda x: x[::-1].copy()[::-1], misaligned, read_only]
)
def test_an_input_may_lie_in_memory_as_it_likes(kept: Any) -> None:
    x = numbers()
    np.testing.assert_array_equal(called(executor(reversing()), x=kept(x))[0], (x * 3)[::-1])


def test_values_may_be_empty() -> None:
    plan = planned([], [value("x", "f32", 0, 3)], [value("y", "i64", 2, 0)])
    (y,) = called(executor(plan), x=np.zeros((0, 3), np.float32))
    assert (y.shape, y.dtype) == ((2, 0), np.int64)


def test_element_types_that_only_numpy_knows_are_taken_and_made() -> None:
    step = NativeStep("irc_copy", 3, (Argument(X, 0, 6), Argument(Y, 0, 6)))
    x = np.array([1, 2, 3], ml_dtypes.bfloat16)
    (y,) = called(executor(planned([step], [value("x", "bf16", 3)], [value("y", "bf16", 3)])), x=x)
    assert y.dtype == x.dtype
    assert y.tolist() == [1, 2, 3]


def test_a_step_without_tasks_does_nothing() -> None:
    steps = [NativeStep("irc_nothing", 0, (Argument(X, 0, 0),))]
    assert called(executor(planned(steps, [value("x", "f32", 1)], [])), x=np.zeros(1, np.float32)) == []


def test_an_input_of_another_shape_or_type_is_refused_before_a_kernel_sees_it() -> None:
    built = executor(reversing())
    with pytest.raises(EngineFailure, match=r"input x is float32\[63\], and the program was compiled for float32\[64\]"):
        called(built, x=numbers()[1:])
    with pytest.raises(EngineFailure, match=r"input x is float64\[64\]"):
        called(built, x=numbers().astype(np.float64))


# Complaints of kernels


@pytest.mark.parametrize("threads", [1, 2])
def test_an_index_out_of_range_is_an_error_that_names_the_op_and_the_next_run_is_good(threads: int) -> None:
    built = executor(gathering(), threads)
    with pytest.raises(EngineFailure, match=r"^an index is out of range in embedding$"):
        called(built, x=np.array(4))
    assert called(built, x=np.array(1))[0].tolist() == [0, 0]


# Several at once


def test_several_threads_run_one_program_at_the_same_time() -> None:
    built, wrong = program(3), list[int]()

    def run(seed: int) -> None:
        x = numbers(seed)
        for _ in range(200):
            if not np.array_equal(built.run({"x": x})["y"], (x * 3)[::-1]):
                wrong.append(seed)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_libraries_do_not_get_into_each_others_way() -> None:
    x = numbers()
    one, other = executor(reversing()), executor(reversing(), code=library(TWICE))
    np.testing.assert_array_equal(called(other, x=x)[0], (x * 6)[::-1])
    np.testing.assert_array_equal(called(one, x=x)[0], (x * 3)[::-1])
    one.close()
    del one
    again = executor(reversing(), code=library(TWICE))  # it may get the file descriptor of the one that is gone
    np.testing.assert_array_equal(called(again, x=x)[0], (x * 6)[::-1])


def test_a_closed_program_gives_back_threads_and_files_and_refuses_to_run() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    gc.collect()
    before = open_files(), threads()
    for _ in range(5):
        built = executor(reversing(), 4)
        called(built, x=numbers())
        assert threads() == before[1] + 3
        built.close()
        settled(threads, before[1])
        with pytest.raises(EngineFailure, match="the program is closed"):
            called(built, x=numbers())
        del built
    gc.collect()  # pytest keeps the frames of what was raised
    settled(threads, before[1])
    assert open_files() == before[0]


def settled(count: Callable[[], int], wanted: int) -> None:
    """A thread that has been joined is still in /proc until the kernel has let go of it."""
    end = time.monotonic() + 10.0
    while count() != wanted and time.monotonic() < end:
        time.sleep(0.002)
    assert count() == wanted


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_runs_the_program_with_threads_of_its_own() -> None:
    built, x = executor(reversing(), 3), numbers()
    called(built, x=x)
    child = os.fork()
    if not child:
        code = 1
        try:
            right = np.array_equal(called(built, x=x)[0], (x * 3)[::-1])
            code = 0 if right and len(os.listdir("/proc/self/task")) == 3 else 2
        finally:
            os._exit(code)
    assert ended(child) == 0
    np.testing.assert_array_equal(called(built, x=x)[0], (x * 3)[::-1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_session_of_the_parent_runs_alone_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where somebody forks without Python's knowing: nobody takes tasks but the caller, and nothing hangs."""
    built, x = executor(reversing(), 3), numbers()
    called(built, x=x)
    monkeypatch.setattr(NativeExecutor, "open_again", lambda self: None)
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if np.array_equal(called(built, x=x)[0], (x * 3)[::-1]) else 2
            built.close()
        finally:
            os._exit(code)
    assert ended(child) == 0


def ended(child: int) -> int:
    """The exit code of a child process that has ten seconds."""
    timer = threading.Timer(10, os.kill, (child, 9))
    timer.start()
    _, status = os.waitpid(child, 0)
    timer.cancel()
    return os.waitstatus_to_exitcode(status)


# Loading


@pytest.mark.parametrize("what", ["no memory files", "no /proc"])
def test_a_library_is_loaded_from_a_file_where_it_cannot_be_from_memory(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(38, "Function not implemented")

    if what == "no memory files":
        monkeypatch.setattr(os, "memfd_create", refuse)
    else:
        monkeypatch.setattr(os, "memfd_create", lambda *_: os.open("/dev/null", os.O_WRONLY))
    x = numbers()
    np.testing.assert_array_equal(called(executor(reversing()), x=x)[0], (x * 3)[::-1])


def test_an_artifact_runs_without_the_compiler_and_keeps_its_constants_in_the_file(tmp_path: Path) -> None:
    program().save(tmp_path / "p.irc")
    script = """
import sys, numpy as np, irc
p = irc.load(sys.argv[1])
x = np.arange(64, dtype=np.float32)
assert (p.run({"x": x})["y"] == (x * 3)[::-1]).all()
found = {"tvm", "torch", "onnx", "onnxruntime", "irc.ir", "irc.lowering", "irc.passes"} & set(sys.modules)
assert not found, found
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "p.irc")], check=True)


def test_constants_stay_where_they_lie_when_they_lie_well() -> None:
    from irc.runtime.native_executor import _aligned  # pyright: ignore[reportPrivateUsage]

    room = np.zeros(256, np.uint8)
    begin = -room.ctypes.data % 64
    assert np.shares_memory(_aligned([memoryview(room[begin : begin + 64])]), room)
    assert _aligned([]).size == 0
    for other in ([memoryview(room[begin + 1 : begin + 65])], [b"ab", b"cd"]):
        assert _aligned(other).ctypes.data % 64 == 0
    assert _aligned([b"ab", b"cd"]).tobytes() == b"abcd"


# What a plan may not ask


def test_what_does_not_go_together_is_refused() -> None:
    plan = reversing()
    with pytest.raises(ArtifactError, match="the library has no kernel 'irc_nowhere'"):
        executor(replace(plan, steps=(replace(plan.steps[0], kernel="irc_nowhere"),)))
    with pytest.raises(ArtifactError, match=r"constants.bin has 128 bytes, and 192 are needed"):
        executor(replace(plan, constants=192))
    with pytest.raises(ArtifactError, match=r"plan.json has input x, and the manifest has none such"):
        NativeExecutor(files_of(plan), NativeOptions(1), [SignatureEntry("x", "f16", (SIZE,))], entries(plan.outputs))
    with pytest.raises(ArtifactError, match=r"the outputs in plan.json are not those of the manifest"):
        NativeExecutor(files_of(plan), NativeOptions(1), entries(plan.inputs), entries(plan.outputs) * 2)
    with pytest.raises(EngineFailure, match="the library of kernels cannot be loaded"):
        executor(plan, code=b"no library")


def test_a_program_for_another_processor_is_refused_before_it_ends_the_process() -> None:
    with pytest.raises(EngineFailure, match="the program is for z80, and this machine is"):
        executor(replace(reversing(), architecture="z80"))
    with pytest.raises(EngineFailure, match="the program needs avx2048, which this machine does not have"):
        executor(replace(reversing(), features=("avx2048",)))


def test_options_are_read_strictly() -> None:
    assert NativeOptions.from_manifest(NativeOptions(3).to_manifest()) == NativeOptions(3)
    assert NativeOptions().to_manifest() == {}
    with pytest.raises(ArtifactError, match="streams is no option of the engine tvm"):
        NativeOptions.from_manifest({"streams": 1})
    with pytest.raises(ArtifactError, match="the option threads of the engine tvm has a value of the wrong type"):
        NativeOptions.from_manifest({"threads": "two"})


# Profiles


def test_a_profile_has_a_kernel_for_each_step_and_the_ops_behind_it(tmp_path: Path) -> None:
    program().save(tmp_path / "p.irc")
    with load(tmp_path / "p.irc", threads=1) as loaded:
        found = loaded.profile({"x": numbers()}, runs=4)
    assert (found.engine, found.threads, found.runs) == ("tvm", 1, 4)
    assert [each.implementation for each in found.kernels] == ["irc_scale", "irc_reverse"]
    assert [[source.name for source in each.sources] for each in found.kernels] == [["mul"], ["slice", "flip"]]
    assert [call.kernel for call in found.calls] == list(found.kernels)
    assert all(each.ms >= 0 for each in found.kernels)

"""The kernel of multiply-adds: it does all that it is counted for, so that no compiler has made it shorter."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import capture
from irc.lowering import find_engine, find_target
from irc.lowering.tvm.peak import SPARE, TASKS, TURNS, peak, peak_bytes
from irc.lowering.tvm.tiling import Machine
from irc.runtime import NATIVE_PLAN_FILE, NativeExecutor, NativeOptions, NativePlan, SignatureEntry

from ..models import F32, info, model, node
from .running import lanes, needs_tvm, run


@needs_tvm
@pytest.mark.parametrize("registers", [16, 32])
def test_every_register_ends_at_the_fixed_point(registers: int) -> None:
    machine = Machine(lanes(), registers, 1 << 15, 1 << 20, 2)
    kernel = peak(machine)
    memory = np.full((TASKS, lanes()), 0.5, np.float32)
    assert memory.nbytes == peak_bytes(machine)
    run(kernel, memory)
    # sum * 1/2 + 1/2 goes to 1, and in f32 arrives.
    assert np.all(memory == registers - SPARE)
    assert kernel.flops == 2 * TASKS * TURNS * (registers - SPARE) * lanes()


@needs_tvm
def test_a_program_tells_what_its_threads_compute_at_most() -> None:
    graph = capture(model([node("Relu", ["x"], ["y"])], [info("x", F32, [4])], [info("y", F32, [4])]))
    files = find_engine("tvm").lower(graph, find_target("cpu"), 2)
    entries = [SignatureEntry(name, "f32", (4,)) for name in "xy"]
    executor = NativeExecutor(files.to_runtime(), NativeOptions(1), entries[:1], entries[1:])
    plan = NativePlan.from_bytes(bytes(files.files[NATIVE_PLAN_FILE][0]))
    assert plan.peak is not None
    assert plan.peak.kernel not in [step.kernel for step in plan.steps]
    gflops = executor.gflops()
    assert gflops is not None
    assert gflops > 0

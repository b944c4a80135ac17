"""Kernels for other vector units than this machine's widest one: they run here, or in an emulator, and are right."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import DType, capture, evaluate
from irc.lowering import CompileOptions, Verify, find_target
from irc.lowering.targets import Target
from irc.lowering.tvm.loops import elementwise
from irc.lowering.tvm.places import Buffer, Storage
from irc.lowering.tvm.program import calls_of, machine_of
from irc.lowering.tvm.views import View
from irc.passes import LEVELS, PassManager, unfused

from ..models import node
from .emulating import Emulator
from .programs import ALONE, Feeds, RandomModel, assert_right, assert_same, compiled, objects_here, of
from .running import needs_tvm
from .spread import SPREAD

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

NARROW = {"cpu:x86-64": (4, 16), "cpu:x86-64-v3": (8, 16)}
"""Levels of x86-64 below AVX-512, and the width and number of the registers that kernels for them have."""


def here(name: str) -> Target:
    """A target; skips the test where it does not run."""
    target = find_target(name)
    if not target.is_here:
        pytest.skip(f"{name} does not run here: {target.not_here}")
    return target


@pytest.mark.parametrize("make", SPREAD.values(), ids=SPREAD)
@pytest.mark.parametrize("level", NARROW)
def test_every_width_of_vectors_is_right(level: str, make: Any) -> None:
    machine = machine_of(here(level))
    assert (machine.lanes, machine.registers) == NARROW[level]
    message, feeds = make()
    assert_right(message, feeds, replace(ALONE, target=level, passes=None))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", NARROW)
def test_random_models_are_right_in_narrow_vectors(level: str, seed: int) -> None:
    here(level)
    made = RandomModel(100 + seed)
    assert_right(made.message, made.feeds, replace(ALONE, target=level))


# In an emulator


needs_emulator = pytest.mark.skipif(importlib.util.find_spec("unicorn") is None, reason="needs the emulator `unicorn`")


def emulated(message: ModelProto, feeds: Feeds, target: Target) -> list[np.ndarray]:
    """The outputs of a model, each call on memory that holds NaN before, its tasks from the last to the first."""
    source = message.SerializeToString()
    graph = unfused(PassManager(LEVELS["O2"]).run(capture(source), lambda: capture(source)))
    calls = calls_of(graph, machine_of(target))
    emulator = Emulator(objects_here([call.kernel for call in calls], target, 1).values())
    given = {index: feeds[name] for index, name in enumerate(graph.input_names)}
    addresses: dict[Buffer, int] = {}
    for buffer in (each for call in calls for each in call.buffers):
        if buffer not in addresses:
            addresses[buffer] = emulator.put(content_of(buffer, given))
    for call in calls:
        for task in reversed(range(call.kernel.tasks)):
            emulator.call(call.kernel.name, task, [addresses[each] for each in call.buffers])
    outputs = {each.index: each for each in addresses if each.storage is Storage.OUTPUT}
    made: list[np.ndarray] = []
    for index, value in enumerate(graph.outputs):
        flat = emulator.get(addresses[outputs[index]], outputs[index].size, outputs[index].dtype.numpy)
        made.append(flat.reshape([int(str(size)) for size in getattr(value.type, "shape", ())]))
    return made


def content_of(buffer: Buffer, given: Mapping[int, np.ndarray]) -> np.ndarray:
    """What a buffer holds before the first call."""
    if buffer.storage is Storage.INPUT:
        return given[buffer.index]
    memory = np.full(buffer.byte_count, 0 if buffer.storage is Storage.STATUS else 0xFF, np.uint8)
    if buffer.content is not None:
        buffer.content(memory)
    return memory


@needs_emulator
@pytest.mark.parametrize("make", SPREAD.values(), ids=SPREAD)
def test_neon_is_right(make: Any) -> None:
    target = find_target("arm64")
    assert (machine_of(target).lanes, machine_of(target).registers) == (4, 32)
    message, feeds = make()
    assert_same(evaluate(capture(message.SerializeToString()), dict(feeds)), emulated(message, feeds, target))


@needs_emulator
@pytest.mark.parametrize("seed", range(3))
def test_random_models_are_right_in_neon(seed: int) -> None:
    made = RandomModel(200 + seed)
    wanted = evaluate(capture(made.message.SerializeToString()), dict(made.feeds))
    assert_same(wanted, emulated(made.message, made.feeds, find_target("arm64")))


@needs_emulator
def test_the_emulator_stops_at_what_reads_beyond_its_memory() -> None:
    """Else the tests above would show less than they say."""
    import unicorn

    operand = (DType.F32, View.dense((64,)))
    kernel = elementwise(DType.F32, View.dense((64,)), [operand], lambda writer, names: names[0], 4)
    emulator = Emulator(objects_here([kernel], find_target("arm64"), 1).values())
    whole, half = (emulator.put(np.ones(size, np.float32)) for size in (64, 32))
    emulator.call(kernel.name, 0, [whole, emulator.put(np.zeros(64, np.float32))])
    for pointers in ([half, whole], [whole, half]):
        with pytest.raises(unicorn.UcError):
            emulator.call(kernel.name, 0, pointers)


def test_rewrites_are_checked_for_a_processor_that_is_not_here_too() -> None:
    nodes = [node("Mul", ["x", "one"], ["y"]), node("Relu", ["y"], ["z"])]
    message = of(nodes, {"x": np.ones(4, np.float32)}, ["z"], {"one": np.ones(1, np.float32)})
    options = CompileOptions(target="cpu:sapphirerapids", engine="tvm", strict=True, verify=Verify.REWRITES)
    assert compiled(message, options).checked > 0

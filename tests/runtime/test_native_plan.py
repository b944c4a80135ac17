"""Plans of kernels: read as they were written, and never pointing beyond what they may touch."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from irc.runtime import ARENA, CONSTANTS, Argument, ArtifactError, NativeBuffer, NativePlace, NativePlan, NativeStep

from .native_programs import gathering, planned, reversing


def test_a_plan_is_read_as_it_was_written() -> None:
    for plan in (reversing(), gathering(), planned([], [], [])):
        assert NativePlan.from_bytes(plan.to_bytes()) == plan


def test_what_lies_in_the_arena_and_the_work_of_steps_are_read_as_they_were_written() -> None:
    plan = reversing()
    steps = tuple(replace(step, flops=flops) for step, flops in zip(plan.steps, (64, 0), strict=True))
    values = NativePlace("product", ARENA, 128), NativePlace("half", ARENA, 256)
    told = replace(plan, steps=steps, buffers=(NativeBuffer("product", 128, 256, 0, 1),), values=values)
    assert NativePlan.from_bytes(told.to_bytes()) == told
    assert told.steps[0].byte_count == 256 + 4 + 256


def test_the_kernel_of_nothing_but_arithmetic_has_memory_of_its_own() -> None:
    peak = NativeStep("irc_peak", 16, (Argument(ARENA, 0, 1024),), (), 1 << 20)
    plan = replace(reversing(), peak=peak)
    assert NativePlan.from_bytes(plan.to_bytes()) == plan
    for argument in (Argument(ARENA, 64, 64), Argument(CONSTANTS, 0, 4)):
        wrong = replace(plan, peak=replace(peak, arguments=(argument,)))
        with pytest.raises(ArtifactError, match="irc_peak gets other memory than its own"):
            NativePlan.from_bytes(wrong.to_bytes())


def damaged(**changes: Any) -> bytes:
    """The plan of `reversing` with other values for some of its keys; `step` changes the first step's."""
    plan: dict[str, Any] = json.loads(reversing().to_bytes())
    plan["steps"][0].update(changes.pop("step", {}))
    return json.dumps({**plan, **changes}).encode()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (damaged(arena=127), "irc_scale goes up to byte 384 of 127"),
        (damaged(constants=0), "irc_scale goes up to byte 68 of 0"),
        (damaged(step={"arguments": [3, 4, 256]}), "irc_scale goes up to byte 260 of 256"),
        (damaged(step={"arguments": [2, 0, 5]}), "irc_scale goes up to byte 5 of 4"),
        (damaged(step={"arguments": [3, 1 << 70, 0]}), "goes up to byte"),
        (damaged(step={"arguments": [5, 0, 0]}), "irc_scale gets base 5, and there are 5"),
        (damaged(step={"arguments": [3, -4, 4]}), "arguments should be a list of integers"),
        (damaged(step={"arguments": [3, 0]}), "a kernel has one to 24 arguments, of three numbers each"),
        (damaged(step={"arguments": []}), "a kernel has one to 24 arguments"),
        (damaged(step={"arguments": [3, 0, 0] * 25}), "a kernel has one to 24 arguments"),
        (damaged(step={"tasks": 1 << 31}), "2147483648 tasks are too many"),
        (damaged(step={"tasks": -1}), "tasks should be an integer that is not negative"),
        (damaged(step={"more": 1}), "has the unknown key more"),
        (damaged(arena=1 << 70), "no machine has so much memory"),
        (damaged(inputs=[{"name": "x", "dtype": "str", "shape": []}]), "str is no element type that kernels compute with"),
        (damaged(inputs=[{"name": "x", "dtype": "f32", "shape": [1 << 40, 1 << 40]}]), "no machine has so much memory"),
        (damaged(more=1), "has the unknown key more"),
        (damaged(step={"flops": -1}), "flops should be an integer that is not negative"),
        (damaged(buffers=[{"name": "b", "place": [256, 129, 0, 1]}]), "the buffer 'b' does not lie within the arena"),
        (
            damaged(buffers=[{"name": "b", "place": [0, 64, 0, 2]}]),
            "the buffer 'b' does not lie within the arena and the steps",
        ),
        (damaged(values=[{"name": "v", "at": [0, 1 << 40]}]), "the value 'v' does not lie within its base"),
        (damaged(values=[{"name": "v", "at": [5, 0]}]), "the value 'v' does not lie within its base"),
        (damaged(values=[{"name": "v", "at": [0]}]), "at should be a base and an offset"),
        (damaged(buffers=[{"name": "b", "place": [0, 64, 1, 0]}]), "a last step that is not before it"),
        (damaged(buffers=[{"name": "b", "place": [0, 64, 1]}]), "place should be an offset, a size"),
    ],
)
def test_a_damaged_plan_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ArtifactError, match=f"^plan.json.*{reason}"):
        NativePlan.from_bytes(data)

"""Programs of kernels that run on any number of entries, in blocks: by a plan made by hand, of kernels in C."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from irc.runtime import (
    ARENA,
    CONSTANTS,
    MOST_ROWS,
    STATUS,
    Argument,
    ArtifactError,
    EngineFailure,
    NativeBlock,
    NativePlan,
    NativeStep,
    NativeValue,
)

from .native_programs import called, executor, needs_compiler, planned

pytestmark = needs_compiler

X, Y, T = 3, 4, 5
ENTRY = 256
"""Bytes of an entry of x: 64 elements, of which a task of the kernel does 8."""


def scaling() -> NativePlan:
    """t = [9, 0, ...] and y = 9 * x: the factor is computed once, then blocks of 4 entries and single ones are scaled."""
    constant = Argument(CONSTANTS, 64, 32), Argument(CONSTANTS, 64, 4)

    def scale(entries: int) -> NativeStep:
        size = entries * ENTRY
        arguments = (Argument(X, 0, size), Argument(ARENA, 0, 4), Argument(Y, 0, size))
        return NativeStep("irc_scale", 8 * entries, arguments, (f"scale{entries}",))

    steps = [
        NativeStep("irc_scale", 1, (*constant, Argument(ARENA, 0, 32)), ("factor",)),
        NativeStep("irc_scale", 1, (*constant, Argument(T, 0, 32)), ("factor",)),
        scale(4),
        scale(1),
    ]
    outputs = [NativeValue("y", "f32", (1, 64), True), NativeValue("t", "f32", (8,))]
    plan = planned(steps, [NativeValue("x", "f32", (1, 64), True)], outputs, 64, 128)
    return replace(plan, blocks=(NativeBlock(0, 0, 2), NativeBlock(4, 2, 3), NativeBlock(1, 3, 4)))


def numbers(entries: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((entries, 64), np.float32)


FACTOR = np.array([9, 0, 0, 0, 0, 0, 0, 0], np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_entries_is_right_and_none_give_none(threads: int) -> None:
    built = executor(scaling(), threads)
    for entries in (3, 0, 1, 4, 5, 11, 8):
        x = numbers(entries)
        y, t = called(built, x=x)
        np.testing.assert_array_equal(y, x * 9)
        np.testing.assert_array_equal(t, FACTOR)


def test_each_block_is_done_as_often_as_it_fits_and_what_is_shared_once() -> None:
    built = executor(scaling(), 1)
    _, times = built.run_timed({"x": numbers(11)})
    assert all(times)
    _, times = built.run_timed({"x": numbers(8)})
    assert times[2]
    assert not times[3]
    assert scaling().times(11) == (1, 1, 2, 3)
    assert scaling().times(0) == (1, 1, 0, 0)


def test_inputs_that_are_read_only_or_lie_otherwise_are_right() -> None:
    built, x = executor(scaling()), numbers(14)
    x.flags.writeable = False
    for each in (x[3:9], x[::2], x[:, ::-1], np.asfortranarray(x)):
        np.testing.assert_array_equal(called(built, x=each)[0], each * 9)


def test_several_threads_at_once_and_outputs_share_no_memory() -> None:
    built = executor(scaling())
    feeds = [numbers(seed % 13, seed) for seed in range(64)]

    def run(x: np.ndarray) -> list[Any]:
        return called(built, x=x)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, feeds))
    for x, (y, t) in zip(feeds, found, strict=True):
        np.testing.assert_array_equal(y, x * 9)
        np.testing.assert_array_equal(t, FACTOR)
    arrays = [array for each in found for array in each]
    arrays[0].fill(7)
    assert not any(np.shares_memory(arrays[0], other) for other in (*arrays[1:], *feeds))


def test_other_shapes_and_too_many_entries_are_refused() -> None:
    built = executor(scaling())
    with pytest.raises(EngineFailure, match=r"input x is float32\[3, 63\], and the program was compiled for float32\[3, 64\]"):
        built.run({"x": numbers(3)[:, 1:]})
    with pytest.raises(EngineFailure, match="536870912 entries are too many for one run"):
        built.run({"x": np.broadcast_to(np.float32(0), (MOST_ROWS, 64))})


def test_inputs_that_differ_in_entries_are_refused() -> None:
    plan = scaling()
    other = NativeValue("z", "f32", (1, 2), True)
    moved = tuple(
        replace(step, arguments=tuple(replace(a, base=a.base + (a.base > X)) for a in step.arguments)) for step in plan.steps
    )
    built = executor(replace(plan, inputs=(*plan.inputs, other), steps=moved))
    x, z = numbers(5), np.zeros((5, 2), np.float32)
    np.testing.assert_array_equal(called(built, x=x, z=z)[0], x * 9)
    with pytest.raises(EngineFailure, match=r"input z is float32\[4, 2\], and the program was compiled for float32\[5, 2\]"):
        called(built, x=x, z=z[1:])


def test_what_a_kernel_complains_of_ends_the_run_and_names_the_op() -> None:
    gather = (Argument(X, 0, 8), Argument(CONSTANTS, 0, 16), Argument(Y, 0, 4), Argument(STATUS, 0, 4))
    step = NativeStep("irc_gather", 1, gather, ("embedding",))
    inputs, outputs = [NativeValue("i", "i64", (1,), True)], [NativeValue("y", "f32", (1,), True)]
    built = executor(replace(planned([step], inputs, outputs, 0, 128), blocks=(NativeBlock(1, 0, 1),)))
    assert called(built, i=np.array([0, 3, 1]))[0].shape == (3,)
    with pytest.raises(EngineFailure, match="an index is out of range in embedding"):
        built.run({"i": np.array([0, 3, 4, 1])})
    assert called(built, i=np.array([2]))[0].shape == (1,)


def test_a_plan_is_what_was_written() -> None:
    assert NativePlan.from_bytes(scaling().to_bytes()) == scaling()
    assert b"counts" not in planned([], [], [NativeValue("y", "f32", (2,))]).to_bytes()


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ([(0, 2), (4, 3)], "the last one for one"),
        ([(0, 2), (1, 3), (1, 4)], "less entries than the one before"),
        ([(0, 2), (1, 3), (4, 4)], "less entries than the one before"),
        ([(4, 2), (0, 3), (1, 4)], "less entries than the one before"),
        ([(0, 2), (4, 1), (1, 4)], "end where the next one begins"),
        ([(0, 2), (4, 3), (1, 3)], "should have all steps"),
        ([(0, 2), (4, 3), (1, 5)], "should have all steps"),
        ([(0, 2), (2, 3), (1, 4)], "the kernel irc_scale goes up to byte 1024 of 512"),
        ([(0, 3), (1, 4)], "the kernel irc_scale goes up to byte 1024 of 0"),
        ([], "blocks where an input counts entries"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(blocks: list[tuple[int, int]], reason: str) -> None:
    ends = [end for _, end in blocks]
    made = tuple(NativeBlock(entries, first, end) for (entries, end), first in zip(blocks, (0, *ends), strict=False))
    with pytest.raises(ArtifactError, match=reason):
        NativePlan.from_bytes(replace(scaling(), blocks=made).to_bytes())


def test_values_that_count_without_blocks_or_rows_are_refused() -> None:
    plan = scaling()
    fixed = tuple(replace(each, counts=False) for each in plan.inputs)
    with pytest.raises(ArtifactError, match="blocks where an input counts entries"):
        NativePlan.from_bytes(replace(plan, inputs=fixed).to_bytes())
    with pytest.raises(ArtifactError, match="blocks where an input counts entries"):
        NativePlan.from_bytes(replace(plan, inputs=fixed, blocks=()).to_bytes())
    with pytest.raises(ArtifactError, match="x has no rows for an entry"):
        NativePlan.from_bytes(replace(plan, inputs=(replace(plan.inputs[0], shape=()),)).to_bytes())

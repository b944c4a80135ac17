"""Small programs of kernels in C, made by hand for these tests, as a compiler would hand them over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.lowering.tvm.linking import link
from irc.runtime import (
    ARENA,
    CONSTANTS,
    STATUS,
    Argument,
    EngineFiles,
    Manifest,
    NativeExecutor,
    NativeOptions,
    NativePlan,
    NativeStep,
    NativeValue,
    Program,
    SignatureEntry,
    processor,
    scratch_folder,
)

HAS_COMPILER = subprocess.run(["sh", "-c", "command -v cc"], capture_output=True, check=False).returncode == 0
needs_compiler = pytest.mark.skipif(sys.platform != "linux" or not HAS_COMPILER, reason="needs a C compiler on Linux")

SIZE, TASKS = 64, 8
X, Y = 3, 4
"""The bases of the input and the output."""

KERNELS = """
#include <stdint.h>
enum { CHUNK = 8 };
void irc_scale(int32_t task, const float *x, const float *factor, float *y) {
    for (int i = task * CHUNK; i < (task + 1) * CHUNK; i++) y[i] = x[i] * factor[0];
}
void irc_reverse(int32_t task, const float *x, float *y) {
    for (int i = task * CHUNK; i < (task + 1) * CHUNK; i++) y[i] = x[63 - i];
}
void irc_gather(int32_t task, const int64_t *index, const float *table, float *y, int32_t *status) {
    if (*index < 0 || *index >= 4) { *status = 1; return; }
    y[task] = table[*index];
}
void irc_nothing(int32_t task, const void *x) { (void)task; (void)x; }
void irc_copy(int32_t task, const uint16_t *x, uint16_t *y) { y[task] = x[task]; }
"""
TWICE = KERNELS.replace("x[i] * factor[0]", "x[i] * factor[0] * 2")


@cache
def library(source: str = KERNELS) -> bytes:
    """The library of the kernels above."""
    command = "cc -O1 -fPIC -x c - -c -o kernels.o"
    with scratch_folder("test") as folder:
        subprocess.run(command.split(), input=source.encode(), cwd=folder, check=True)
        return link([Path(folder, "kernels.o").read_bytes()], f"{os.uname().machine}-linux-gnu")


def value(name: str, dtype: str, *shape: int) -> NativeValue:
    return NativeValue(name, dtype, shape)


def planned(
    steps: Sequence[NativeStep],
    inputs: Sequence[NativeValue],
    outputs: Sequence[NativeValue],
    arena: int = 0,
    constants: int = 0,
) -> NativePlan:
    return NativePlan(tuple(steps), arena, constants, tuple(inputs), tuple(outputs), processor().architecture, ())


def reversing() -> NativePlan:
    """y = reverse(x * 3): x to the arena, and from there to y."""
    whole = 4 * SIZE
    scale = (Argument(X, 0, whole), Argument(CONSTANTS, 64, 4), Argument(ARENA, 128, whole))
    reverse = (Argument(ARENA, 128, whole), Argument(Y, 0, whole))
    steps = [NativeStep("irc_scale", TASKS, scale, ("mul",)), NativeStep("irc_reverse", TASKS, reverse, ("slice", "flip"))]
    return planned(steps, [value("x", "f32", SIZE)], [value("y", "f32", SIZE)], 128 + whole, 128)


CONSTANT = np.zeros(32, np.float32)
CONSTANT[16] = 3


def entries(values: Sequence[NativeValue]) -> tuple[SignatureEntry, ...]:
    return tuple(SignatureEntry(each.name, each.dtype, each.shape) for each in values)


def files_of(plan: NativePlan, code: bytes | None = None) -> EngineFiles:
    constants = CONSTANT.tobytes()[: plan.constants]
    return EngineFiles(
        {
            "plan.json": (plan.to_bytes(),),
            "program.so": (code or library(),),
            "constants.bin": (constants[:100], constants[100:]),
        },
        {},
    )


def executor(plan: NativePlan, threads: int = 2, code: bytes | None = None) -> NativeExecutor:
    return NativeExecutor(files_of(plan, code), NativeOptions(threads), entries(plan.inputs), entries(plan.outputs))


def program(threads: int = 2) -> Program:
    plan = reversing()
    manifest = Manifest(
        engine="tvm",
        inputs=entries(plan.inputs),
        outputs=entries(plan.outputs),
        engine_options=NativeOptions(threads).to_manifest(),
    )
    return Program.from_files(manifest, files_of(plan))


def numbers(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SIZE, np.float32)


def called(built: NativeExecutor, **feeds: np.ndarray) -> list[Any]:
    return built.run(dict(feeds))


def gathering() -> NativePlan:
    gather = (Argument(X, 0, 8), Argument(CONSTANTS, 0, 16), Argument(Y, 0, 8), Argument(STATUS, 0, 4))
    nothing = NativeStep("irc_nothing", 1, (Argument(X, 0, 8),), ("first",))
    step = NativeStep("irc_gather", 2, gather, ("embedding",))
    return planned([nothing, step], [value("x", "i64")], [value("y", "f32", 2)], 0, 128)

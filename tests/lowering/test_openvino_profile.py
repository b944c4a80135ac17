"""Profiles of OpenVINO: whatever it fuses, renames and inserts, a kernel counts to the ops that were lowered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irc.lowering import CompileOptions, Verify, compile_model
from irc.runtime import EngineFailure, EngineFiles, Manifest, Profile, Program
from irc.runtime.openvino_profiling import split_names

from .models import F32, I64, info, model, node, normal

pytest.importorskip("openvino", reason="needs the extra openvino")

CHOSEN = CompileOptions(engine="openvino", verify=Verify.NOTHING, engine_options={"threads": 1})


def convolution() -> Any:
    """A convolution with a bias, a Relu that OpenVINO fuses with it, a pool, a product, large enough to take some time."""
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], name="stem/conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"], name="stem/relu, at once"),
        node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"], name="flat"),
        node("MatMul", ["f", "v"], ["y"], name="head/product"),
    ]
    weights = {"w": normal(32, 3, 3, 3), "b": normal(32), "v": normal(32 * 32 * 32, 10)}
    return model(nodes, [info("x", F32, ["N", 3, 64, 64])], [info("y", F32, ["N", 10])], weights)


def profile_of(program: Program) -> Profile:
    return program.profile({"x": normal(4, 3, 64, 64)}, runs=3)


def origins(profile: Profile) -> set[str]:
    return {origin for kernel in profile.kernels for source in kernel.sources for origin in source.origins}


def test_kernels_count_to_what_was_lowered() -> None:
    profile = profile_of(compile_model(convolution(), CHOSEN).program)
    assert (profile.engine, profile.threads, profile.runs, profile.unknown_ms) == ("openvino", 1, 3, 0)
    assert {"stem/conv", "stem/relu, at once", "pool", "head/product"} <= origins(profile)
    conv = next(kernel for kernel in profile.kernels if kernel.op == "Convolution")
    assert {origin for source in conv.sources for origin in source.origins} == {"stem/conv", "stem/relu, at once"}
    assert conv.outputs == ("f32[4,32,64,64]",)
    assert conv.implementation
    assert profile.run_ms > 0


def test_without_what_was_lowered_nothing_is_attributed() -> None:
    """As in an artifact that another tool has stripped: times are there, and stand for nothing known."""
    program = compile_model(convolution(), CHOSEN).program
    files = program._files  # pyright: ignore[reportPrivateUsage]  # a program has no other way to its files
    assert files is not None
    stripped = EngineFiles({name: chunks for name, chunks in files.files.items() if name != "ops.onnx"}, {})
    profile = profile_of(Program.from_files(program.manifest, stripped))
    assert profile.kernels
    assert profile.unknown_ms == profile.kernels_ms


def test_names_with_commas_are_found_whole() -> None:
    known = {"a", "b, c", "c"}
    assert split_names("a,b, c,unknown,c", known) == ["a", "b, c", "c"]


def test_an_engine_without_times_says_so() -> None:
    manifest = Manifest(engine="mine", inputs=(), outputs=())
    program = Program.elsewhere(manifest, EngineFiles({}, {}), "")
    with pytest.raises(EngineFailure, match="the engine mine keeps no times of its kernels"):
        program.profile({})


def test_results_of_a_recorded_run_are_those_of_any_other() -> None:
    """Sizes are computed, and the name of a result is that of its tensor."""
    nodes = [node("Shape", ["x"], ["s"], name="sizes"), node("Add", ["x", "x"], ["y"], name="sum")]
    message = model(nodes, [info("x", F32, ["N", 256])], [info("y", F32, ["N", 256]), info("s", I64, [2])])
    program = compile_model(message, CHOSEN).program
    profile = program.profile({"x": np.ones((4096, 256), np.float32)}, runs=2)
    assert "sum" in origins(profile)
    assert profile.unknown_ms == 0

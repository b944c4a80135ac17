"""Whole programs for GPUs: what they compute, what their artifacts say, and what is refused in which words."""

from __future__ import annotations

import ctypes
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.lowering import CompileOptions, compile_model
from irc.runtime import ArtifactError, EngineFailure, EngineFiles, Program, load
from irc.runtime.cuda_executor import launches_from_bytes

from ...models import node
from ..programs import RandomModel, assert_right, compiled, of
from .cases import ALONE, MODELS, assert_nothing_unwritten_is_read, assert_threads_are_apart, normal, perceptron
from .emulating import needs_emulator

here = pytest.mark.usefixtures("gpu_here")


@needs_emulator
@here
@pytest.mark.parametrize("rows", [1, 5])
def test_a_perceptron(rows: int) -> None:
    message, feeds = perceptron(rows)
    assert_right(message, feeds, ALONE)


@needs_emulator
@here
@pytest.mark.parametrize("name", MODELS)
def test_models_answer_as_the_reference_does(name: str) -> None:
    make, shape = MODELS[name]
    given = normal(*shape)
    made = compile_model(make().SerializeToString(), CompileOptions("cuda", engine="tvm", strict=True, shapes={"x": shape}))
    assert made.agreement.agrees
    assert made.agreement.distance < 1e-5
    assert [each.engine for each in made.program.manifest.placement] == ["tvm"]
    assert np.isfinite(made.program.run({"x": given})["y"]).all()


@needs_emulator
@here
@pytest.mark.parametrize("seed", [0, 2, 7, 10])
def test_random_models_answer_as_the_reference_does(seed: int) -> None:
    made = RandomModel(seed)
    assert_right(made.message, made.feeds, replace(ALONE, passes=None))


@needs_emulator
@here
@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([node("Add", ["x", "x"], ["y"]), node("Reshape", ["y", "s"], ["z"])], ["y", "z"]),
        ([node("Reshape", ["x", "s"], ["z"])], ["z"]),
        ([node("Identity", ["x"], ["z"])], ["x", "z"]),
        ([node("Add", ["x", "x"], ["y"])], ["y", "s"]),
        ([node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2), node("Neg", ["z"], ["n"])], ["n", "z"]),
        ([node("Reshape", ["x", "s"], ["y"]), node("Relu", ["y"], ["r"]), node("Squeeze", ["r"], ["z"])], ["z"]),
    ],
)
def test_outputs_may_be_anything(nodes: list[Any], outputs: list[str]) -> None:
    feeds = {"x": normal(3, 4)}
    message = of(nodes, feeds, outputs, {"s": np.array([6, 2])})
    assert_right(message, feeds, ALONE)
    results = list(compiled(message, ALONE).program.run(feeds).values())
    assert not any(np.shares_memory(a, b) for i, a in enumerate(results) for b in [feeds["x"], *results[:i]])


@needs_emulator
@here
def test_no_kernel_reads_what_nobody_wrote() -> None:
    assert_nothing_unwritten_is_read()


@needs_emulator
@here
def test_threads_get_their_own_answers() -> None:
    assert_threads_are_apart(inputs=4, runs=16)


@needs_emulator
def test_a_closed_program_leaves_nothing_on_the_gpu(gpu_here: Any) -> None:
    gpu_here.irc_allocated.restype = ctypes.c_long
    before = gpu_here.irc_allocated()
    message, feeds = perceptron()
    made = compiled(message, ALONE).program
    made.run(feeds)
    assert gpu_here.irc_allocated() > before
    made.close()
    assert gpu_here.irc_allocated() == before


@needs_emulator
@here
def test_an_index_out_of_range_reads_the_last_entry() -> None:
    """A kernel cannot complain, and reads nothing that is not the table's."""
    table, indices = normal(7, 4), np.array([[100, -100, 3]])
    message = of([node("Gather", ["x", "i"], ["y"])], {"x": table, "i": indices}, ["y"])
    found = compiled(message, ALONE).program.run({"x": table, "i": indices})["y"]
    np.testing.assert_array_equal(found[0], table[[6, 0, 3]])


@needs_emulator
@here
def test_an_artifact_is_the_same_each_time_and_loads(tmp_path: Path) -> None:
    message, feeds = perceptron()
    for name in "ab":
        compiled(message, ALONE).program.save(tmp_path / f"{name}.irc")
    assert (tmp_path / "a.irc").read_bytes() == (tmp_path / "b.irc").read_bytes()
    loaded = load(tmp_path / "a.irc")
    np.testing.assert_array_equal(loaded.run(feeds)["y"], compiled(message, ALONE).program.run(feeds)["y"])
    plan = json.loads(loaded.files.read("plan.json"))
    assert (plan["architecture"], plan["features"]) == ("nvidia", ["sm_90"])
    assert b"__global__" in loaded.files.read("program.cu")


@needs_emulator
@here
def test_its_kernels_are_not_timed_one_by_one() -> None:
    message, feeds = perceptron()
    with pytest.raises(EngineFailure, match=r"kernels on a GPU are not timed one by one \(NVIDIA's nsys names them"):
        compiled(message, ALONE).program.profile(feeds)


@needs_emulator
@here
def test_an_artifact_that_was_tampered_with_is_refused() -> None:
    message, _ = perceptron()
    made = compiled(message, ALONE).program
    manifest, files = made.manifest, made.files

    def loaded(**changed: bytes) -> Program:
        names = {"launches": "launches.json", "constants": "constants.bin", "plan": "plan.json"}
        own = {**files.files, **{names[key]: (content,) for key, content in changed.items()}}
        return Program.from_files(manifest, EngineFiles(own, {}))

    plan = json.loads(files.read("plan.json"))
    with pytest.raises(ArtifactError, match="has no kernel"):
        loaded(launches=b'{"kernels": []}')
    with pytest.raises(ArtifactError, match="has 4 bytes"):
        loaded(constants=b"abcd")
    plan["steps"][0]["arguments"][1] += 1 << 20
    with pytest.raises(ArtifactError, match="goes up to byte"):
        loaded(plan=json.dumps(plan).encode())
    with pytest.raises(ArtifactError, match="is no compute capability"):
        loaded(plan=files.read("plan.json").replace(b'"sm_90"', b'"sm_x"'))
    with pytest.raises(EngineFailure, match="the program is for sm_80, and the GPU here is sm_90"):
        loaded(plan=files.read("plan.json").replace(b'"sm_90"', b'"sm_80"'))
    renamed = {name: files.read(f"{name}.json").replace(b"irc_", b"ircx_") for name in ("plan", "launches")}
    with pytest.raises(EngineFailure, match=r"the NVIDIA driver says of kernel ircx_\w+: named symbol not found"):
        loaded(**renamed)


@pytest.mark.parametrize("extents", [[1, 1, 1, 1024, 2, 1], [0, 1, 1, 1, 1, 1], [1, 1, 1], [1 << 31, 1, 1, 1, 1, 1]])
def test_launches_that_no_gpu_can_do_are_refused(extents: list[int]) -> None:
    with pytest.raises(ArtifactError):
        launches_from_bytes(json.dumps({"kernels": [{"name": "k", "extents": extents}]}).encode())

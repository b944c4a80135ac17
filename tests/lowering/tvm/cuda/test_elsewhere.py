"""Programs for GPUs made where there is none: what they say, and which engine serves which GPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from irc.lowering import Verify, compile_model, find_engine, find_target
from irc.lowering.tvm.cuda import nvrtc, program
from irc.runtime import EngineFailure, load

from ...models import node
from ..programs import of
from .cases import ALONE, normal, perceptron
from .emulating import codes_here, image_here, needs_emulator


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_target("cuda").is_here:
        pytest.skip("there is a GPU here")
    monkeypatch.setattr(program, "image", image_here)
    monkeypatch.setattr(program, "codes", codes_here)
    monkeypatch.setattr(nvrtc, "installed_version", lambda: "emulated")


@needs_emulator
@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("target", "feature"), [("cuda:sm_80", "sm_80"), ("cuda", "compute_75")])
def test_a_program_is_made_without_a_gpu_and_says_where_it_runs(target: str, feature: str, tmp_path: Path) -> None:
    message, feeds = perceptron()
    made = compile_model(message.SerializeToString(), replace(ALONE, target=target, verify=Verify.ANSWERS))
    assert "not checked against the reference: its kernels run on" in made.agreement.sentence
    assert json.loads(made.program.files.read("plan.json"))["features"] == [feature]
    assert ("program.ptx" in made.program.files.files) == (target == "cuda")
    with pytest.raises(EngineFailure, match=f"the program is for the target {target}"):
        made.program.run(feeds)
    made.program.save(tmp_path / "m.irc")
    with pytest.raises(EngineFailure, match="the program runs on an NVIDIA GPU, but there is no NVIDIA driver") as caught:
        load(tmp_path / "m.irc")
    assert caught.value.exit_code == 5


@needs_emulator
@pytest.mark.usefixtures("no_gpu")
def test_what_there_are_no_kernels_for_is_left_to_onnx_runtime() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("TopK", ["m", "k"], ["t", "i"], axis=1),
        node("Relu", ["t"], ["r"]),
        node("MatMul", ["r", "v"], ["y"]),
    ]
    weights = {"w": normal(32, 64), "v": normal(32, 48), "k": np.array([32])}
    message = of(nodes, {"x": normal(16, 32)}, ["y"], weights)
    options = replace(ALONE, target="cuda:sm_90", strict=False)
    made = compile_model(message.SerializeToString(), options)
    assert [each.engine for each in made.program.manifest.placement] == ["tvm", "onnxruntime", "tvm"]


@pytest.mark.parametrize(
    ("target", "version", "clause"),
    [
        ("cuda:sm_70", "13", "NVRTC makes no code for GPUs before sm_75"),
        ("cuda:sm_90", "", "NVRTC, which compiles its kernels, is not installed"),
        ("cuda:sm_90", "13", ""),
    ],
)
def test_the_engine_says_which_gpus_it_serves(target: str, version: str, clause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = find_engine("tvm")
    if not engine.version:
        pytest.skip("needs TVM")
    monkeypatch.setattr(nvrtc, "installed_version", lambda: version)
    assert engine.serves(find_target(target)).reason.startswith(clause)
    assert bool(engine.serves(find_target(target))) == (not clause)

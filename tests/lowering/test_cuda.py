"""Programs for GPUs made on a machine without one: rules choose settings, manifests keep them, the CPU checks answers."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from irc.lowering import CompileOptions, Varied, compile_model, find_engine, find_target
from irc.lowering.onnxruntime import engine as onnxruntime_engine
from irc.lowering.onnxruntime import kernels
from irc.lowering.onnxruntime.package import Package
from irc.lowering.tuning.candidates import first_candidates
from irc.runtime import EngineFailure, OnnxRuntimeOptions, random_inputs
from irc.tools.gpu_models import attention, control_flow, convolutions

from . import models

ENGINE = find_engine("onnxruntime")
CUDA = find_target("cuda:sm_90")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_target("cuda").is_here:
        pytest.skip("there is a GPU here")


@pytest.mark.parametrize("level", range(4))
def test_every_setting_is_one_that_the_runtime_takes(level: int) -> None:
    for setting in (*ENGINE.settings(level, CUDA), *ENGINE.defaults(CUDA)):
        options = OnnxRuntimeOptions.from_manifest(setting)
        assert options.provider_options["CUDAExecutionProvider.use_tf32"] == "0"
        assert options.to_manifest() == setting


def test_variants_keep_f32_and_are_none_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(ENGINE, Varied)
    monkeypatch.setattr(onnxruntime_engine, "tensorrt_library", lambda: "/lib")
    variants = {name: OnnxRuntimeOptions.from_manifest(each) for name, each in ENGINE.variants(CUDA).items()}
    assert list(variants) == ["NHWC", "CUDA graph", "NHWC, CUDA graph", "TensorRT"]
    assert all(each.provider_options["CUDAExecutionProvider.use_tf32"] == "0" for each in variants.values())
    assert variants["TensorRT"].providers[0] == "TensorrtExecutionProvider"
    assert ENGINE.variants(find_target("cpu")) == {}


def test_tensorrt_is_a_candidate_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(ENGINE, Varied)
    monkeypatch.setattr(onnxruntime_engine, "tensorrt_library", lambda: "")
    assert "TensorRT" not in ENGINE.variants(CUDA)


def test_candidates_on_a_gpu_have_names_of_their_own() -> None:
    names = [each.name for each in first_candidates(CompileOptions("cuda:sm_90", 3, engine="onnxruntime"), CUDA)]
    assert names[:4] == ["onnxruntime", "onnxruntime, graph as it is", "onnxruntime, NHWC", "onnxruntime, CUDA graph"]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("model", [convolutions(), attention(), attention(half=True), control_flow()])
def test_an_artifact_is_made_without_a_gpu(model: onnx.ModelProto, tmp_path: Path) -> None:
    compiled = compile_model(model, CompileOptions("cuda:sm_90", 3))
    assert compiled.agreement.agrees
    assert any("nothing was measured" in note for note in compiled.notes)
    options = compiled.program.manifest.engine_options
    assert options["providers"] == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert options["provider_options"] == onnxruntime_engine.ON_CUDA
    assert options["shared_weights"] == ()
    compiled.program.save(tmp_path / "m.irc")
    with pytest.raises(EngineFailure, match="the program is for the target cuda:sm_90"):
        compiled.program.run(random_inputs(compiled.program.inputs, {}, 0))


def test_no_op_is_fused_into_one_that_only_cpus_have_kernels_for() -> None:
    names = {rule.name for rule in onnxruntime_engine.CPU_ONLY}
    made = {target: compile_model(convolutions(), CompileOptions(target)).program for target in ("cpu", "cuda:sm_90")}
    nodes = {target: program.manifest.nodes for target, program in made.items()}
    assert nodes["cpu"] is not None
    assert nodes["cuda:sm_90"] is not None
    assert nodes["cpu"].after < nodes["cuda:sm_90"].after
    assert not names & set(compile_model(convolutions(), CompileOptions("cuda:sm_90")).forms)


def test_where_a_target_file_lies_makes_no_difference(tmp_path: Path) -> None:
    bytes_made: list[bytes] = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "h100.toml").write_text('like = "cuda:sm_90"\nmultiprocessors = 132\n')
        program = compile_model(convolutions(), CompileOptions(str(tmp_path / folder / "h100.toml"), 3)).program
        assert program.manifest.target == "h100.toml"
        program.save(tmp_path / folder / "m.irc")
        bytes_made.append((tmp_path / folder / "m.irc").read_bytes())
    assert bytes_made[0] == bytes_made[1]


def test_the_package_for_gpus_is_not_asked_for_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """`get_all_opkernel_def` of onnxruntime-gpu 1.31 ends the process where CUDA's or TensorRT's libraries are missing."""

    def crashes() -> None:
        raise AssertionError("it crashes")

    monkeypatch.setattr(kernels, "kernels", crashes)
    monkeypatch.setattr(kernels, "package", lambda: Package("onnxruntime-gpu", "1.31.1"))
    assert compile_model(models.mlp(), CompileOptions()).agreement.agrees
    assert compile_model(attention(), CompileOptions()).agreement.agrees

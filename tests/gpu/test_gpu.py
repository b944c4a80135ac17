"""On a GPU: artifacts load and run there, whatever their settings, and answer as the reference does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import irc
from irc.lowering import CompileOptions, compile_model, find_engine, find_target
from irc.tools.gpu_models import attention, control_flow, convolutions

pytestmark = pytest.mark.gpu

MODELS: Mapping[str, tuple[Callable[[], onnx.ModelProto], dict[str, Any], float]] = {
    "convolutions": (convolutions, {"x": ((2, 3, 32, 32), np.float32)}, 1e-4),
    "attention": (attention, {"x": ((1, 16, 64), np.float32)}, 1e-4),
    "control flow": (control_flow, {"x": ((8,), np.float32)}, 1e-4),
    "f16": (lambda: attention(half=True), {"x": ((1, 16, 64), np.float16)}, 5e-3),
}


def feeds_of(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {key: random.standard_normal(shape).astype(dtype) for key, (shape, dtype) in MODELS[name][1].items()}


def compiled(name: str, variant: str = "", fixed: bool = False) -> irc.Program:
    engine = find_engine("onnxruntime")
    settings = engine.variants(find_target("cuda"))[variant] if variant else {}  # type: ignore[attr-defined]  # it is Varied
    asked = {"provider_options": settings["provider_options"]} if variant else {}
    shapes = {key: value.shape for key, value in feeds_of(name).items()} if fixed else {}
    return compile_model(MODELS[name][0](), CompileOptions("cuda", engine_options=asked, shapes=shapes)).program


def assert_agrees(name: str, program: irc.Program, seed: int = 0) -> None:
    feeds = feeds_of(name, seed)
    reference = irc.compile(MODELS[name][0](), opt_level=0).run(feeds)["y"].astype(np.float64)
    answer = program.run(feeds)["y"].astype(np.float64)
    assert np.linalg.norm(answer - reference) <= MODELS[name][2] * np.linalg.norm(reference)


@pytest.mark.parametrize("name", MODELS)
def test_an_artifact_runs_and_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    compiled(name).save(tmp_path / "m.irc")
    program = irc.load(tmp_path / "m.irc")
    assert program.manifest.engine_options["providers"] == ("CUDAExecutionProvider", "CPUExecutionProvider")
    for seed in range(3):
        assert_agrees(name, program, seed)


@pytest.mark.parametrize("variant", ["NHWC", "CUDA graph", "NHWC, CUDA graph"])
@pytest.mark.parametrize("name", ["convolutions", "attention"])
def test_each_setting_answers_the_same(name: str, variant: str) -> None:
    program = compiled(name, variant, fixed=True)
    for seed in range(4):  # a graph that was captured once has to read what is fed next
        assert_agrees(name, program, seed)


def test_a_graph_with_open_dims_is_refused() -> None:
    with pytest.raises(irc.RunError, match=r"CUDA graph: x.* has no fixed shape"):
        compiled("convolutions", "CUDA graph")


def test_control_flow_is_refused_as_a_cuda_graph() -> None:
    with pytest.raises(irc.RunError, match="control flow"):
        compiled("control flow", "CUDA graph", fixed=True)


@pytest.mark.parametrize("variant", ["", "CUDA graph"])
def test_several_threads_get_their_own_answers(variant: str) -> None:
    program = compiled("convolutions", variant, fixed=True)
    alone = [program.run(feeds_of("convolutions", seed))["y"] for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: program.run(feeds_of("convolutions", seed % 8))["y"], range(64)))
    for index, answer in enumerate(together):
        np.testing.assert_allclose(answer, alone[index % 8], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", ["", "CUDA graph"])
def test_results_are_the_callers_own(variant: str) -> None:
    program = compiled("convolutions", variant, fixed=True)
    first = program.run(feeds_of("convolutions", 0))["y"]
    kept = first.copy()
    program.run(feeds_of("convolutions", 1))
    np.testing.assert_array_equal(first, kept)
    first[:] = 0
    assert_agrees("convolutions", program)


def test_o3_measures_candidates_on_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path))
    shapes = {"x": (2, 3, 32, 32)}
    found = compile_model(convolutions(), CompileOptions("cuda", 3, shapes=shapes, tune_budget=30))
    measured = {each.name for each in found.decisions if each.milliseconds is not None}
    assert {"onnxruntime", "onnxruntime, graph as it is", "onnxruntime, NHWC", "onnxruntime, CUDA graph"} <= measured
    assert_agrees("convolutions", found.program)

"""On a GPU: kernels of irc's own, made by TVM and compiled by NVRTC, answer as the reference does, op by op and whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

import irc
from irc.ir import capture, evaluate
from irc.lowering import CompileOptions, compile_model, find_engine, find_target
from irc.lowering.tvm.cuda import nvrtc, program
from irc.tools.gpu_models import attention, convolutions

from ..programs import compiled, of
from .test_ops import GROUPS, assert_same
from .test_programs import ALONE, perceptron

pytestmark = pytest.mark.gpu

MODELS = {"convolutions": (convolutions, (2, 3, 32, 32)), "attention": (attention, (1, 16, 64))}


@pytest.fixture(autouse=True)
def can_compile() -> None:
    engine, target = find_engine("tvm"), find_target("cuda")
    if reason := target.not_here or engine.serves(target).reason:
        pytest.skip(reason)


@pytest.mark.parametrize("name", GROUPS)
def test_every_op_computes_what_the_reference_does(name: str) -> None:
    group = GROUPS[name]()
    message = of(group.nodes, group.feeds, group.outputs, group.weights)
    wanted = evaluate(capture(message.SerializeToString()), dict(group.feeds))
    found = compiled(message, ALONE).program.run(dict(group.feeds)).values()
    makers = [op.op_type for op in group.nodes for _ in op.output]
    for op, want, got in zip(makers, wanted, found, strict=True):
        assert_same(op, want, got)


@pytest.mark.parametrize("name", MODELS)
def test_an_artifact_runs_and_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    make, shape = MODELS[name]
    message: onnx.ModelProto = make()
    options = CompileOptions("cuda", engine="tvm", strict=True, shapes={"x": shape})
    made = compile_model(message, options)
    assert made.agreement.agrees
    made.program.save(tmp_path / "m.irc")
    loaded = irc.load(tmp_path / "m.irc")
    assert loaded.manifest.placement[0].engine == "tvm"
    for seed in range(3):
        feeds = {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}
        (want,) = evaluate(capture(message), feeds)
        got = loaded.run(feeds)["y"]
        assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)


def test_ptx_runs_on_any_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "architecture", lambda capability: nvrtc.architecture(None))
    message, feeds = perceptron()
    made = compiled(message, ALONE).program
    assert "program.ptx" in made.files.files
    np.testing.assert_allclose(made.run(feeds)["y"], evaluate(capture(message), feeds)[0], rtol=1e-4, atol=1e-5)


def test_threads_get_their_own_answers() -> None:
    message, feeds = perceptron()
    made = compiled(message, ALONE).program
    alone = [made.run({"x": feeds["x"] + each})["y"] for each in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: made.run({"x": feeds["x"] + each % 8})["y"], range(64)))
    for number, answer in enumerate(together):
        np.testing.assert_array_equal(answer, alone[number % 8])


def test_no_kernel_reads_what_nobody_wrote() -> None:
    message, feeds = perceptron()
    made = compiled(message, ALONE).program
    first = made.run(feeds)["y"]
    made._executor.poison()  # type: ignore[attr-defined]  # it is that of a GPU
    np.testing.assert_array_equal(made.run(feeds)["y"], first)

"""On a GPU: kernels of irc's own, made by TVM and compiled by NVRTC, answer as the reference does, op by op and whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import irc
from irc.ir import capture, evaluate
from irc.lowering import CompileOptions, compile_model, find_engine, find_target
from irc.lowering.tvm.cuda import nvrtc, program

from ..programs import compiled
from .cases import ALONE, MODELS, assert_nothing_unwritten_is_read, assert_threads_are_apart, normal, perceptron
from .test_ops import GROUPS

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def can_compile() -> None:
    engine, target = find_engine("tvm"), find_target("cuda")
    if reason := target.not_here or engine.serves(target).reason:
        pytest.skip(reason)


@pytest.mark.parametrize("name", GROUPS)
def test_every_op_computes_what_the_reference_does(name: str) -> None:
    group = GROUPS[name]()
    group.assert_right(compiled(group.message, ALONE).program.run(dict(group.feeds)).values())


@pytest.mark.parametrize("name", MODELS)
def test_an_artifact_runs_and_agrees_with_the_reference(name: str, tmp_path: Path) -> None:
    make, shape = MODELS[name]
    message = make()
    options = CompileOptions("cuda", engine="tvm", strict=True, shapes={"x": shape})
    made = compile_model(message, options)
    assert made.agreement.agrees
    made.program.save(tmp_path / "m.irc")
    loaded = irc.load(tmp_path / "m.irc")
    assert loaded.manifest.placement[0].engine == "tvm"
    for seed in range(3):
        feeds = {"x": normal(*shape, seed=seed)}
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
    assert_threads_are_apart(inputs=8, runs=64)


def test_no_kernel_reads_what_nobody_wrote() -> None:
    assert_nothing_unwritten_is_read()

"""Strict: nothing runs on a second engine, and nothing on the CPU instead of a GPU; what would have is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from irc.ir import UnsupportedError, UsageError, capture
from irc.lowering import CompileOptions, Engine, compile_model, find_engine, find_target
from irc.lowering.engine import Verdict
from irc.lowering.onnxruntime import OnnxRuntime
from irc.lowering.partitioning import Piece
from irc.lowering.plans import lower_pieces
from irc.lowering.strict import CPU, RECORD, REFUSE, refused, without_fallback
from irc.lowering.tuning import search
from irc.runtime import EXECUTORS, PLAN, PLAN_FILE, EngineFailure, Plan, load

from .models import F32, info, mlp, model, node, normal
from .test_tuning import FakeRace

ENGINE: Engine = find_engine("onnxruntime")
GPU, HERE = find_target("cuda"), find_target("cpu")


# The CPU instead of a GPU


def test_the_session_is_told_to_refuse_the_cpu() -> None:
    given = {"providers": ("CUDAExecutionProvider", CPU), "config": {"mine": "1"}, "spin": True}
    assert without_fallback(ENGINE, GPU, given) == {
        "providers": ("CUDAExecutionProvider",),
        "config": {"mine": "1", REFUSE: "1"},
        "spin": True,
    }


def test_where_nothing_falls_back_options_stay_as_they_are() -> None:
    given = {"providers": (CPU,)}
    assert without_fallback(ENGINE, HERE, given) is given
    assert without_fallback(find_engine("openvino"), HERE, given) is given


def test_strict_and_nothing_but_the_cpu_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="strict refuses the CPU, and no other provider is named"):
        without_fallback(ENGINE, GPU, {"providers": (CPU,)})


@pytest.mark.skipif(bool(ENGINE.runs(GPU)), reason="a GPU is here, and the program would run")
@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_program_for_a_gpu_elsewhere_keeps_it(level: int, tmp_path: Path) -> None:
    for strict in (False, True):
        program = compile_model(mlp(), CompileOptions("cuda", opt_level=level, strict=strict)).program
        program.save(tmp_path / f"{strict}.irc")
        options = program.manifest.engine_options
        assert ("config" in options and REFUSE in options["config"]) is strict  # type: ignore[operator]  # config is a mapping
        assert (CPU in options["providers"]) is not strict  # type: ignore[operator]  # providers are a tuple


class Assigning:
    """An executor that gives its second node to the CPU; knows the options it was built with."""

    def __init__(self, options: Any, fallen: list[tuple[str, str, str]]) -> None:
        self.options, self.fallen = options, fallen

    def assigned(self) -> list[tuple[str, str, str]]:
        return [("product", "MatMul", "CUDAExecutionProvider"), *self.fallen]

    def close(self) -> None: ...


def refusal(monkeypatch: pytest.MonkeyPatch, fallen: list[tuple[str, str, str]]) -> tuple[UnsupportedError | None, Assigning]:
    """What is said where these nodes fall back, and the executor that told of them."""
    files = ENGINE.lower(capture(mlp()), HERE, 1)
    manifest = compile_model(mlp(), CompileOptions()).program.manifest
    built: list[Assigning] = []

    def build(files: Any, options: Any, inputs: Any, outputs: Any) -> Any:
        built.append(Assigning(options, fallen))
        return built[-1]

    monkeypatch.setitem(EXECUTORS, "onnxruntime", build)
    options = without_fallback(ENGINE, GPU, ENGINE.settings(2, GPU)[0])
    return refused(ENGINE, GPU, manifest, files, options), built[0]


def test_the_ops_that_would_run_on_the_cpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    error, _ = refusal(monkeypatch, [("relu", "Relu", CPU), ("made/by/ort", "MemcpyFromHost", CPU)])
    assert error is not None
    assert error.message.startswith("2 ops would run on the CPU instead of cuda, which strict refuses:\n  Relu at relu")
    assert "MemcpyFromHost at made/by/ort" in error.message
    assert "without --strict" in (error.hint or "")
    assert error.exit_code == 4


def test_a_failure_that_is_about_something_else_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = compile_model(mlp(), CompileOptions()).program.manifest
    error, built = refusal(monkeypatch, [])
    assert error is None
    assert REFUSE not in built.options["config"]

    def fail(*_: Any) -> Any:
        raise EngineFailure("no memory")

    monkeypatch.setitem(EXECUTORS, "onnxruntime", fail)
    assert refused(ENGINE, GPU, manifest, ENGINE.lower(capture(mlp()), HERE, 1), {"providers": (CPU,)}) is None


def test_onnx_runtime_says_where_each_node_went() -> None:
    files = ENGINE.lower(capture(mlp()), HERE, 1)
    manifest = compile_model(mlp(), CompileOptions()).program.manifest
    options = {**ENGINE.settings(2, HERE)[0], "config": {RECORD: "1"}}
    executor: Any = EXECUTORS["onnxruntime"](files.to_runtime(), options, manifest.inputs, manifest.outputs)
    assert ("product", "MatMul", CPU) in executor.assigned()


@pytest.mark.gpu
@pytest.mark.skipif(not ENGINE.runs(GPU), reason=f"ONNX Runtime runs on no GPU here: {ENGINE.runs(GPU).reason}")
def test_on_a_gpu_what_it_has_no_kernel_for_is_refused(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Det", ["m"], ["y"], name="det")]
    message = model(nodes, [info("x", F32, [4, 4])], [info("y", F32, [])], {"w": normal(4, 4)})
    with pytest.raises(UnsupportedError, match="Det at det"):
        compile_model(message, CompileOptions("cuda", strict=True))
    program = compile_model(mlp(), CompileOptions("cuda", strict=True)).program
    program.save(tmp_path / "m.irc")
    assert load(tmp_path / "m.irc").run({"x": normal(2, 4)})["y"].shape == (2, 4)


# A second engine


@dataclass(frozen=True)
class Picky(OnnxRuntime):
    """ONNX Runtime under another name, that does not take Relu."""

    name: str = "picky"

    def takes(self, op: Any, target: Any) -> Verdict:
        """Everything else."""
        return Verdict("it has no Relu") if op.name == "Relu" else super().takes(op, target)


@pytest.mark.parametrize("strict", [False, True])
def test_at_o3_a_program_of_two_engines_is_refused(strict: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from irc.lowering import engines
    from irc.lowering.tuning import candidates

    usual = engines.ENGINES[0]
    both: list[Engine] = [Picky(), usual]
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(candidates, "ENGINES", both)
    monkeypatch.setitem(EXECUTORS, "picky", EXECUTORS["onnxruntime"])
    monkeypatch.setattr(search, "Race", FakeRace)
    monkeypatch.setattr(FakeRace, "times", {"picky": 0.1})
    width = 64
    made = compile_model(mlp(width), CompileOptions(opt_level=3, strict=strict))
    picky = next(each for each in made.decisions if each.candidate == "picky")
    if strict:
        assert picky.fate == "failed"
        assert "picky: it has no Relu" in picky.why
    assert made.program.manifest.engine == ("onnxruntime" if strict else PLAN)


@pytest.mark.parametrize("level", [1, 2])
def test_pieces_of_engines_that_keep_no_bits_are_lowered_at_every_level(level: int) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (the extra 'openvino')")
    openvino = find_engine("openvino")
    graph = capture(mlp())
    ops = [op for op in graph if not op.is_constant]
    pieces = [Piece(openvino, tuple(ops[:1])), Piece(ENGINE, tuple(ops[1:]))]
    files = lower_pieces(graph, pieces, HERE, level, {"threads": 1})
    (variant,) = Plan.from_bytes(files.to_runtime().read(PLAN_FILE)).variants
    assert [step.engine for step in variant.steps] == ["openvino", "onnxruntime"]
    assert all(step.options["threads"] == 1 for step in variant.steps)

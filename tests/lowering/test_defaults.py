"""Inputs with defaults: from O2 on calls that override none have a program in which defaults are constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import UnsupportedError, UsageError, capture, clone_closed, evaluate, to_model
from irc.lowering import ENGINES, CompileOptions, Verify, compile_model, distance, find_target
from irc.lowering.tuning import search
from irc.runtime import PLAN, PLAN_FILE, EngineFailure, EngineFiles, Plan, Program, load

from .models import F32, I64, info, model, node, normal
from .test_tuning import FakeRace

WEIGHTS = {
    "w": normal(16, 3, 3, 3),
    "scale": normal(16, seed=1),
    "shift": normal(16, seed=2),
    "mean": normal(16, seed=3),
    "var": np.abs(normal(16, seed=4)) + 1,
}


def normalized(batch: str | int = "N", extra: Mapping[str, Any] | None = None) -> ModelProto:
    """A convolution, a BatchNormalization and a Relu; all weights are inputs with defaults, as exporters made them."""
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["b"]),
        node("Relu", ["b"], ["y"]),
    ]
    weights = {**WEIGHTS, **(extra or {})}
    inputs = [info("x", F32, [batch, 3, 8, 8]), *(info(name, F32, array.shape) for name, array in weights.items())]
    return model(nodes, inputs, [info("y", F32, [batch, 16, 6, 6])], weights)


def plan_of(program: Program) -> Plan:
    return Plan.from_bytes(program.files.read(PLAN_FILE))


def check(program: Program, message: ModelProto, **feeds: Any) -> None:
    """The program answers as the reference does."""
    for got, wanted in zip(program.run(feeds).values(), evaluate(capture(message), feeds), strict=True):
        assert distance(wanted, got) < 1e-5


def kinds(files: EngineFiles, part: str) -> Counter[str]:
    import onnx

    return Counter(each.op_type for each in onnx.ModelProto.FromString(files.parts[part].read("model.onnx")).graph.node)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The inputs of every executor that is built, as a list that grows."""
    from irc.runtime import onnxruntime_executor

    names: list[Sequence[str]] = []
    made = onnxruntime_executor.OnnxRuntimeExecutor

    class Told(made):
        def __init__(self, model: Any, weights: Any, options: Any, inputs: Any, *more: Any) -> None:
            names.append([each.name for each in inputs])
            super().__init__(model, weights, options, inputs, *more)

    monkeypatch.setattr(onnxruntime_executor, "OnnxRuntimeExecutor", Told)
    return names


# Which program runs


def test_both_programs_answer_as_the_model_and_after_loading_too(tmp_path: Path) -> None:
    message, x = normalized(), normal(2, 3, 8, 8)
    made = compile_model(message, CompileOptions())
    made.program.save(tmp_path / "m.irc")
    for program in (made.program, load(tmp_path / "m.irc")):
        check(program, message, x=x)
        for name, array in WEIGHTS.items():
            check(program, message, x=x, **{name: array * np.float32(1.5)})
        check(program, message, x=x, **{name: array * np.float32(1.5) for name, array in WEIGHTS.items()})
        check(program, message, x=x)


def test_what_overrides_a_default_is_built_when_it_is_first_needed_and_once(tmp_path: Path, built: list[Any]) -> None:
    message, x = normalized(), normal(2, 3, 8, 8)
    compile_model(message, CompileOptions()).program.save(tmp_path / "m.irc")
    built.clear()
    with load(tmp_path / "m.irc") as program:
        program.run({"x": x})
        assert built == [["x"]]
        start = Barrier(4)

        def override(number: int) -> Any:
            start.wait()
            return program.run({"x": x, "shift": np.full(16, number, np.float32)})["y"]

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(override, range(4)))
        assert built == [["x"], ["x", *WEIGHTS]]
        for number, answer in enumerate(answers):
            (wanted,) = evaluate(capture(message), {"x": x, "shift": np.full(16, number, np.float32)})
            assert distance(wanted, answer) < 1e-5


def test_where_no_default_is_overridden_batch_normalization_is_folded() -> None:
    program = compile_model(normalized(), CompileOptions()).program
    usual, general = plan_of(program).variants
    assert program.manifest.nodes is not None
    assert program.manifest.nodes.after == program.manifest.placement[0].ops == 1
    assert set(kinds(program.files, usual.steps[0].part)) == {"FusedConv"}
    assert kinds(program.files, general.steps[0].part)["BatchNormalization"] == 1


def test_the_signature_keeps_its_defaults_and_the_plan_says_which_must_be_left_out() -> None:
    plain = compile_model(normalized(), CompileOptions(opt_level=1)).program
    program = compile_model(normalized(), CompileOptions()).program
    assert plain.manifest.engine != PLAN
    assert (program.inputs, program.outputs) == (plain.inputs, plain.outputs)
    assert [each.absent for each in plan_of(program).variants] == [tuple(WEIGHTS), ()]
    assert plan_of(program).usual.absent == tuple(WEIGHTS)


@pytest.mark.parametrize("level", [0, 1])
def test_below_o2_the_graph_stays_as_it_is(level: int) -> None:
    made = compile_model(normalized(), CompileOptions(opt_level=level))
    assert made.overriding is None
    assert not made.program.files.parts


def test_compiling_again_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.irc", "b.irc"):
        compile_model(normalized(), CompileOptions(dims={"N": (1, 2)})).program.save(tmp_path / name)
    load(tmp_path / "a.irc").save(tmp_path / "c.irc")
    assert (tmp_path / "a.irc").read_bytes() == (tmp_path / "b.irc").read_bytes() == (tmp_path / "c.irc").read_bytes()


def test_a_large_weight_that_both_use_is_in_the_artifact_once(tmp_path: Path) -> None:
    weight = normal(256, 256)
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    message = model(
        nodes, [info("x", F32, ["N", 256]), info("w", F32, [256, 256])], [info("y", F32, ["N", 256])], {"w": weight}
    )
    compile_model(message, CompileOptions()).program.save(tmp_path / "m.irc")
    assert (tmp_path / "m.irc").stat().st_size < 1.2 * weight.nbytes
    program = load(tmp_path / "m.irc")
    check(program, message, x=normal(2, 256))
    check(program, message, x=normal(2, 256), w=weight * 2)


# What is told


def test_the_report_is_of_the_graph_that_usually_runs_and_the_other_was_checked_too() -> None:
    made = compile_model(normalized(), CompileOptions())
    assert made.agreement.agrees
    assert not made.variants
    assert made.overriding is not None
    assert made.overriding.agreement.agrees
    assert not made.overriding.agreement.unknown
    assert made.overriding.placement[0].ops > made.program.manifest.placement[0].ops


def test_the_program_for_overriding_calls_is_checked_on_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would answer with its defaults, whatever is fed, is not let in."""
    run = Program.run

    def deaf(self: Program, feeds: Any) -> Any:
        return run(self, {"x": feeds["x"]})

    monkeypatch.setattr(Program, "run", deaf)
    with pytest.raises(EngineFailure, match="the engine's answers are wrong"):
        compile_model(normalized(), CompileOptions())


def test_inputs_that_override_are_for_the_program_that_takes_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "given.npz", x=normal(2, 3, 8, 8), scale=WEIGHTS["scale"] * 3)
    made = compile_model(normalized(), CompileOptions(inputs=tmp_path / "given.npz"))
    assert made.overriding is not None
    assert made.overriding.agreement.inputs == "the given inputs"
    assert made.agreement.agrees
    assert not made.agreement.unknown
    np.savez(tmp_path / "wrong.npz", x=normal(2, 3, 8, 8), scale=normal(3))
    with pytest.raises(UsageError, match="scale"):
        compile_model(normalized(), CompileOptions(inputs=tmp_path / "wrong.npz"))


# Engines


def openvino() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (the extra 'openvino')")


def test_openvino_takes_the_closed_graph_and_another_engine_the_other(tmp_path: Path) -> None:
    openvino()
    message, x = normalized(), normal(2, 3, 8, 8)
    made = compile_model(message, CompileOptions(engine="openvino"))
    assert [each.engine for each in made.program.manifest.placement] == ["openvino"]
    assert made.overriding is not None
    assert [each.engine for each in made.overriding.placement] == ["onnxruntime"]
    (said,) = made.notes
    assert said.startswith("overriding a default: it runs on onnxruntime")
    assert said.endswith("it has no inputs with defaults, as mean, scale, shift and 2 more")
    assert {"onnxruntime", "openvino"} <= set(made.program.manifest.versions)
    made.program.save(tmp_path / "m.irc")
    for program in (made.program, load(tmp_path / "m.irc")):
        check(program, message, x=x)
        check(program, message, x=x, mean=WEIGHTS["mean"] * 2)


def test_strict_refuses_a_second_engine_for_overriding_calls_too() -> None:
    openvino()
    with pytest.raises(UnsupportedError, match="openvino runs no calls that override a default") as caught:
        compile_model(normalized(), CompileOptions(engine="openvino", strict=True))
    assert caught.value.hint == "compile without --strict, or without --engine"
    assert compile_model(normalized(), CompileOptions(strict=True)).overriding is not None


@pytest.mark.parametrize("name", [each.name for each in ENGINES])
def test_every_engine_runs_the_closed_graph(name: str) -> None:
    (engine,) = (each for each in ENGINES if each.name == name)
    if not engine.version:
        pytest.skip(f"{name} is not installed")
    message, x = normalized(2), normal(2, 3, 8, 8)
    made = compile_model(message, CompileOptions(engine=name))
    assert name in {each.engine for each in made.program.manifest.placement}
    check(made.program, message, x=x)
    check(made.program, message, x=x, w=WEIGHTS["w"] * 2)


def test_at_o3_every_engine_is_measured_on_the_closed_graph(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(search, "Race", FakeRace)
    monkeypatch.setattr(FakeRace, "times", {"onnxruntime, graph as it is": 0.01})
    options = CompileOptions(opt_level=3)
    made = compile_model(normalized(), options)
    fates = {each.candidate: each.fate for each in made.program.manifest.decisions}
    assert fates["onnxruntime, graph as it is"] == "won"
    assert not any(each.startswith("refused") for each in fates.values())
    assert {each.name for each in ENGINES if each.serves(find_target("cpu"))} <= set(fates)
    assert made.program.manifest.opt_level == 3
    x = normal(2, 3, 8, 8)
    for program in (made.program, compile_model(normalized(), options).program):
        check(program, normalized(), x=x)
        check(program, normalized(), x=x, w=WEIGHTS["w"] * 2)


def test_a_target_that_is_not_here(tmp_path: Path) -> None:
    elsewhere = "arm64" if find_target("cpu:x86-64").is_here else "cpu:x86-64"
    made = compile_model(normalized(), CompileOptions(target=elsewhere))
    assert len(made.notes) == len(set(made.notes)) == 1
    made.program.save(tmp_path / "m.irc")
    assert [len(each.absent) for each in plan_of(made.program).variants] == [len(WEIGHTS), 0]


# Together with dims


def test_variants_for_sizes_are_closed_too_and_overriding_calls_run_at_every_size(built: list[Any]) -> None:
    message = normalized()
    made = compile_model(message, CompileOptions(dims={"N": (1, 2)}))
    assert [each.name for each in made.variants] == ["N=1", "N=2"]
    assert [(dict(v.dims), len(v.absent)) for v in plan_of(made.program).variants] == [
        ({"N": 1}, 5),
        ({"N": 2}, 5),
        ({}, 5),
        ({}, 0),
    ]
    for size in (1, 2, 3):
        check(made.program, message, x=normal(size, 3, 8, 8))
        check(made.program, message, x=normal(size, 3, 8, 8), var=WEIGHTS["var"] * 2)


def sized(default: np.ndarray, rows: Sequence[str | int]) -> ModelProto:
    """x + w, where w has a default and a dim that x has too."""
    inputs = [info("x", F32, ["N", 4]), info("w", F32, rows)]
    return model([node("Add", ["x", "w"], ["y"])], inputs, [info("y", F32, ["N", 4])], {"w": default})


def test_a_default_of_another_size_than_the_dim_that_it_shares() -> None:
    """What the default is counts, not what its dims are called."""
    message = sized(normal(1, 4), ["N", 4])
    for options in (CompileOptions(), CompileOptions(dims={"N": (3,)})):
        program = compile_model(message, options).program
        for size in (1, 3, 5):
            check(program, message, x=normal(size, 4, seed=1))
            check(program, message, x=normal(size, 4, seed=1), w=normal(size, 4, seed=2))


def test_sizes_of_a_dim_that_only_a_default_has_are_refused() -> None:
    message = model(
        [node("Concat", ["x", "w"], ["y"], axis=0)],
        [info("x", F32, [2, 4]), info("w", F32, ["M", 4])],
        [info("y", F32, None)],
        {"w": normal(1, 4)},
    )
    with pytest.raises(UsageError, match="only inputs with defaults have the dim 'M', which is given sizes"):
        compile_model(message, CompileOptions(dims={"M": (3,)}))
    program = compile_model(message, CompileOptions()).program
    for size in (1, 3, 5):
        check(program, message, x=normal(2, 4), w=normal(size, 4))
    check(program, message, x=normal(2, 4))


# Odd defaults


def test_a_default_that_no_op_uses() -> None:
    message = normalized(extra={"unused": normal(0)})
    program = compile_model(message, CompileOptions()).program
    assert "unused" in plan_of(program).variants[0].absent
    check(program, message, x=normal(2, 3, 8, 8))
    check(program, message, x=normal(2, 3, 8, 8), unused=normal(0))


@pytest.mark.parametrize("name", ["w", "other"])
def test_a_default_that_is_an_output(name: str) -> None:
    nodes = [node("Add", ["x", "w"], ["y"])] + ([node("Identity", ["w"], ["other"])] if name == "other" else [])
    inputs = [info("x", F32, ["N", 4]), info("w", F32, [4])]
    message = model(nodes, inputs, [info("y", F32, ["N", 4]), info(name, F32, [4])], {"w": normal(4)})
    program = compile_model(message, CompileOptions()).program
    assert [each.name for each in program.outputs] == ["y", name]
    check(program, message, x=normal(2, 4))
    check(program, message, x=normal(2, 4), w=normal(4, seed=1))
    one, two = program.run({"x": normal(2, 4)}), program.run({"x": normal(2, 4)})
    assert not np.shares_memory(one[name], two[name])


def test_a_default_that_shapes_depend_on() -> None:
    """Other numbers than its own may be no sizes, so the check feeds it as it is."""
    nodes = [node("Reshape", ["x", "shape"], ["y"])]
    message = model(
        nodes, [info("x", F32, [2, 6]), info("shape", I64, [2])], [info("y", F32, None)], {"shape": np.array([3, 4])}
    )
    made = compile_model(message, CompileOptions())
    assert made.overriding is not None
    assert made.overriding.agreement.agrees
    assert not made.overriding.agreement.unknown
    check(made.program, message, x=normal(2, 6))
    check(made.program, message, x=normal(2, 6), shape=np.array([4, 3]))


def test_a_default_inside_a_body() -> None:
    from onnx import helper

    then = helper.make_graph([node("Mul", ["x", "w"], ["t"])], "then", [], [info("t", F32, None)])
    other = helper.make_graph([node("Identity", ["w"], ["e"])], "other", [], [info("e", F32, None)])
    nodes = [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Cast", ["m"], ["c"], to=9)]
    nodes.append(node("If", ["c"], ["y"], then_branch=then, else_branch=other))
    message = model(nodes, [info("x", F32, [4]), info("w", F32, [4])], [info("y", F32, [4])], {"w": normal(4)})
    program = compile_model(message, CompileOptions()).program
    for x in (np.zeros(4, np.float32), np.ones(4, np.float32)):
        check(program, message, x=x)
        check(program, message, x=x, w=normal(4, seed=1))


def test_where_every_input_has_a_default_the_graph_stays_open() -> None:
    message = sized(normal(4), [4])
    message.graph.initializer.add().CopyFrom(message.graph.initializer[0])
    message.graph.initializer[1].name = "x"
    message.graph.initializer[1].dims[:] = [1, 4]
    made = compile_model(message, CompileOptions())
    assert made.overriding is None
    assert made.notes == ["defaults were not taken for constants: every input has one, so some are fed"]
    check(made.program, message)
    check(made.program, message, x=normal(3, 4))


def test_a_default_that_does_not_fit_the_model_leaves_the_graph_open() -> None:
    """It is a placeholder: the model only runs where it is overridden."""
    inputs = [info("x", F32, [2, 4]), info("w", F32, ["K", "M"])]
    message = model([node("MatMul", ["x", "w"], ["y"])], inputs, [info("y", F32, None)], {"w": normal(3, 3)})
    made = compile_model(message, CompileOptions(verify=Verify.NOTHING))
    assert made.notes[0].startswith("defaults were not taken for constants: ")
    check(made.program, message, x=normal(2, 4), w=normal(4, 5))


def test_a_closed_copy_has_types_from_the_defaults_and_leaves_the_graph_alone() -> None:
    graph = capture(sized(normal(3, 4), ["R", 4]))
    closed = clone_closed(graph)
    assert closed.input_names == ["x"]
    assert not closed.defaults
    assert graph.input_names == ["x", "w"]
    assert [each.name for each in to_model(closed).graph.input] == ["x"]


def test_without_verification_nothing_is_evaluated() -> None:
    made = compile_model(normalized(), CompileOptions(verify=Verify.NOTHING))
    assert made.overriding is not None
    assert made.agreement.unknown == made.overriding.agreement.unknown == "not asked for"
    check(made.program, normalized(), x=normal(1, 3, 8, 8), w=WEIGHTS["w"] * 2)

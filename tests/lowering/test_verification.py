"""Whether a program still answers as its model: the check, its bounds, and what the driver does when the answer is no."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irc.ir import capture, evaluate
from irc.lowering import CompileOptions, Target, Verify, compile_model, distance, engines, random_outputs
from irc.lowering.onnxruntime import OnnxRuntime
from irc.lowering.verification import LARGEST_PROBE, Agreement, Probe, check, make_probe
from irc.runtime import EngineFailure, Program, SignatureEntry

from .models import F16, F32, I8, I64, WRONG_PASS, info, mlp, model, node, normal


@dataclass
class Pretender:
    """Something that answers what it was told."""

    answers: dict[str, Any]

    def run(self, _: object) -> dict[str, Any]:
        return self.answers


def verdict(message: Any, wanted: list[Any], got: list[Any]) -> Agreement:
    """What the check says of a program of this model that answers `got` where `wanted` is right."""
    graph = capture(message.SerializeToString())
    program: Any = Pretender(dict(zip(graph.output_names, got, strict=True)))
    return check(program, graph, Probe({}, wanted))


def one(op: str, kind: int, **attributes: Any) -> Any:
    """One op of one type."""
    return model([node(op, ["x"], ["y"], **attributes)], [info("x", kind, [2])], [info("y", kind, [2])])


# Distance


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("wanted", "got", "apart"),
    [
        (f32(3, 4), f32(3, 4), 0.0),
        (f32(3, 4), f32(4, 3), 2**0.5 / 5),
        (f32(np.nan, np.inf, 1), f32(np.nan, np.inf, 1), 0.0),
        (f32(np.nan, 1), f32(1, np.nan), np.inf),
        (f32(np.inf), f32(-np.inf), np.inf),
        (f32(0), f32(0.5), 0.5),
        (f32(1), f32(1, 1), np.inf),
        (f32(1), np.array([1.0]), np.inf),
        (np.array([5, 6]), np.array([6, 5]), 0.0),
        (np.array([3, 4]), np.array([3, 6]), 2 / 5),
        (np.array([2**62]), np.array([2**62 + 1]), 0.0),
        (np.array([2**62]), np.array([2**62 + 9]), 1.0),
        (np.array([255], np.uint8), np.array([0], np.uint8), 1.0),
        (np.array([True]), np.array([False]), np.inf),
        (np.array(["a"], object), np.array(["a"], object), 0.0),
        (np.array(["a"], object), np.array(["b"], object), np.inf),
        ([f32(1)], [f32(1)], 0.0),
        ([f32(1)], [f32(1), f32(1)], np.inf),
        ([f32(3, 4), f32(1)], [f32(4, 3), f32(1)], 2**0.5 / 5),
        ([{0: 1.0, 1: 2.0}], [{1: 2.0, 0: 1.0}], 0.0),
        ({0: 3.0, 1: 4.0}, {0: 4.0, 1: 3.0}, 2**0.5 / 5),
        ({0: 1.0}, {1: 1.0}, np.inf),
        (None, None, 0.0),
        (None, f32(1), np.inf),
        (np.array([1j]), np.array([1j]), 0.0),
    ],
    ids=str,
)
def test_distance(wanted: Any, got: Any, apart: float) -> None:
    assert distance(wanted, got) == pytest.approx(apart)


# Probes


def test_a_probe_is_what_the_reference_answers() -> None:
    graph = capture(mlp().SerializeToString())
    probe = make_probe(graph, [SignatureEntry("x", "f32", ("N", 4))])
    assert isinstance(probe, Probe)
    x = probe.feeds["x"]
    assert x.shape == (2, 4)
    np.testing.assert_allclose(probe.answers[0], np.maximum(x @ normal(4, 4), 0), rtol=1e-5)


def test_one_name_has_one_size() -> None:
    """The second axis of one input and the first of another are one dim; made up apart, nothing could be multiplied."""
    nodes = [node("MatMul", ["a", "b"], ["y"])]
    message = model(nodes, [info("a", F32, ["M", "K"]), info("b", F32, ["K", "N"])], [info("y", F32, ["M", "N"])])
    assert compile_model(message, CompileOptions()).agreement.unknown == ""


def test_a_probe_tries_smaller_sizes() -> None:
    """Only sizes of 1 fit this model, whose dims are tied to each other behind its signature's back."""
    nodes = [node("Add", ["x", "y"], ["s"]), node("Reshape", ["s", "shape"], ["z"])]
    inputs = [info("x", F32, ["A", "B"]), info("y", F32, ["C", "D"])]
    message = model(nodes, inputs, [info("z", F32, [1, 1])], {"shape": np.array([1, 1])})
    assert compile_model(message, CompileOptions()).agreement.unknown == ""


def test_no_probe_is_made_that_would_not_fit() -> None:
    message = model([node("Relu", ["x"], ["y"])], [info("x", F32, [LARGEST_PROBE + 1])], [info("y", F32, [LARGEST_PROBE + 1])])
    agreement = compile_model(message, CompileOptions()).agreement
    assert "elements" in agreement.unknown
    assert agreement.sentence.startswith("not checked against the reference: ")


# The check


def test_tampered_weights_are_caught() -> None:
    compiled = compile_model(mlp(32), CompileOptions())
    graph = capture(mlp(32).SerializeToString())
    probe = make_probe(graph, compiled.program.inputs)
    assert isinstance(probe, Probe)
    assert check(compiled.program, graph, probe).agrees
    message = mlp(32)
    weight = normal(32, 32).copy()
    weight[2, 1] += 1
    message.graph.initializer[0].raw_data = weight.tobytes()
    tampered = compile_model(message, CompileOptions()).program
    found = check(tampered, graph, probe)
    assert not found.agrees
    assert found.output == "y"
    assert "differs from the reference on made-up inputs, worst output 'y'" in found.sentence


def test_bounds_depend_on_the_type() -> None:
    near = 1 + 5e-4
    single, half = one("Relu", F32), one("Relu", F16)
    assert not verdict(single, [f32(1, 1)], [f32(near, near)]).agrees
    wanted, got = np.ones(2, np.float16), np.full(2, near, np.float16)
    assert verdict(half, [wanted], [got]).agrees
    assert verdict(one("Relu", I8), [np.int8([1, 2])], [np.int8([2, 1])]).agrees
    assert not verdict(one("Relu", I8), [np.int8([1, 2])], [np.int8([3, 2])]).agrees


def test_a_quantized_output_may_be_one_step_away() -> None:
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    weights = {"s": np.float32(0.5), "z": np.int8(0)}
    message = model(nodes, [info("x", F32, [2])], [info("y", F32, [2])], weights)
    assert verdict(message, [f32(0, 0.5)], [f32(0.5, 0.5)]).agrees
    assert not verdict(message, [f32(0, 0.5)], [f32(1, 0.5)]).agrees
    assert not verdict(message, [f32(0, 0.5)], [f32(0.5, 0.5, 0.5)]).agrees
    assert not verdict(message, [f32(0, 0.5)], [f32(np.nan, 0.5)]).agrees


def test_a_wrong_output_is_not_forgotten_for_one_that_is_further_off_within_its_bound() -> None:
    """f16 may be 1e-3 away; f32 beside it 1e-3 as well, but bf16 1e-2: each has its own bound."""
    nodes = [node("Cast", ["x"], ["far"], to=16), node("Relu", ["x"], ["near"])]
    message = model(nodes, [info("x", F32, [1])], [info("far", 16, [1]), info("near", F32, [1])])
    bf16 = capture(message.SerializeToString()).outputs[0].type.dtype.numpy  # type: ignore[union-attr]
    wanted = [np.ones(1, bf16), f32(1)]
    found = verdict(message, wanted, [np.full(1, 1.0078125, bf16), f32(1.002)])
    assert not found.agrees
    assert found.output == "near"


def test_random_outputs_are_left_out() -> None:
    nodes = [
        node("RandomNormalLike", ["x"], ["noise"]),
        node("Add", ["x", "noise"], ["noisy"]),
        node("Relu", ["x"], ["y"]),
    ]
    outputs = [info(name, F32, [2]) for name in ("noise", "noisy", "y")]
    message = model(nodes, [info("x", F32, [2])], outputs)
    assert random_outputs(capture(message.SerializeToString())) == {"noise", "noisy"}
    assert compile_model(message, CompileOptions()).agreement.output == "y"
    only = compile_model(model(nodes[:1], [info("x", F32, [2])], outputs[:1]), CompileOptions()).agreement
    assert only.agrees
    assert only.unknown == "every output depends on random numbers"


def test_random_numbers_in_a_branch_are_seen() -> None:
    from onnx import helper

    branch = helper.make_graph([node("RandomNormalLike", ["x"], ["r"])], "then", [], [info("r", F32, [2])])
    other = helper.make_graph([node("Relu", ["x"], ["s"])], "else", [], [info("s", F32, [2])])
    nodes = [node("If", ["k"], ["y"], then_branch=branch, else_branch=other)]
    message = model(nodes, [info("x", F32, [2]), info("k", 9, [])], [info("y", F32, [2])])
    assert random_outputs(capture(message.SerializeToString())) == {"y"}


# What the driver does about it


# Disputes


def cancelling() -> Any:
    """`x + 10000 - 10000`: in f32 three of its digits are lost, whatever is done to it."""
    nodes = [node("Add", ["x", "big"], ["sum"]), node("Sub", ["sum", "big"], ["y"])]
    weights = {"big": np.array([1e4], np.float32)}
    return model(nodes, [info("x", F32, [64])], [info("y", F32, [64])], weights)


@pytest.mark.parametrize(("error", "agrees"), [(0.0, True), (2e-4, True), (5e-3, False), (np.nan, False)])
def test_float64_settles_what_the_reference_itself_gets_wrong(error: float, agrees: bool) -> None:
    """The exact answer is 1e-3 from the reference, and right; so is one that is off by less than the reference is."""
    graph = capture(cancelling().SerializeToString())
    x = normal(64, seed=3)
    probe = Probe({"x": x}, evaluate(graph, {"x": x}))
    assert distance(probe.answers[0], x) > 1e-4
    program: Any = Pretender({"y": x + np.float32(error)})
    said = check(program, graph, probe)
    assert (said.agrees, said.settled) == (agrees, agrees)
    assert ("is as near to float64 as the reference on made-up inputs" in said.sentence) == agrees


def test_float64_does_not_excuse_an_answer_where_the_reference_is_right() -> None:
    graph = capture(one("Neg", F32).SerializeToString())
    probe = Probe({"x": f32(1, 2)}, [f32(-1, -2)])
    program: Any = Pretender({"y": f32(-1, -2.001)})
    assert not check(program, graph, probe).agrees


class Skewed(OnnxRuntime):
    """An engine whose first settings are wrong or refused: the executor is told so by the patch below."""

    def settings(self, opt_level: int, target: Target) -> Any:
        return ({"optimization": "all"}, {"optimization": "basic"}, {"optimization": "disable"})


def skew(monkeypatch: pytest.MonkeyPatch, how: dict[str, str]) -> None:
    """Make programs with these optimizations `wrong` or `refused`."""
    monkeypatch.setattr(engines, "ENGINES", (Skewed(),))
    original = Program.from_files

    def from_files(manifest: Any, files: Any) -> Any:
        fate = how.get(manifest.engine_options["optimization"], "")
        if fate == "refused":
            raise EngineFailure("it does not like it")
        if fate == "wrong":
            zeros = {name: replace(view, data=memoryview(bytes(view.data.nbytes))) for name, view in files.weights.items()}
            files = replace(files, weights=zeros)
        return original(manifest, files)

    monkeypatch.setattr(Program, "from_files", staticmethod(from_files))


def test_a_setting_that_changes_answers_is_stepped_down(monkeypatch: pytest.MonkeyPatch) -> None:
    skew(monkeypatch, {"all": "wrong"})
    compiled = compile_model(mlp(32), CompileOptions())
    assert compiled.agreement.agrees
    assert compiled.program.manifest.engine_options["optimization"] == "basic"
    assert len(compiled.notes) == 1
    assert compiled.notes[0].startswith("with optimization=all it differs from the reference")


def test_a_setting_that_is_refused_is_stepped_down(monkeypatch: pytest.MonkeyPatch) -> None:
    skew(monkeypatch, {"all": "refused", "basic": "wrong"})
    compiled = compile_model(mlp(32), CompileOptions())
    assert compiled.program.manifest.engine_options["optimization"] == "disable"
    assert compiled.notes[0] == "the engine refused the model with optimization=all: it does not like it"
    assert len(compiled.notes) == 2


def test_an_engine_that_refuses_everything_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    skew(monkeypatch, dict.fromkeys(("all", "basic", "disable"), "refused"))
    with pytest.raises(EngineFailure, match="it does not like it"):
        compile_model(mlp(32), CompileOptions())


@pytest.mark.parametrize("first", ["wrong", "refused"])
def test_an_engine_whose_answers_are_all_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    skew(monkeypatch, {"all": first, "basic": "wrong", "disable": "wrong"})
    with pytest.raises(EngineFailure, match="the engine's answers are wrong: it differs from the reference"):
        compile_model(mlp(32), CompileOptions())
    unverified = compile_model(mlp(32), CompileOptions(verify=Verify.NOTHING)).agreement
    assert unverified.unknown == "not asked for"


def test_passes_that_change_answers_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(WRONG_PASS)
    options = CompileOptions(passes="canonicalize, double-constants", load=(str(tmp_path / "mine.py"),))
    compiled = compile_model(mlp(), options)
    assert compiled.agreement.agrees
    assert not compiled.records
    assert any("the passes were left out, because otherwise the program differs" in note for note in compiled.notes)
    x = normal(3, 4, seed=1)
    np.testing.assert_allclose(compiled.program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)
    trusted = compile_model(mlp(), replace(options, verify=Verify.NOTHING))
    assert trusted.records
    assert not np.allclose(trusted.program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0))


def test_passes_are_left_out_of_a_specialized_model_too(tmp_path: Path) -> None:
    """The copy that is compiled instead has its shapes already; giving them again found no dim of that name."""
    (tmp_path / "mine.py").write_text(WRONG_PASS)
    options = CompileOptions(passes="double-constants", load=(str(tmp_path / "mine.py"),), shapes={"x": (3, 4)})
    compiled = compile_model(mlp(), options)
    assert compiled.agreement.agrees
    assert compiled.program.inputs[0].shape == (3, 4)


def test_integers_are_checked() -> None:
    assert compile_model(one("Neg", I64), CompileOptions()).agreement.output == "y"

"""Variants: dims of several sizes make a program for each behind one dispatcher, and the program for all sizes stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import UsageError, capture, parse_dims, specialize
from irc.lowering import Compiled, CompileOptions, Verify, compile_model, find_engine, find_target
from irc.lowering.tuning import search
from irc.lowering.variants import MOST_VARIANTS, split_dims
from irc.runtime import BIN_FILE, PLAN, PLAN_FILE, FeedError, Plan, Program, load

from .models import F32, I64, info, mlp, model, node, normal
from .test_tuning import FakeRace


def compiled(message: ModelProto, **dims: int | tuple[int, ...]) -> Compiled:
    return compile_model(message, CompileOptions(dims=dims))


def plan_of(program: Program) -> Plan:
    return Plan.from_bytes(program.files.read(PLAN_FILE))


def answers(program: Program, **feeds: Any) -> Any:
    (answer,) = program.run(feeds).values()
    return answer


def watched(program: Program, monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, int]]:
    """Which variant runs, as a list that grows: each part's executor is made to say so."""
    from irc.runtime import onnxruntime_executor

    ran: list[Mapping[str, int]] = []
    variants = plan_of(program).variants
    parts = iter([each.dims for each in variants for _ in each.steps])
    made = onnxruntime_executor.OnnxRuntimeExecutor

    class Watched(made):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.dims = next(parts)

        def run(self, feeds: dict[str, object]) -> list[object]:
            ran.append(self.dims)
            return super().run(feeds)

    monkeypatch.setattr(onnxruntime_executor, "OnnxRuntimeExecutor", Watched)
    return ran


# What is asked for


@pytest.mark.parametrize(
    ("texts", "dims"),
    [
        (["n=4"], {"n": 4}),
        (["n=1,8,32"], {"n": (1, 8, 32)}),
        (["n=1,8,1"], {"n": (1, 8)}),
        (["n=8,8"], {"n": (8,)}),
        (["n=1..64"], {}),
        (["n=1,8", "m=2"], {"n": (1, 8), "m": 2}),
    ],
)
def test_what_texts_say_of_dims(texts: list[str], dims: dict[str, Any]) -> None:
    assert parse_dims(texts) == dims


@pytest.mark.parametrize("text", ["n=", "n=1,", "n=,1", "n=1,x", "n=-1,2", "=1,2", "n=1..4,8", f"n=1,{2**41}"])
def test_what_is_no_dim(text: str) -> None:
    with pytest.raises(UsageError, match="is no dim"):
        parse_dims([text])


def test_two_things_said_of_one_dim() -> None:
    with pytest.raises(UsageError, match="dim 'n' is given as 4 and as 1,8"):
        parse_dims(["n=4", "n=1,8"])


def test_where_one_graph_is_made_several_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match=r"dim 'N' is given several sizes, 1,8, and here one graph is made"):
        specialize(capture(mlp()), {"N": (1, 8)}, {})


def test_every_combination_of_sizes_is_a_variant() -> None:
    fixed, variants = split_dims({"a": (1, 2), "b": 3, "c": (4, 5)})
    assert fixed == {"b": 3}
    assert variants == [{"a": 1, "c": 4}, {"a": 1, "c": 5}, {"a": 2, "c": 4}, {"a": 2, "c": 5}]


def test_more_than_a_few_variants_are_refused() -> None:
    with pytest.raises(UsageError, match="the sizes of a, b make 20 variants") as caught:
        split_dims({"a": tuple(range(4)), "b": tuple(range(5))})
    assert str(MOST_VARIANTS) in (caught.value.hint or "")
    assert len(split_dims({"a": tuple(range(4)), "b": tuple(range(4))})[1]) == MOST_VARIANTS


def test_a_dim_that_is_not_there_is_named_before_anything_is_compiled() -> None:
    with pytest.raises(UsageError, match="the model's inputs have no dim 'batch'"):
        compiled(mlp(), batch=(1, 8))


# What comes of it


def test_every_size_runs_and_the_variant_for_it_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message, plain = mlp(), compiled(mlp()).program
    made = compiled(message, N=(1, 8))
    made.program.save(tmp_path / "m.irc")
    ran = watched(made.program, monkeypatch)
    program = load(tmp_path / "m.irc")
    for size in (1, 2, 8, 9):
        x = normal(size, 4)
        for each in (made.program, program):
            np.testing.assert_allclose(answers(each, x=x), answers(plain, x=x), rtol=1e-6)
    assert ran == [{"N": 1}, {}, {"N": 8}, {}]


def test_the_signature_is_that_of_the_program_for_all_sizes() -> None:
    plain, program = compiled(mlp()).program, compiled(mlp(), N=(1, 8)).program
    assert (program.inputs, program.outputs) == (plain.inputs, plain.outputs)
    assert program.manifest.dims_must_agree == plain.manifest.dims_must_agree
    assert program.manifest.placement == plain.manifest.placement
    assert (program.manifest.engine, program.manifest.nodes) == (PLAN, plain.manifest.nodes)
    with pytest.raises(FeedError, match="has 5 in dim 1"):
        program.run({"x": normal(8, 5)})


def test_each_variant_is_checked_at_its_own_size_and_told_of() -> None:
    made = compiled(mlp(), N=(1, 8))
    assert [each.name for each in made.variants] == ["N=1", "N=8"]
    assert all(each.agreement.agrees and not each.agreement.unknown for each in made.variants)
    assert [each.dims for each in plan_of(made.program).variants] == [{"N": 1}, {"N": 8}, {}]


def test_a_variant_is_optimized_for_its_size() -> None:
    """With the size known, the shape that a Reshape takes is a constant."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Concat", ["n", "rest"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["r"]),
        node("Relu", ["r"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([2, 2])}
    message = model(nodes, [info("x", F32, ["N", 4])], [info("y", F32, ["N", 2, 2])], weights)
    made = compile_model(message, CompileOptions(dims={"N": (3,)}, opt_level=1))
    (variant,) = made.variants
    assert variant.placement[0].ops == 2 <= made.program.manifest.placement[0].ops
    for size in (3, 4):
        assert answers(made.program, x=normal(size, 4)).shape == (size, 2, 2)


def test_a_fixed_dim_beside_one_of_several_sizes() -> None:
    message = model(
        [node("MatMul", ["x", "w"], ["y"])], [info("x", F32, ["B", "S", 4])], [info("y", F32, None)], {"w": normal(4, 4)}
    )
    program = compiled(message, B=(1, 2), S=3).program
    assert program.inputs[0].shape == ("B", 3, 4)
    assert answers(program, x=normal(2, 3, 4)).shape == (2, 3, 4)
    assert answers(program, x=normal(5, 3, 4)).shape == (5, 3, 4)


def test_dims_of_one_name_that_differ_are_for_the_program_for_all_sizes() -> None:
    """The model broadcasts, and nothing says that the dims agree."""
    message = model(
        [node("Add", ["x", "w"], ["y"])], [info("x", F32, ["N", 4]), info("w", F32, ["N", 4])], [info("y", F32, None)]
    )
    program = compiled(message, N=(8,)).program
    x, w = normal(8, 4), normal(1, 4, seed=1)
    assert program.manifest.dims_must_agree == ()
    np.testing.assert_array_equal(answers(program, x=x, w=w), x + w)
    np.testing.assert_array_equal(answers(program, x=x, w=x), x + x)


def test_an_input_with_a_default_may_be_left_out() -> None:
    message = model(
        [node("Add", ["x", "b"], ["y"])],
        [info("x", F32, ["N", 4]), info("b", F32, [4])],
        [info("y", F32, ["N", 4])],
        {"b": normal(4)},
    )
    program = compiled(message, N=(2,)).program
    assert program.inputs[1].optional
    for size in (2, 3):
        x, b = normal(size, 4, seed=1), normal(4, seed=2)
        np.testing.assert_array_equal(answers(program, x=x), x + normal(4))
        np.testing.assert_array_equal(answers(program, x=x, b=b), x + b)


# What it costs


def large(width: int) -> ModelProto:
    """A product with a weight that folding makes anew, one that it leaves, and a filter."""
    nodes = [
        node("Transpose", ["w"], ["t"], perm=[1, 0]),
        node("MatMul", ["x", "t"], ["a"]),
        node("MatMul", ["a", "v"], ["b"]),
        node("Reshape", ["b", "image"], ["c"]),
        node("Conv", ["c", "f"], ["y"]),
    ]
    weights = {
        "w": normal(width, width),
        "v": normal(width, width, seed=1),
        "f": normal(64, width // 16, 3, 3, seed=2),
        "image": np.array([-1, width // 16, 4, 4]),
    }
    return model(nodes, [info("x", F32, ["N", width])], [info("y", F32, ["N", 64, 2, 2])], weights)


@pytest.mark.parametrize("level", [1, 2])
def test_weights_are_in_the_artifact_and_in_memory_once(level: int, tmp_path: Path) -> None:
    options = CompileOptions(opt_level=level)
    compile_model(large(512), options).program.save(tmp_path / "plain.irc")
    program = compile_model(large(512), replace(options, dims={"N": (1, 2, 3)})).program
    program.save(tmp_path / "variants.irc")
    assert (tmp_path / "variants.irc").stat().st_size < 1.2 * (tmp_path / "plain.irc").stat().st_size
    reloaded = load(tmp_path / "variants.irc")
    for each in (program, reloaded):
        places = {
            np.frombuffer(weight.data, np.uint8).ctypes.data
            for part in each.files.parts.values()
            for weight in part.weights.values()
            if weight.byte_count > 1 << 16
        }
        assert len(places) == 3
    for size in (1, 2, 3, 4):
        x = normal(size, 512)
        np.testing.assert_array_equal(answers(program, x=x), answers(reloaded, x=x))


def test_variants_on_openvino_have_one_file_of_weights(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (the extra 'openvino')")
    options = CompileOptions(engine="openvino")
    compile_model(large(512), options).program.save(tmp_path / "plain.irc")
    program = compile_model(large(512), replace(options, dims={"N": (1, 2, 3)})).program
    program.save(tmp_path / "variants.irc")
    assert (tmp_path / "variants.irc").stat().st_size < 1.2 * (tmp_path / "plain.irc").stat().st_size
    reloaded = load(tmp_path / "variants.irc")
    assert len({id(part.view(BIN_FILE)) for part in program.files.parts.values()}) == 1
    with load(tmp_path / "plain.irc") as plain:
        for size in (1, 2, 3, 4):
            x = normal(size, 512)
            for each in (program, reloaded):
                np.testing.assert_allclose(answers(each, x=x), answers(plain, x=x), rtol=1e-4, atol=1e-2)
    reloaded.save(tmp_path / "again.irc")
    assert (tmp_path / "again.irc").read_bytes() == (tmp_path / "variants.irc").read_bytes()


def test_compiling_again_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.irc", "b.irc"):
        compiled(mlp(64), N=(1, 8)).program.save(tmp_path / name)
    load(tmp_path / "a.irc").save(tmp_path / "c.irc")
    assert (tmp_path / "a.irc").read_bytes() == (tmp_path / "b.irc").read_bytes() == (tmp_path / "c.irc").read_bytes()


# Inputs to check with


def lookup() -> ModelProto:
    """Made-up indices are out of its range."""
    nodes = [node("Sub", ["i", "far"], ["j"]), node("Gather", ["w", "j"], ["y"])]
    weights = {"w": normal(4, 4), "far": np.array(1000)}
    return model(nodes, [info("i", I64, ["N"])], [info("y", F32, ["N", 4])], weights)


def test_inputs_given_are_cut_off_or_repeated_to_the_sizes_of_a_variant(tmp_path: Path) -> None:
    np.savez(tmp_path / "given.npz", i=np.array([1000, 1003, 1001]))
    made = compile_model(lookup(), CompileOptions(dims={"N": (1, 8)}, inputs=tmp_path / "given.npz"))
    assert [each.agreement.unknown for each in made.variants] == ["", ""]
    assert [each.agreement.unknown for each in compile_model(lookup(), CompileOptions(dims={"N": (8,)})).variants] != [""]


# Levels and targets


@pytest.mark.parametrize("level", [0, 1, 3])
def test_every_level_has_variants(level: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(search, "Race", FakeRace)
    monkeypatch.setattr(FakeRace, "times", {})
    made = compile_model(mlp(), CompileOptions(opt_level=level, dims={"N": (2, 5)}, verify=Verify.NOTHING))
    assert [each.name for each in made.variants] == ["N=2", "N=5"]
    for size in (2, 5, 7):
        x = normal(size, 4)
        np.testing.assert_allclose(answers(made.program, x=x), answers(compiled(mlp()).program, x=x), rtol=1e-6)


def test_at_o3_the_variants_are_compiled_as_what_won(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IRC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(search, "Race", FakeRace)
    monkeypatch.setattr(FakeRace, "times", {"onnxruntime, graph as it is": 0.01})
    made = compile_model(mlp(), CompileOptions(opt_level=3, engine="onnxruntime", dims={"N": (2,)}))
    assert next(each.fate for each in made.decisions if each.candidate == "onnxruntime, graph as it is") == "won"
    variant, general = plan_of(made.program).variants
    wanted = find_engine("onnxruntime").defaults(find_target("cpu"))[0]
    for step in (*variant.steps, *general.steps):
        assert step.options["disabled_optimizers"] == wanted["disabled_optimizers"]


def test_variants_for_a_target_that_is_not_here(tmp_path: Path) -> None:
    elsewhere = "arm64" if find_target("cpu:x86-64").is_here else "cpu:x86-64"
    made = compile_model(mlp(), CompileOptions(target=elsewhere, dims={"N": (1, 8)}))
    program = made.program
    assert len(made.notes) == len(set(made.notes)) == 1
    program.save(tmp_path / "m.irc")
    assert [each.dims for each in plan_of(program).variants] == [{"N": 1}, {"N": 8}, {}]

"""The engine as a whole: what it is given, what it leaves to another, and that its programs are the same and right."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import UnsupportedError, capture
from irc.lowering import CompileOptions, compile_model, find_engine, find_target
from irc.lowering.partitioning import pieces_of
from irc.lowering.plans import lower_pieces
from irc.lowering.tvm.engine import Tvm
from irc.runtime import EngineFailure, FeedError, load

from ..models import F32, STRING, info, model, node, normal
from .programs import ALONE, RandomModel, assert_right, compiled, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]
CHOSEN = CompileOptions(engine="tvm", opt_level=2)


def perceptron() -> ModelProto:
    """x: f32[3,4] -> y: f32[3,4]."""
    return of([node("MatMul", ["x", "w"], ["m"]), node("Relu", ["m"], ["y"])], {"x": normal(3, 4)}, ["y"], {"w": normal(4, 4)})


def reason(message: ModelProto) -> str:
    """Why the engine does not take the first op that it does not take; empty where it takes all."""
    engine, target = Tvm(), find_target("cpu")
    verdicts = [engine.takes(op, target) for op in capture(message.SerializeToString()).walk() if not op.is_constant]
    return next((verdict.reason for verdict in verdicts if not verdict), "")


def test_a_program_runs_and_is_loaded_again(tmp_path: Path) -> None:
    made = compile_model(perceptron(), CHOSEN)
    assert made.agreement.agrees
    made.program.save(tmp_path / "model.irc")
    x = normal(3, 4, seed=1)
    with load(tmp_path / "model.irc") as program:
        assert [each.engine for each in program.manifest.placement] == ["tvm"]
        np.testing.assert_allclose(program.run({"x": x})["y"], np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)


def test_equal_models_make_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        compile_model(perceptron(), CHOSEN).program.save(tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def strings() -> ModelProto:
    """A product, and beside it an op on strings."""
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("Softmax", ["m"], ["y"]), node("StringConcat", ["s", "s"], ["t"])]
    inputs = [info("x", F32, [32, 64]), info("s", STRING, [2])]
    return model(nodes, inputs, [info("y", F32, [32, 64]), info("t", STRING, [2])], {"w": normal(64, 64)})


def test_what_it_does_not_take_is_left_to_onnxruntime() -> None:
    made = compile_model(strings(), CHOSEN)
    assert {each.engine for each in made.program.manifest.placement} == {"tvm", "onnxruntime"}
    x = normal(32, 64)
    given = made.program.run({"x": x, "s": np.array(["a", "b"], object)})
    assert list(given["t"]) == ["aa", "bb"]
    np.testing.assert_allclose(given["y"].sum(1), np.ones(32), rtol=1e-5)


def test_strict_asks_for_all_of_it() -> None:
    with pytest.raises(UnsupportedError, match=r"StringConcat at StringConcat.*: it does not compute in str"):
        compile_model(strings(), replace(CHOSEN, strict=True))


def test_pieces_are_made_again_where_the_first_answers_were_wrong() -> None:
    """Below O2 an engine is used with its own defaults, and ours has none."""
    graph, target = capture(strings().SerializeToString()), find_target("cpu")
    pieces = pieces_of(graph, Tvm(), [find_engine("onnxruntime")], target)
    assert len(lower_pieces(graph, pieces, target, 1, {}).parts) == 2


def test_sizes_that_are_not_known_are_left_to_onnxruntime() -> None:
    message = model([node("Relu", ["x"], ["y"])], [info("x", F32, ["N", "M"])], [info("y", F32, ["N", "M"])])
    made = compile_model(message, CHOSEN)
    assert {each.engine for each in made.program.manifest.placement} == {"onnxruntime"}
    assert reason(message) == "its sizes are not all known"


def test_an_unused_input_of_unknown_size_is_no_input_of_ours() -> None:
    inputs = [info("x", F32, ["N", "M"]), info("z", F32, [4])]
    message = model([node("Add", ["z", "z"], ["y"])], inputs, [info("y", F32, [4])])
    with pytest.raises(UnsupportedError, match="several dims are open: M, N"):
        compile_model(message, replace(CHOSEN, strict=True))
    program = compile_model(message, CHOSEN).program
    np.testing.assert_array_equal(program.run({"x": normal(7, 2), "z": np.ones(4, np.float32)})["y"], np.full(4, 2, np.float32))


def test_several_threads_run_one_program_at_a_time_each() -> None:
    program = compiled(perceptron()).program
    feeds = [normal(3, 4, seed=seed) for seed in range(64)]

    def run(x: np.ndarray) -> np.ndarray:
        return program.run({"x": x})["y"]

    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(run, feeds))
    for x, y in zip(feeds, given, strict=True):
        np.testing.assert_allclose(y, np.maximum(x @ normal(4, 4), 0), rtol=1e-5, atol=1e-6)


def passed_on() -> ModelProto:
    """An input, a view of it, and a constant, each returned, and one value returned under two names."""
    nodes = [
        node("Identity", ["x"], ["same"]),
        node("Transpose", ["x"], ["turned"], perm=[1, 0]),
        node("Relu", ["x"], ["once"]),
        node("Identity", ["once"], ["twice"]),
        node("Identity", ["c"], ["constant"]),
    ]
    return of(nodes, {"x": normal(3, 4)}, ["same", "turned", "once", "twice", "constant"], {"c": normal(5)})


def test_outputs_may_be_inputs_constants_and_returned_twice() -> None:
    for passes in ("O0", None):
        assert_right(passed_on(), {"x": normal(3, 4)}, replace(ALONE, passes=passes))


def test_outputs_share_memory_with_nothing() -> None:
    program, x = compiled(passed_on()).program, normal(3, 4)
    first = list(program.run({"x": x}).values())
    kept = [each.copy() for each in first]
    for number, one in enumerate(first):
        assert not np.shares_memory(one, x)
        assert not any(np.shares_memory(one, other) for other in first[number + 1 :])
        one.fill(7)
    for again, before in zip(program.run({"x": x}).values(), kept, strict=True):
        np.testing.assert_array_equal(again, before)


@pytest.mark.parametrize("op", ["Gather", "GatherElements"])
def test_an_index_out_of_range_is_an_error_that_names_the_op(op: str) -> None:
    feeds = {"x": normal(3, 4), "i": np.array([[0, 3]], np.int64)}
    program = compiled(of([node(op, ["x", "i"], ["y"])], feeds, ["y"])).program
    with pytest.raises(EngineFailure, match=f"index is out of range in {op}"):
        program.run(feeds)
    right = program.run({**feeds, "i": np.array([[0, -3]], np.int64)})["y"]
    np.testing.assert_array_equal(right.reshape(-1)[:1], feeds["x"].reshape(-1)[:1])


def test_another_shape_than_it_was_made_for_is_refused() -> None:
    with pytest.raises(FeedError, match="input x has 2 in dim 0"):
        compiled(perceptron()).program.run({"x": normal(2, 4)})


def test_a_cross_compiled_program_says_where_it_runs() -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the extra zig")
    made = compile_model(perceptron(), replace(CHOSEN, target="arm64"))
    assert made.program.manifest.placement[0].engine == "tvm"
    with pytest.raises(EngineFailure):
        made.program.run({"x": normal(3, 4)})


@pytest.mark.parametrize(
    ("message", "clause"),
    [
        (of([node("Add", ["x", "x"], ["y"])], {"x": np.zeros((2, 3), np.float16)}, ["y"]), "it does not compute in f16"),
        (of([node("Add", ["x", "x"], ["y"])], {"x": np.zeros((0, 3), np.float32)}, ["y"]), "it is empty"),
        (of([node("Softmax", ["x"], ["y"])], {"x": np.zeros((3, 3))}, ["y"]), "it is not f32"),
        (of([node("Det", ["x"], ["y"])], {"x": normal(3, 3)}, ["y"]), "there is no kernel for it"),
        (
            of([node("Pad", ["x", "p"], ["y"], mode="reflect")], {"x": normal(2)}, ["y"], {"p": np.array([2, 0])}),
            "it repeats more than there is",
        ),
        (
            of(
                [node("Dropout", ["x", "r", "t"], ["y"])],
                {"x": normal(2)},
                ["y"],
                {"r": np.array(0.5, np.float32), "t": np.array(True)},
            ),
            "it drops at random",
        ),
    ],
)
def test_what_has_no_kernel_is_refused_with_a_reason(message: ModelProto, clause: str) -> None:
    assert reason(message) == clause


@pytest.mark.parametrize("seed", range(6))
def test_random_models_are_right(seed: int) -> None:
    made = RandomModel(seed)
    assert_right(made.message, made.feeds)
    assert_right(made.message, made.feeds, replace(ALONE, passes=None))

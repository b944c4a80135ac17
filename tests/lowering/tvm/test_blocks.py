"""Programs for any number of entries: whole blocks and what is left over are right, and so is everything they share."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.ir import EvaluationError, Graph, capture, clone_graph, evaluate
from irc.lowering import CompileOptions, compile_graph, compile_model, find_engine, find_target, refusals
from irc.lowering.mapping import Mapped, mapping_of
from irc.lowering.partitioning import needed_ops
from irc.lowering.tvm.engine import BLOCK
from irc.runtime import FeedError, NativePlan, Program

from ..models import F32, I64, info, model, node, normal
from ..random_graphs import RandomGraph
from .programs import ALONE
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]

CHOSEN = CompileOptions(engine="tvm", strict=True)
SIZES = (0, 1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3)


def assert_right(message: ModelProto, options: CompileOptions = CHOSEN) -> None:
    """All of a model is ours, and at every size it answers as the reference does."""
    graph = capture(message.SerializeToString())
    program = compile_model(message.SerializeToString(), options).program
    assert [each.engine for each in program.manifest.placement] == ["tvm"]
    for entries in SIZES:
        feeds = {
            each.name: fed(each.dtype, [entries if dim == "N" else dim for dim in each.shape or ()]) for each in program.inputs
        }
        for name, wanted in zip(graph.output_names, evaluate(graph, feeds), strict=True):
            own = program.run(feeds)[name]
            assert (own.dtype, own.shape) == (wanted.dtype, wanted.shape)
            np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-5, err_msg=f"{name} of {entries}")


def fed(dtype: str, shape: list[Any]) -> np.ndarray:
    """Numbers for an input."""
    return normal(*shape) if dtype == "f32" else np.arange(math.prod(shape), dtype=np.int64).reshape(shape) % 4


def digits() -> ModelProto:
    """A small convolutional network."""
    nodes = [
        node("Conv", ["x", "k", "c"], ["1"], pads=[1, 1, 1, 1]),
        node("Relu", ["1"], ["2"]),
        node("MaxPool", ["2"], ["3"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["3"], ["4"]),
        node("Gemm", ["4", "w", "b"], ["5"], transB=1),
        node("Softmax", ["5"], ["y"]),
    ]
    weights = {"k": normal(6, 1, 3, 3), "c": normal(6), "w": normal(10, 96), "b": normal(10)}
    return model(nodes, [info("x", F32, ["N", 1, 8, 8])], [info("y", F32, ["N", 10])], weights)


def heads() -> ModelProto:
    """Attention with the heads of all entries on one axis, as some exporters write it, and a mask that is shared."""
    nodes = [
        node("Gather", ["table", "ids"], ["e"]),
        node("MatMul", ["e", "w"], ["q"]),
        node("Reshape", ["q", "split"], ["qs"]),
        node("Transpose", ["qs"], ["qt"], perm=[0, 2, 1, 3]),
        node("Reshape", ["qt", "joined"], ["qh"]),
        node("Transpose", ["qh"], ["kh"], perm=[0, 2, 1]),
        node("MatMul", ["qh", "kh"], ["s"]),
        node("Add", ["s", "mask"], ["sm"]),
        node("Softmax", ["sm"], ["p"]),
        node("MatMul", ["p", "qh"], ["o"]),
        node("Reshape", ["o", "apart"], ["oh"]),
        node("Transpose", ["oh"], ["ot"], perm=[0, 2, 1, 3]),
        node("Reshape", ["ot", "whole"], ["y"]),
    ]
    weights: dict[str, Any] = {"table": normal(4, 8), "w": normal(8, 8)}
    weights |= {"split": np.array([0, 5, 2, 4]), "joined": np.array([-1, 5, 4])}
    weights |= {"apart": np.array([-1, 2, 5, 4]), "whole": np.array([0, 5, 8])}
    inputs = [info("ids", I64, ["N", 5]), info("mask", F32, [5, 5])]
    return model(nodes, inputs, [info("y", F32, ["N", 5, 8])], weights)


def shared() -> ModelProto:
    """What one input gives is the same for all entries, and is returned, too; so is a constant, and the input itself."""
    nodes = [
        node("MatMul", ["s", "w"], ["m"]),
        node("Tanh", ["m"], ["once"]),
        node("Add", ["x", "once"], ["a"]),
        node("MatMul", ["a", "once"], ["y"]),
        node("Identity", ["w"], ["same"]),
        node("Identity", ["s"], ["given"]),
    ]
    inputs = [info("x", F32, ["N", 4, 4]), info("s", F32, [4, 4])]
    outputs = [info(n, F32, shape) for n, shape in (("y", ["N", 4, 4]), ("once", [4, 4]), ("same", [4, 4]), ("given", [4, 4]))]
    return model(nodes, inputs, outputs, {"w": normal(4, 4)})


def shapes() -> ModelProto:
    """A token in front of each entry, made by the number of entries; a result in which only that number counts."""
    nodes = [
        node("Shape", ["x"], ["n"], end=1),
        node("Concat", ["n", "one", "three"], ["wide"], axis=0),
        node("Expand", ["token", "wide"], ["tokens"]),
        node("Concat", ["tokens", "x"], ["y"], axis=1),
        node("ConstantOfShape", ["wide"], ["zeros"]),
    ]
    weights: dict[str, Any] = {"one": np.array([1]), "three": np.array([3]), "token": normal(1, 1, 3)}
    outputs = [info("y", F32, ["N", 5, 3]), info("zeros", F32, ["N", 1, 3])]
    return model(nodes, [info("x", F32, ["N", 4, 3])], outputs, weights)


@pytest.mark.parametrize("made", [digits, heads, shared, shapes])
def test_any_number_of_entries_is_right(made: Any) -> None:
    assert_right(made())
    assert_right(made(), ALONE)


def is_ours(graph: Graph) -> bool:
    """Whether a graph maps, we have all its kernels, and there is something to do."""
    busy = sum(not op.is_constant for op in needed_ops(graph)) > 2
    return busy and isinstance(mapping_of(graph), Mapped) and not refusals(graph, find_engine("tvm"), find_target("cpu"))


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_are_right(seed: int) -> None:
    made = next(each for each in map(RandomGraph, range(1000 * seed, 1000 * (seed + 1))) if is_ours(each.graph))
    program = compile_graph(clone_graph(made.graph), CHOSEN).program
    for entries in SIZES[1:]:
        feeds = made.feeds(entries)
        try:
            wanted = evaluate(made.graph, feeds)
        except EvaluationError:  # the sizes do not fit each other
            continue
        for own, array in zip(program.run(feeds).values(), wanted, strict=True):
            assert own.shape == array.shape
            np.testing.assert_allclose(own, array, rtol=1e-4, atol=1e-4)


def plan_of(program: Program) -> NativePlan:
    """The plan of a program in one part."""
    return NativePlan.from_bytes(program.files.read("plan.json"))


def test_blocks_share_their_constants_and_one_arena() -> None:
    whole, single = (plan_of(compile_model(digits(), replace(CHOSEN, dims=d)).program) for d in ({}, {"N": 1}))
    assert [block.entries for block in whole.blocks] == [BLOCK, 1]
    assert not single.blocks
    assert whole.constants <= 1.1 * single.constants
    assert whole.arena <= 1.1 * BLOCK * single.arena


def test_a_large_entry_is_a_block_of_its_own() -> None:
    message = model([node("Relu", ["x"], ["y"])], [info("x", F32, ["N", 1 << 22])], [info("y", F32, ["N", 1 << 22])])
    assert [block.entries for block in plan_of(compile_model(message, CHOSEN).program).blocks] == [1]


def test_inputs_have_to_agree_on_how_many_entries_there_are() -> None:
    inputs, outputs = [info("a", F32, ["N", 2]), info("b", F32, ["N", 2])], [info("y", F32, ["N", 2])]
    program = compile_model(model([node("Add", ["a", "b"], ["y"])], inputs, outputs), CHOSEN).program
    with pytest.raises(FeedError, match="dim N is 3 in a but 1 in b"):
        program.run({"a": normal(3, 2), "b": normal(1, 2)})
    np.testing.assert_allclose(program.run({"a": normal(3, 2), "b": normal(3, 2)})["y"], 2 * normal(3, 2))


def test_several_threads_run_blocks_at_once() -> None:
    program = compile_model(digits(), CHOSEN).program
    feeds = [normal(seed % 20, 1, 8, 8, seed=seed) for seed in range(40)]
    alone = [program.run({"x": x})["y"] for x in feeds]

    def run(x: np.ndarray) -> np.ndarray:
        return program.run({"x": x})["y"]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, feeds))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_piece_of_a_model_runs_in_blocks_beside_another_engine() -> None:
    nodes = [node("MatMul", ["x", "w"], ["m"]), node("NonZero", ["s"], ["z"]), node("Relu", ["m"], ["y"])]
    inputs = [info("x", F32, ["N", 64]), info("s", F32, [4])]
    outputs = [info("y", F32, ["N", 64]), info("z", I64, [1, "K"])]
    made = compile_model(model(nodes, inputs, outputs, {"w": normal(64, 64)}), CompileOptions(engine="tvm"))
    assert {each.engine for each in made.program.manifest.placement} == {"tvm", "onnxruntime"}
    for entries in (0, 3, 11):
        x = normal(entries, 64)
        given = made.program.run({"x": x, "s": np.array([0, 1, 0, 2], np.float32)})
        np.testing.assert_allclose(given["y"], np.maximum(x @ normal(64, 64), 0), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(given["z"], [[1, 3]])

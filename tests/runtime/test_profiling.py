"""Profiles: what each kernel of the engine stands for, whatever the engine made of the model, and that nothing counts twice."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

from irc.runtime import (
    FeedError,
    Kernel,
    OnnxRuntimeOptions,
    Profile,
    Program,
    Provenance,
    SignatureEntry,
    onnxruntime_profiling,
)
from irc.runtime.profiling import middle_mean
from irc.runtime.provenance import Step, Steps, read_sources, trace_back

from .models import mlp, program, view

IMAGE = [SignatureEntry("x", "f32", (1, 16, 8, 8))]


def by_name(profile: Profile) -> dict[str, Kernel]:
    return {kernel.name: kernel for kernel in profile.kernels}


def named(profile: Profile) -> dict[str, list[str]]:
    """The names of the nodes that the kernels of each op stand for."""
    found: dict[str, list[str]] = {}
    for kernel in profile.kernels:
        found.setdefault(kernel.op, []).extend(source.name for source in kernel.sources)
    return found


def convolutions(options: OnnxRuntimeOptions | None = None) -> Program:
    """x -> conv -> relu -> y, which ONNX Runtime runs as one kernel in blocked layout between two that reorder."""
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="stem/relu"),
    ]
    return program(nodes, IMAGE, [SignatureEntry("y", "f32", (1, 16, 8, 8))], {"w": view(weight)}, options=options)


def profile_of(built: Program, **feeds: np.ndarray) -> Profile:
    return built.profile(feeds, runs=4)


# Running


def test_kernels_have_times_shapes_and_sources() -> None:
    profile = profile_of(
        convolutions(OnnxRuntimeOptions(threads=1, optimization="disable")), x=np.ones((1, 16, 8, 8), np.float32)
    )
    conv, relu = profile.kernels
    assert (conv.op, conv.sources) == ("Conv", (Provenance("stem/conv", "Conv", ("stem/conv",)),))
    assert (relu.op, relu.inputs, relu.outputs) == ("Relu", ("float[1,16,8,8]",), ("float[1,16,8,8]",))
    assert (profile.engine, profile.threads, profile.runs, conv.calls) == ("onnxruntime", 1, 4, 1.0)
    assert profile.unknown_ms == 0
    assert 0 <= profile.kernels_ms == conv.ms + relu.ms
    assert [call.kernel.op for call in profile.calls] == ["Conv", "Relu"]


def test_renamed_kernels_and_inserted_ones_are_traced_back() -> None:
    profile = profile_of(convolutions(), x=np.ones((1, 16, 8, 8), np.float32))
    assert all(kernel.sources for kernel in profile.kernels), profile.kernels
    assert named(profile)["Conv"] == ["stem/relu", "stem/conv"]


def test_the_body_of_a_loop_does_not_count_twice() -> None:
    """Each kernel inside is called once a round, and the op that has the body keeps what is left."""
    rounds = 50
    inner = [
        helper.make_node("Identity", ["go"], ["still"], name="still"),
        helper.make_node("MatMul", ["v", "v"], ["next"], name="product"),
    ]
    matrix = SignatureEntry("x", "f32", (32, 32))
    body = helper.make_graph(
        inner,
        "body",
        [helper.make_tensor_value_info(n, k, s) for n, k, s in (("i", 7, []), ("go", 9, []), ("v", 1, [32, 32]))],
        [helper.make_tensor_value_info(n, k, s) for n, k, s in (("still", 9, []), ("next", 1, [32, 32]))],
    )
    count = onnx.numpy_helper.from_array(np.array(rounds), "rounds")
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], name="loop", body=body)
    built = program([loop], [matrix], [SignatureEntry("y", "f32", (32, 32))], inline=[count])
    profile = profile_of(built, x=np.eye(32, dtype=np.float32))
    kernels = by_name(profile)
    assert kernels["product"].calls == rounds
    assert kernels["product"].sources[0].name == "product"
    whole = sum(call.duration for call in profile.calls if call.kernel.name == "loop") / 1e3
    assert kernels["loop"].ms < whole
    assert profile.kernels_ms <= 1.5 * profile.run_ms, "the loop's kernels would be in it twice"


def test_a_program_still_runs_after_it_was_profiled() -> None:
    built, w, b = mlp()
    x = np.ones((2, 4), np.float32)
    before = built.run({"x": x})["y"]
    profile = built.profile({"x": x}, runs=1)
    assert profile.runs == 1
    np.testing.assert_array_equal(built.run({"x": x})["y"], before)
    np.testing.assert_allclose(before, np.maximum(x @ w + b, 0), rtol=1e-5)


def test_no_more_is_recorded_than_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_profiling, "MOST_CALLS", 2)
    built, _, _ = mlp()
    assert built.profile({"x": np.ones((2, 4), np.float32)}, runs=10_000).runs <= 2


def test_wrong_feeds_are_refused_as_when_running() -> None:
    built, _, _ = mlp()
    with pytest.raises(FeedError, match="x"):
        built.profile({"x": np.ones((2, 5), np.float32)})
    built.close()
    with pytest.raises(FeedError, match="closed"):
        built.profile({"x": np.ones((2, 4), np.float32)})


def test_one_slow_run_does_not_move_the_mean() -> None:
    assert middle_mean([1, 2, 2, 3, 2, 2, 1, 1000]) == 2
    assert middle_mean([7]) == 7


# What nodes say of their past


def graph_of(**properties: str) -> onnx.GraphProto:
    node = helper.make_node("Relu", ["x"], ["y"], name="relu_2")
    for key, value in properties.items():
        node.metadata_props.add(key=f"irc.{key}", value=value)
    return helper.make_graph([node], "g", [], [])


def test_a_node_that_says_nothing_is_its_own_origin() -> None:
    assert read_sources(graph_of()) == {"relu_2": Provenance("relu_2", "Relu", ("relu_2",))}


def test_a_node_says_where_it_stood_and_what_made_it() -> None:
    assert read_sources(graph_of(location="relu"))["relu_2"].origins == ("relu",)
    history = json.dumps({"origins": ["a", "b"], "rewrites": ["last", "first"]})
    source = read_sources(graph_of(location="a, b via last, first", history=history))["relu_2"]
    assert (source.origins, source.rewrites) == (("a", "b"), ("last", "first"))


@pytest.mark.parametrize("history", ["[", "[]", "null", '{"origins": 3}', "[" * 100_000])
def test_a_history_nobody_can_read_is_none(history: str) -> None:
    assert read_sources(graph_of(location="relu", history=history))["relu_2"].origins == ("relu",)


# Tracing back


def steps(*nodes: tuple[str, str, str], initializers: str = "") -> Steps:
    """Nodes as name, inputs and outputs; the op is the name up to a dot."""
    made = [Step(name, name.partition(".")[0], tuple(i.split()), tuple(o.split())) for name, i, o in nodes]
    return Steps(tuple(made), frozenset(initializers.split()))


def traced(given: Steps, made: Steps) -> list[list[str]]:
    return [[step.name for step in each] for each in trace_back(given, made)]


GIVEN = steps(("conv", "x w", "c"), ("sigmoid", "c", "s"), ("mul", "c s", "m"), ("conv.2", "m w2", "y"))


def test_a_node_that_kept_its_name_is_that_node() -> None:
    assert traced(GIVEN, steps(("conv", "x w", "other"), ("conv.2", "other w2", "y"))) == [["conv"], ["conv.2"]]


def test_a_fused_node_does_all_that_serves_only_what_it_makes() -> None:
    fused = steps(("conv", "x w", "c"), ("swish", "c", "m"), ("conv.2", "m w2", "y"))
    assert traced(GIVEN, fused) == [["conv"], ["mul", "sigmoid"], ["conv.2"]]


def test_a_node_with_other_users_is_not_part_of_a_fused_one() -> None:
    given = steps(("a", "x", "p"), ("b", "p", "q"), ("c", "q", "y"), ("d", "p", "z"))
    assert traced(given, steps(("fused", "x", "y"), ("fused.2", "x", "z"))) == [["c", "b"], ["d"]]


def test_reorderings_count_to_the_convolutions_they_serve() -> None:
    blocked = steps(
        ("ReorderInput", "x", "reorder"),
        ("c_nchwc", "reorder w", "reorder_token_0"),
        ("ReorderOutput", "reorder_token_0", "c"),
        ("sigmoid", "c", "s"),
        ("mul", "c s", "m"),
        ("y_nchwc_token_7", "m w2", "reorder_token_1"),
        ("ReorderOutput_token_1", "reorder_token_1", "y"),
    )
    expected = [["conv"], ["conv"], ["conv"], ["sigmoid"], ["mul"], ["conv.2"], ["conv.2"]]
    assert traced(GIVEN, blocked) == expected


def test_an_activation_joins_its_convolution_and_no_other() -> None:
    """What one absorbed besides, a sum above all, has no tensor any more; it must not count to the one that follows."""
    given = steps(("Conv", "x w", "c"), ("Relu", "c", "r"), ("Add", "r x", "a"), ("Conv.2", "a w", "c2"), ("Relu.2", "c2", "y"))
    blocked = steps(("r_nchwc", "x w", "t0"), ("y_nchwc", "t0 w", "t1"), ("ReorderOutput", "t1", "y"))
    made = Steps(tuple(replace(node, op="Conv") if "_nchwc" in node.name else node for node in blocked.nodes), frozenset())
    assert traced(given, made) == [["Relu", "Conv"], ["Relu.2", "Conv.2"], ["Relu.2"]]


def test_what_an_inlined_function_is_made_of_counts_to_the_op() -> None:
    given = steps(("softmax", "x", "y"))
    assert traced(given, steps(("exp", "x", "t0"), ("sum", "t0", "t1"), ("div", "t0 t1", "y"))) == [["softmax"]] * 3


def test_folded_constants_are_not_traced_through() -> None:
    given = steps(("transpose", "w", "wt"), ("matmul", "x wt", "p"), ("add", "p b", "y"))
    assert traced(given, steps(("gemm", "x wt b", "y"), initializers="wt b")) == [["add", "matmul"]]


def test_what_has_no_neighbour_in_the_model_stays_unknown() -> None:
    assert traced(steps(("a", "x", "y")), steps(("b", "u", "v"))) == [[]]

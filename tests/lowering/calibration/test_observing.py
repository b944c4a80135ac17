"""Observing: observers see what the reference computes, in order and each op once, with as little in memory as said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from irc.ir import Graph, UsageError, Value, capture, clone_graph, evaluate, verify
from irc.lowering.calibration import METHODS, Gram, Histogram, Samples, observe, read_calibration
from irc.lowering.calibration.segments import cut_segments
from irc.lowering.signatures import input_entries

from ..models import BF16, F32, I64, STRING, info, model, node, normal

EXAMPLES = Path(__file__).parents[3] / "examples"


def graph_of(message: Any) -> Graph:
    return capture(message.SerializeToString())


def chain(length: int = 6, width: int = 8) -> Graph:
    """x -> MatMul, Relu, MatMul, Relu, ..., and the first product added at the end."""
    nodes = [node("MatMul", ["x", "w0"], ["m0"])]
    for i in range(1, length):
        nodes += [node("Relu", [f"m{i - 1}"], [f"r{i}"]), node("MatMul", [f"r{i}", f"w{i}"], [f"m{i}"])]
    nodes.append(node("Add", ["m0", f"m{length - 1}"], ["y"]))
    weights = {f"w{i}": normal(width, width, seed=i) for i in range(length)}
    return graph_of(model(nodes, [info("x", F32, ["N", width])], [info("y", F32, ["N", width])], weights))


def computed(graph: Graph) -> list[Value]:
    return [result for op in graph if not op.is_constant for result in op.results if result.uses]


def outputs_of(graph: Graph, values: list[Value], feeds: dict[str, Any]) -> list[Any]:
    """What values hold, from one evaluation of a copy that returns them all."""
    copy = clone_graph(graph)
    for op, twin in zip(graph, copy, strict=True):
        for value, other in zip(op.results, twin.results, strict=True):
            if value in values:
                copy.add_output(other, f"wanted {values.index(value)}")
    results = dict(zip(copy.output_names, evaluate(copy, feeds), strict=True))
    return [results[f"wanted {i}"] for i in range(len(values))]


@pytest.mark.parametrize("most_bytes", [1, 200, 1 << 28])
def test_observers_see_what_the_reference_computes(most_bytes: int) -> None:
    graph = chain()
    values = computed(graph)
    samples = [{"x": normal(3, 8, seed=i)} for i in range(4)]
    wanted = {value: [Samples(9)] for value in [graph.inputs[0], *values]}
    observe(graph, wanted, samples, most_bytes=most_bytes)
    assert [each.tolist() for each in wanted[graph.inputs[0]][0].arrays] == [each["x"].tolist() for each in samples]
    for number, feeds in enumerate(samples):
        for value, array in zip(values, outputs_of(graph, values, feeds), strict=True):
            np.testing.assert_array_equal(wanted[value][0].arrays[number], array)


def test_the_graph_is_left_as_it_is() -> None:
    graph = chain()
    before = [(op.name, len(op.results[0].uses)) for op in graph]
    observe(graph, {value: [Histogram()] for value in computed(graph)}, [{"x": normal(3, 8)}], most_bytes=1)
    assert [(op.name, len(op.results[0].uses)) for op in graph] == before
    verify(graph)


@pytest.mark.parametrize("limit", [1, 8 * 4, 3 * 8 * 4, 1 << 20])
def test_segments_give_no_more_than_asked_for_and_hold_every_op_once(limit: int) -> None:
    graph = chain()
    wanted = computed(graph)
    segments = cut_segments(graph, wanted, lambda value: 8 * 4, limit)
    assert all(segment.shown * 8 * 4 <= max(limit, 8 * 4) for segment in segments)
    assert sum(1 for segment in segments for op in segment.graph if not op.is_constant) == len(wanted)
    assert [value for segment in segments for value in segment.gives[: segment.shown]] == wanted
    for segment in segments:
        verify(segment.graph)


def test_only_what_is_needed_is_computed() -> None:
    graph = chain()
    first = computed(graph)[0]
    (segment,) = cut_segments(graph, [first], lambda value: 1, 1)
    assert [op.name for op in segment.graph if not op.is_constant] == ["MatMul"]


def test_progress_is_told_after_every_sample() -> None:
    graph, samples = chain(), [{"x": normal(3, 8)}] * 3
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    observe(graph, {graph.inputs[0]: []}, samples, progress)
    observe(graph, {computed(graph)[0]: []}, iter(samples), progress, most_bytes=1)
    assert told == [(1, 3), (2, 3), (3, 3), (1, 0), (2, 0), (3, 0)]


def test_samples_may_differ_in_size() -> None:
    graph = chain()
    histogram, gram = Histogram(), Gram()
    observe(graph, {computed(graph)[0]: [histogram, gram]}, [{"x": normal(rows, 8)} for rows in (1, 5, 2)])
    assert histogram.count == 8 * 8
    assert gram.rows == 8


def test_bodies_read_what_earlier_segments_gave() -> None:
    branches = {
        name: helper.make_graph([node(op, ["m"], [name])], name, [], [info(name, F32, [2, 8])])
        for name, op in (("yes", "Relu"), ("no", "Neg"))
    }
    nodes = [
        node("MatMul", ["x", "w"], ["m"]),
        node("Tanh", ["m"], ["t"]),
        node("If", ["c"], ["i"], then_branch=branches["yes"], else_branch=branches["no"]),
        node("Add", ["i", "t"], ["y"]),
    ]
    inputs = [info("x", F32, [2, 8]), info("c", TensorProto.BOOL, [])]
    graph = graph_of(model(nodes, inputs, [info("y", F32, [2, 8])], {"w": normal(8, 8)}))
    values = computed(graph)
    wanted = {value: [Samples(2)] for value in values}
    samples = [{"x": normal(2, 8), "c": np.array(flag)} for flag in (True, False)]
    observe(graph, wanted, samples, most_bytes=1)
    for number, feeds in enumerate(samples):
        for value, array in zip(values, outputs_of(graph, values, feeds), strict=True):
            np.testing.assert_array_equal(wanted[value][0].arrays[number], array)
    inside = next(op for op in graph.walk() if op.name == "Neg").result
    with pytest.raises(UsageError, match="inside a body"):
        observe(graph, {inside: []}, samples)


def test_sequences_are_not_handed_from_segment_to_segment() -> None:
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("SequenceConstruct", ["r", "x"], ["s"]),
        node("Neg", ["r"], ["n"]),
        node("ConcatFromSequence", ["s"], ["c"], axis=0),
        node("Abs", ["c"], ["y"]),
    ]
    graph = graph_of(model(nodes, [info("x", F32, [4])], [info("y", F32, [8])]))
    values = [value for value in computed(graph) if str(value.type).startswith("f32")]
    negated = next(op for op in graph if op.name == "Neg").result
    wanted = {value: [Samples(1)] for value in [*values, negated]}
    observe(graph, wanted, [{"x": normal(4)}], most_bytes=1)
    assert wanted[negated][0].arrays[0].shape == (4,)
    sequence = next(op for op in graph if op.name == "SequenceConstruct").result
    with pytest.raises(UsageError, match="only tensors are observed"):
        observe(graph, {sequence: []}, [])


def test_bf16_is_shown_as_f32() -> None:
    nodes = [node("Cast", ["x"], ["h"], to=BF16), node("Cast", ["h"], ["b"], to=F32), node("Neg", ["b"], ["y"])]
    graph = graph_of(model(nodes, [info("x", F32, [4])], [info("y", F32, [4])]))
    narrow = next(op for op in graph if op.name == "Cast").result
    samples = Samples(1)
    observe(
        graph, {narrow: [samples], graph.outputs[0]: []}, [{"x": np.array([1.0, 1.001, 3.14159, -7], np.float32)}], most_bytes=1
    )
    assert samples.arrays[0].dtype == np.float32
    assert samples.arrays[0].tolist() == [1.0, 1.0, 3.140625, -7.0]


def test_an_input_with_a_default_need_not_be_fed() -> None:
    message = model([node("Add", ["x", "b"], ["y"])], [info("x", F32, [2]), info("b", F32, [2])], [info("y", F32, [2])])
    message.graph.initializer.append(helper.make_tensor("b", F32, [2], [10.0, 20.0]))
    graph = graph_of(message)
    samples = Samples(2)
    feeds = [{"x": np.ones(2, np.float32)}, {"x": np.ones(2, np.float32), "b": np.zeros(2, np.float32)}]
    observe(graph, {graph.outputs[0]: [samples]}, feeds)
    assert [each.tolist() for each in samples.arrays] == [[11, 21], [1, 1]]


def test_a_sample_that_the_model_does_not_run_on_is_named() -> None:
    nodes = [node("Gather", ["table", "ids"], ["y"])]
    graph = graph_of(model(nodes, [info("ids", I64, [1])], [info("y", F32, [1, 3])], {"table": normal(4, 3)}))
    samples = [{"ids": np.array([3])}, {"ids": np.array([4])}]
    with pytest.raises(UsageError, match="sample 1: the reference cannot evaluate this") as caught:
        observe(graph, {graph.outputs[0]: []}, samples)
    assert caught.value.hint


def test_a_constant_is_not_observed() -> None:
    graph = chain()
    weight = next(op for op in graph if op.is_constant).result
    with pytest.raises(UsageError, match="is constant"):
        observe(graph, {weight: []}, [])


def test_strings_pass_through() -> None:
    nodes = [node("Identity", ["x"], ["i"]), node("Equal", ["i", "i"], ["e"]), node("Cast", ["e"], ["y"], to=F32)]
    graph = graph_of(model(nodes, [info("x", STRING, [2])], [info("y", F32, [2])]))
    samples = Samples(1)
    observe(graph, {graph.outputs[0]: [samples]}, [{"x": np.array(["a", "b"], object)}], most_bytes=1)
    assert samples.arrays[0].tolist() == [1, 1]


def test_digits_are_calibrated() -> None:
    graph = capture(EXAMPLES / "digits.onnx")
    calibration = read_calibration(EXAMPLES / "digits_test.npz", input_entries(graph))
    kept, held = calibration.split()
    assert (len(calibration), len(kept), len(held)) == (540, 432, 108)
    values = [op.results[0] for op in graph if op.name == "Relu"]
    wanted = {value: [Histogram()] for value in values}
    observe(graph, wanted, kept.evenly(64))
    for value in values:
        (histogram,) = wanted[value]
        assert histogram.low == 0
        assert histogram.count == 64 * np.prod([dim for dim in value.shape or () if isinstance(dim, int)])
        ranges = [METHODS[name](histogram) for name in METHODS]
        assert all(0 <= each.high <= histogram.high for each in ranges)
        assert min(each.high for each in ranges) > histogram.high / 4


MEASURE = """
import sys
import numpy as np
from onnx import TensorProto, helper, numpy_helper
from irc.ir import capture
from irc.lowering.calibration import Histogram, observe

size = 1 << 20  # 4 MiB a value
names = [f"v{i}" for i in range(41)]
nodes = [helper.make_node("Neg" if i % 2 else "Abs", [a], [b]) for i, (a, b) in enumerate(zip(names, names[1:]))]
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name in (names[0], names[-1])]
graph = capture(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), ir_version=10,
    opset_imports=[helper.make_opsetid("", 21)]).SerializeToString())
wanted = {op.result: [Histogram()] for op in graph}
# Not ru_maxrss, which a new process has from the one that it was forked from.
peak = lambda: next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
feeds = [{"v0": np.ones(size, np.float32)}] * 3
observe(graph, dict(list(wanted.items())[:1]), feeds[:1])
before = peak()
observe(graph, wanted, feeds, most_bytes=int(sys.argv[1]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_whatever_is_wanted() -> None:
    def growth(most_bytes: int) -> int:
        command = [sys.executable, "-c", MEASURE, str(most_bytes)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert growth(16 << 20) < 80, "40 values of 4 MiB, of which 4 are to be in memory, and those of one segment more"
    assert growth(1 << 30) > 120, "and if they are not to be bounded, they are not"

"""Pointwise ops change places with the movement in front of them where that joins kernels, and only there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto

from irc.ir import capture, evaluate
from irc.lowering import find_target
from irc.lowering.tvm.program import calls_of, machine_of
from irc.lowering.tvm.sinking import sunk

from ..models import node, normal
from .programs import assert_right, of
from .running import needs_tvm

pytestmark = pytest.mark.usefixtures("in_this_process")

X = {"x": normal(2, 6, 5, 8)}
WEIGHTS = {
    "w": normal(8, 4, seed=1),
    "k": normal(6, 1, 3, 3, seed=2),
    "two": np.array(2, np.float32),
    "deep": np.full((1, 1, 1, 1, 1), 2, np.float32),
    "row": normal(6, seed=3),
    "flat": np.array([2, 6, -1], np.int64),
    "last": np.array([3], np.int64),
    "step": np.array(0.125, np.float32),
    "zero": np.array(7, np.uint8),
}
CONV = node("Conv", ["x", "k"], ["a"], group=6, pads=[1, 1, 1, 1])
PRODUCT = node("MatMul", ["x", "w"], ["a"])
TURNED = node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1])


def made(nodes: Sequence[NodeProto], *outputs: str) -> ModelProto:
    used = {name for each in nodes for name in each.input}
    return of(nodes, X, outputs or (nodes[-1].output[0],), {name: each for name, each in WEIGHTS.items() if name in used})


def order(message: ModelProto) -> list[str]:
    """The ops in the order in which they are, after the change, without constants; the answers are checked as well."""
    graph = capture(message.SerializeToString())
    changed = sunk(graph)
    for given, own in zip(evaluate(graph, X), evaluate(changed, X), strict=True):
        np.testing.assert_array_equal(own, given)
    return [op.name for op in changed if not op.is_constant]


SUNK = {
    "transposed": ([CONV, TURNED, node("Gelu", ["t"], ["y"])], ["Conv", "Gelu", "Transpose"]),
    "narrowed, but not widened": (
        [
            CONV,
            TURNED,
            node("Cast", ["t"], ["low"], to=TensorProto.BFLOAT16),
            node("Cast", ["low"], ["y"], to=TensorProto.FLOAT),
        ],
        ["Conv", "Cast", "Transpose", "Cast"],
    ),
    "quantized": (
        [PRODUCT, TURNED, node("QuantizeLinear", ["t", "step", "zero"], ["y"])],
        ["MatMul", "QuantizeLinear", "Transpose"],
    ),
    "behind two movements": (
        [
            CONV,
            node("Reshape", ["a", "flat"], ["r"]),
            node("Transpose", ["r"], ["t"], perm=[0, 2, 1]),
            node("Relu", ["t"], ["y"]),
        ],
        ["Conv", "Relu", "Reshape", "Transpose"],
    ),
    "one after the other": (
        [CONV, TURNED, node("Mul", ["two", "t"], ["m"]), node("Relu", ["m"], ["y"])],
        ["Conv", "Mul", "Relu", "Transpose"],
    ),
    "behind pointwise ops": (
        [node("Add", ["x", "x"], ["a"]), TURNED, node("Relu", ["t"], ["y"])],
        ["Add", "Relu", "Transpose"],
    ),
    "unsqueezed": (
        [PRODUCT, node("Unsqueeze", ["a", "last"], ["t"]), node("Relu", ["t"], ["y"])],
        ["MatMul", "Relu", "Unsqueeze"],
    ),
}


@pytest.mark.parametrize("name", SUNK)
def test_what_changes_places(name: str) -> None:
    nodes, wanted = SUNK[name]
    assert order(made(nodes)) == wanted


STAYS = {
    "read by others, too": [CONV, TURNED, node("Relu", ["t"], ["r"]), node("Add", ["r", "t"], ["y"])],
    "its operand is read by others": [CONV, TURNED, node("Relu", ["t"], ["r"]), node("ReduceSum", ["a", "last"], ["y"])],
    "another operand of several numbers": [CONV, TURNED, node("Add", ["t", "row"], ["y"])],
    "a number of more axes": [CONV, node("Reshape", ["a", "flat"], ["t"]), node("Mul", ["t", "deep"], ["y"])],
    "an input that is moved": [node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]), node("Relu", ["t"], ["y"])],
    "made by a kernel that takes nothing along": [
        node("Concat", ["x", "x"], ["a"], axis=0),
        TURNED,
        node("Relu", ["t"], ["y"]),
    ],
    "not pointwise": [CONV, TURNED, node("Softmax", ["t"], ["y"])],
}


@pytest.mark.parametrize("name", STAYS)
def test_what_stays(name: str) -> None:
    outputs = ("r", "y") if "others" in name else ("y",)
    assert order(made(STAYS[name], *outputs)) == [each.op_type for each in STAYS[name]]


def test_what_is_returned_moved_stays_too() -> None:
    assert order(made([CONV, TURNED, node("Relu", ["t"], ["y"])], "t", "y")) == ["Conv", "Transpose", "Relu"]


def test_a_graph_in_which_nothing_changes_is_not_copied() -> None:
    graph = capture(made([CONV, node("Relu", ["a"], ["y"])]).SerializeToString())
    assert sunk(graph) is graph


@needs_tvm
@pytest.mark.parametrize("name", ["transposed", "behind two movements", "one after the other", "unsqueezed"])
def test_programs_are_right(name: str) -> None:
    assert_right(made(SUNK[name][0]), X)


@needs_tvm
def test_one_kernel_instead_of_two() -> None:
    graph = capture(made([PRODUCT, TURNED, node("Gelu", ["t"], ["g"])]).SerializeToString())
    machine = machine_of(find_target("cpu"))

    def pointwise(calls: Sequence[Sequence[str]]) -> int:
        return sum(ops[0] == "Gelu" for ops in calls if ops)

    assert pointwise([[op.name for op in call.ops] for call in calls_of(graph, machine)]) == 1
    assert pointwise([[op.name for op in call.ops] for call in calls_of(sunk(graph), machine)]) == 0

"""Products in whole programs, of what is constant or computed, broadcast and turned, with what follows in their registers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest

from irc.ir import capture
from irc.lowering import find_target
from irc.lowering.tvm.program import calls_of, machine_of

from ..models import node, normal
from .programs import assert_right, of
from .running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.usefixtures("in_this_process")]


def right(nodes: list[Any], values: dict[str, np.ndarray], constant: tuple[str, ...] = ()) -> None:
    """The last node's result is that of the reference; those of the values that are not `constant` are inputs."""
    feeds = {name: array for name, array in values.items() if name not in constant}
    weights = {name: array for name, array in values.items() if name in constant}
    assert_right(of(nodes, feeds, [nodes[-1].output[0]], weights), feeds)


Model = tuple[list[Any], dict[str, np.ndarray], tuple[str, ...]]
"""Nodes, of which the last one's result is asked for, the values they start from, and which of these are constant."""


def all_right(models: Sequence[Model]) -> None:
    """As `right` of each, in one program."""
    nodes: list[Any] = []
    feeds: dict[str, np.ndarray] = {}
    weights: dict[str, np.ndarray] = {}
    outputs: list[str] = []
    for number, (own, values, constant) in enumerate(models):
        for each in own:
            each.input[:] = [f"{name}.{number}" for name in each.input]
            each.output[:] = [f"{name}.{number}" for name in each.output]
        nodes += own
        feeds.update((f"{name}.{number}", array) for name, array in values.items() if name not in constant)
        weights.update((f"{name}.{number}", array) for name, array in values.items() if name in constant)
        outputs.append(own[-1].output[0])
    assert_right(of(nodes, feeds, outputs, weights), feeds)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((4, 5), (5, 37)),
        ((2, 3, 4, 5), (5, 70)),
        ((2, 3, 4, 5), (2, 3, 5, 17)),
        ((2, 3, 4, 5), (3, 5, 17)),
        ((2, 3, 4, 5), (2, 1, 5, 17)),
        ((4, 5), (2, 3, 5, 7)),
        ((2, 1, 4, 5), (1, 3, 5, 8)),
        ((2, 3, 1, 4, 5), (2, 1, 4, 5, 3)),
        ((5,), (5, 7)),
        ((5,), (3, 5, 7)),
        ((3, 4, 5), (5,)),
        ((5,), (5,)),
    ],
    ids=str,
)
def test_matrices(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    values = {"a": normal(*a), "b": normal(*b, seed=1)}
    all_right([([node("MatMul", ["a", "b"], ["y"])], values, constant) for constant in ((), ("a",), ("b",))])


def test_a_full_panel_is_not_packed() -> None:
    right([node("MatMul", ["a", "b"], ["y"])], {"a": normal(70, 64), "b": normal(64, 64, seed=1)})


def test_attention_written_out() -> None:
    nodes = [
        node("Transpose", ["q"], ["qt"], perm=[0, 2, 1, 3]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 3, 1]),
        node("MatMul", ["qt", "kt"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Add", ["scaled", "mask"], ["masked"]),
        node("Softmax", ["masked"], ["weights"]),
        node("Transpose", ["v"], ["vt"], perm=[0, 2, 1, 3]),
        node("MatMul", ["weights", "vt"], ["y"]),
    ]
    values = {name: normal(2, 11, 3, 20, seed=seed) for seed, name in enumerate("qkv")}
    right(nodes, {**values, "mask": normal(2, 1, 1, 11), "scale": np.array(0.3, np.float32)}, ("scale",))


def test_a_bias_of_columns_begins_anew_with_each_matrix() -> None:
    nodes = [node("MatMul", ["a", "b"], ["m"]), node("Add", ["m", "c"], ["y"])]
    right(nodes, {"a": normal(3, 5, 6), "b": normal(3, 6, 37), "c": normal(37)})


def test_one_column_is_no_axis_of_others() -> None:
    """Where there is one column, rows lie side by side; a row's addend is not that of the column."""
    nodes = [node("MatMul", ["a", "b"], ["m"]), node("Transpose", ["c"], ["t"]), node("Add", ["m", "t"], ["y"])]
    right(nodes, {"a": normal(4, 8), "b": normal(8, 1), "c": normal(1, 4)}, ("b",))
    sliced = node("Slice", ["c", "zero", "end", "zero", "two"], ["t"])
    numbers = {"zero": np.array([0]), "end": np.array([8]), "two": np.array([2])}
    nodes = [node("MatMul", ["a", "b"], ["m"]), sliced, node("Add", ["m", "t"], ["y"])]
    right(nodes, {"a": normal(4, 8), "b": normal(8, 1), "c": normal(8, 1), **numbers}, ("b", *numbers))


def test_one_channel_is_no_axis_of_pixels() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Add", ["c", "row"], ["y"])]
    right(nodes, {"x": normal(1, 3, 5, 6), "w": normal(1, 3, 1, 1), "row": normal(1, 1, 1, 6)}, ("w",))


@pytest.mark.parametrize("shape", [None, (7,), (4, 1), (4, 7), (1, 7), ()], ids=str)
def test_gemm(shape: tuple[int, ...] | None) -> None:
    models: list[Model] = []
    for left, turned, fixed in product((0, 1), (0, 1), ((), ("b",), ("c",), ("b", "c"))):
        values = {"a": normal(*((5, 4) if left else (4, 5))), "b": normal(*((7, 5) if turned else (5, 7)))}
        if shape is not None:
            values["c"] = np.asarray(normal(*shape, seed=2), np.float32)
        gemm = node("Gemm", list(values), ["y"], transA=left, transB=turned, alpha=0.5, beta=0.25)
        models.append(([gemm], values, fixed))
    all_right(models)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions(groups: int) -> None:
    out = 4 if groups == 4 else 8
    values = {"x": normal(2, 4, 6, 7), "w": normal(out, 4 // groups, 3, 3), "b": normal(out)}
    models: list[Model] = []
    for fixed in ((), ("w",), ("b",), ("w", "b")):
        nodes = [node("Conv", ["x", "w", "b"], ["c"], group=groups, pads=[1, 1, 1, 1]), node("Relu", ["c"], ["y"])]
        models.append((nodes, values, fixed))
    all_right(models)


def test_an_image_that_is_returned_has_no_border() -> None:
    """What could not be fused is made anew, as an output; a border that was there before is not around it."""
    nodes = [
        node("Transpose", ["l"], ["t"], perm=[0, 1, 3, 2]),
        node("Conv", ["x", "w"], ["c"]),
        node("Add", ["c", "t"], ["y"]),
        node("Conv", ["y", "v"], ["z"], pads=[1, 1, 1, 1]),
    ]
    feeds = {"x": normal(1, 3, 5, 6), "l": normal(1, 3, 6, 5)}
    assert_right(of(nodes, feeds, ["y", "z"], {"w": normal(3, 3, 1, 1), "v": normal(4, 3, 3, 3)}), feeds)


def test_what_only_a_concat_reads_is_made_in_its_result() -> None:
    nodes = [
        *(node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]), node("Conv", ["x", "v"], ["b"]), node("Relu", ["b"], ["r"])),
        *(node("MaxPool", ["x"], ["m"], kernel_shape=[1, 1]), node("Concat", ["a", "r"], ["i"], axis=1)),
        *(node("Concat", ["m", "i", "a2"], ["o"], axis=1), node("Conv", ["o", "u"], ["y"], pads=[1, 1, 1, 1])),
        node("Conv", ["x", "v"], ["a2"]),
    ]
    nodes.insert(-2, nodes.pop())
    weights = {"w": normal(8, 4, 3, 3), "v": normal(6, 4, 1, 1), "u": normal(3, 24, 3, 3)}
    message = of(nodes, {"x": normal(1, 4, 6, 7)}, ["y"], weights)
    assert_right(message, {"x": normal(1, 4, 6, 7)})
    calls = calls_of(capture(message.SerializeToString()), machine_of(find_target("cpu")))
    (border,) = (call for call in calls if call.ops and call.ops[0].is_a("Concat"))
    assert len(border.buffers) == 1  # zeros around the result, and no copy


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((1, 2, 4, 5), (2, 3, 2, 2), {"strides": [2, 2]}),
        ((1, 4, 5, 6), (4, 3, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((2, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "dilations": [2, 1]}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 0, 0], "group": 2}),
        ((1, 4, 5, 6), (4, 1, 3, 3), {"strides": [2, 2], "group": 4}),
        ((1, 4, 9, 9), (4, 3, 3, 3), {"pads": [3, 3, 3, 3]}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
        ((1, 4, 5, 6), (4, 3, 2, 2), {"strides": [3, 3]}),
        ((1, 4, 7), (4, 2, 5), {"strides": [3]}),
        ((1, 2, 3, 4, 5), (2, 3, 3, 3, 3), {"strides": [1, 2, 2]}),
        ((1, 4, 5, 6), (4, 3, 4, 4), {"strides": [3, 3], "auto_pad": "SAME_UPPER"}),
        ((1, 4, 5, 6), (4, 3, 4, 4), {"strides": [3, 3], "auto_pad": "SAME_LOWER"}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [12, 14]}),
    ],
    ids=str,
)
def test_transposed_convolutions(x: Any, w: Any, attributes: dict[str, Any]) -> None:
    values = {"x": normal(*x), "w": normal(*w, seed=1), "b": normal(w[1] * attributes.get("group", 1))}
    computed = node("ConvTranspose", ["x", "w", "b"], ["c"], **attributes)
    constant = node("ConvTranspose", ["x", "v", "b"], ["d"], **attributes)
    right([computed, constant, node("Sub", ["c", "d"], ["y"])], {**values, "v": normal(*w, seed=2)}, ("v", "b"))

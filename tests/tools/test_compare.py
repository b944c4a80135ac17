"""When `irc compare` calls two answers the same: by kind of value, and whatever is not a number by being equal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from irc.tools.cli.differences import Difference, difference

from .models import BOOL, F32, I64, STRING, Shell, info, mlp, model, node

TOLERANCE = 1e-4
NAN, INF = np.nan, np.inf


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


SAME = [
    (f32(1, 2), f32(1, 2)),
    (f32(1, 2), f32(1, 2.0001)),
    (f32(NAN, INF, -INF, 1), f32(NAN, INF, -INF, 1)),
    (f32(), f32()),
    (f32(0), f32(-0.0)),
    (i64(1, 5), i64(2, 4)),
    (i64(2**62, -(2**62)), i64(2**62 + 1, -(2**62))),
    (np.array([0], np.uint8), np.array([1], np.uint8)),
    (np.array([True, False]), np.array([True, False])),
    (np.array(["a", "b"], object), np.array(["a", "b"], object)),
    ([f32(1), f32(2)], [f32(1), f32(2.0001)]),
    ([], []),
    ({1: 0.5}, {1: 0.5}),
    (None, None),
    (np.array([1 + 2j]), np.array([1 + 2j])),
]
DIFFERENT = [
    (f32(1, 2), f32(1, 2.01)),
    (f32(0), f32(0.01)),
    (f32(1, NAN), f32(NAN, 1)),
    (f32(INF), f32(-INF)),
    (f32(1), f32(INF)),
    (i64(1, 5), i64(3, 5)),
    (i64(2**62), i64(2**62 + 100)),
    (i64(-(2**63)), i64(2**63 - 1)),
    (np.array([255], np.uint8), np.array([0], np.uint8)),
    (np.array([True]), np.array([False])),
    (np.array(["a"], object), np.array(["b"], object)),
    (f32(1), f32(1, 1)),
    (f32(1), np.array([1.0])),
    ([f32(1)], [f32(1), f32(2)]),
    ([f32(1), f32(2)], [f32(1), f32(3)]),
    ({1: 0.5}, {2: 0.5}),
    (None, f32(1)),
    (np.array([1 + 2j]), np.array([1 - 2j])),
]


@pytest.mark.parametrize(("before", "after"), SAME, ids=str)
def test_the_same(before: Any, after: Any) -> None:
    assert difference("y", before, after).agrees(TOLERANCE)


@pytest.mark.parametrize(("before", "after"), DIFFERENT, ids=str)
def test_not_the_same(before: Any, after: Any) -> None:
    assert not difference("y", before, after).agrees(TOLERANCE)


def test_measures_are_what_they_say() -> None:
    found = difference("y", f32(3, 4), f32(4, 3))
    assert found.relative == pytest.approx(2**0.5 / 5)
    assert found.largest == 1
    assert found.cosine == pytest.approx(24 / 25)
    assert found.same_argmax == 0


def test_a_difference_is_not_forgotten_for_a_larger_distance_within_bounds() -> None:
    near = Difference("y", 0.5, 1, 1, 1, steps=True)
    far = Difference("y", 0.1, 7, 1, 1, steps=True)
    assert near.worse(far, TOLERANCE) is far
    assert far.worse(near, TOLERANCE) is far


# The verb


def compared(shell: Shell, *flags: object) -> tuple[int, Any]:
    """The exit code and the JSON of a comparison."""
    said = shell.run("compare", *flags, "--json")
    return said.code, json.loads(said.out)


def test_compare(shell: Shell) -> None:
    shell.good("compile", "good.onnx")
    out = shell.good("compare", "good.onnx", "good.irc")
    assert out.splitlines()[0].split() == ["output", "relative", "L2", "max", "abs", "cosine", "same", "argmax", "verdict"]
    assert out.splitlines()[1].split()[-1] == "agrees"
    code, found = compared(shell, "good.onnx", "good.irc", "--dim", "N=3")
    assert code == 0
    assert list(found) == ["agrees", "outputs"]
    assert list(found["outputs"][0]) == ["name", "relative_l2", "max_abs", "cosine", "same_argmax", "verdict", "note"]
    assert found["outputs"][0]["verdict"] == "agrees"


def test_tolerance_decides(shell: Shell) -> None:
    shell.save("other.onnx", mlp(1.01))
    assert compared(shell, "good.onnx", "other.onnx")[0] == 1
    assert compared(shell, "good.onnx", "other.onnx", "--tolerance", 0.1)[0] == 0


def test_values_that_are_no_numbers(shell: Shell) -> None:
    """log and sqrt of what is negative are NaN in both; dividing by zero is Inf in one and NaN in the other."""
    x = [info("x", F32, [4])]
    shell.save("log.onnx", model([node("Log", ["x"], ["y"])], x, [info("y", F32, [4])]))
    inverse = model([node("Div", ["one", "x"], ["y"])], x, [info("y", F32, [4])], {"one": np.float32(1)})
    ratio = model([node("Div", ["x", "x"], ["y"])], x, [info("y", F32, [4])])
    shell.save("inverse.onnx", inverse)
    shell.save("ratio.onnx", ratio)
    np.save("x.npy", f32(-1, 0, INF, NAN))
    assert compared(shell, "log.onnx", "log.onnx", "-i", "x=x.npy")[0] == 0
    code, found = compared(shell, "inverse.onnx", "ratio.onnx", "-i", "x=x.npy")
    assert code == 1
    assert found["outputs"][0]["relative_l2"] == "inf"
    assert found["outputs"][0]["note"] == "NaN or Inf in other places"


def test_integers_may_be_one_step_apart(shell: Shell) -> None:
    for name, step in (("zero", 0), ("one", 1), ("two", 2)):
        nodes = [node("Add", ["x", "step"], ["y"])]
        shell.save(f"{name}.onnx", model(nodes, [info("x", I64, [4])], [info("y", I64, [4])], {"step": np.int64(step)}))
    assert compared(shell, "zero.onnx", "one.onnx")[0] == 0
    assert compared(shell, "zero.onnx", "two.onnx")[0] == 1


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [(BOOL, np.array([True, False]), np.array([True, True])), (STRING, np.array(["a"], object), np.array(["b"], object))],
)
def test_what_is_no_number_has_to_be_equal(shell: Shell, kind: int, one: np.ndarray, two: np.ndarray) -> None:
    for name, value in (("one", one), ("two", two)):
        nodes = [node("Identity", ["c"], ["y"])]
        shell.save(f"{name}.onnx", model(nodes, [], [info("y", kind, list(value.shape))], {"c": value}))
    assert compared(shell, "one.onnx", "one.onnx")[0] == 0
    assert compared(shell, "one.onnx", "two.onnx")[0] == 1


def test_random_outputs_are_left_out(shell: Shell) -> None:
    nodes = [node("RandomNormalLike", ["x"], ["noise"]), node("Relu", ["x"], ["y"])]
    shell.save("random.onnx", model(nodes, [info("x", F32, [4])], [info("noise", F32, [4]), info("y", F32, [4])]))
    shell.good("compile", "random.onnx")
    for pair in (("random.onnx", "random.irc"), ("random.irc", "random.irc"), ("random.irc", "random.onnx")):
        code, found = compared(shell, *pair)
        assert code == 0
        assert [output["verdict"] for output in found["outputs"]] == ["random", "agrees"]


def stepped(scale: float) -> ModelProto:
    """x: f32[4], in steps of 0.1 and times `scale`, to y: f32[4]."""
    nodes = [
        node("QuantizeLinear", ["x", "step"], ["q"]),
        node("DequantizeLinear", ["q", "step"], ["d"]),
        node("Mul", ["d", "scale"], ["y"]),
    ]
    weights = {"step": np.float32(0.1), "scale": np.float32(scale)}
    return model(nodes, [info("x", F32, [4])], [info("y", F32, [4])], weights)


def test_a_model_that_stands_quantized_may_round_the_other_way(shell: Shell) -> None:
    for name, scale in (("a.onnx", 1.0), ("b.onnx", 1.01)):
        shell.save(name, stepped(scale))
    assert shell.run("compare", "a.onnx", "b.onnx").code == 0
    assert shell.run("compare", "a.onnx", "b.onnx", "--tolerance", "1e-4").code == 1
    shell.save("c.onnx", mlp(1.01))
    assert shell.run("compare", "good.onnx", "c.onnx").code == 1

"""Wide copies: the same ops with f64 for f32, and their answers by onnx's evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import DType, EvaluationError, evaluate, evaluate_wide, verify, widen, widen_inside
from irc.ir.text import parse_graph, print_graph

CONVOLUTION = """
graph @main(%x: f32[1,2,4,4], %n: i64[1]) -> (%y: f32[1,2,4,4], %m: i64[1]) {
  %w = const @_ : f32[2,1,1,1] = [0.5, 0.25]
  %0 = Conv(%x, %w) {group=2}
  %1 = Cast(%0) {to=10}
  %y = Cast(%1) {to=1}
  %m = Neg(%n)
  return %y, %m
}
"""
BRANCHES = """
graph @main(%c: bool[], %x: f32[1]) -> (%y: f32[1]) {
  %y = If(%c) {
    then_branch=graph @then() captures(%x) -> (%t: f32[1]) {
      %one = const @_ : f32[1] = [1.0]
      %t = Mul(%x, %one)
      return %t
    },
    else_branch=graph @else() captures(%x) -> (%e: f32[1]) {
      %e = Neg(%x)
      return %e
    }
  } : f32[1]
  return %y
}
"""


def test_every_f32_is_f64_and_nothing_else() -> None:
    wide = widen(parse_graph(CONVOLUTION))
    verify(wide)
    text = print_graph(wide)
    assert "f32" not in text
    assert "%x: f64[1,2,4,4], %n: i64[1]" in text
    assert "{to=11} : f64[1,2,4,4]" in text
    assert "{to=10} : f16[1,2,4,4]" in text


def test_a_body_is_widened_with_its_op() -> None:
    wide = widen(parse_graph(BRANCHES))
    verify(wide)
    assert "f32" not in print_graph(wide)
    for c, expected in ((True, 1.0 + 1e-12), (False, -1.0 - 1e-12)):
        feeds = {"c": np.array(c), "x": np.array([1.0 + 1e-12])}
        assert evaluate_wide(parse_graph(BRANCHES), feeds)[0][0] == expected


@pytest.mark.parametrize("sizes", ["5", "2,5", "3,1,2"])
def test_a_global_max_pool_keeps_channels_whatever_the_rank(sizes: str) -> None:
    ones = ",".join("1" for _ in sizes.split(","))
    text = f"graph @main(%x: f32[2,3,{sizes}]) -> (%y: f32[2,3,{ones}]) {{\n  %y = GlobalMaxPool(%x)\n  return %y\n}}"
    x = np.random.default_rng(0).standard_normal((2, 3, *map(int, sizes.split(",")))).astype(np.float32)
    (found,) = evaluate_wide(parse_graph(text), {"x": x})
    np.testing.assert_array_equal(found, x.max(axis=tuple(range(2, x.ndim)), keepdims=True).astype(np.float64))


def test_answers_have_the_digits_of_float64() -> None:
    graph = parse_graph("graph @main(%x: f32[2]) -> (%y: f32[2]) {\n  %y = Add(%x, %x)\n  return %y\n}")
    (found,) = evaluate_wide(graph, {"x": np.array([0.1, 3], np.float32)})
    assert found.dtype == np.float64
    assert found[0] == 2 * np.float64(np.float32(0.1))


def test_what_is_too_much_work_is_not_begun() -> None:
    text = "graph @main(%x: f32[9000,9000]) -> (%y: f32[9000,9000]) {\n  %y = MatMul(%x, %x)\n  return %y\n}"
    with pytest.raises(EvaluationError, match="operations are too many to evaluate in f64"):
        evaluate_wide(parse_graph(text), {})


def test_an_op_that_the_evaluator_lacks_is_said() -> None:
    made = 'opsets {"com.microsoft"=1} {\n  %y = com.microsoft::FastGelu(%x) : f32[2]\n  return %y\n}'
    text = f"graph @main(%x: f32[2]) -> (%y: f32[2]) {made}"
    with pytest.raises(EvaluationError, match="it cannot be evaluated in f64"):
        evaluate_wide(parse_graph(text), {"x": np.zeros(2, np.float32)})


IN_F32 = {DType.F16: DType.F32, DType.BF16: DType.F32}
HALVES = """
graph @main(%x: f16[1,2], %c: bool[]) -> (%y: f16[1,2], %n: i64[2], %x: f16[1,2]) {
  %w = const @_ : f16[2,2] = [0.1, 0.2, 0.3, 0.4]
  %p = MatMul(%x, %w)
  %q = If(%c) {
    then_branch=graph @then() captures(%p) -> (%t: f16[1,2]) {
      %t = Relu(%p)
      return %t
    },
    else_branch=graph @else() captures(%p) -> (%e: f16[1,2]) {
      %s = Shape(%p)
      %z = ConstantOfShape(%s) {value=dense<f16[1]=[2.0]>}
      %e = Sub(%p, %z)
      return %e
    }
  } : f16[1,2]
  %f = Cast(%q) {to=1}
  %y = Cast(%f) {to=10}
  %n = Shape(%x)
  return %y, %n, %x
}
"""


def test_inside_all_is_wide_and_outside_nothing() -> None:
    graph = parse_graph(HALVES)
    wide = widen_inside(graph, IN_F32)
    assert wide is not None
    verify(wide)
    text = print_graph(wide)
    assert "(%x: f16[1,2], %c: bool[]) -> (%y: f16[1,2], %n: i64[2], %x" in text
    narrow = [op.name for op in wide.walk() if any("f16" in str(value.type) for value in op.results)]
    assert narrow == ["Cast"], "at the output that is computed"
    for c in (True, False):
        feeds = {"x": np.array([[0.3, -1.7]], np.float16), "c": np.array(c)}
        exact = feeds["x"].astype(np.float64) @ np.array([[0.1, 0.2], [0.3, 0.4]], np.float16).astype(np.float64)
        found, sizes, same = evaluate(wide, feeds)
        assert found.dtype == np.float16
        np.testing.assert_array_equal(found, np.float16(np.maximum(exact, 0) if c else exact - 2))
        np.testing.assert_array_equal(sizes, [1, 2])
        np.testing.assert_array_equal(same, feeds["x"])


@pytest.mark.parametrize(
    "text",
    [
        "graph @main(%x: seq<f16[2]>) -> (%n: i64[]) {\n  %n = SequenceLength(%x)\n  return %n\n}",
        "graph @main(%x: f16[2]) -> (%y: f16[2]) {\n  %y = some.domain::Half(%x) : f16[2]\n  return %y\n}",
    ],
)
def test_what_cannot_be_cast_and_what_nobody_knows_is_not_widened(text: str) -> None:
    assert widen_inside(parse_graph(text), IN_F32) is None
    assert widen_inside(parse_graph(text.replace("f16", "f32")), IN_F32) is not None

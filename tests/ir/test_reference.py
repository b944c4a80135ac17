"""The reference runs what has its last kernel in an older opset, beside ops that are newer than that."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import EvaluationError, evaluate
from irc.ir.text import parse_graph

X = np.linspace(-2.0, 2.0, 8, dtype=np.float32).reshape(2, 4)


def with_noise(text: str) -> str:
    """A graph from x to y beside random numbers, whose kernel ends before the canonical opset."""
    return f"""graph @main(%x: f32[2,4], %c: bool[]) -> (%y: f32[2,4], %n: f32[2,4]) {{
  {text}
  %n = RandomNormalLike(%x)
  return %y, %n
}}"""


@pytest.mark.parametrize(("text", "slope"), [("%y = Swish(%x)", 1.0), ("%y = Swish(%x) {alpha=1.5}", 1.5)])
def test_a_newer_op_is_written_out_by_its_definition(text: str, slope: float) -> None:
    found, noise = evaluate(parse_graph(with_noise(text)), {"x": X, "c": np.array(True)})
    np.testing.assert_allclose(found, X / (1 + np.exp(-slope * X)), rtol=1e-6)
    assert noise.shape == X.shape


def test_a_newer_op_in_a_body_is_written_out_as_well() -> None:
    branches = """%y = If(%c) {
    then_branch=graph @then() captures(%x) -> (%t: f32[2,4]) {
      %t = Swish(%x)
      return %t
    },
    else_branch=graph @else() captures(%x) -> (%e: f32[2,4]) {
      %e = Neg(%x)
      return %e
    }
  } : f32[2,4]"""
    for c, expected in ((True, X / (1 + np.exp(-X))), (False, -X)):
        found, _ = evaluate(parse_graph(with_noise(branches)), {"x": X, "c": np.array(c)})
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_no_function_defines_is_refused_with_the_engines_reason() -> None:
    graph = parse_graph(with_noise("%y = TensorScatter(%x, %x) {axis=1}"))
    with pytest.raises(EvaluationError, match="RandomNormalLike"):
        evaluate(graph, {"x": X, "c": np.array(True)})

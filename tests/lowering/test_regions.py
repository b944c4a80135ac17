"""Fused regions on an engine that takes none: they are taken apart first, and answers stay."""

from __future__ import annotations

import numpy as np

from irc.ir.text import parse_graph
from irc.lowering import CompileOptions, compile_graph
from irc.passes import PassManager, op_count, registry

TEXT = """graph @main(%x: f32[N,8]) -> (%y: f32[N,8]) {
  %two = const @_ : f32[] = [2.0]
  %a = Mul(%x, %two)
  %b = Tanh(%a)
  %y = Relu(%b)
  return %y
}"""


def test_regions_run_on_an_engine_that_takes_none() -> None:
    compiled = compile_graph(parse_graph(TEXT), CompileOptions(passes="fuse"))
    x = np.linspace(-2, 2, 16, dtype=np.float32).reshape(2, 8)
    with compiled.program as program:
        np.testing.assert_allclose(program.run({"x": x})["y"], np.maximum(np.tanh(2 * x), 0), rtol=1e-6)
        assert [op.qualified_name for op in compiled.graph if not op.is_constant] == ["irc::fused"]


def test_a_region_counts_as_one_op() -> None:
    assert op_count(PassManager(registry().pipeline("fuse")).run(parse_graph(TEXT))) == 1

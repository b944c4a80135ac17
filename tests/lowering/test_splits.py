"""Splits: cut where little passes, the best engine for each part, and nothing where one engine is as good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from irc.ir import DType, Tensor
from irc.ir.text import parse_graph
from irc.lowering import find_target
from irc.lowering.onnxruntime import OnnxRuntime
from irc.lowering.tuning import splits
from irc.lowering.tuning.splits import Split, best_split, cuts_of, parse_split, pieces_at

from .test_partition import FAST, SAFE, chain

FUNNELS = """
graph @main(%x: f32[64,256], %w: f32[256,256], %d: f32[256,4], %u: f32[4,256]) -> (%y: f32[64,256]) {
  %a = MatMul(%x, %w)
  %b = MatMul(%a, %w)
  %c = MatMul(%b, %d)
  %e = MatMul(%c, %u)
  %f = MatMul(%e, %w)
  %y = MatMul(%f, %w)
  return %y
}"""


def test_a_graph_is_cut_where_the_fewest_bytes_pass() -> None:
    """Halfway through its cost lies the narrow value %c; a third of it is nowhere near one."""
    assert cuts_of(parse_graph(FUNNELS), 2) == [3]


def test_what_skips_a_part_passes_too() -> None:
    """%a is used at the end, so it is alive at every cut, and %c is still the narrowest beside it."""
    skipping = FUNNELS.replace("%y = MatMul(%f, %w)", "%g = MatMul(%f, %w)\n  %y = Add(%g, %a)")
    assert cuts_of(parse_graph(skipping), 2) == [3]


def test_a_small_graph_is_cut_less_or_not() -> None:
    assert cuts_of(parse_graph(chain("MatMul"))) == []
    assert len(cuts_of(parse_graph(chain("MatMul", "MatMul")))) == 1


NARROW = """
graph @main(%x: f32[64,64], %w: f32[64,64]) -> (%y: f32[64,64]) {
  %p = MatMul(%x, %w)
  %n = Cast(%p) {to=BF16}
  %f = Cast(%n) {to=F32}
  %y = MatMul(%f, %w)
  return %y
}
""".replace("BF16", str(DType.BF16.onnx_code)).replace("F32}", f"{DType.F32.onnx_code}}}")


def test_a_graph_is_not_cut_at_numbers_that_no_program_is_fed() -> None:
    assert cuts_of(parse_graph(NARROW), 2) in ([1], [3])


def test_neighbours_of_one_engine_are_one_piece() -> None:
    graph = parse_graph(chain("MatMul", "Relu", "MatMul", "Relu"))
    found = [(p.engine.name, len(p.ops)) for p in pieces_at(graph, (1, 2, 3), (FAST, FAST, SAFE, SAFE))]
    assert found == [("fast", 2), ("safe", 2)]


@pytest.mark.parametrize(
    ("fast", "safe", "name"),
    [
        ([1, 1, 5, 5], [3, 3, 2, 2], "fast to op 2, then safe"),
        ([1, 5, 1, 1], [3, 2, 3, 3], "fast to op 1, safe to op 2, then fast"),
        ([1, 1, 1, 1], [2, 2, 2, 2], None),
        ([2, 2, 2, 2], [2, 2, 1.95, 2], None),
        ([1, float("inf"), 1, 1], [9, 9, 9, 9], "fast to op 1, safe to op 2, then fast"),
    ],
)
def test_the_cheapest_engines_are_chosen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, fast: list[float], safe: list[float], name: str | None
) -> None:
    times = iter(zip(fast, safe, strict=True))
    monkeypatch.setattr(splits, "_times", lambda *given: zip(("fast", "safe"), next(times), strict=True))
    monkeypatch.setattr(splits, "cuts_of", lambda graph: [1, 2, 3])
    graph = parse_graph(chain("MatMul", "Relu", "MatMul", "Relu"))
    feeds = dict.fromkeys(("x", "w"), np.ones((64, 64), np.float32))
    found = best_split(graph, (FAST, SAFE), find_target("cpu"), feeds, tmp_path, None)
    assert (None if found is None else found.name) == name


def test_a_split_is_found_again_by_its_name() -> None:
    split = Split((3, 7), (OnnxRuntime(), OnnxRuntime(), OnnxRuntime()), 1.0)
    assert parse_split(split.name) == replace(split, expected=0.0)
    for other in ("onnxruntime", "onnxruntime, attention in parts", "nobody to op 3, then onnxruntime", "then onnxruntime"):
        assert parse_split(other) is None


def test_a_crossing_costs(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A part that is faster elsewhere by less than two crossings stays where it is."""
    times = iter([(0.1, 0.2), (0.1, 0.07), (0.1, 0.2)])
    monkeypatch.setattr(splits, "_times", lambda *given: zip(("fast", "safe"), next(times), strict=True))
    monkeypatch.setattr(splits, "cuts_of", lambda graph: [1, 2])
    graph = parse_graph(chain("MatMul", "Relu", "MatMul"))
    feeds = dict.fromkeys(("x", "w"), np.ones((64, 64), np.float32))
    assert best_split(graph, (FAST, SAFE), find_target("cpu"), feeds, tmp_path, None) is None


@pytest.mark.slow
def test_parts_are_really_measured(tmp_path: Any) -> None:
    """One engine twice under two names: whatever is chosen, every part has a time on both."""
    engines = (OnnxRuntime(), OnnxRuntime("onnxruntime"))
    feeds = {"x": (64, 256), "w": (256, 256), "d": (256, 4), "u": (4, 256)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in feeds.items()}
    found = best_split(parse_graph(FUNNELS), engines, find_target("cpu"), arrays, tmp_path, 1)
    assert found is None or isinstance(found, Split)


def test_a_graph_whose_inputs_have_defaults_is_not_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Nothing is measured of it, because a default cannot pass between parts."""
    monkeypatch.setattr(splits, "cuts_of", lambda graph: [1])
    graph = parse_graph(chain("MatMul", "Relu"))
    graph.defaults[graph.inputs[1]] = Tensor.view(np.ones((64, 64), np.float32), DType.F32)
    assert best_split(graph, (FAST, SAFE), find_target("cpu"), {"x": np.ones((64, 64), np.float32)}, tmp_path, None) is None

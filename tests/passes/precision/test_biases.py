"""Bias correction: the mean of each channel is what it was with exact weights, wherever a bias can be."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import Graph, Value, clone_graph, evaluate, verify
from irc.ir.text import parse_graph
from irc.passes import Range, quantize, sites, wanted_values
from irc.passes.precision import IntegerWeights, correct_biases, integer_weights


def coarse(graph: Graph) -> dict[Value, IntegerWeights]:
    """The weights of all sites, rounded to few steps so that errors show."""
    found: dict[Value, IntegerWeights] = {}
    for site in sites(graph):
        assert site.weights.constant is not None
        nearest = integer_weights(site.weights.constant, site.channel_axis)
        steps = (np.rint(nearest.steps / 16) * 16).astype(np.int8)
        found[site.weights] = IntegerWeights(steps, nearest.scales, nearest.axis)
    return found


def graph_of(kind: str, x: str, shape: tuple[int, ...], attributes: str = "", bias: int = 0, then: str = "") -> Graph:
    rng = np.random.default_rng(1)
    numbers = ", ".join(repr(float(n)) for n in rng.uniform(-1, 1, shape).astype(np.float32).reshape(-1))
    constants = f"  %w = const @_ : f32[{','.join(map(str, shape))}] = [{numbers}]\n"
    if bias:
        values = ", ".join(repr(float(n)) for n in rng.uniform(-1, 1, bias).astype(np.float32))
        constants += f"  %b = const @_ : f32[{bias}] = [{values}]\n"
    operands = "%x, %w" + (", %b" if bias and not then else "")
    return parse_graph(
        f"graph @main(%x: {x}) -> (%y: f32[*]) {{\n{constants}"
        f"  %a = {kind}({operands}){attributes}\n  %y = {then or 'Neg(%a)'}\n  return %y\n}}"
    )


GRAPHS = {
    "pointwise": graph_of("Conv", "f32[2,4,30,30]", (6, 4, 1, 1)),
    "image": graph_of("Conv", "f32[2,4,30,30]", (6, 4, 3, 3), bias=6),
    "groups": graph_of("Conv", "f32[2,4,30,30]", (4, 2, 3, 3), " {group=2}"),
    "depthwise": graph_of("Conv", "f32[2,4,30,30]", (4, 1, 3, 3), " {group=4}", bias=4),
    "transposed": graph_of("ConvTranspose", "f32[2,4,30,30]", (4, 3, 2, 2), " {strides=[2, 2]}", bias=3),
    "transposed groups": graph_of("ConvTranspose", "f32[2,4,30,30]", (4, 3, 2, 2), " {group=2, strides=[2, 2]}"),
    "gemm": graph_of("Gemm", "f32[90,4]", (4, 5), bias=5),
    "gemm transposed": graph_of("Gemm", "f32[90,4]", (5, 4), " {transB=1, alpha=0.5, beta=2.0}", bias=5),
    "matmul": graph_of("MatMul", "f32[2,90,4]", (4, 5)),
    "matmul and add": graph_of("MatMul", "f32[2,90,4]", (4, 5), bias=5, then="Add(%b, %a)"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_channels_keep_their_means(name: str) -> None:
    exact, plain, corrected = GRAPHS[name], clone_graph(GRAPHS[name]), clone_graph(GRAPHS[name])
    shape = tuple(size for size in exact.inputs[0].shape or () if isinstance(size, int))
    x = np.random.default_rng(0).uniform(0, 2, shape).astype(np.float32)
    (site,) = sites(corrected)
    others = tuple(axis for axis in range(x.ndim) if axis != site.data_axis)
    added = correct_biases([site], coarse(corrected), {site.data: x.mean(axis=others, dtype=np.float64)})
    assert list(added) == [site]
    verify(corrected)
    wanted, before, after = (means_of(graph, x) for graph in (exact, in_steps(plain), in_steps(corrected)))
    assert np.abs(before - wanted).max() > 0.02
    assert np.abs(after - wanted).max() < 0.15 * np.abs(before - wanted).max()


def in_steps(graph: Graph) -> Graph:
    """A graph whose weights are coarse, and whose data are about what they were."""
    weights = coarse(graph)
    quantize(graph, sites(graph), dict.fromkeys(wanted_values(graph, sites(graph)), Range(0.0, 2.0)), weights)
    verify(graph)
    return graph


def means_of(graph: Graph, x: np.ndarray) -> np.ndarray:
    """The mean of each channel of the only output."""
    (found,) = evaluate(graph, {"x": x})
    channel = 1 if found.ndim == 4 else found.ndim - 1
    return found.mean(axis=tuple(axis for axis in range(found.ndim) if axis != channel), dtype=np.float64)


def test_a_bias_that_others_read_is_theirs_as_it_was() -> None:
    graph = parse_graph(
        """graph @main(%x: f32[3,2]) -> (%y: f32[*], %z: f32[*]) {
  %w = const @_ : f32[2,2] = [0.3, 0.7, -0.6, 0.9]
  %b = const @_ : f32[2] = [1.0, 2.0]
  %a = MatMul(%x, %w)
  %y = Add(%a, %b)
  %z = Mul(%x, %b)
  return %y, %z
}"""
    )
    (site,) = sites(graph)
    correct_biases([site], coarse(graph), {site.data: np.ones(2)})
    verify(graph)
    mul, add = graph.outputs[1].op, graph.outputs[0].op
    assert mul is not None
    assert add is not None
    assert mul.constant_operand(1).array.tolist() == [1.0, 2.0]  # type: ignore[union-attr]
    assert add.constant_operand(1).array.tolist() != [1.0, 2.0]  # type: ignore[union-attr]


def test_what_is_not_known_is_not_corrected() -> None:
    graph = graph_of("MatMul", "f32[2,7,4]", (4, 5))
    (site,) = sites(graph)
    assert correct_biases([site], coarse(graph), {}) == {}
    assert correct_biases([site], {}, {site.data: np.ones(4)}) == {}
    assert correct_biases([site], coarse(graph), {site.data: np.full(4, np.nan)}) == {}
    assert [op.name for op in graph if not op.is_constant] == ["MatMul", "Neg"]

"""Balance between data and weights: what is computed stays the same, rounding it errs less, and nothing is changed in vain."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import Graph, Value, clone_graph, evaluate, verify
from irc.ir.text import parse_graph
from irc.passes import Range, quantize, sites, wanted_values
from irc.passes.precision import equalize, smooth
from irc.passes.precision.balancing import Reader, factors, steady


def constant(name: str, array: np.ndarray) -> str:
    numbers = ", ".join(repr(float(n)) for n in array.astype(np.float32).reshape(-1))
    return f"  %{name} = const @_ : f32[{','.join(map(str, array.shape))}] = [{numbers}]\n"


def graph_of(inputs: str, constants: dict[str, np.ndarray], *ops: str) -> Graph:
    body = "".join(constant(name, array) for name, array in constants.items()) + "".join(f"  {op}\n" for op in ops)
    return parse_graph(f"graph @main({inputs}) -> (%y: f32[*]) {{\n{body}  return %y\n}}")


def values_of(graph: Graph, feeds: dict[str, np.ndarray], wanted: list[Value]) -> dict[Value, np.ndarray]:
    """The arrays of some values."""
    copy = clone_graph(graph)
    there = {op.results[0]: its.results[0] for op, its in zip(graph.walk(), copy.walk(), strict=True)}
    there.update(zip(graph.inputs, copy.inputs, strict=True))
    for number, value in enumerate(wanted):
        copy.add_output(there[value], f"value{number}")
    return dict(zip(wanted, evaluate(copy, feeds)[len(graph.outputs) :], strict=True))


def error(graph: Graph, feeds: dict[str, np.ndarray]) -> float:
    """The relative error of the graph in 8 bits, with the ranges that these feeds have."""
    (exact,) = evaluate(graph, feeds)
    wanted = wanted_values(graph, sites(graph))
    found = values_of(graph, feeds, wanted)
    quantize(graph, sites(graph), {v: Range(float(a.min()), float(a.max())) for v, a in found.items()})
    verify(graph)
    return float(np.linalg.norm(evaluate(graph, feeds)[0] - exact) / np.linalg.norm(exact))


def extremes_of(graph: Graph, feeds: dict[str, np.ndarray]) -> dict[Value, np.ndarray]:
    axes = {site.data: site.data_axis for site in sites(graph)}
    found = values_of(graph, feeds, list(axes))
    return {v: np.abs(np.moveaxis(a, axes[v], -1)).reshape(-1, a.shape[axes[v]]).max(axis=0) for v, a in found.items()}


RNG = np.random.default_rng(0)
OUTLIERS = np.where(np.arange(16) % 8 == 0, 30.0, 1.0)
MATRICES = {"v": RNG.standard_normal((16, 12)), "w": RNG.standard_normal((20, 16)), "b": RNG.standard_normal(20)}


@pytest.mark.parametrize("norm", ["LayerNormalization(%x, %g, %h) {axis=-1}", "RMSNormalization(%x, %g) {axis=1}"])
def test_outliers_of_a_norm_go_into_the_weights(norm: str) -> None:
    graph = graph_of(
        "%x: f32[40,16]",
        {"g": OUTLIERS, "h": RNG.standard_normal(16), **MATRICES},
        f"%n = {norm}",
        "%p = MatMul(%n, %v)",
        "%q = Gemm(%n, %w, %b) {transB=1}",
        "%y = Concat(%p, %q) {axis=1}",
    )
    feeds = {"x": np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32)}
    (exact,) = evaluate(graph, feeds)
    before = error(clone_graph(graph), feeds)
    (changed,) = smooth(sites(graph), extremes_of(graph, feeds))
    assert changed.name in norm
    assert "via smooth" in str(sites(graph)[0].weights.op.location)  # type: ignore[union-attr]
    verify(graph)
    assert np.allclose(evaluate(graph, feeds)[0], exact, rtol=1e-4, atol=1e-4)
    assert error(graph, feeds) < 0.6 * before


@pytest.mark.parametrize(
    "ops",
    [
        ("%n = LayerNormalization(%x, %g, %h) {axis=-1}", "%p = MatMul(%n, %v)", "%r = MatMul(%p, %u)", "%y = Add(%r, %n)"),
        ("%n = LayerNormalization(%x, %g, %h) {axis=0}", "%p = MatMul(%n, %v)", "%r = MatMul(%p, %u)", "%y = Add(%r, %x)"),
        ("%n = Mul(%x, %g)", "%p = MatMul(%n, %v)", "%r = MatMul(%p, %u)", "%y = Add(%r, %x)"),
    ],
    ids=["another reader", "another axis", "no norm"],
)
def test_norms_that_cannot_be_smoothed_stay_as_they_are(ops: tuple[str, ...]) -> None:
    shape = (40, 16) if "axis=0" in ops[0] else (16,)
    constants = {
        "g": np.broadcast_to(OUTLIERS, shape),
        "h": np.ones(shape),
        "v": MATRICES["v"],
        "u": RNG.standard_normal((12, 16)),
    }
    graph = graph_of("%x: f32[40,16]", constants, *ops)
    feeds = {"x": np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32)}
    assert smooth(sites(graph), extremes_of(graph, feeds)) == []


def test_data_without_outliers_are_left_alone() -> None:
    data = np.random.default_rng(2).uniform(3.5, 4.5, 64)
    assert factors(data, [Reader(RNG.standard_normal((64, 32, 1)))]) is None


def test_numbers_that_are_large_by_chance_are_no_outliers() -> None:
    data = np.random.default_rng(2).standard_normal((1000, 64))
    found, squares = np.abs(data).max(axis=0), np.square(data).mean(axis=0)
    expected = steady(found, squares)
    assert found.max() > 1.3 * found.min()
    assert expected.max() < 1.2 * expected.min()
    outlying = np.where(np.arange(64) == 7, 50.0, found)
    assert steady(outlying, squares)[7] == 50


def test_channels_that_are_always_zero_keep_their_weights() -> None:
    extremes = np.where(np.arange(16) == 3, 0.0, OUTLIERS)
    own = factors(extremes, [Reader(MATRICES["v"][:, :, None])])
    assert own is not None
    assert own[3] == 1


def convolutions(*between: str) -> Graph:
    """A convolution with channels of very different size, what stands between, and one that evens them out."""
    sizes = np.logspace(-1.5, 1.5, 16)
    weights = {
        "v": RNG.standard_normal((16, 3, 3, 3)) * sizes[:, None, None, None],
        "b": RNG.standard_normal(16) * sizes,
        "d": RNG.standard_normal((16, 1, 3, 3)),
        "w": RNG.standard_normal((8, 16, 1, 1)) / sizes[:, None, None],
    }
    return graph_of("%x: f32[2,3,8,8]", weights, "%a = Conv(%x, %v, %b)", *between, "%y = Conv(%m, %w)")


@pytest.mark.parametrize(
    ("between", "pairs"),
    [
        (("%m = Relu(%a)",), 1),
        (("%r = LeakyRelu(%a) {alpha=0.1}", "%m = MaxPool(%r) {kernel_shape=[2, 2]}"), 1),
        (("%r = Relu(%a)", "%e = Conv(%r, %d) {group=16}", "%m = Relu(%e)"), 2),
    ],
    ids=["relu", "pool", "depthwise"],
)
def test_channels_between_convolutions_are_made_alike(between: tuple[str, ...], pairs: int) -> None:
    graph = convolutions(*between)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    (exact,) = evaluate(graph, feeds)
    before = error(clone_graph(graph), feeds)
    changed = equalize(sites(graph), extremes_of(graph, feeds))
    assert len(changed) == pairs
    verify(graph)
    assert np.allclose(evaluate(graph, feeds)[0], exact, rtol=1e-3, atol=1e-3)
    assert error(graph, feeds) < 0.5 * before


@pytest.mark.parametrize("between", ["%m = Sigmoid(%a)", "%m = Clip(%a, %low, %high)", "%m = Add(%a, %a)"])
def test_what_is_not_homogeneous_ends_a_chain(between: str) -> None:
    bounds = ("%low = const @_ : f32[] = [0.0]", "%high = const @_ : f32[] = [6.0]") if "Clip" in between else ()
    graph = convolutions(*bounds, between)
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    assert equalize(sites(graph), extremes_of(graph, feeds)) == []


def test_few_numbers_of_a_channel_are_not_believed() -> None:
    graph = convolutions("%m = GlobalMaxPool(%a)")
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    assert equalize(sites(graph), extremes_of(graph, feeds)) == []
    graph = graph_of(
        "%x: f32[4,16]", {"g": OUTLIERS, "v": MATRICES["v"]}, "%n = RMSNormalization(%x, %g)", "%y = MatMul(%n, %v)"
    )
    feeds = {"x": np.random.default_rng(1).standard_normal((4, 16)).astype(np.float32)}
    assert smooth(sites(graph), extremes_of(graph, feeds)) == []


def test_only_the_sites_that_are_given_are_changed() -> None:
    graph = convolutions("%m = Relu(%a)")
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)}
    assert equalize(sites(graph)[1:], extremes_of(graph, feeds)) == []
    assert not [op for op in graph if "via" in str(op.location)]

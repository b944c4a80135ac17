"""Sites: which contractions precision is chosen for, their axes, and which of them are alike."""

from __future__ import annotations

import pytest

from irc.ir import Graph
from irc.ir.text import parse_graph
from irc.passes.precision import pattern, patterns, sites


def graph(body: str, inputs: str = "%x: f32[N,4]", output: str = "%y: f32[N,4]") -> Graph:
    """A graph of one output."""
    return parse_graph(f"graph @main({inputs}) -> ({output}) {{\n{body}\nreturn %y\n}}", name="sites")


WEIGHTS = "%w = const @_ : f32[4,4] = [" + ", ".join(["1.0"] * 16) + "]\n"


@pytest.mark.parametrize(
    ("op", "axes"),
    [
        ("MatMul(%x, %w)", (1, 0, 1)),
        ("Gemm(%x, %w)", (1, 0, 1)),
        ("Gemm(%x, %w) {transB=1}", (0, 1, 1)),
        ("Gemm(%x, %w) {transA=1}", (1, 0, 0)),
    ],
)
def test_axes_of_products(op: str, axes: tuple[int, int, int]) -> None:
    inputs, output = ("%x: f32[4,4]", "%y: f32[4,4]") if "transA" in op else ("%x: f32[N,4]", "%y: f32[N,4]")
    (site,) = sites(graph(f"{WEIGHTS}%y = {op}", inputs, output))
    assert (site.channel_axis, site.summed_axis, site.data_axis) == axes


def test_axes_of_convolutions() -> None:
    weights = "%w = const @_ : f32[2,3,1,1] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]\n"
    (site,) = sites(graph(f"{weights}%y = Conv(%x, %w)", "%x: f32[N,3,5,5]", "%y: f32[N,2,5,5]"))
    assert (site.channel_axis, site.summed_axis, site.data_axis) == (0, 1, 1)
    (site,) = sites(graph(f"{weights}%y = ConvTranspose(%x, %w)", "%x: f32[N,2,5,5]", "%y: f32[N,3,5,5]"))
    assert (site.channel_axis, site.summed_axis, site.data_axis) == (1, 0, 1)


def test_computed_weights_have_no_channels_of_their_own() -> None:
    (site,) = sites(graph("%y = MatMul(%x, %z)", "%x: f32[N,4], %z: f32[4,4]"))
    assert site.channel_axis is None
    assert not site.is_weighted


@pytest.mark.parametrize(
    ("body", "inputs", "output"),
    [
        ("%y = MatMul(%x, %z)", "%x: f64[N,4], %z: f64[4,4]", "%y: f64[N,4]"),
        ("%y = MatMul(%x, %z)", "%x: f32[N,4], %z: f32[4]", "%y: f32[N]"),
        ("%y = Add(%x, %x)", "%x: f32[N,4]", "%y: f32[N,4]"),
    ],
    ids=["f64", "a vector", "no contraction"],
)
def test_no_sites(body: str, inputs: str, output: str) -> None:
    assert sites(graph(body, inputs, output)) == []


def layers(second: str = "Relu") -> Graph:
    """Two layers."""
    return graph(f"{WEIGHTS}%p = MatMul(%x, %w)\n%a = Relu(%p)\n%q = MatMul(%a, %w)\n%y = {second}(%q)")


def test_what_reads_a_result_and_what_makes_the_data_tell_sites_apart() -> None:
    first, second = sites(layers())
    assert pattern(first) != pattern(second), "one reads an input, the other a Relu"
    assert pattern(second) != pattern(sites(layers("Tanh"))[1])
    assert pattern(second) == pattern(sites(layers())[1])


def test_equal_layers_are_one_pattern() -> None:
    body = WEIGHTS + "%a0 = Relu(%x)\n"
    for number in range(5):
        body += f"%p{number} = MatMul(%a{number}, %w)\n%a{number + 1} = Relu(%p{number})\n"
    found = patterns(sites(graph(body + "%y = Identity(%a5)")))
    assert [len(alike) for alike in found.values()] == [4, 1] or [len(alike) for alike in found.values()] == [5]

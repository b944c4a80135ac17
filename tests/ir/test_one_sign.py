"""Integer products of one sign: the same numbers, and sums that no kernel of the reference saturates."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import evaluate, verify, with_one_sign
from irc.ir.text import parse_graph, print_graph

MOST = """
graph @main(%a: u8[1,4]) -> (%y: i32[1,1]) {
  %b = const @_ : i8[4,1] = [127, 127, 127, -128]
  %y = MatMulInteger(%a, %b) : i32[1,1]
  return %y
}
"""
FED = """
graph @main(%a: i8[1,4], %b: u8[4,1], %z: i8[]) -> (%y: i32[1,1]) {
  %y = MatMulInteger(%a, %b, %z) : i32[1,1]
  return %y
}
"""
SAME = """
graph @main(%a: i8[1,4], %b: i8[4,1]) -> (%y: i32[1,1]) {
  %y = MatMulInteger(%a, %b) : i32[1,1]
  return %y
}
"""

ON_BYTES = """
graph @main(%x: DATA[2,64], %w: i8[64,5]) -> (%y: DATA[2,5]) {
  %one = const @_ : f32[] = [1.0]
  %step = const @_ : f32[] = [4096.0]
  %xz = const @_ : DATA[] = [27]
  %wz = const @_ : i8[] = [0]
  %yz = const @_ : DATA[] = [3]
  %y = QLinearMatMul(%x, %one, %xz, %w, %one, %wz, %step, %yz) : DATA[2,5]
  return %y
}
"""


def test_a_constant_of_i8_that_u8_is_multiplied_by_is_u8_with_a_zero_point() -> None:
    graph = with_one_sign(parse_graph(MOST))
    verify(graph)
    text = print_graph(graph)
    assert "u8[4,1] = [255, 255, 255, 0]" in text
    assert "u8[] = [128]" in text
    assert "i8[4,1] = [127" not in text


def test_what_is_computed_is_shifted_with_its_zero_point() -> None:
    graph = with_one_sign(parse_graph(FED))
    verify(graph)
    assert print_graph(graph).count("Add(") == 2
    feeds = {"a": np.full((1, 4), -128, np.int8), "b": np.full((4, 1), 255, np.uint8), "z": np.array(127, np.int8)}
    assert evaluate(parse_graph(FED), feeds)[0].tolist() == [[-255 * 255 * 4]]


def test_a_graph_of_one_sign_is_left_as_it_is() -> None:
    graph = parse_graph(SAME)
    assert with_one_sign(graph) is graph


@pytest.mark.parametrize("value", [0, 1, 255])
def test_the_reference_sums_exactly(value: int) -> None:
    """On a processor without VNNI, ONNX Runtime's kernel gives 32,767 for the first two products of 255 by 127."""
    (found,) = evaluate(parse_graph(MOST), {"a": np.full((1, 4), value, np.uint8)})
    assert found.tolist() == [[value * (3 * 127 - 128)]]


@pytest.mark.parametrize(("kind", "data"), [("u8", np.uint8), ("i8", np.int8)])
def test_products_of_bytes_are_rounded_exact_sums(kind: str, data: type[np.integer]) -> None:
    numbers = np.random.default_rng(0)
    least, most = np.iinfo(data).min, np.iinfo(data).max
    x = numbers.integers(least, most + 1, (2, 64)).astype(data)
    w = numbers.integers(-128, 128, (64, 5)).astype(np.int8)
    (found,) = evaluate(parse_graph(ON_BYTES.replace("DATA", kind)), {"x": x, "w": w})
    wanted = np.rint((x.astype(np.float64) - 27) @ w.astype(np.float64) / 4096) + 3
    np.testing.assert_array_equal(found, np.clip(wanted, least, most))

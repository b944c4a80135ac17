"""Contractions against numpy in float64: every tail, matrix products and convolutions, grouped and depthwise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import DType
from irc.lowering import find_target
from irc.lowering.tvm.arithmetic import (
    BF16,
    INT8,
    INT8_BY_PAIRS,
    INT8_IN_WORDS,
    INT8_ON_AVX,
    Arithmetic,
    arithmetic_of_bytes,
    fastest_for,
)
from irc.lowering.tvm.axes import Axis, Contraction, in_lanes
from irc.lowering.tvm.contraction import contraction, extent_of, tiling_of
from irc.lowering.tvm.kernel import Writer
from irc.lowering.tvm.panels import packed
from irc.lowering.tvm.products import Product, Window, convolution, matmul
from irc.lowering.tvm.tiling import Machine, Tiling, ahead_of, neighbours
from irc.lowering.tvm.views import View
from irc.runtime import processor

from .running import lanes, needs_tvm, run

pytestmark = needs_tvm


def machine() -> Machine:
    """This one, roughly."""
    return Machine(lanes(), 32 if lanes() == 16 else 16, 1 << 15, 1 << 20, 2)


def seen(view: View, buffer: Any) -> Any:
    """The elements of a buffer that a view shows."""
    return np.lib.stride_tricks.as_strided(buffer.reshape(-1)[view.offset :], view.shape, [4 * step for step in view.strides])


def panels(product: Product, b: Any, tiling: Tiling | None = None) -> tuple[Tiling, Any]:
    """How a product is cut, by the model unless it is said, and its B packed so."""
    made = product.contraction
    tiling = tiling or tiling_of(made, machine())
    return tiling, packed(seen(product.weights, b).reshape(made.groups, made.depth, -1), tiling)


def computed(product: Product | None, a: Any, b: Any, view: View, tiling: Tiling | None = None) -> Any:
    """What the kernel of a product makes of A and B, as the view of its result shows it."""
    assert product is not None
    tiling, b_packed = panels(product, b, tiling)
    kernel = contraction(product.contraction, tiling)
    result = np.full(view.size, np.nan, np.float32)
    run(kernel, np.ascontiguousarray(a), b_packed, result)
    return seen(view, result)


def close(result: Any, expected: Any, depth: int) -> None:
    """Within 50 roundings of the root of `depth`, which is how large such sums are."""
    np.testing.assert_allclose(result, expected, rtol=0, atol=50 * 6e-8 * depth**0.5 + 1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 150), st.integers(1, 3))
def test_a_matrix_product_of_any_sizes(rows: int, depth: int, columns: int, outer: int) -> None:
    rng = np.random.default_rng(rows * depth)
    a = rng.standard_normal((outer, rows, depth), np.float32)
    b = rng.standard_normal((depth, columns), np.float32)
    result = View.dense((outer, rows, columns))
    made = matmul(View.dense(a.shape), a.size, View.dense(b.shape), result, result.size)
    close(computed(made, a, b, result), a.astype(np.float64) @ b, depth)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 40), st.integers(1, 50), st.integers(1, 3), st.integers(1, 3))
def test_a_matrix_for_each_of_several(rows: int, depth: int, columns: int, batch: int, heads: int) -> None:
    rng = np.random.default_rng(rows * depth)
    a = rng.standard_normal((batch, heads, rows, depth), np.float32)
    b = rng.standard_normal((batch, heads, depth, columns), np.float32)
    result = View.dense((batch, heads, rows, columns))
    made = matmul(View.dense(a.shape), a.size, View.dense(b.shape), result, result.size)
    close(computed(made, a, b, result), a.astype(np.float64) @ b, depth)


def test_a_transposed_operand_needs_no_copy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((50, 30), np.float32), rng.standard_normal((50, 20), np.float32)
    result = View.dense((30, 20))
    made = matmul(View.dense(a.shape).permuted((1, 0)), a.size, View.dense(b.shape), result, result.size)
    close(computed(made, a, b, result), a.T.astype(np.float64) @ b, 50)


def extents(spatial: Any, window: Window) -> tuple[int, ...]:
    """The spatial sizes of a result."""
    moves = zip(spatial, window.kernel, window.strides, window.dilations, strict=True)
    return tuple((size - (kernel - 1) * dilation - 1) // stride + 1 for size, kernel, stride, dilation in moves)


def reference(data: Any, weights: Any, groups: int, window: Window) -> Any:
    """A convolution of what has its border already, in float64."""
    batch, channels, *spatial = data.shape
    out = weights.shape[0]
    sizes = extents(spatial, window)
    result = np.zeros((batch, out, *sizes))
    for o in range(out):
        first = o // (out // groups) * (channels // groups)
        own = data[:, first : first + channels // groups].astype(np.float64)
        for place in np.ndindex(*window.kernel):
            cut = tuple(
                slice(i * d, i * d + (n - 1) * s + 1, s)
                for i, d, n, s in zip(place, window.dilations, sizes, window.strides, strict=True)
            )
            result[:, o] += np.einsum("bc...,c->b...", own[(slice(None), slice(None), *cut)], weights[(o, slice(None), *place)])
    return result


@pytest.mark.parametrize(
    ("channels", "out", "groups", "kernel", "strides", "dilations", "spatial"),
    [
        (5, 7, 1, (3, 3), (1, 1), (1, 1), (9, 8)),
        (16, 33, 1, (1, 1), (1, 1), (1, 1), (7, 7)),
        (8, 16, 1, (1, 1), (2, 2), (1, 1), (9, 9)),
        (6, 12, 3, (3, 3), (1, 2), (2, 1), (10, 11)),
        (19, 19, 19, (3, 3), (1, 1), (1, 1), (8, 8)),
        (32, 32, 32, (5, 5), (2, 2), (1, 1), (13, 12)),
        (4, 6, 2, (3,), (1,), (1,), (17,)),
        (3, 4, 1, (2, 3, 2), (1, 1, 2), (1, 1, 1), (4, 5, 6)),
        (3, 64, 1, (7, 7), (2, 2), (1, 1), (20, 20)),
    ],
)
def test_convolutions(
    channels: int, out: int, groups: int, kernel: Any, strides: Any, dilations: Any, spatial: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(channels)
    rank = len(kernel)
    window = Window(kernel, strides, dilations, (0,) * rank, (0,) * rank)
    lying = rng.standard_normal((2, *spatial, channels), np.float32)
    weights = rng.standard_normal((out, channels // groups, *kernel), np.float32)
    order = (0, rank + 1, *range(1, rank + 1))
    sizes = extents(spatial, window)
    result = View.dense((2, *sizes, out)).permuted(order)
    data = View.dense(lying.shape).permuted(order)
    filters = View.dense((groups, out // groups, *weights.shape[1:]))
    made = convolution(data, lying.size, filters, window, result, result.size)
    expected = reference(lying.transpose(order), weights, groups, window)
    close(computed(made, lying, weights, result), expected, made.contraction.depth)


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 150), st.integers(1, 3))
def test_a_product_is_the_same_within_rounding_however_it_is_cut(rows: int, depth: int, columns: int, batch: int) -> None:
    rng = np.random.default_rng(rows * depth)
    a = rng.standard_normal((batch, rows, depth), np.float32)
    b = rng.standard_normal((batch, depth, columns), np.float32)
    result = View.dense((batch, rows, columns))
    made = matmul(View.dense(a.shape), a.size, View.dense(b.shape), result, result.size)
    assert made is not None
    usual = computed(made, a, b, result)
    for tiling in neighbours(extent_of(made.contraction), machine()):
        close(computed(made, a, b, result, tiling), usual, depth)


@pytest.mark.parametrize(("channels", "groups", "spatial"), [(19, 19, (8, 8)), (6, 3, (20, 21)), (40, 1, (12, 13))])
def test_so_is_a_convolution(channels: int, groups: int, spatial: tuple[int, int]) -> None:
    rng = np.random.default_rng(channels)
    window = Window((3, 3), (1, 1), (1, 1), (0, 0), (0, 0))
    lying = rng.standard_normal((2, *spatial, channels), np.float32)
    weights = rng.standard_normal((channels, channels // groups, 3, 3), np.float32)
    result = View.dense((2, *extents(spatial, window), channels)).permuted((0, 3, 1, 2))
    filters = View.dense((groups, channels // groups, *weights.shape[1:]))
    made = convolution(View.dense(lying.shape).permuted((0, 3, 1, 2)), lying.size, filters, window, result, result.size)
    usual = computed(made, lying, weights, result)
    near = neighbours(extent_of(made.contraction), machine())
    assert near
    for tiling in near:
        close(computed(made, lying, weights, result, tiling), usual, made.contraction.depth)


def test_an_epilogue_sees_values_places_and_columns() -> None:
    """Here it adds a bias for each column and a residual that lies as the result does."""
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((13, 20), np.float32), rng.standard_normal((20, 37), np.float32)
    bias, residual = rng.standard_normal(37, np.float32), rng.standard_normal((13, 37), np.float32)

    def epilogue(writer: Writer, value: str, place: str, column: str) -> str:
        return writer.let("float32", f"{value} + b2[{column}] + b3[{place}]")

    view = View.dense((13, 37))
    made = matmul(View.dense(a.shape), a.size, View.dense(b.shape), view, view.size)
    assert made is not None
    tiling, b_packed = panels(made, b)
    operands = [(DType.F32, bias.size), (DType.F32, residual.size)]
    kernel = contraction(made.contraction, tiling, operands, epilogue)
    result = np.empty((13, 37), np.float32)
    run(kernel, a, b_packed, bias, residual, result)
    close(result, a.astype(np.float64) @ b + bias + residual, 20)


def test_equal_contractions_are_one_kernel() -> None:
    a, b, c = View.dense((8, 16)), View.dense((16, 32)), View.dense((8, 32))
    made = [matmul(a, 128, b, c, 256) for _ in range(2)]
    names = {contraction(each.contraction, tiling_of(each.contraction, machine())).name for each in made if each is not None}
    assert len(names) == 1


@pytest.mark.parametrize(("rows", "depth", "columns"), [(8, 64, 48), (13, 20, 37), (1, 128, 130), (33, 4, 16)])
@pytest.mark.parametrize("arithmetic", [BF16, INT8, INT8_ON_AVX, INT8_BY_PAIRS, INT8_IN_WORDS], ids=lambda each: each.name)
def test_several_products_in_a_lane(arithmetic: Arithmetic, rows: int, depth: int, columns: int) -> None:
    """8 bits to the bit; bf16 to the roundings of f32, its products being exact there."""
    if not set(arithmetic.features) <= set(processor().features):
        pytest.skip(f"needs {', '.join(arithmetic.features)}")
    rng = np.random.default_rng(depth)
    if arithmetic.sums is DType.I32:
        a: Any = rng.integers(0, 256, (rows, depth), np.uint8)
        most = 64 if arithmetic is INT8_IN_WORDS else 128
        b: Any = rng.integers(-most, most, (depth, columns), np.int8)
    else:
        a, b = (rng.standard_normal(shape).astype(DType.BF16.numpy) for shape in ((rows, depth), (depth, columns)))
    view = View.dense((rows, columns))
    made = matmul(View.dense(a.shape), a.size, View.dense(b.shape), view, view.size)
    assert made is not None
    wanted = in_lanes(made.contraction, arithmetic)
    assert wanted is not None
    tiling = tiling_of(wanted, machine())
    result = np.zeros((rows, columns), arithmetic.sums.numpy)
    run(contraction(wanted, tiling), a.view(np.uint8), packed(b[None], tiling, arithmetic).view(np.uint8), result)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    if arithmetic.sums is DType.I32:
        np.testing.assert_array_equal(result, expected.astype(np.int64))
    else:
        close(result, expected, depth)


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("cpu:znver4", INT8),
        ("cpu:alderlake", INT8_ON_AVX),
        ("cpu:x86-64-v4", INT8_BY_PAIRS),
        ("cpu:haswell", INT8_BY_PAIRS),
        ("cpu:sandybridge", None),
        ("arm64", None),
    ],
)
def test_the_fastest_way_to_multiply_bytes(target: str, wanted: Arithmetic | None) -> None:
    assert arithmetic_of_bytes(find_target(target).features) is wanted


@pytest.mark.parametrize(
    ("twos", "is_small"),
    [
        ([(127, 1), (-127, -1), (64, 64), (-128, 0)], True),
        ([(127, -128), (0, 0), (0, 0), (0, 0)], True),
        ([(0, 127), (127, 0), (0, 0), (0, 0)], True),
        ([(0, 0), (127, 2), (0, 0), (0, 0)], False),
        ([(0, 0), (0, 0), (0, 0), (-65, -64)], False),
    ],
    ids=str,
)
def test_weights_that_are_small_by_twos_are_summed_in_words(twos: list[tuple[int, int]], is_small: bool) -> None:
    """Of the largest bytes, 255, the sums are exact all the same."""
    b = np.repeat(np.array(twos, np.int8).reshape(1, 8, 1), 9, axis=2)
    found = fastest_for(b, INT8_BY_PAIRS)
    assert found is (INT8_IN_WORDS if is_small else INT8_BY_PAIRS)
    assert fastest_for(b, INT8) is INT8
    if not set(found.features) <= set(processor().features):
        pytest.skip("needs AVX2")
    a, view = np.full((5, 8), 255, np.uint8), View.dense((5, 9))
    made = matmul(View.dense(a.shape), a.size, View.dense((8, 9)), view, view.size)
    assert made is not None
    lanes_of = in_lanes(made.contraction, found)
    assert lanes_of is not None
    tiling, result = tiling_of(lanes_of, machine()), np.zeros((5, 9), np.int32)
    run(contraction(lanes_of, tiling), a, packed(b, tiling, found), result)
    np.testing.assert_array_equal(result, a.astype(np.int64) @ b[0])


def test_long_vectors_without_words_multiply_no_bytes() -> None:
    assert arithmetic_of_bytes(("avx2", "avx512f")) is None


def test_what_does_not_lie_side_by_side_shares_no_lane() -> None:
    view = View.dense((4, 8))
    odd = matmul(View.dense((4, 7)), 28, View.dense((7, 8)), view, view.size)
    turned = matmul(View.dense((8, 4)).permuted((1, 0)), 32, View.dense((8, 8)), view, view.size)
    for made in (odd, turned):
        assert made is not None
        assert in_lanes(made.contraction, INT8) is None


def test_an_epilogue_may_make_another_dtype_of_sums() -> None:
    """A requantization: scaled, rounded, and cut off."""
    arithmetic = arithmetic_of_bytes(processor().features)
    if arithmetic is None:
        pytest.skip("needs an instruction that multiplies bytes")
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (9, 16), np.uint8), rng.integers(-128, 128, (16, 20), np.int8)

    def epilogue(writer: Writer, value: str, place: str, column: str) -> str:
        scaled = writer.value("float32", f'T.Cast("float32", {value}) * T.float32(0.0078125)')
        rounded = writer.value("float32", f"T.floor({scaled} + T.float32(0.5))")
        cut = writer.value("float32", f"T.min(T.max({rounded}, T.float32(0)), T.float32(255))")
        return f'T.Cast("uint8", {cut})'

    view = View.dense((9, 20))
    made = matmul(View.dense(a.shape), a.size, View.dense(b.shape), view, view.size)
    assert made is not None
    wanted = in_lanes(made.contraction, arithmetic)
    assert wanted is not None
    tiling = tiling_of(wanted, machine())
    result = np.zeros((9, 20), np.uint8)
    kernel = contraction(wanted, tiling, (), epilogue, DType.U8)
    run(kernel, a, packed(b[None], tiling, arithmetic), result)
    sums = a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(result, np.clip(np.floor(sums * 0.0078125 + 0.5), 0, 255))


@pytest.mark.parametrize("panel_first", [False, True])
def test_what_is_fetched_ahead_changes_no_bit(panel_first: bool) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((60, 300), np.float32), rng.standard_normal((300, 1000), np.float32)
    wanted = Contraction((), Axis(60, 300, 1000), (Axis(300, 1),), 1000, a.size, 60_000)
    here = replace(machine(), l2=1 << 19)
    tiling = replace(tiling_of(wanted, here), panel_first=panel_first)
    ahead = ahead_of(extent_of(wanted), tiling, here)
    assert ahead is not None
    results = np.zeros((2, 60, 1000), np.float32)
    for result, fetched in zip(results, (None, ahead), strict=True):
        kernel = contraction(wanted, tiling, ahead=fetched)
        assert ("prefetch" in kernel.source) == (fetched is not None)
        run(kernel, a, packed(b[None], tiling), result)
    np.testing.assert_array_equal(results[0], results[1])

"""Winograd's tiles against direct sums in float64, and which convolutions are cut into them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from irc.ir import capture
from irc.lowering.tvm.contraction import contraction, tiling_of
from irc.lowering.tvm.panels import packed
from irc.lowering.tvm.tiling import Machine
from irc.lowering.tvm.views import View
from irc.lowering.tvm.winograd import (
    A_TRANSPOSED,
    B_TRANSPOSED,
    PATCH,
    TILE,
    G,
    Tiles,
    products_of,
    tiles_of,
    transform_input,
    transform_output,
    transformed_weights,
)

from ..models import F32, info, model, node
from .running import lanes, needs_tvm, run

MACHINE = Machine(16, 32, 1 << 15, 1 << 20, 2)


def test_the_matrices_are_those_of_a_correlation() -> None:
    """For every unit patch and unit filter, in exact arithmetic."""
    for element in range(PATCH):
        for tap in range(3):
            d, g = [int(i == element) for i in range(PATCH)], [Fraction(int(i == tap)) for i in range(3)]
            u = [sum((a * b for a, b in zip(row, g, strict=True)), Fraction(0)) for row in G]
            v = [sum(a * b for a, b in zip(row, d, strict=True)) for row in B_TRANSPOSED]
            y = [sum((a * b * c for a, b, c in zip(row, u, v, strict=True)), Fraction(0)) for row in A_TRANSPOSED]
            assert y == [Fraction(int(element == place + tap)) for place in range(TILE)]


@needs_tvm
@pytest.mark.parametrize(("height", "width", "channels", "out"), [(8, 8, 16, 16), (7, 10, 19, 33), (4, 5, 40, 8)])
def test_tiles_are_the_direct_sums(height: int, width: int, channels: int, out: int) -> None:
    rng = np.random.default_rng(height)
    tiles = Tiles(2, -(-height // TILE), -(-width // TILE), channels, out)
    x = np.zeros((2, tiles.down * TILE + 2, tiles.across * TILE + 2, channels), np.float32)
    x[:, 1 : height + 1, 1 : width + 1] = rng.standard_normal((2, height, width, channels), np.float32)
    w = rng.standard_normal((out, channels, 3, 3), np.float32)
    data = View.dense(x.shape).permuted((0, 3, 1, 2))
    result = View.dense((2, height, width, out)).permuted((0, 3, 1, 2))
    products = products_of(tiles)
    machine = Machine(lanes(), 32 if lanes() == 16 else 16, 1 << 15, 1 << 20, 2)
    tiling = tiling_of(products, machine)
    elements, sums = np.empty(products.a_size, np.float32), np.empty(products.c_size, np.float32)
    y = np.full((2, height, width, out), np.nan, np.float32)
    run(transform_input(data, x.size, tiles, lanes()), x, elements)
    run(contraction(products, tiling), elements, packed(transformed_weights(w), tiling), sums)
    run(transform_output(result, y.size, tiles, lanes()), sums, y)
    wide: Any = x.astype(np.float64)
    expected = sum(
        wide[:, i : i + height, j : j + width] @ w[:, :, i, j].astype(np.float64).T for i in range(3) for j in range(3)
    )
    assert np.linalg.norm(y - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("channels", "size", "attributes", "cut"),
    [
        (64, 56, {}, True),
        (64, 56, {"strides": [2, 2]}, False),
        (64, 56, {"dilations": [2, 2]}, False),
        (4, 56, {}, False),
        (512, 7, {}, False),
    ],
)
def test_what_pays_is_cut_into_tiles(channels: int, size: int, attributes: dict[str, Any], cut: bool) -> None:
    """Few channels fill no vector; weights that are four times as many cost more than what small images save."""
    weights = {"w": np.zeros((channels, channels, 3, 3), np.float32)}
    conv = node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], **attributes)
    shape = [1, channels, size, size]
    made = model([conv], [info("x", F32, shape)], [info("y", F32, None)], weights)
    (op,) = [op for op in capture(made.SerializeToString()) if op.is_a("Conv")]
    assert (tiles_of(op, MACHINE) is not None) == cut

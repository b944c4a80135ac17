"""Idioms of vectors: reducing across lanes, transposing in registers, powers of two."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import DType
from irc.lowering.tvm.kernel import Writer
from irc.lowering.tvm.lanes import across, across_rows, exp2_of_negative, extent, held, merged, part, power_of_two, transposed
from irc.lowering.tvm.views import View

from .running import needs_tvm, run


@needs_tvm
@pytest.mark.parametrize("lanes", [1, 4, 8, 16])
@pytest.mark.parametrize("rows", [1, 2, 8, 16])
def test_rows_are_reduced_across_lanes(rows: int, lanes: int) -> None:
    w = Writer()
    x, y = w.buffer(DType.F32, rows * lanes), w.buffer(DType.F32, rows)
    array = w.local("float32", rows * lanes)
    with w.loop(rows * lanes) as i:
        w.line(f"{array}[{i}] = {x}[{i}]")
    result = across_rows(w, array, rows, lanes, "float32", "{0} + {1}")
    with w.loop(rows) as i:
        w.line(f"{y}[{i}] = {result}[{i}]")
    given, got = np.arange(rows * lanes, dtype=np.float32), np.empty(rows, np.float32)
    run(w.kernel(1), given, got)
    np.testing.assert_array_equal(got, given.reshape(rows, lanes).sum(1))


@needs_tvm
def test_all_lanes_make_one_number() -> None:
    w = Writer()
    x, y = w.buffer(DType.I32, 8), w.buffer(DType.I32, 1)
    array = w.local("int32", 8)
    w.line(f"{part(array, 0, 8)} = {part(x, 0, 8)}")
    w.line(f"{y}[0] = {across(w, array, 8, 'int32', 'T.max({0}, {1})')}")
    got = np.empty(1, np.int32)
    run(w.kernel(1), np.array([3, 1, 4, 1, 5, 9, 2, 6], np.int32), got)
    assert got[0] == 9


@needs_tvm
@pytest.mark.parametrize("lanes", [2, 4, 8, 16])
def test_vectors_are_transposed(lanes: int) -> None:
    w = Writer()
    x, y = w.buffer(DType.F32, lanes * lanes), w.buffer(DType.F32, lanes * lanes)
    rows = [held(w, "float32", lanes, part(x, row * lanes, lanes)) for row in range(lanes)]
    for column, vector in enumerate(transposed(w, rows, "float32")):
        w.line(f"{part(y, column * lanes, lanes)} = {vector}")
    given, got = np.arange(lanes * lanes, dtype=np.float32), np.empty((lanes, lanes), np.float32)
    run(w.kernel(1), given, got)
    np.testing.assert_array_equal(got, given.reshape(lanes, lanes).T)


@needs_tvm
def test_powers_of_two_over_all_that_is_not_positive() -> None:
    steps = np.arange(0x80000000, 0xC3000000, 997, dtype=np.uint32).view(np.float32)  # -0.0 to -128
    x = np.concatenate([steps, np.array([0.0, -127.0, -1e30, -np.inf, np.nan], np.float32)])
    w = Writer()
    read, written = w.buffer(DType.F32, x.size), w.buffer(DType.F32, x.size)
    with w.loop(x.size // 8) as n, w.loop(8, "vectorized") as lane:
        w.line(f"{written}[{n} * 8 + {lane}] = {exp2_of_negative(w, w.value('float32', f'{read}[{n} * 8 + {lane}]'))}")
    with w.loop(x.size % 8) as n:
        place = f"{x.size // 8 * 8} + {n}"
        w.line(f"{written}[{place}] = {exp2_of_negative(w, w.value('float32', f'{read}[{place}]'))}")
    got = np.empty_like(x)
    run(w.kernel(1), x, got)
    np.testing.assert_array_equal(got[-5:], [1, 0, 0, 0, np.nan])
    normal = x >= -126
    wanted = np.exp2(x[normal].astype(np.float64))
    assert np.max(np.abs(got[normal] / wanted - 1)) < 2e-7
    assert (got[: steps.size][~normal[: steps.size]] < 2.0**-125).all()


def test_the_extent_of_a_view_is_what_it_reaches() -> None:
    assert extent(View.dense((3, 4))) == 12
    assert extent(View.dense((3, 4)).sliced(0, 1, 2).sliced(1, 0, 2)) == 10
    assert extent(View.dense((5,)).broadcast((7, 5))) == 5
    assert extent(View.dense((0, 4))) == 0
    assert extent(View.dense((3, 4)).sliced(1, 3, 4, -1)) == 12


def test_neighbours_in_memory_are_one_axis_where_they_are_so_in_every_view() -> None:
    dense, turned = View.dense((2, 1, 3, 4)), View.dense((3, 2, 1, 4)).permuted((1, 2, 0, 3))
    assert merged([dense]) == [View.dense((24,))]
    assert merged([dense, turned]) == [View((2, 3, 4), (12, 4, 1)), View((2, 3, 4), (4, 8, 1))]
    assert merged([View.dense((1, 1))]) == [View.dense((1,))]


def test_the_next_power_of_two() -> None:
    assert [power_of_two(size) for size in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 4, 4, 8, 8, 16]

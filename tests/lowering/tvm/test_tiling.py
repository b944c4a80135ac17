"""Tilings: what the model chooses and what is near it are valid for any machine, and a text says all of one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irc.ir import UsageError
from irc.lowering.tvm.axes import Axis, Contraction
from irc.lowering.tvm.tiling import NEIGHBOURS, Extent, Machine, Tiling, ahead_of, choose_tiling, neighbours, read_tiling
from irc.lowering.tvm.ways import AS_MODELLED, Ways

VECTORS = ((16, 32), (8, 16), (4, 32), (4, 16))
"""Lanes and registers: AVX-512, AVX2, NEON, and what x86-64 has at least."""


def machine_of(vectors: tuple[int, int], l1: int, l2: int, threads: int) -> Machine:
    """A machine with such vectors and caches."""
    return Machine(vectors[0], vectors[1], l1, l2, threads)


MACHINES = st.builds(
    machine_of,
    st.sampled_from(VECTORS),
    st.sampled_from([1 << 14, 1 << 15, 48 << 10]),
    st.sampled_from([1 << 17, 1 << 20]),
    st.sampled_from([1, 2, 3, 8, 64]),
)
SIZES = st.one_of(st.integers(1, 40), st.sampled_from([49, 64, 128, 197, 768, 1000, 3072]))
EXTENTS = st.builds(Extent, SIZES, SIZES, SIZES, SIZES, st.sampled_from([1, 2, 12, 36]), st.sampled_from([1, 3, 64, 768, 1024]))
HERE = Machine(16, 32, 1 << 15, 1 << 20, 2)
OLDER = Machine(8, 16, 1 << 15, 1 << 19, 2)
"""With AVX2."""
PRODUCT = Extent(1, 128, 3072, 768, 1, 768)


def assert_valid(tiling: Tiling, of: Extent, machine: Machine) -> None:
    """It has registers for its sums, the vectors of B and a broadcast; its panels are the columns; its tasks have something."""
    assert tiling.lanes == machine.lanes
    assert (tiling.tile_rows + 1) * tiling.vectors < machine.registers
    assert tiling.full_panels * tiling.panel + tiling.rest == of.columns
    assert 0 <= tiling.rest < tiling.panel
    assert tiling.tiles_per_task > 0
    assert tiling.panels_per_task > 0


@given(EXTENTS, MACHINES)
def test_what_is_chosen_and_all_that_is_near_is_valid(of: Extent, machine: Machine) -> None:
    for tiling in (choose_tiling(of, machine), *neighbours(of, machine)):
        assert_valid(tiling, of, machine)


@given(EXTENTS, MACHINES)
def test_there_is_a_handful_of_neighbours_all_of_them_different(of: Extent, machine: Machine) -> None:
    near = neighbours(of, machine)
    assert len(near) <= NEIGHBOURS
    assert len({choose_tiling(of, machine), *near}) == len(near) + 1
    assert near == neighbours(of, machine), "in the same order each time"


@given(EXTENTS, MACHINES)
def test_a_text_says_all_there_is_to_say(of: Extent, machine: Machine) -> None:
    for tiling in (choose_tiling(of, machine), *neighbours(of, machine)):
        assert read_tiling(tiling.text, of, machine) == tiling


def test_avx2_has_a_register_for_the_next_broadcast() -> None:
    """With 4x3, twelve sums, three vectors and one broadcast are all sixteen, and a sum goes through memory."""
    assert choose_tiling(PRODUCT, OLDER).text == "6x2 22x1 rows"
    assert read_tiling("4x3 32x1 rows", PRODUCT, OLDER) is None


def test_few_rows_where_all_meet_in_one_set_of_the_cache() -> None:
    """Rows 4 KiB apart: more than its eight ways would all wait for L2 in a tile of one vector, which has little else to do."""
    narrow = Extent(1, 196, 8, 1024, 1, 1024)
    assert choose_tiling(narrow, OLDER).tile_rows <= 8
    assert choose_tiling(replace(narrow, row_stride=1040), OLDER).tile_rows > 8


def test_neighbours_have_another_width_more_or_fewer_tasks_or_the_other_order() -> None:
    of = Extent(12, 128, 128, 64, 12, 64)
    chosen, near = choose_tiling(of, HERE), neighbours(of, HERE)
    assert near[0].vectors != chosen.vectors
    alike = [each for each in near if (each.tile_rows, each.vectors) == (chosen.tile_rows, chosen.vectors)]
    assert {each.tiles_per_task for each in alike} == {chosen.tiles_per_task * share // 2 for share in (1, 2, 4)}
    assert {each.panel_first for each in alike} == {True, False}


def test_what_cannot_be_cut_otherwise_has_no_neighbours() -> None:
    assert neighbours(Extent(1, 1, 1, 5, 1, 5), HERE) == ()


@pytest.mark.parametrize(
    "text", ["", "12x2", "12x2 4x1", "12x2 4x1 sideways", "99x9 1x1 rows", "12x2 0x1 rows", "12x2 4x1 rows\n"]
)
def test_no_other_text_is_a_tiling(text: str) -> None:
    assert read_tiling(text, PRODUCT, HERE) is None


def test_a_tiling_for_more_registers_is_none() -> None:
    assert read_tiling("14x2 1x1 rows", PRODUCT, HERE) is not None
    assert read_tiling("14x2 1x1 rows", PRODUCT, Machine(8, 16, 1 << 15, 1 << 20, 2)) is None


# Ways


def of_rows(rows: int, offset: int = 0) -> Contraction:
    """[rows, 64] times [64, 96]."""
    return Contraction((), Axis(rows, 64, 96), (Axis(64, 1),), 96, rows * 64 + offset, rows * 96 + offset, offset, offset)


def test_contractions_that_only_lie_elsewhere_have_one_key() -> None:
    assert of_rows(48).key == of_rows(48, offset=16).key
    assert of_rows(48).key.startswith("48x96x64-")
    assert of_rows(48).key != of_rows(49).key


def test_what_was_chosen_is_used_and_all_else_is_as_the_model_says() -> None:
    wanted, other = of_rows(48), of_rows(49)
    near = neighbours(Extent(1, 48, 96, 64, 1, 64), HERE)
    ways = Ways.of({wanted.key: near[0].text})
    assert ways.tiling(wanted, HERE) == near[0]
    assert ways.tiling(other, HERE) == AS_MODELLED.tiling(other, HERE)


def test_a_trial_is_of_those_that_are_tried() -> None:
    wanted, other = of_rows(48), of_rows(49)
    near = neighbours(Extent(1, 48, 96, 64, 1, 64), HERE)
    for number, tiling in enumerate(near, start=1):
        ways = Ways(trial=number, tried=frozenset([wanted.key]))
        assert ways.tiling(wanted, HERE) == tiling
        assert ways.tiling(other, HERE) == AS_MODELLED.tiling(other, HERE)
    beyond = Ways(trial=len(near) + 1, tried=frozenset([wanted.key]))
    assert beyond.tiling(wanted, HERE) == AS_MODELLED.tiling(wanted, HERE)


def test_a_text_that_is_no_tiling_is_refused_by_the_kernels_key() -> None:
    wanted = of_rows(48)
    with pytest.raises(UsageError, match=f"'fast', for the kernel {wanted.key}, is no tiling for this machine"):
        Ways.of({wanted.key: "fast"}).tiling(wanted, HERE)


# What is fetched ahead


def test_a_panel_is_fetched_while_the_one_before_it_is_in_use() -> None:
    chosen = choose_tiling(PRODUCT, HERE)
    ahead = ahead_of(PRODUCT, chosen, HERE)
    assert ahead is not None
    assert ahead.threads == HERE.threads
    assert ahead.step * chosen.tiles_per_task >= chosen.panel > (ahead.step - 1) * chosen.tiles_per_task


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (replace(PRODUCT, columns=96, depth=64), "B stays in L2"),
        (replace(PRODUCT, groups=2), "each group has a B of its own"),
        (replace(PRODUCT, rows=8), "a step would fetch more than a cache line"),
        (replace(PRODUCT, depth=1 << 16), "L2 has no room for two panels"),
    ],
)
def test_nothing_is_fetched_ahead_where_that_helps_nobody(of: Extent, why: str) -> None:
    assert ahead_of(of, choose_tiling(of, HERE), HERE) is None, why

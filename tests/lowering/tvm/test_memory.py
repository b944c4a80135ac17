"""The arena: nothing that is needed together overlaps, and it is hardly larger than the largest live set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.lowering.tvm.inplace import placed
from irc.lowering.tvm.memory import ALIGNMENT, Arena, Span, arena_of, largest_live_set
from irc.lowering.tvm.ordering import in_low_order
from irc.lowering.tvm.places import Buffer, Call, Storage, lifetimes

from .random_calls import random_calls

spans = st.dictionaries(
    st.integers(0, 60),
    st.tuples(st.integers(0, 40), st.integers(0, 8), st.integers(0, 5000)).map(lambda t: Span(t[0], t[0] + t[1], t[2])),
    max_size=60,
)


@given(spans)
def test_what_is_needed_together_does_not_overlap(given_spans: dict[int, Span]) -> None:
    arena = arena_of(given_spans)
    assert list(arena.offsets) == list(given_spans)
    for key, span in given_spans.items():
        begin = arena.offsets[key]
        assert begin % ALIGNMENT == 0
        assert begin + span.byte_count <= arena.byte_count
        for other, its in given_spans.items():
            apart = begin + span.byte_count <= arena.offsets[other] or arena.offsets[other] + its.byte_count <= begin
            assert other == key or not span.meets(its) or apart or not span.byte_count or not its.byte_count


@given(spans)
def test_the_arena_is_no_smaller_than_the_largest_live_set(given_spans: dict[int, Span]) -> None:
    arena = arena_of(given_spans)
    assert largest_live_set(given_spans) <= arena.largest_live_set <= arena.byte_count


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_networks_need_at_most_a_twentieth_more_than_their_largest_live_set(first: int) -> None:
    for seed in range(first, first + 50):
        lives = lifetimes(random_calls(seed))
        arena = arena_of({buffer: Span(*span, buffer.byte_count) for buffer, span in lives.items()})
        assert arena.byte_count <= 1.05 * arena.largest_live_set, seed


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1 << 30))
def test_random_networks_are_played_back_right(seed: int) -> None:
    """Ordered, placed, in place where they may be: each call finds what it reads, in an arena near the largest live set."""
    chance = random.Random(seed)
    calls = [
        replace(each, replaceable=tuple(b for b in each.buffers[:-1] if b.size == each.result.size and chance.random() < 0.5))
        for each in random_calls(seed)
    ]
    program = placed(in_low_order(calls))
    play_back(program.calls, program.arena)
    assert program.arena.byte_count <= 1.05 * program.arena.largest_live_set


def play_back(calls: Sequence[Call], arena: Arena[Buffer]) -> None:
    """Do calls in a memory that knows of every piece of 64 bytes whose it is."""
    memory: list[Buffer | None] = [None] * (arena.byte_count // ALIGNMENT)
    filled: set[Buffer] = set()
    for call in calls:
        for buffer in call.buffers:
            if buffer.storage is Storage.ARENA and (buffer is not call.result or buffer in filled):
                assert set(memory[pieces(arena, buffer)]) == {buffer}
        if call.result.storage is Storage.ARENA:
            own = pieces(arena, call.result)
            memory[own] = [call.result] * (own.stop - own.start)
            filled.add(call.result)


def pieces(arena: Arena[Buffer], buffer: Buffer) -> slice:
    """The numbers of those that a buffer has."""
    first = arena.offsets[buffer] // ALIGNMENT
    return slice(first, first - -buffer.byte_count // ALIGNMENT)


@given(spans)
def test_equal_spans_get_equal_places(given_spans: dict[int, Span]) -> None:
    assert arena_of(given_spans) == arena_of(dict(given_spans))


def test_a_chain_needs_two_neighbours() -> None:
    chain = {step: Span(step, step + 1, 640) for step in range(10)}
    assert arena_of(chain).byte_count == largest_live_set(chain) == 1280


def test_the_largest_first_is_not_always_best() -> None:
    """The two in the middle would split what the long ones need, were they placed first."""
    tangled = {"a": Span(0, 1, 128), "b": Span(1, 3, 192), "c": Span(3, 4, 128), "d": Span(0, 3, 64), "e": Span(2, 4, 64)}
    assert arena_of(tangled).byte_count == largest_live_set(tangled)


def test_nothing_needs_nothing() -> None:
    assert arena_of({}).byte_count == 0

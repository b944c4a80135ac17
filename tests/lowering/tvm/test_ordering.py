"""The order of calls: everything is filled before it is read, and no order needs more memory than the one that was given."""

from __future__ import annotations

from itertools import pairwise

import pytest

from irc.lowering.tvm.kernel import Kernel
from irc.lowering.tvm.ordering import in_low_order, live_bytes
from irc.lowering.tvm.places import Buffer, Call, Storage
from irc.lowering.tvm.program import needed

from .random_calls import buffer, call, random_calls


def branches(width: int) -> list[Call]:
    """Large values that are each made small, and joined: all the large ones first."""
    x = buffer(64, Storage.INPUT)
    large, small = [buffer(6400) for _ in range(width)], [buffer(64) for _ in range(width)]
    made = [call(x, each) for each in large]
    shrunk = [call(one, other) for one, other in zip(large, small, strict=True)]
    return [*made, *shrunk, call(*small, buffer(64, Storage.OUTPUT))]


def test_a_branch_is_finished_before_the_next_begins() -> None:
    given = branches(6)
    assert live_bytes(given) >= 6 * 6400
    assert live_bytes(in_low_order(given)) == 6400 + 6 * 64


def test_what_needs_no_better_order_stays_as_it_is() -> None:
    chain = [buffer(64, Storage.INPUT), *(buffer(640) for _ in range(5)), buffer(64, Storage.OUTPUT)]
    calls = [call(one, other) for one, other in pairwise(chain)]
    assert in_low_order(calls) == calls


def test_nothing_is_in_order() -> None:
    assert in_low_order([]) == []


def test_what_is_written_beside_a_result_is_read_behind_it() -> None:
    x = buffer(64, Storage.INPUT)
    large, kept, small = ([buffer(size) for _ in range(6)] for size in (6400, 64, 64))
    made = [Call(Kernel("", 1, 3), (x, one, other), (), beside=(one,)) for one, other in zip(kept, large, strict=True)]
    read = [call(one, other, end) for one, other, end in zip(kept, large, small, strict=True)]
    early = [call(one, buffer(64, Storage.OUTPUT)) for one in kept]
    ordered = in_low_order([*made, *early, *read, call(*small, buffer(64, Storage.OUTPUT))])
    assert live_bytes(ordered) < 2 * 6400
    for one, first in zip(kept, made, strict=True):
        readers = [number for number, each in enumerate(ordered) if one in each.read]
        assert len(readers) == 2
        assert min(readers) > ordered.index(first)


def test_a_call_is_needed_for_what_it_writes_beside_its_result() -> None:
    x, kept, unread, out = buffer(64, Storage.INPUT), buffer(64), buffer(64), buffer(64, Storage.OUTPUT)
    both, end = Call(Kernel("", 1, 3), (x, kept, unread), (), beside=(kept,)), call(kept, out)
    assert needed([both, end]) == [both, end]
    assert needed([both, call(x, out)])[0] is not both


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_networks(first: int) -> None:
    for seed in range(first, first + 50):
        calls = random_calls(seed)
        ordered = in_low_order(calls)
        assert sorted(map(id, ordered)) == sorted(map(id, calls)), seed
        assert live_bytes(ordered) <= live_bytes(calls), seed
        check(calls, ordered)


def check(given: list[Call], ordered: list[Call]) -> None:
    """Each buffer is filled by the same calls, in their order, and only then read."""
    place = {id(each): number for number, each in enumerate(ordered)}
    fills: dict[Buffer, list[int]] = {}
    for each in given:
        fills.setdefault(each.result, []).append(place[id(each)])
    for places in fills.values():
        assert places == sorted(places)
    for each in given:
        for read in each.buffers[:-1]:
            assert all(number < place[id(each)] for number in fills.get(read, ()))

"""Results in the place of operands: only of those that nobody needs any more, and then in memory that nothing else is in."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from irc.ir import DType, capture
from irc.lowering import find_target
from irc.lowering.tvm.inplace import lies_as, placed
from irc.lowering.tvm.kernel import Kernel, Writer
from irc.lowering.tvm.memory import Span, arena_of, largest_live_set
from irc.lowering.tvm.places import Buffer, Call, Place, Storage, lifetimes
from irc.lowering.tvm.program import calls_of, machine_of
from irc.lowering.tvm.views import View

from ..models import F32, info, model, node
from .random_calls import buffer, call, random_calls
from .running import needs_tvm


def over(*buffers: Buffer) -> Call:
    """A call that may write over any of the buffers that it reads."""
    return Call(Kernel("", 1, len(buffers)), buffers, (), buffers[:-1])


def test_a_result_takes_the_place_of_what_is_needed_for_the_last_time() -> None:
    x, a, b, c = buffer(256, Storage.INPUT), buffer(256), buffer(256), buffer(256)
    program = placed([call(x, a), over(a, b), over(b, c), call(c, buffer(256, Storage.OUTPUT))])
    assert program.arena.byte_count == 256
    assert {program.arena.offsets[each] for each in (a, b, c)} == {0}
    assert [(program.spans[each].first, program.spans[each].last) for each in (a, b, c)] == [(0, 0), (1, 1), (2, 3)]


@pytest.mark.parametrize("reason", ["needed later", "read twice", "an input", "a result begun before", "another place"])
def test_it_does_not_where_that_would_change_an_answer(reason: str) -> None:
    x, a, b = buffer(256, Storage.INPUT), buffer(256), buffer(256)
    out = buffer(256, Storage.OUTPUT)
    calls = {
        "needed later": [call(x, a), over(a, b), call(a, b, out)],
        "read twice": [call(x, a), over(a, a, b), call(b, out)],
        "an input": [over(x, b), call(b, out)],
        "a result begun before": [call(x, a), call(b), over(a, b), call(b, out)],
        "another place": [call(x, a), call(a, b), call(b, out)],
    }[reason]
    program = placed(calls)
    assert list(program.calls) == calls
    assert program.arena.byte_count == largest_live_set(program.spans)


def test_only_kernels_that_write_in_place_are_told_that_buffers_overlap() -> None:
    writer = Writer()
    source, target = writer.buffer(DType.F32, 4), writer.buffer(DType.F32, 4)
    writer.line(f"{target}[task] = {source}[task]")
    kernel = writer.kernel(4)
    assert "noalias" in kernel.source
    x, a, b, out = Buffer(DType.F32, 4, Storage.INPUT), Buffer(DType.F32, 4), Buffer(DType.F32, 4), Buffer(DType.F32, 4)
    first, second = Call(kernel, (x, a), ()), Call(kernel, (a, b), (), (a,))
    assert [each.kernel for each in placed([first, second, Call(kernel, (b, out), ())]).calls] == [
        kernel,
        replace(kernel, source=kernel.source.replace(', "tirx.noalias": True', "")),
        kernel,
    ]


@pytest.mark.parametrize("seed", range(30))
def test_what_is_needed_at_one_step_never_overlaps(seed: int) -> None:
    chance = random.Random(seed)
    calls = [
        replace(each, replaceable=tuple(b for b in each.buffers[:-1] if b.size == each.result.size and chance.random() < 0.8))
        for each in random_calls(seed)
    ]
    program = placed(calls)
    found = [(span, program.arena.offsets[each]) for each, span in program.spans.items()]
    for number, (span, offset) in enumerate(found):
        assert offset + span.byte_count <= program.arena.byte_count
        for other, place in found[:number]:
            assert not span.meets(other) or offset + span.byte_count <= place or place + other.byte_count <= offset
    plain = arena_of({each: Span(*span, each.byte_count) for each, span in lifetimes(calls).items()})
    assert program.arena.largest_live_set <= plain.largest_live_set


def test_views_lie_alike_where_every_element_does() -> None:
    own = Buffer(DType.F32, 24)
    dense = Place(own, View.dense((2, 3, 4)))
    assert lies_as(dense, Place(Buffer(DType.F32, 24), View.dense((2, 3, 4))))
    assert lies_as(Place(own, View((1, 24), (99, 1))), Place(Buffer(DType.F32, 24), View.dense((1, 24))))
    for other in (
        Place(Buffer(DType.I32, 24), View.dense((2, 3, 4))),
        Place(Buffer(DType.F32, 25), View.dense((2, 3, 4))),
        Place(Buffer(DType.F32, 24), View.dense((2, 4, 3)).permuted((0, 2, 1))),
        Place(Buffer(DType.F32, 24), View((2, 3, 4), (12, 4, 1), 1)),
    ):
        assert not lies_as(dense, other)


@needs_tvm
def test_the_residual_of_a_block_is_summed_in_place() -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("MatMul", ["a", "w"], ["inner"]),
        node("MatMul", ["inner", "w"], ["m"]),
        node("Add", ["m", "a"], ["sum"]),
        node("MatMul", ["sum", "w"], ["y"]),
    ]
    weights = {"w": np.eye(32, dtype=np.float32)}
    graph = capture(model(nodes, [info("x", F32, [8, 32])], [info("y", F32, [8, 32])], weights))
    calls = placed(calls_of(graph, machine_of(find_target("cpu")))).calls
    assert ["noalias" in each.kernel.source for each in calls] == [True, True, False, True]

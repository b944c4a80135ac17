"""What a program of kernels says of itself: the names of what lies in its arena, and the graph it was made of."""

from __future__ import annotations

import onnx
import pytest

from irc.ir import emit
from irc.ir.capture import import_model, load_onnx
from irc.lowering import find_engine, find_target
from irc.lowering.tvm.describing import named_buffers, ops_model
from irc.lowering.tvm.memory import Span, arena_of
from irc.lowering.tvm.places import lifetimes
from irc.lowering.tvm.program import calls_of, machine_of
from irc.runtime import ARENA, FIRST_VALUE, NATIVE_PLAN_FILE, NativePlace, NativePlan

from .running import needs_tvm
from .test_poisoned import attention, convolutions, movement, optimized, upsampling


def test_each_buffer_has_a_name_of_its_own_after_the_value_in_it() -> None:
    graph = optimized(convolutions())
    calls, emitted = calls_of(graph, machine_of(find_target("cpu"))), emit(graph)
    spans = {buffer: Span(*span, buffer.byte_count) for buffer, span in lifetimes(calls).items()}
    named = named_buffers(calls, spans, arena_of(spans), emitted, graph)
    names = [each.name for each in named]
    assert len(set(names)) == len(names) == len(spans)
    assert not {*graph.input_names, *graph.output_names} & set(names)
    values = {name for node in emitted.graph.node for name in node.output} | set(graph.input_names)
    assert {name.partition("#")[0] for name in names} <= values


def test_the_graph_has_all_nodes_and_only_small_weights() -> None:
    graph = optimized(convolutions())
    emitted = emit(graph)
    assert emitted.weights
    model = onnx.ModelProto.FromString(ops_model(emitted))
    assert [node.name for node in model.graph.node] == [node.name for node in emitted.graph.node]
    assert [entry.name for entry in model.graph.input] == [*graph.input_names, *emitted.weights]
    assert not {each.name for each in model.graph.initializer} & set(emitted.weights)
    assert ops_model(emit(graph)) == ops_model(emitted)
    assert import_model(load_onnx(model)).input_names == [*graph.input_names, *emitted.weights]


def places_of(model: onnx.ModelProto) -> dict[str, NativePlace]:
    """Where the plan of a model says that values are."""
    files = find_engine("tvm").lower(optimized(model), find_target("cpu"), 2).to_runtime()
    return {each.name: each for each in NativePlan.from_bytes(files.read(NATIVE_PLAN_FILE)).values}


@needs_tvm
@pytest.mark.usefixtures("in_this_process")
def test_values_are_said_to_be_where_they_are() -> None:
    """What a kernel has in registers is nowhere; what is joined lies in the whole; a view lies in what it is of."""
    up = places_of(upsampling())
    assert {"v0", "v2", "v3", "v4", "v5", "v6", "v7"} == set(up)
    whole, half = up["v4"], up["v3"]
    assert (half.base, half.offset) == (ARENA, whole.offset + 4 * 8)  # behind the 8 channels of x
    assert up["v7"].base >= FIRST_VALUE
    moved = places_of(movement())
    assert moved["v3"].offset == moved["v2"].offset + 4  # the slice begins at the second
    assert (moved["v5"].base, moved["v5"].offset) == (moved["v4"].base, moved["v4"].offset)
    assert (moved["v6"].base, moved["v6"].offset) == (FIRST_VALUE, 0)  # a shape of the input's
    assert "v19" not in places_of(attention())  # a product, whose bias and Gelu follow at once

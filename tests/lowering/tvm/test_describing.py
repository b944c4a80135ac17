"""What a program of kernels says of itself: the names of what lies in its arena, and the graph it was made of."""

from __future__ import annotations

import onnx

from irc.ir import emit
from irc.ir.capture import import_model, load_onnx
from irc.lowering import find_target
from irc.lowering.tvm.describing import named_buffers, ops_model
from irc.lowering.tvm.memory import Span, arena_of
from irc.lowering.tvm.places import lifetimes
from irc.lowering.tvm.program import calls_of, machine_of

from .test_poisoned import convolutions, optimized


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

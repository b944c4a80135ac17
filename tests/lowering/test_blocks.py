"""Graphs in blocks of entries: run one after the other by the reference, they give what the whole graph gives."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from irc.ir import EvaluationError, evaluate, verify
from irc.lowering.blocks import Parts, divided
from irc.lowering.mapping import Mapped, mapping_of

from .random_graphs import Feeds, RandomGraph


def in_parts(parts: Parts, feeds: Feeds, entries: int) -> dict[str, Any]:
    """What the parts give for so many entries, each run by the reference."""
    kept: dict[str, Any] = {}
    found: dict[str, list[Any]] = {}
    begin = 0
    for part in parts.parts:
        times = (entries - begin) // part.entries if part.entries else 1
        for _ in range(times):
            chosen = {n: a[begin : begin + part.entries] if n in parts.counting else a for n, a in (feeds | kept).items()}
            graph = part.graph
            given = evaluate(graph, {name: chosen[name] for name in graph.input_names}) if graph.outputs else []
            for name, array in zip(graph.output_names, given, strict=True):
                if name in parts.kept:
                    kept[name] = array
                else:
                    found.setdefault(name, []).append(array)
            begin += part.entries
    return {name: np.concatenate(arrays) if name in parts.counting else arrays[0] for name, arrays in found.items()}


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_what_maps_gives_the_same_in_blocks(seed: int) -> None:
    made = RandomGraph(seed)
    mapped = mapping_of(made.graph)
    if not isinstance(mapped, Mapped):
        return
    parts = divided(made.graph, mapped, (2, 1))
    for part in parts.parts:
        verify(part.graph)
    for entries in (1, 2, 5):
        feeds = made.feeds(entries)
        try:
            wanted = evaluate(made.graph, feeds)
        except EvaluationError:  # the sizes do not fit each other
            continue
        found = in_parts(parts, feeds, entries)
        for name, array in zip(made.graph.output_names, wanted, strict=True):
            np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=name)

"""Answers at a size at which a program that computes entries in blocks does a whole block, and what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from irc.ir import EvaluationError, Graph, evaluate
from irc.runtime import random_inputs

from .blocks import block_sizes
from .engine import Engine
from .mapping import Mapped, mapping_of
from .signatures import input_entries
from .targets import Target
from .verification import LARGEST_PROBE, MADE_UP, Probe


def at_block_sizes(probe: Probe | str, graph: Graph, lowered: Graph, engines: Iterable[Engine], target: Target) -> Probe | str:
    """A probe of `graph` with one more beside it, for a block and one entry, where engines compute `lowered` in blocks."""
    blocks = max((size for engine in engines for size in block_sizes(lowered, engine, target)), default=1)
    mapped = mapping_of(lowered) if blocks > 1 else None
    if isinstance(probe, str) or not isinstance(mapped, Mapped):
        return probe
    counting = [n for v, n in zip(lowered.inputs, lowered.input_names, strict=True) if v in mapped.axes]
    have = min((len(probe.feeds[name]) for name in counting if name in probe.feeds), default=0)
    if not have or (have > blocks and have % blocks):
        return probe
    feeds = _feeds(probe, graph, mapped.name, counting, blocks + 1)
    if sum(np.size(each) for each in feeds.values()) > LARGEST_PROBE:
        return probe
    try:
        return replace(probe, more=(Probe(feeds, evaluate(graph, feeds), probe.inputs, (), probe.allowance),))
    except EvaluationError:  # what the reference cannot say is not compared
        return probe


def _feeds(probe: Probe, graph: Graph, name: str, counting: Iterable[str], entries: int) -> Mapping[str, Any]:
    """Inputs with so many entries: made up again where they were, else those that are given, again and again."""
    if probe.inputs == MADE_UP:
        made = random_inputs(input_entries(graph), {name: entries}, 0)
        return {each: made[each] if each in counting else value for each, value in probe.feeds.items()}
    feeds = dict(probe.feeds)
    for each in counting:
        array = cast("np.ndarray[Any, Any]", feeds[each])
        feeds[each] = array.take(np.arange(entries) % len(array), 0)
    return feeds


__all__ = ["at_block_sizes"]

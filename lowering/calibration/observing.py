"""What the reference makes of samples inside a graph, shown to observers one sample after another.

Law: every sample runs through every op once, and what is in memory at a time is one sample, what the ops still to come need
of it, and at most MOST_BYTES of what is shown (or a single value), twice, as one segment runs while another is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from irc.ir import (
    EvaluationError,
    Evaluator,
    Graph,
    SymbolicDim,
    TensorType,
    UsageError,
    Value,
    collector_paused,
    dims,
    evaluator_of,
    trim_heap,
)
from irc.runtime import physical_cores

from .observers import Observer
from .segments import Segment, cut_segments
from .sources import Progress

Array = npt.NDArray[Any]
Shown: TypeAlias = "list[tuple[Value, Array]]"
MOST_BYTES = 1 << 28
_UNKNOWN = 1 << 25
"""Bytes that a value of unknown size is taken to have."""


def observe(
    graph: Graph,
    wanted: Mapping[Value, Sequence[Observer]],
    data: Iterable[Mapping[str, Any]],
    progress: Progress | None = None,
    *,
    most_bytes: int = MOST_BYTES,
) -> None:
    """Show each observer what its value holds on every sample, in order, as the reference computes it.

    Values are inputs of the graph or results of its own ops, and tensors; bf16 and narrower floats are shown as f32. The graph
    is left as it is. Raises UsageError for what cannot be observed and for samples that the graph does not run on, and
    EvaluationError for a graph that the reference has no kernels for.
    """
    _check_wanted(graph, wanted)
    total = len(data) if isinstance(data, Sized) else 0
    seen = 0
    for shown, done in _ahead(_shown(graph, wanted, data, most_bytes)):
        for value, array in shown:
            for observer in wanted[value]:
                observer.see(array)
        if done:
            seen += 1
            if progress is not None:
                progress(seen, total)


def _check_wanted(graph: Graph, wanted: Collection[Value]) -> None:
    for value in wanted:
        name = f"%{value.name}" if value.name else "a value"
        location = str(value.op.location) if value.op is not None else None
        home = value.graph if value.op is None else value.op.graph
        if home is not graph:
            raise UsageError(f"{name} is inside a body, where it has no one value", location=location, hint="observe its owner")
        if value.constant is not None:
            raise UsageError(f"{name} is constant, so there is nothing to observe", location=location, hint="read its array")
        if not isinstance(value.type, TensorType):
            raise UsageError(f"{name} is {value.type}, and only tensors are observed", location=location, hint="leave it out")


def _shown(
    graph: Graph, wanted: Collection[Value], data: Iterable[Mapping[str, Any]], most_bytes: int
) -> Iterator[tuple[Shown, bool]]:
    """What each segment gives on each sample, and whether that was the last of the sample."""
    segments: list[tuple[Segment, Evaluator]] = []
    names = dict(zip(graph.inputs, graph.input_names, strict=True))
    inner = [value for value in wanted if value not in names]
    for number, feeds in enumerate(data):
        if not number and inner:
            segments = _prepared(graph, inner, feeds, most_bytes)
        held: dict[Value, Any] = {value: feeds[name] for value, name in names.items() if name in feeds}
        yield [(value, array) for value, array in held.items() if value in wanted], not segments
        for segment, evaluator in segments:
            results = _run(segment, evaluator, held, number)
            yield list(zip(segment.gives, results, strict=True))[: segment.shown], segment is segments[-1][0]
            held.update(zip(segment.gives, results, strict=True))
            for value in segment.spent:
                held.pop(value, None)
            if len(segments) > 1:
                trim_heap()  # the heap would keep for each session apart what it has freed


def _prepared(
    graph: Graph, wanted: Collection[Value], feeds: Mapping[str, Any], most_bytes: int
) -> list[tuple[Segment, Evaluator]]:
    """The segments, each with its session."""
    sizes: dict[str, int] = {}
    for value, name in zip(graph.inputs, graph.input_names, strict=True):
        array = feeds.get(name)
        if not isinstance(array, np.ndarray):
            continue
        for dim, size in zip(value.shape or (), cast("Array", array).shape, strict=False):
            if isinstance(dim, SymbolicDim) and dim.plain_name:
                sizes[dim.plain_name] = size
    with collector_paused():
        segments = cut_segments(graph, wanted, _bytes_in(sizes), most_bytes)
        threads = physical_cores()
        return [(segment, evaluator_of(segment.graph, threads)) for segment in segments]


def _bytes_in(sizes: Mapping[str, int]) -> Callable[[Value], int]:
    def bytes_of(value: Value) -> int:
        known = [None if dim is None else dims.evaluate(dim, sizes) for dim in value.shape or (None,)]
        if not isinstance(value.type, TensorType) or (value.shape != () and None in known):
            return _UNKNOWN
        return value.type.dtype.byte_count(math.prod(dim for dim in known if dim is not None))

    return bytes_of


def _run(segment: Segment, evaluator: Evaluator, held: Mapping[Value, Any], number: int) -> list[Any]:
    feeds = {name: held[value] for name, value in zip(segment.graph.input_names, segment.takes, strict=True) if value in held}
    try:
        return evaluator.run(feeds)
    except EvaluationError as error:
        raise UsageError(error.message, location=f"sample {number}", hint="give inputs on which the model runs") from error


def _ahead(items: Iterator[tuple[Shown, bool]]) -> Iterator[tuple[Shown, bool]]:
    """The items in order, the next one being made by another thread while one is looked at."""
    with ThreadPoolExecutor(1, "irc-observe") as thread:
        pending = thread.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = thread.submit(next, items, None)
            yield item

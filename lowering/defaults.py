"""Inputs with defaults: a graph in which they are constants, for most calls, and one that takes them, for the others.

Law: what a caller feeds is what counts. The graph without those inputs runs only where none of them is fed, and the one with
them was checked on feeds that override all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np

from irc.ir import Graph, ModelError, SymbolicDim, Tensor, UsageError, clone_closed

from .options import CompileOptions
from .verification import Probe, Verify, probe_of

FROM_LEVEL = 2
"""The level from which on calls that override no default have a program of their own; below, the graph is as it is."""
OTHER = 1.0625
"""What floats are multiplied by to be others than the default: no sign and no zero changes."""


def without_defaults(graph: Graph, options: CompileOptions, several: Iterable[str]) -> Graph | str:
    """A copy in which defaults are constants, or why there is none, empty where that needs no saying.

    `several` are the dims that have several sizes. Raises UsageError for one that no input without a default has.
    """
    if options.opt_level < FROM_LEVEL or not graph.defaults:
        return ""
    if len(graph.defaults) == len(graph.inputs):
        return "defaults were not taken for constants: every input has one, so some are fed"
    try:
        closed = clone_closed(graph)
    except ModelError as error:
        return f"defaults were not taken for constants: {error}"
    gone = sorted(set(several) - _dims(closed))
    if gone:
        hint = "leave it out: calls that override these run at every size"
        raise UsageError(f"only inputs with defaults have the dim '{gone[0]}', which is given sizes", hint=hint)
    return closed


def _dims(graph: Graph) -> set[str]:
    dims = (dim for value in graph.inputs for dim in value.shape or () if isinstance(dim, SymbolicDim))
    return {name for dim in dims for name in dim.names()}


def given_probe(graph: Graph, options: CompileOptions, examples: Mapping[str, Any] | None) -> Probe | str:
    """What a graph with defaults answers on what is given, or on what is made up, where anything is to be checked.

    Raises UsageError for inputs that do not fit.
    """
    if options.verify is Verify.NOTHING:
        return "not asked for"
    return probe_of(graph, options.inputs, examples)


def overriding_probe(graph: Graph, given: Probe | str) -> Probe | str:
    """As what is given, with every default overridden by other numbers; by itself where shapes depend on the numbers."""
    if isinstance(given, str):
        return given
    defaults = {n: graph.defaults[v] for n, v in zip(graph.input_names, graph.inputs, strict=True) if v in graph.defaults}
    for change in (_other, _itself):
        fed = {name: change(tensor) for name, tensor in defaults.items()}
        probe = probe_of(graph, None, {**fed, **given.feeds})
        if isinstance(probe, Probe) and list(map(_extent, probe.answers)) == list(map(_extent, given.answers)):
            return replace(probe, inputs=given.inputs)
    return given


def _extent(answer: Any) -> object:
    """The shape of an array, the shapes in a sequence."""
    return list(map(_extent, cast("list[Any]", answer))) if isinstance(answer, list) else np.shape(answer)


def _other(default: Tensor) -> Any:
    array = default.array
    return array * array.dtype.type(OTHER) if array.dtype.kind == "f" and array.dtype.itemsize >= 4 else array


def _itself(default: Tensor) -> Any:
    return default.array


def for_closed(
    closed: Graph, options: CompileOptions, examples: Mapping[str, Any] | None, given: Probe | str
) -> tuple[CompileOptions, Mapping[str, Any] | None]:
    """Options and examples for the graph without defaults: where what is given overrides any, that is left out."""
    names = set(closed.input_names)
    if isinstance(given, Probe) and not names.issuperset(given.feeds):
        return replace(options, inputs=None), {name: value for name, value in given.feeds.items() if name in names}
    kept = None if examples is None else {name: value for name, value in examples.items() if name in names}
    return options, kept

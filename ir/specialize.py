"""A graph for chosen shapes: named dims get numbers, inputs get shapes, and everything behind them is inferred again."""

from __future__ import annotations

import re
from collections.abc import Mapping

from . import dims, infer
from .diagnostics import UsageError, closest
from .dims import Dim, SymbolicDim
from .graph import Graph
from .types import OptionalType, SequenceType, TensorType, Type

_RANGE = re.compile(r"(\d+)\.\.(\d+)\Z")
_SIZES = re.compile(r"\d+(,\d+)*\Z")
LARGEST_DIM = 2**40


def parse_dims(texts: list[str]) -> dict[str, int | tuple[int, ...]]:
    """What texts say of named dims: the number of `batch=4`, the sizes of `batch=1,8`.

    `batch=1..64` leaves the dim open and is only checked. Raises UsageError for anything else.
    """
    chosen: dict[str, int | tuple[int, ...]] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        span = _RANGE.match(value)
        if name and separator and _SIZES.match(value) and all(int(size) <= LARGEST_DIM for size in value.split(",")):
            sizes = tuple(dict.fromkeys(int(size) for size in value.split(",")))
            given = sizes if "," in value else sizes[0]
            if chosen.setdefault(name, given) != given:
                raise UsageError(f"dim '{name}' is given as {_shown(chosen[name])} and as {_shown(given)}")
        elif not (name and span and int(span[1]) <= int(span[2])):
            hint = "write NAME=NUMBER, NAME=N,N,N for a variant each, or NAME=LOW..HIGH, such as batch=1..64"
            raise UsageError(f"'{text}' is no dim", hint=hint)
    return chosen


def _shown(given: int | tuple[int, ...]) -> str:
    return str(given) if isinstance(given, int) else ",".join(map(str, given))


def parse_shapes(texts: list[str]) -> dict[str, tuple[int | None, ...]]:
    """The shapes that `x:1x3x224x224` texts give to inputs; `?` leaves a dim as it is, `x:` is a scalar.

    Raises UsageError for anything else.
    """
    shapes: dict[str, tuple[int | None, ...]] = {}
    for text in texts:
        name, separator, sizes = text.rpartition(":")
        parts = re.split(r"[x,]", sizes.strip("[]")) if sizes.strip("[]") else []
        if not name or not separator or any(p != "?" and not (p.isdigit() and int(p) <= LARGEST_DIM) for p in parts):
            raise UsageError(f"'{text}' is no shape", hint="write INPUT:1x3x224x224, with ? for a dim that stays open")
        shapes[name] = tuple(None if p == "?" else int(p) for p in parts)
    return shapes


def specialize(
    graph: Graph, numbers: Mapping[str, int | tuple[int, ...]], shapes: Mapping[str, tuple[int | None, ...]]
) -> None:
    """Give named dims their numbers and inputs their shapes, in place.

    Raises UsageError for a dim or input the model does not have, a shape that contradicts it, and several sizes of a dim.
    """
    if not numbers and not shapes:
        return
    bindings: dict[str, int] = {}
    for name, given in numbers.items():
        if not isinstance(given, int):
            reason = f"dim '{name}' is given several sizes, {_shown(given)}, and here one graph is made"
            raise UsageError(reason, hint="give one size; `irc compile` makes a program of several")
        bindings[name] = given
    _check_names(graph, bindings)
    for name, shape in shapes.items():
        for dim, size in _bind_input(graph, name, shape).items():
            if bindings.setdefault(dim, size) != size:
                raise UsageError(f"dim '{dim}' is given as {bindings[dim]} and, by input '{name}', as {size}")
    for value in graph.inputs:
        value.type = substitute(value.type, bindings)
    for inner in graph.graphs():
        for value in inner.inputs:
            value.type = substitute(value.type, bindings)
        inner.output_types = [substitute(kind, bindings) for kind in inner.output_types]
    for op in graph.walk():
        infer.refresh(op, tuple(substitute(r.type, bindings) for r in op.results))


def _check_names(graph: Graph, numbers: Mapping[str, int]) -> None:
    known = sorted({n for v in graph.inputs for d in v.shape or () if isinstance(d, SymbolicDim) for n in d.names()})
    for name in numbers:
        if name not in known:
            hint = closest(name, known) or (f"it has {', '.join(known)}" if known else "it has none")
            raise UsageError(f"the model's inputs have no dim '{name}'", hint=hint)


def _bind_input(graph: Graph, name: str, shape: tuple[int | None, ...]) -> dict[str, int]:
    if name not in graph.input_names:
        hint = closest(name, graph.input_names) or f"it has {', '.join(graph.input_names)}"
        raise UsageError(f"the model has no input '{name}'", hint=hint)
    value = graph.inputs[graph.input_names.index(name)]
    if not isinstance(value.type, TensorType) or (value.type.shape is not None and len(value.type.shape) != len(shape)):
        raise UsageError(
            f"input '{name}' is {value.type}, which cannot have {len(shape)} dims", hint="give a size or ? for each dim"
        )
    own = value.type.shape or (None,) * len(shape)
    bindings: dict[str, int] = {}
    settled: list[Dim] = []
    for have, want in zip(own, shape, strict=True):
        if isinstance(have, int) and want is not None and have != want:
            raise UsageError(
                f"input '{name}' is {value.type} in the model, so no dim of {have} can be {want}",
                hint="only open dims can be fixed",
            )
        if isinstance(have, SymbolicDim) and have.plain_name is not None and want is not None:
            bindings[have.plain_name] = want
        settled.append(have if want is None else want)
    value.type = TensorType(value.type.dtype, tuple(settled))
    return bindings


def substitute(kind: Type, bindings: Mapping[str, int]) -> Type:
    """A type with numbers in place of named dims."""
    if isinstance(kind, SequenceType):
        return SequenceType(substitute(kind.element, bindings))
    if isinstance(kind, OptionalType):
        return OptionalType(substitute(kind.element, bindings))
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    return TensorType(kind.dtype, tuple(dims.substitute(d, bindings) for d in kind.shape))


__all__ = ["parse_dims", "parse_shapes", "specialize"]

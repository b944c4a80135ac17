"""How far learning integers has come, kept in the cache after every step: what was cut off goes on where it was.

Law: a lesson is kept under all that it depends on: the model with its weights, the samples, how weights are held together, irc
and its libraries. What time there was is not among them, so nothing is kept that was left out for want of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from irc.ir import Graph, Op, Value, emit
from irc.passes.precision import IntegerWeights, Range
from irc.runtime import ArtifactError, keep_weights, parse_object, read_entry, take_weights, write_entry

from ..calibration import Calibration
from ..program_keys import code_digest, package_versions
from .knowledge import Array, Knowledge

Arrays: TypeAlias = "dict[str, Array]"
Statistics: TypeAlias = "Mapping[Value, Array]"
_ONE_SCALE = -1
"""Stands where weights that have one scale for all have no axis."""


@dataclass(frozen=True)
class Channels:
    """By what a model was balanced: of values of the model as it was, the largest magnitude and mean square of each channel."""

    largest: Statistics
    squares: Statistics

    def of_copy(self, graph: Graph, copy: Graph) -> Channels:
        """The same of a copy of the graph that it was told of."""
        copied = dict(zip(_values(graph), _values(copy), strict=True))
        largest, squares = ({copied[value]: each for value, each in found.items()} for found in (self.largest, self.squares))
        return Channels(largest, squares)


@dataclass(frozen=True)
class Lesson:
    """The best that is known of the values of a model, the error it leaves, and the improvements that were judged.

    It was learnt from so many `samples`, of a model balanced by `channels` where that helps. It `is_whole` where no improvement
    is left to be judged.
    """

    samples: int
    channels: Channels | None
    known: Knowledge
    error: float
    judged: tuple[str, ...] = ()
    is_whole: bool = False


Rebuild: TypeAlias = "Callable[[Channels | None], Graph]"
"""The model that a lesson is of: balanced by the channels, or as it is."""


class Notebook:
    """The lesson of one model, samples and way to hold weights together, in the cache under `key`; nowhere without one."""

    def __init__(self, model: Graph, key: str = "") -> None:
        self._model, self._key = model, key
        self._weights: tuple[Mapping[Value, IntegerWeights], str] | None = None

    def recall(self, fewest: int, rebuild: Rebuild) -> tuple[Graph, Lesson] | None:
        """The lesson and the model it is of, where it was learnt from `fewest` samples at least; None where there is none."""
        content = read_entry(self.name).content if self._key else None
        if content is None:
            return None
        try:
            return _Pages(safetensors.numpy.load(content)).read(self._model, fewest, rebuild)
        except (SafetensorError, ArtifactError, LookupError, ValueError):  # of another form: it is learnt again
            return None

    def keep(self, balanced: Graph, lesson: Lesson) -> None:
        """Keep a lesson of a balanced model; a cache that cannot be written, or has no room, is no hindrance."""
        weights = self._keep_weights(balanced, lesson.known.weights) if self._key else ""
        if not weights:
            return
        told = {
            "judged": list(lesson.judged),
            "is_whole": lesson.is_whole,
            "values": len(_values(balanced)),
            "weights": weights,
        }
        pages = _of_channels(self._model, lesson.channels) | _of_knowledge(balanced, lesson.known)
        pages["told"] = np.frombuffer(json.dumps(told).encode(), np.uint8)
        pages["samples"], pages["error"] = np.array(lesson.samples), np.array(lesson.error)
        write_entry(self.name, safetensors.numpy.save(pages))

    def _keep_weights(self, balanced: Graph, weights: Mapping[Value, IntegerWeights]) -> str:
        """Keep what most steps leave as it is, once; its name, empty where it cannot be kept."""
        if self._weights is None or self._weights[0] is not weights:
            content = safetensors.numpy.save(_of_weights(balanced, weights))
            name = f"{self._key}-{hashlib.sha256(content).hexdigest()[:16]}"
            self._weights = weights, name if keep_weights(name, content) else ""
        return self._weights[1]

    @property
    def name(self) -> str:
        """The entry's."""
        return f"learnt-{self._key}.safetensors"


def notebook_of(model: Graph, samples: Calibration, together: int) -> Notebook:
    """The notebook of a model that learns from some of these samples, its weights held `together`."""
    emitted = emit(model)
    digest = hashlib.sha256(repr((code_digest(), package_versions(), together)).encode())
    digest.update(emitted.graph.SerializeToString(deterministic=True))
    for op in model.walk():
        if op.is_constant:
            digest.update(op.value.digest.encode())
    for feeds in samples:
        for name in sorted(feeds):
            array = np.ascontiguousarray(feeds[name])
            digest.update(repr((name, array.dtype, array.shape)).encode() + array.tobytes())
    return Notebook(model, digest.hexdigest()[:32])


class _Pages:
    """The arrays of a lesson. Its methods raise LookupError and ValueError for what is missing or does not fit."""

    def __init__(self, pages: Mapping[str, Array]) -> None:
        self._pages = pages

    def read(self, model: Graph, fewest: int, rebuild: Rebuild) -> tuple[Graph, Lesson] | None:
        told = parse_object(self._pages["told"].tobytes(), "told")
        judged, name = told.texts("judged"), told.text("weights")
        is_whole, count = told.flag("is_whole"), told.natural("values")
        samples = int(self._pages["samples"])
        content = take_weights(name) if samples >= fewest else None
        if content is None:
            return None
        channels = self._channels(_values(model))
        balanced = rebuild(channels)
        values = _values(balanced)
        if len(values) != count:
            return None
        known = replace(self._knowledge(values, list(balanced.walk())), weights=_weights(values, content))
        return balanced, Lesson(samples, channels, known, float(self._pages["error"]), tuple(judged), is_whole)

    def _channels(self, values: list[Value]) -> Channels | None:
        largest, squares = self._each("largest", values), self._each("squares", values)
        return Channels(largest, squares) if largest else None

    def _knowledge(self, values: list[Value], ops: list[Op]) -> Knowledge:
        varying = zip(self._pages["varying of"].tolist(), self._pages["varying"].tolist(), strict=True)
        return Knowledge(
            ranges=self._ranges("ranges", values),
            results=self._ranges("results", values),
            means=self._each("means", values),
            varying={ops[index]: gain for index, gain in varying},
            corrects_biases=bool(self._pages["corrects biases"]),
        )

    def _ranges(self, kind: str, values: list[Value]) -> dict[Value, Range]:
        found = zip(self._pages[f"{kind} of"].tolist(), self._pages[kind].tolist(), strict=True)
        return {values[index]: Range(low, high) for index, (low, high) in found}

    def _each(self, kind: str, values: list[Value]) -> dict[Value, Array]:
        places = {int(name.removeprefix(f"{kind} of ")): name for name in self._pages if name.startswith(f"{kind} of ")}
        return {values[place]: self._pages[name] for place, name in places.items()}


def _values(graph: Graph) -> list[Value]:
    """All values of a graph, in an order that it shares with whatever was made as it was."""
    return [*graph.inputs, *(value for op in graph.walk() for value in op.results)]


def _places(graph: Graph) -> dict[Value, int]:
    return {value: index for index, value in enumerate(_values(graph))}


def _of_channels(model: Graph, channels: Channels | None) -> Arrays:
    if channels is None:
        return {}
    return _of_each("largest", model, channels.largest) | _of_each("squares", model, channels.squares)


def _of_knowledge(graph: Graph, known: Knowledge) -> Arrays:
    ops = {op: index for index, op in enumerate(graph.walk())}
    return {
        **_of_ranges("ranges", graph, known.ranges),
        **_of_ranges("results", graph, known.results),
        **_of_each("means", graph, known.means),
        "varying of": _integers(ops[op] for op in known.varying),
        "varying": np.array(list(known.varying.values()), np.float64),
        "corrects biases": np.array(known.corrects_biases),
    }


def _of_ranges(kind: str, graph: Graph, ranges: Mapping[Value, Range]) -> Arrays:
    places = _places(graph)
    ends = np.array([[each.low, each.high] for each in ranges.values()], np.float64)
    return {f"{kind} of": _integers(places[value] for value in ranges), kind: ends.reshape(-1, 2)}


def _of_each(kind: str, graph: Graph, arrays: Statistics) -> Arrays:
    places = _places(graph)
    return {f"{kind} of {places[value]}": np.asarray(array, order="C") for value, array in arrays.items()}


def _of_weights(graph: Graph, weights: Mapping[Value, IntegerWeights]) -> Arrays:
    """Steps, scales and axes by the place of a weight in the order of `weights`."""
    places = _places(graph)
    pages: Arrays = {"weights of": _integers(places[value] for value in weights)}
    for index, each in enumerate(weights.values()):
        pages[f"steps {index}"] = np.asarray(each.steps, order="C")
        pages[f"scales {index}"] = np.asarray(each.scales, order="C")
    pages["axes"] = _integers(_ONE_SCALE if each.axis is None else each.axis for each in weights.values())
    pages["together"] = _integers(each.together for each in weights.values())
    return pages


def _weights(values: list[Value], content: bytes) -> dict[Value, IntegerWeights]:
    pages = safetensors.numpy.load(content)
    found: dict[Value, IntegerWeights] = {}
    several = zip(pages["weights of"].tolist(), pages["axes"].tolist(), pages["together"].tolist(), strict=True)
    for index, (place, axis, together) in enumerate(several):
        steps, scales = pages.pop(f"steps {index}"), pages.pop(f"scales {index}")
        found[values[place]] = IntegerWeights(steps, scales, None if axis == _ONE_SCALE else axis, together)
    return found


def _integers(numbers: Iterable[int]) -> Array:
    return np.array(list(numbers), np.int64)


__all__ = ["Channels", "Lesson", "Notebook", "notebook_of"]

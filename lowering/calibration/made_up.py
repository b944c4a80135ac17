"""Samples for who has none: of sizes the model runs on, seeded, so that they are the same each time.

Floats are normally distributed. Integers that look rows up in a table are drawn from all its rows, bytes from all their
values, and other integers are 1, as a mask that hides nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from irc.ir import Graph, UsageError, Value
from irc.runtime import FeedError, SignatureEntry, random_inputs

from ..verification import make_probe

_KEEPING = ("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Slice", "Expand")
"""Ops whose results hold nothing but elements of their first operand."""


@dataclass(frozen=True)
class MadeUp:
    """How samples are made up; `rows` are those of the tables that an input looks up in."""

    inputs: Sequence[SignatureEntry]
    rows: Mapping[str, int]
    count: int

    @staticmethod
    def fitting(inputs: Sequence[SignatureEntry], graph: Graph | None, count: int) -> MadeUp:
        """Samples that can be fed; with the graph, of sizes the reference takes. Raises UsageError where there are none."""
        if graph is None:
            made_up = MadeUp(inputs, {}, count)
            made_up.feeds(0)
            return made_up
        probe = make_probe(graph, inputs)
        if isinstance(probe, str):
            hint = "give calibration data on which the model runs"
            raise UsageError(f"no inputs can be made up for calibration: {probe}", hint=hint)
        shapes = {name: array.shape for name, array in _arrays(probe.feeds).items()}
        sized = [replace(entry, shape=shapes.get(entry.name, entry.shape)) for entry in inputs]
        named = zip(graph.input_names, graph.inputs, strict=True)
        rows = {name: found for name, value in named if (found := _table_rows(value)) is not None}
        return MadeUp(sized, rows, count)

    def feeds(self, index: int) -> dict[str, Any]:
        """Sample `index`."""
        try:
            feeds: dict[str, Any] = random_inputs(self.inputs, {}, index)
        except FeedError as error:
            raise UsageError(error.message, hint="give calibration data") from error
        for name, array in _arrays(feeds).items():
            if array.dtype.kind in "iu":
                feeds[name] = self._integers(name, array.shape, array.dtype, index)
        return feeds

    def _integers(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], index: int) -> npt.NDArray[Any]:
        generator = np.random.default_rng([index, zlib.crc32(name.encode())])
        if name in self.rows:
            return generator.integers(0, max(1, self.rows[name]), shape).astype(dtype)
        if dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            return generator.integers(limits.min, limits.max + 1, shape).astype(dtype)
        return np.ones(shape, dtype)


def _arrays(feeds: Mapping[str, object]) -> dict[str, npt.NDArray[Any]]:
    return {name: cast("npt.NDArray[Any]", value) for name, value in feeds.items() if isinstance(value, np.ndarray)}


def _table_rows(value: Value) -> int | None:
    """The rows of the smallest table that an input's elements look up in, or None where they look up in none."""
    found: list[int] = []
    seen, pending = {value}, [value]
    while pending:
        for use, index in pending.pop().uses:
            if isinstance(use, Graph):
                continue
            if use.is_a(*_KEEPING) and index == 0 and use.result not in seen:
                seen.add(use.result)
                pending.append(use.result)
            data = use.operand(0)
            if use.is_a("Gather") and index == 1 and data is not None and data.shape:
                rows = data.shape[use.integer("axis", 0)]
                found += [rows] if isinstance(rows, int) else []
    return min(found, default=None)

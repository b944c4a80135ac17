"""What data told of a graph in f32: ranges and means of values, and how the data of a product hang together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from irc.ir import Graph, Op, Value
from irc.passes.precision import IntegerWeights, Range

from ..engine import Wish
from .options import INT4_BLOCK

Array: TypeAlias = "np.ndarray[Any, Any]"
Known = TypeVar("Known")


@dataclass(frozen=True)
class Knowledge:
    """Of values their range, the mean of each channel, the largest magnitude, and the integers that stand for weights.

    `results` are the ranges of what convolutions make and no contraction reads; `wishes` are those of the engine,
    `block_size` the weights of 4 bits that share a scale.
    `grams` has X^T X of the data X [any, rows] of ops; `varying` the ops whose data find their range in each run, with how many
    times as large the error is by one range for all. `corrects_biases` says whether what rounding weights adds to the mean
    of each channel is taken off its bias.
    """

    ranges: Mapping[Value, Range] = field(default_factory=dict[Value, Range])
    means: Mapping[Value, Array] = field(default_factory=dict[Value, Array])
    magnitudes: Mapping[Value, float] = field(default_factory=dict[Value, float])
    weights: Mapping[Value, IntegerWeights] = field(default_factory=dict[Value, IntegerWeights])
    grams: Mapping[Op, Array] = field(default_factory=dict[Op, Array])
    varying: Mapping[Op, float] = field(default_factory=dict[Op, float])
    corrects_biases: bool = False
    results: Mapping[Value, Range] = field(default_factory=dict[Value, Range])
    wishes: frozenset[Wish] = frozenset()
    block_size: int = INT4_BLOCK

    def of_copy(self, graph: Graph, copy: Graph) -> Knowledge:
        """The same of a copy of the graph that it was told of."""
        ops = dict(zip(graph.walk(), copy.walk(), strict=True))
        inputs = {
            own: its
            for first, second in zip(graph.graphs(), copy.graphs(), strict=True)
            for own, its in zip(first.inputs, second.inputs, strict=True)
        }

        def moved(known: Mapping[Value, Known]) -> dict[Value, Known]:
            return {inputs[v] if v.op is None else ops[v.op].results[v.index]: each for v, each in known.items()}

        return replace(
            self,
            ranges=moved(self.ranges),
            means=moved(self.means),
            magnitudes=moved(self.magnitudes),
            weights=moved(self.weights),
            results=moved(self.results),
            grams={ops[op]: gram for op, gram in self.grams.items()},
            varying={ops[op]: gain for op, gain in self.varying.items()},
        )


NOTHING = Knowledge()

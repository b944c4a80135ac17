"""The constant weights that compression works on, and magnitude pruning: the smallest become zero where they stand.

A weight is a constant that only contractions of f32 use, so that changing it changes nothing else. Zeros save no time by
themselves: they make the file compressible, and are what kernels for sparse weights want.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irc.ir import Graph, Op, Tensor, UsageError, Value, constant_op, via

from ..base import Application, Context, Contract, Pass
from ..fold_constants import FoldConstants
from ..precision.sites import Site, sites

RANKINGS = ("layer", "global")
Array = NDArray[Any]
_PATTERN = re.compile(r"(\d+):(\d+)")


def weights_of(graph: Graph, context: Context) -> dict[Value, list[Site]]:
    """The constant weights of a graph with the sites that use them, in order; constants are folded first."""
    fold(graph, context)
    found: dict[Value, list[Site]] = {}
    for site in sites(graph):
        if site.is_weighted and len(site.weights.shape or ()) >= 2:
            found.setdefault(site.weights, []).append(site)
    return {value: users for value, users in found.items() if len(value.uses) == len(users)}


def fold(graph: Graph, context: Context) -> None:
    """Fold constants, since weights may be made from others, and drop those that nobody uses then."""
    if context.allows(FoldConstants.name, FoldConstants.contract):
        FoldConstants().run(graph, context)
    for op in list(graph):
        if op.is_constant and op.is_dead:
            graph.erase(op)


def replace_constant(value: Value, array: Array, name: str) -> None:
    """Put `array`, in the dtype of the constant `value`, in its place."""
    op, tensor = value.op, value.constant
    assert op is not None
    assert op.graph is not None
    assert tensor is not None
    other = op.graph.insert(constant_op(Tensor.from_array(array, tensor.dtype), via(name, op.location), value.name), op)
    value.replace_by(other.result)
    op.graph.erase(op)


def allowed(name: str, op: Op, context: Context) -> bool:
    """Whether a lossy rewrite at an op goes ahead, in which case it is counted. Raises LimitReached when none is left."""
    if context.refuses(Application(name, Contract.LOSSY, op, (), ())):
        return False
    context.take(name)
    return True


@dataclass(frozen=True)
class PruneWeights(Pass, name="prune-weights", contract=Contract.LOSSY):
    """Set the `share` of weights of the smallest magnitude to zero.

    With `pattern` as in 2:4 it is as many of each 4 neighbours along the summed axis that are kept, whatever the share.
    `ranking` compares the weights of one `layer`, or of all in units of their layer's mean (`global`). Han et al., 2015.
    """

    share: float = 0.5
    pattern: str = ""
    ranking: str = "layer"

    def __post_init__(self) -> None:
        """Raises UsageError for an option out of its range."""
        if not 0.0 <= self.share < 1.0:
            raise UsageError(f"share is {self.share}, which no weights are", hint="give at least 0 and less than 1")
        if self.ranking not in RANKINGS:
            raise UsageError(f"there is no ranking '{self.ranking}'", hint=f"it is one of {', '.join(RANKINGS)}")
        if self.pattern and not 0 < self._kept < self._block:
            raise UsageError(f"pattern is '{self.pattern}'", hint="2:4 keeps two of each four neighbours")

    @property
    def _kept(self) -> int:
        return self._numbers[0]

    @property
    def _block(self) -> int:
        return self._numbers[1]

    @property
    def _numbers(self) -> tuple[int, int]:
        match = _PATTERN.fullmatch(self.pattern)
        return (0, 0) if match is None else (int(match[1]), int(match[2]))

    def run(self, graph: Graph, context: Context) -> None:
        """Each weight that loses something counts as one rewrite."""
        for value, gone in self._chosen(weights_of(graph, context)):
            tensor = value.constant
            assert tensor is not None
            if gone.any() and tensor.array[gone].any() and allowed(self.name, value.users[0], context):
                replace_constant(value, np.where(gone, 0, tensor.array), self.name)

    def _chosen(self, weights: dict[Value, list[Site]]) -> Iterator[tuple[Value, Array]]:
        """Each weight with what it loses."""
        sizes = {value: np.abs(value.constant.array) for value in weights if value.constant is not None}
        if self.pattern:
            for value, magnitudes in sizes.items():
                yield value, _beyond(magnitudes, weights[value][0].summed_axis, self._kept, self._block)
        elif self.ranking == "layer":
            for value, magnitudes in sizes.items():
                yield value, _lowest(magnitudes, int(self.share * magnitudes.size))
        elif sizes:
            scaled = {value: magnitudes / max(float(magnitudes.mean()), 1e-30) for value, magnitudes in sizes.items()}
            everything = _lowest(np.concatenate([m.reshape(-1) for m in scaled.values()]), self.share)
            start = 0
            for value, magnitudes in scaled.items():
                yield value, everything[start : start + magnitudes.size].reshape(magnitudes.shape)
                start += magnitudes.size


def _lowest(magnitudes: Array, count: float) -> Array:
    """Which are the lowest `count`, or that share below 1; of equal ones the first."""
    number = int(count * magnitudes.size) if isinstance(count, float) else count
    gone = np.zeros(magnitudes.size, np.bool_)
    gone[np.argsort(magnitudes, axis=None, kind="stable")[:number]] = True
    return gone.reshape(magnitudes.shape)


def _beyond(magnitudes: Array, axis: int, kept: int, block: int) -> Array:
    """Which are not among the `kept` largest of their block of neighbours along an axis; an incomplete block keeps all."""
    moved = np.moveaxis(magnitudes, axis, -1)
    whole = moved.shape[-1] // block * block
    gone = np.zeros(moved.shape, np.bool_)
    if whole:
        rows = moved[..., :whole].reshape(*moved.shape[:-1], -1, block)
        places = np.argsort(-rows, axis=-1, kind="stable")[..., kept:]
        inside = np.zeros(rows.shape, np.bool_)
        np.put_along_axis(inside, places, True, axis=-1)
        gone[..., :whole] = inside.reshape(*moved.shape[:-1], whole)
    return np.moveaxis(gone, -1, axis)

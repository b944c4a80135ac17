"""Weight sharing: the weights of a layer take few distinct values, found by k-means, and are stored as narrow indices.

It makes the file smaller, not the program faster: an engine looks the weights up once, when it loads the model, and multiplies
as before. Han et al., "Deep Compression", 2016.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Graph, Op, Tensor, UsageError, Value, constant_op, make, via

from ..base import Context, Contract, Pass
from ..codebooks import LARGEST
from .weights import allowed, weights_of

ROUNDS = 100
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class ShareWeights(Pass, name="share-weights", contract=Contract.LOSSY):
    """Give the weights of each layer at most `clusters` distinct values.

    Stored is which one each weight is: up to 16 clusters take half a byte a weight, up to 256 one byte. It is done where that
    makes the file smaller.
    """

    clusters: int = 16

    def __post_init__(self) -> None:
        """Raises UsageError for a number of clusters that no index tells apart."""
        if not 2 <= self.clusters <= LARGEST:
            raise UsageError(f"clusters is {self.clusters}", hint=f"give 2 to {LARGEST}")

    def run(self, graph: Graph, context: Context) -> None:
        """Each weight that is shared counts as one rewrite."""
        narrow = DType.U4 if self.clusters <= 16 else DType.U8
        for value in weights_of(graph, context):
            tensor = value.constant
            assert tensor is not None
            book_bytes = tensor.dtype.byte_count(self.clusters)
            if narrow.byte_count(tensor.size) + book_bytes >= tensor.byte_count or not np.isfinite(tensor.array).all():
                continue
            if allowed(self.name, value.users[0], context):
                _share(value, tensor, self.clusters, narrow, self.name)


def _share(value: Value, tensor: Tensor, clusters: int, narrow: DType, name: str) -> None:
    centers = cluster(tensor.array.reshape(-1).astype(np.float64), clusters)
    indices = nearest(tensor.array.astype(np.float64), centers)
    op = value.op
    assert op is not None
    location = via(name, op.location)

    def put(new: Op) -> Value:
        assert op is not None
        assert op.graph is not None
        return op.graph.insert(new, op).results[0]

    book = put(constant_op(Tensor.from_array(centers, tensor.dtype), location, f"{value.name}.codebook" if value.name else ""))
    stored = put(constant_op(Tensor.from_array(indices, narrow), location, value.name))
    wide = put(make("Cast", [stored], location, attributes={"to": DType.I32.onnx_code}))
    value.replace_by(put(make("Gather", [book, wide], location)))
    assert op.graph is not None
    op.graph.erase(op)


def nearest(values: Numbers, centers: Numbers) -> NDArray[np.int64]:
    """For each value the index of the nearest center, of ascending `centers`; the upper of two that are equally near."""
    return np.searchsorted((centers[1:] + centers[:-1]) / 2, values, side="right")


def cluster(values: Numbers, count: int) -> Numbers:
    """At most `count` ascending centers by k-means on a line, from evenly spread and from evenly filled starts, the better one.

    Lloyd's algorithm on sorted values: clusters are runs, so that a round costs a search for each bound.
    """
    ordered = np.sort(values)
    distinct = np.unique(ordered)
    if distinct.size <= count:
        return distinct
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    spread: Numbers = np.linspace(ordered[0], ordered[-1], count, dtype=np.float64)
    filled: Numbers = ordered[(2 * np.arange(count) + 1) * ordered.size // (2 * count)]
    found = [_lloyd(ordered, sums, np.unique(start)) for start in (spread, filled)]
    errors = [float(np.square(ordered - centers[nearest(ordered, centers)]).sum()) for centers in found]
    return found[int(np.argmin(errors))]


def _lloyd(ordered: Numbers, sums: Numbers, centers: Numbers) -> Numbers:
    for _ in range(ROUNDS):
        inner = np.searchsorted(ordered, (centers[1:] + centers[:-1]) / 2)
        bounds = np.concatenate([[0], inner, [ordered.size]])
        sizes = np.diff(bounds)
        means = np.where(sizes > 0, np.diff(sums[bounds]) / np.maximum(sizes, 1), centers)
        if np.array_equal(means, centers):
            break
        centers = np.unique(means)
    return centers

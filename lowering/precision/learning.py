"""What is learnt of a model from samples before its precision is lowered; `integers` has what 8 bits need beyond it.

Law: the samples held back are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import TypeAlias

import numpy as np

from irc.ir import Graph, Op, Value
from irc.passes.precision import Site, sites

from ..calibration import Calibration, ChannelExtremes, Gram, Observer, observe
from .knowledge import Array

MOST_GRAM_BYTES = 3 << 30
"""The bytes of all Gram matrices together; the widest are left out."""

TIMES_OBSERVED = 8
"""How many runs of the reference it takes about as long as to see what is in a model on one sample."""

Tell: TypeAlias = Callable[[str], object]


def observable(graph: Graph) -> list[Site]:
    """The sites whose data are computed in the graph itself, not in the body of a loop or a branch."""
    return [site for site in sites(graph) if site.op.graph is graph and site.data.constant is None]


def show(graph: Graph, wanted: Mapping[Value, Sequence[Observer]], samples: Calibration, tell: Tell, what: str) -> None:
    """Let observers see values on every sample. Raises UsageError for samples on which the model does not run."""

    def progress(done: int, whole: int) -> None:
        tell(f"{what}: sample {done} of {whole}")

    if wanted:
        observe(graph, wanted, samples, progress)


def magnitudes_of(graph: Graph, samples: Calibration, tell: Tell) -> dict[Value, float]:
    """The largest magnitude of each computed operand of a site."""
    operands = dict.fromkeys(value for site in observable(graph) for value in (site.data, site.weights))
    found = {value: ChannelExtremes(0) for value in operands if value.constant is None and value.shape}
    show(graph, {value: [each] for value, each in found.items()}, samples, tell, "magnitudes")
    return {value: float(each.magnitude.max(initial=0.0)) for value, each in found.items() if each.low is not None}


def grams_of(graph: Graph, samples: Calibration, tell: Tell) -> dict[Op, Array]:
    """X^T X [2, rows, rows] of the data of products by a constant matrix, by halves of the samples, where there is room."""
    chosen = [site for site in observable(graph) if site.is_weighted and site.op.is_a("MatMul", "Gemm")]
    found = {value: HalvedGram(each.axis) for value, each in gram_observers(chosen, room=MOST_GRAM_BYTES // 2).items()}
    show(graph, {value: [each] for value, each in found.items()}, samples, tell, "products")
    matrices = {
        value: found.pop(value).matrices for value in list(found)
    }  # one after the other, to let go of what they are made of
    return {site.op: matrix for site in chosen if (matrix := matrices.get(site.data)) is not None}


class HalvedGram:
    """Two Gram matrices, of every other sample each: what one says of the other is no accident of a few samples."""

    def __init__(self, axis: int) -> None:
        self._halves = [Gram(axis), Gram(axis)]
        self._seen = 0

    @property
    def matrices(self) -> Array | None:
        """Both [2, width, width], or the only one [width, width] of a single sample; None before any."""
        kept = [each.matrix.astype(np.float32) for each in self._halves if each.matrix is not None]
        return None if not kept else np.stack(kept) if len(kept) > 1 else kept[0]

    def see(self, array: Array) -> None:
        """Take in what the value holds on one more sample."""
        self._halves[self._seen % 2].see(array)
        self._seen += 1


def gram_observers(chosen: Iterable[Site], widest: int | None = None, room: int = MOST_GRAM_BYTES) -> dict[Value, Gram]:
    """A Gram matrix for the data of each site, the narrowest first as long as there is room."""
    widths: dict[Value, tuple[int, int]] = {}
    for site in chosen:
        width = (site.data.shape or ())[site.data_axis]
        if isinstance(width, int) and (widest is None or width <= widest):
            widths.setdefault(site.data, (width, site.data_axis))
    found: dict[Value, Gram] = {}
    for value, (width, axis) in sorted(widths.items(), key=lambda item: item[1]):
        room -= prod((width, width, 8))
        if room < 0:
            break
        found[value] = Gram(axis)
    return found

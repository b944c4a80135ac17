"""Data in 256 steps of a range of their own in each run: for products whose data are of another size in each sample.

A value that is quantized dynamically is `DequantizeLinear(DynamicQuantizeLinear(x))`: u8, with a scale and a zero point
that are computed from its least and greatest element, one pair for all products that read it; weights are as in `quantizing`.

When. In 255 steps of a range of width w, an element is off by w / (255 sqrt(12)) in the root mean square. Of samples i with
ranges of widths w_i and elements of mean square p_i, where the one static range has width W,

    gain = sqrt(sum of W^2 / p_i over i) / sqrt(sum of w_i^2 / p_i over i)

is how many times as large, relative to the elements, the error of the static steps is. It is about 1 where all samples reach
as far as each other, and below 1 where W leaves out lone large elements, which a dynamic range cannot. From LEAST_GAIN on it
pays to find the range anew in each run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from irc.ir import Graph, Value, make, via

from ..base import Context, Contract, Pass
from .constants import BY, read_integers
from .integers import IntegerWeights
from .narrowing import put_after
from .quantizing import why_not_quantized
from .ranges import Range
from .sites import Site, is_in_steps, taken

LEAST_GAIN = 2.0
"""The gain that a range of each sample's own has to bring: a bit of the eight."""


def quantize_dynamically(chosen: Iterable[Site], weights: Mapping[Value, IntegerWeights] | None = None) -> None:
    """Let the `chosen` sites read their data in 8 bits by the range of each run, and their weights in 8 bits, in place.

    Nothing may speak against any of them (`why_not_dynamic`). `weights` are integers to use instead of the nearest ones.
    """
    found = list(chosen)
    read_integers(found, weights or {})
    pairs: dict[Value, Value] = {}
    for site in found:
        value = site.op.needed(0)
        if value not in pairs:
            pairs[value] = _pair_behind(value, site)
        site.op.set_operand(0, pairs[value])


def _pair_behind(value: Value, reader: Site) -> Value:
    location = via(BY, reader.op.location if value.op is None else value.op.location)
    narrow = make("DynamicQuantizeLinear", [value], location, results=3)
    wide = make("DequantizeLinear", list(narrow.results), location)
    put_after(value, narrow, wide)
    return wide.result


def why_not_dynamic(site: Site) -> str:
    """Why a site cannot be quantized dynamically, as a clause; empty where nothing speaks against it."""
    if not site.op.is_a("MatMul", "Gemm"):
        return "only products of matrices find their ranges in each run"
    if site.data.constant is not None or is_in_steps(site.data):
        return "its data are in steps already"
    return why_not_quantized(site) if site.is_weighted else "its weights are computed"


def gain(static: Range, widths: npt.ArrayLike, powers: npt.ArrayLike) -> float:
    """How many times as large the relative error of the steps of a `static` range is as that of each sample's own.

    `widths` and `powers` are what the range of each sample spans with zero, and the mean square of its elements. Samples of
    nothing but zeros have no error; without any other, it is 1.
    """
    own, squares = np.asarray(widths, np.float64), np.asarray(powers, np.float64)
    held = (squares > 0) & np.isfinite(squares) & np.isfinite(own)
    if not held.any():
        return 1.0
    static_error = float(np.sum(static.width**2 / squares[held]))
    return sqrt(static_error / float(np.sum(np.square(own[held]) / squares[held])))


@dataclass(frozen=True)
class QuantizeDynamically(Pass, name="quantize-dynamically", contract=Contract.LOSSY):
    """Let products with constant weights read 8 bits: data by a range that each run finds, weights by channel."""

    def run(self, graph: Graph, context: Context) -> None:
        """All of them; how much is lost is for the caller to measure."""
        chosen: list[Site] = []
        try:
            # One by one, so that those before a limit on rewrites are kept.
            for site in taken(graph, context, self.name, why_not_dynamic):
                chosen.append(site)
        finally:
            quantize_dynamically(chosen)

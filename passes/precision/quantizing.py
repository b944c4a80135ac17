"""Integers of 8 bits: operands of contractions are read in 256 steps, and nothing else is; products and sums stay f32.

A quantized value is `DequantizeLinear(QuantizeLinear(x))` in u8, with one scale and zero point, one pair for all its readers,
so that an engine may keep it in memory as integers only; constant weights are i8 behind one DequantizeLinear.
Laws: what is only moved has the steps of what it was moved from, and parts of a Concat those of the whole, so that a second
pair on the way changes no number; norms, softmax, reductions and attention keep reading f32. Pointwise ops read in steps what
convolutions read, too: images are large, and a second form of one costs more than it helps. They read f32 beside products of
matrices: there they are the residual path, and rounding it doubles the error of bert_base.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from irc.ir import Graph, Op, Tensor, UsageError, Use, Value, constant_op, make, via

from .constants import BY, read_integers
from .integers import IntegerWeights
from .narrowing import is_pointwise, put_after
from .ranges import Range
from .sites import MOVING, Site, is_in_steps, source_of

_NARROWEST_PART = 0.5
"""The share of a Concat's range that a part must have to give up its own steps for the Concat's."""


def wanted_values(graph: Graph, chosen: Iterable[Site]) -> list[Value]:
    """The values of `graph` whose ranges `quantize` asks for, each once: computed operands, before they were moved."""
    return list(dict.fromkeys(source_of(value) for site in chosen for value in _computed(site)))


def wanted_results(graph: Graph, chosen: Iterable[Site]) -> list[Value]:
    """Results of convolutions that `quantize` rounds, too, where it is given their ranges, besides the `wanted_values`.

    Some engines have integer convolutions only from integers to integers. These are results that no site reads, but an Add for
    instance, behind a Relu or Clip that alone reads them.
    """
    found = list(chosen)
    known = set(wanted_values(graph, found))
    results = (_activated(site.op.results[0]) for site in found if site.op.is_a("Conv", "ConvTranspose"))
    return [value for value in dict.fromkeys(results) if value not in known and not value.is_output]


def _activated(value: Value) -> Value:
    user = value.users[0] if value.has_one_use and value.users else None
    return user.results[0] if user is not None and user.is_a("Relu", "Clip") and user.operands[0] is value else value


def quantize(
    graph: Graph, chosen: Iterable[Site], ranges: Mapping[Value, Range], weights: Mapping[Value, IntegerWeights] | None = None
) -> None:
    """Let the `chosen` sites of `graph` read their operands in 8 bits, in place.

    `ranges` has at least the `wanted_values` of the sites, and may have some of the `wanted_results`. `weights` are integers to
    use for constants instead of the nearest ones. Raises UsageError for a value whose range is missing.
    """
    found = list(chosen)
    results = [value for value in wanted_results(graph, found) if value in ranges]
    quantizing = _Quantizing(found, {**{value: ranges[value] for value in results}, **_shared_ranges(found, ranges)})
    read_integers(found, weights or {})
    operands = dict(_on_the_way(found))
    for value, whole in operands.items():
        quantizing.pair(value, whole)
    for value in results:
        if value not in operands:
            quantizing.result(value)


def why_not_quantized(site: Site) -> str:
    """Why a site cannot be quantized, as a clause: a constant is not finite; empty where nothing speaks against it."""
    constants = (value.constant for value in (site.data, site.weights))
    return "" if all(t is None or bool(np.isfinite(t.array).all()) for t in constants) else "a constant is not finite"


def _computed(site: Site) -> Iterator[Value]:
    """The operands of a site that are neither constant nor dequantized already."""
    for value in (site.data, site.weights):
        if value.constant is None and not is_in_steps(value):
            yield value


def _on_the_way(chosen: Iterable[Site]) -> Iterator[tuple[Value, Value]]:
    """Each value that gets a pair, with the value whose range it has: operands, what they are moved from, parts of Concats."""
    seen: set[Value] = set()
    pending = [(value, source_of(value)) for site in chosen for value in _computed(site)]
    pending.reverse()
    # The sources first: a value that has a range of its own does not take that of a Concat.
    own = dict.fromkeys(whole for _, whole in pending)
    while pending:
        value, whole = pending.pop()
        if value in seen or (value is not whole and value in own):
            continue
        seen.add(value)
        yield value, whole
        maker = value.op
        if maker is None or maker.domain:
            continue
        if maker.is_a(*MOVING) and value is maker.results[0] and value is not whole:
            pending.append((maker.needed(0), whole))
        elif maker.is_a("Concat"):
            pending.extend((part, whole) for part in maker.operands if part is not None)


def _shared_ranges(chosen: Iterable[Site], ranges: Mapping[Value, Range]) -> dict[Value, Range]:
    """The ranges of the values that have one, widened to that of a Concat they are a part of where they are about as wide."""
    own: dict[Value, Range] = {}
    for site in chosen:
        for value in map(source_of, _computed(site)):
            if value not in ranges:
                raise UsageError(f"the range of %{value.name or '?'} is not known", location=str(site.op.location))
            own[value] = ranges[value]
    for value in list(own):
        maker = value.op
        if maker is None or not maker.is_a("Concat"):
            continue
        parts = [source for part in maker.operands if part is not None and (source := source_of(part)) in own]
        shared = [value, *(part for part in parts if own[part].width >= _NARROWEST_PART * own[value].width)]
        widest = Range(min(own[each].low for each in shared), max(own[each].high for each in shared))
        own.update(dict.fromkeys(shared, widest))
    return own


class _Quantizing:
    """One run over the `chosen` sites."""

    def __init__(self, chosen: Iterable[Site], ranges: Mapping[Value, Range]) -> None:
        found = list(chosen)
        self._readers = {site.op for site in found}
        self._images = {source_of(site.data) for site in found if site.op.is_a("Conv", "ConvTranspose")}
        self._ranges = ranges

    def pair(self, value: Value, whole: Value) -> None:
        """Put a pair with the steps of `whole` behind a value; its readers that can take integers read that."""
        uses = [use for use in value.uses if self._takes_steps(*use, pointwise=whole in self._images)]
        self._put(value, whole, uses)

    def result(self, value: Value) -> None:
        """Put a pair behind the result of a convolution, for all its readers."""
        self._put(value, value, list(value.uses))

    def _put(self, value: Value, whole: Value, uses: Iterable[Use]) -> None:
        users = [(user, index) for user, index in uses if isinstance(user, Op)]
        location = via(BY, users[0][0].location if value.op is None else value.op.location)
        steps = [constant_op(Tensor.from_array(number), location) for number in self._ranges[whole].scale_and_zero()]
        parameters = [op.result for op in steps]
        narrow = make("QuantizeLinear", [value, *parameters], location)
        wide = make("DequantizeLinear", [narrow.result, *parameters], location)
        put_after(value, *steps, narrow, wide)
        for user, index in users:
            user.set_operand(index, wide.result)

    def _takes_steps(self, op: Op | Graph, index: int, *, pointwise: bool) -> bool:
        if not isinstance(op, Op):
            return False
        if op in self._readers:
            return index < 2
        return (pointwise and is_pointwise(op)) or (op.is_a(*MOVING, "Concat") and not op.domain)

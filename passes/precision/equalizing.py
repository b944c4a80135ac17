"""Cross-layer equalization: channels between two convolutions are made alike in size, where nothing but their scale changes.

relu(x / s) = relu(x) / s for s > 0, so a channel may leave one layer smaller and be multiplied with larger weights in the next
(Nagel et al. 2019, section 4.1); what is computed stays the same up to rounding. Chains of depthwise convolutions are balanced
link by link. Clip with an upper bound is no such function, so it ends a chain. `balancing` chooses the factors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from irc.ir import Op, Value

from ..precise import Floats
from .balancing import Reader, factors, is_short
from .sites import Site
from .smoothing import replace_constant

BY = "equalize"
HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Identity"})
"""Ops of one operand that treat channels alike and for which f(x / s) = f(x) / s."""


def equalize(
    chosen: Iterable[Site], extremes: Mapping[Value, Floats], squares: Mapping[Value, Floats] | None = None
) -> list[tuple[Op, Op]]:
    """Balance pairs of convolutions with nothing but homogeneous ops between them, in place; the pairs that changed.

    `extremes` and `squares` have, for data of sites, the largest absolute number and the mean square of each channel; they are
    those of the graph as it was given. Sites whose extremes are not given stay as they are; sites have to be found anew.
    """
    by_op = {site.op: site for site in chosen}
    changed: list[tuple[Op, Op]] = []
    for second in by_op.values():
        first = _before(second, by_op)
        if first is None or second.data not in extremes or is_short(second.data, second.data_axis):
            continue
        own = factors(extremes[second.data], [_reader(second)], (squares or {}).get(second.data))
        if own is None:
            continue
        _divide_outputs(first, own)
        _multiply_inputs(second, own)
        changed.append((first.op, second.op))
    return changed


def _before(second: Site, by_op: Mapping[Op, Site]) -> Site | None:
    """The convolution whose channels a site reads, and alone, or None."""
    if not second.op.is_a("Conv") or not second.is_weighted:
        return None
    groups, size = second.op.integer("group", 1), second.weights.shape
    if groups != 1 and (size is None or size[0] != groups or size[1] != 1):
        return None
    value = second.data
    while value.op is not None and value.has_one_use and value.op.name in HOMOGENEOUS and not value.op.domain:
        value = value.op.needed(0)
    first = None if value.op is None or not value.has_one_use else by_op.get(value.op)
    if first is None or not first.op.is_a("Conv") or not first.is_weighted or first.op.graph is not second.op.graph:
        return None
    bias = first.op.operand(2)
    return first if bias is None or bias.constant is not None else None


def _reader(site: Site) -> Reader:
    tensor = site.op.constant_operand(1)
    assert tensor is not None
    array = tensor.array.astype(np.float64)
    if site.op.integer("group", 1) != 1:
        return Reader(array.reshape(len(array), 1, -1), is_depthwise=True)
    return Reader(array.reshape(*array.shape[:2], -1).swapaxes(0, 1))


def _divide_outputs(site: Site, own: Floats) -> None:
    for index in (1, 2):
        tensor = site.op.constant_operand(index)
        if tensor is not None:
            numbers = tensor.array / own.reshape(-1, *[1] * (len(tensor.shape) - 1))
            replace_constant(site.op, index, numbers, BY)


def _multiply_inputs(site: Site, own: Floats) -> None:
    tensor = site.op.constant_operand(1)
    assert tensor is not None
    rest = [1] * (len(tensor.shape) - 2)
    along = own.reshape(-1, 1, *rest) if site.op.integer("group", 1) != 1 else own.reshape(1, -1, *rest)
    replace_constant(site.op, 1, tensor.array * along, BY)

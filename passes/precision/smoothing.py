"""SmoothQuant: channels of normalized data that are far larger than others hand their size on to the weights that read them.

(x / s) (s w) = x w, with 1 / s in the scale and the bias of the norm (Xiao et al. 2022); what is computed stays the same up to
rounding, and no op is added. `balancing` chooses s, and says no where rounding to 8 bits would gain nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from irc.ir import Op, Tensor, Value, constant_op, via

from ..base import erase_dead
from ..precise import Floats
from .balancing import Reader, factors, is_short, steady
from .sites import Site

BY = "smooth"
NORMS = {"LayerNormalization": (1, 2), "RMSNormalization": (1,)}
"""Norms that multiply each channel of the last dim with a number of its own, and which operands hold scale and bias."""


def smooth(chosen: Iterable[Site], extremes: Mapping[Value, Floats], squares: Mapping[Value, Floats] | None = None) -> list[Op]:
    """Balance norms with the sites that read them, in place, where all readers are among `chosen`; the norms that changed.

    `extremes` and `squares` have, for data of sites, the largest absolute number and the mean square of each index of
    `data_axis`. Values whose extremes are not given stay as they are; sites have to be found anew.
    """
    by_op = {site.op: site for site in chosen}
    norms = dict.fromkeys(site.data.op for site in by_op.values() if site.data.op is not None)
    return [norm for norm in norms if _balance(norm, by_op, extremes, squares or {})]


def _balance(norm: Op, by_op: Mapping[Op, Site], extremes: Mapping[Value, Floats], squares: Mapping[Value, Floats]) -> bool:
    value = norm.results[0]
    readers = _readers(norm, by_op)
    if not readers or value not in extremes or is_short(value, len(value.shape or ()) - 1):
        return False
    found = [Reader(_by_channel(site)[:, :, None]) for site in readers]
    spread = squares.get(value)
    largest = extremes[value] if spread is None else steady(extremes[value], spread)
    own = factors(largest, found, spread)
    if own is None:
        return False
    for index in NORMS[norm.name]:
        tensor = norm.constant_operand(index)
        if tensor is not None:
            replace_constant(norm, index, tensor.array / own, BY)
    for site in readers:
        tensor = site.weights.constant
        assert tensor is not None
        replace_constant(site.op, 1, tensor.array * _along(site, own), BY)
    return True


def _readers(norm: Op, by_op: Mapping[Op, Site]) -> list[Site]:
    """The sites that read a norm over the last dim, where nothing else does and all have constant weights; else none."""
    value, kind = norm.results[0], norm.results[0].type
    if norm.domain or norm.name not in NORMS or any(result.uses for result in norm.results[1:]):
        return []
    rank = getattr(kind, "rank", None)
    if rank is None or norm.integer("axis", -1) not in (-1, rank - 1):
        return []
    operands = [norm.operand(index) for index in NORMS[norm.name]]
    if any(operand is not None and (operand.constant is None or len(operand.constant.shape) != 1) for operand in operands):
        return []
    found = [by_op.get(user) if isinstance(user, Op) and index == 0 else None for user, index in value.uses]
    sites = [site for site in found if site is not None and site.data is value and _is_product(site)]
    return sites if len(sites) == len(value.uses) else []


def _is_product(site: Site) -> bool:
    """Whether a site multiplies the last dim of its data with a constant matrix."""
    weights = site.weights.constant
    of_matrix = weights is not None and len(weights.shape) == 2
    return of_matrix and site.op.is_a("MatMul", "Gemm") and not site.op.integer("transA", 0)


def _by_channel(site: Site) -> Floats:
    """The weights as [channels of data, outputs]."""
    assert site.weights.constant is not None
    array = site.weights.constant.array.astype(np.float64)
    return array if site.summed_axis == 0 else array.T


def _along(site: Site, own: Floats) -> Floats:
    return own[:, None] if site.summed_axis == 0 else own[None, :]


def replace_constant(op: Op, index: int, numbers: Floats, by: str) -> None:
    """Use other numbers as a constant operand of one op; others that read the old ones keep them."""
    old = op.needed(index)
    assert op.graph is not None
    new = constant_op(Tensor.from_array(numbers.astype(np.float32)), via(by, op.location), old.name)
    op.graph.insert(new, op)
    op.set_operand(index, new.result)
    if old.op is not None:
        erase_dead(old.op)

"""Bias correction: what rounded weights add to the mean of each channel is taken off its bias (Nagel et al. 2019, section 4.2).

The error of a weight times the mean of what it is multiplied with is the same for every input, so it can be known beforehand.
Where data are mostly positive, as behind a Relu, that is most of what rounding weights does to an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from irc.ir import DType, Op, Tensor, TensorType, Use, Value, constant_op, make, via

from ..precise import Floats
from .integers import IntegerWeights
from .narrowing import put_after
from .sites import Site

BY = "correct-biases"


def correct_biases(
    chosen: Iterable[Site], weights: Mapping[Value, IntegerWeights], means: Mapping[Value, Floats]
) -> dict[Site, Floats]:
    """Take what `weights` instead of the constants in the graph add to the mean of each channel off its bias, in place.

    `means` has for the data of sites the mean of each index of their `data_axis`. The sites stay sites. Returns what was added,
    f64 by channel; a site whose data or weights are not given, or to whose result nothing can be added, stays as it is.
    """
    added: dict[Site, Floats] = {}
    for site in chosen:
        shift = _shift(site, weights, means)
        if shift is not None and shift.any() and add_to_bias(site, -shift):
            added[site] = -shift
    return added


def _shift(site: Site, weights: Mapping[Value, IntegerWeights], means: Mapping[Value, Floats]) -> Floats | None:
    constant, stored, mean = site.weights.constant, weights.get(site.weights), means.get(site.data)
    if constant is None or stored is None or mean is None or not np.isfinite(mean).all():
        return None
    return expected(site, stored.values - constant.array.astype(np.float64), mean)


def expected(site: Site, weights: Floats, mean: Floats) -> Floats | None:
    """The mean of each channel of a site's product with `weights` (stored as the site's) of data with this `mean`.

    None for weights that are a stack of matrices. Data beyond the borders of an image count as those within.
    """
    op = site.op
    if op.is_a("MatMul"):
        return mean @ weights if weights.ndim == 2 else None
    if op.is_a("Gemm"):
        alpha = op.attributes.get("alpha", 1.0)
        return (weights @ mean if op.integer("transB", 0) else mean @ weights) * (alpha if isinstance(alpha, float) else 1.0)
    taps = weights.reshape(*weights.shape[:2], -1).sum(axis=2)
    groups = op.integer("group", 1)
    grouped = mean.reshape(groups, -1)
    if op.is_a("Conv"):
        return np.einsum("goi,gi->go", taps.reshape(groups, -1, taps.shape[1]), grouped).reshape(-1)
    strides = op.integers("strides") or (1,)
    sums = np.einsum("gio,gi->go", taps.reshape(groups, -1, taps.shape[1]), grouped).reshape(-1)
    return sums / float(np.prod(strides))


def add_to_bias(site: Site, numbers: Floats) -> bool:
    """Add a number to each channel of a site's result, where that has or can have a constant bias; whether that was done.

    A MatMul without an Add of a constant behind it gets one.
    """
    op = site.op
    if op.is_a("MatMul"):
        return _add_behind(op, numbers)
    bias = op.operand(2)
    beta = op.attributes.get("beta", 1.0) if op.is_a("Gemm") else 1.0
    if (bias is not None and bias.constant is None) or not beta:
        return False
    before = np.zeros(1) if bias is None or bias.constant is None else bias.constant.array.astype(np.float64)
    new = _constant(op, before + numbers / (beta if isinstance(beta, float) else 1.0))
    if len(op.operands) > 2:
        op.set_operand(2, new)
    else:
        op.operands.append(new)
        new.uses[Use(op, 2)] = None
    return True


def _add_behind(op: Op, numbers: Floats) -> bool:
    user = op.result.users[0] if op.result.has_one_use and op.result.users else None
    if user is not None and user.is_a("Add") and user.graph is op.graph:
        index = 1 if user.operands[0] is op.result else 0
        bias = user.constant_operand(index)
        if bias is not None and bias.shape in ((), (1,), numbers.shape) and user.result.type == op.result.type:
            user.set_operand(index, _constant(op, bias.array.astype(np.float64) + numbers))
            return True
    if not isinstance(op.result.type, TensorType) or op.result.type.dtype is not DType.F32:
        return False
    uses = list(op.result.uses)
    added = make("Add", [op.result, _constant(op, numbers)], via(BY, op.location))
    added.result.name, op.result.name = op.result.name, ""
    put_after(op.result, added)
    for user, index in uses:
        if isinstance(user, Op):
            user.set_operand(index, added.result)
        else:
            user.set_output(index, added.result)
    return True


def _constant(op: Op, numbers: Floats) -> Value:
    assert op.graph is not None
    return op.graph.insert(constant_op(Tensor.from_array(numbers.astype(np.float32)), via(BY, op.location)), op).result

"""Adaptive rounding: weights are rounded up or down together, so that what they are multiplied with hides the error.

For data x with covariance C, the mean squared error of a row of weights is d C d, where d is what rounding did to it; rounding
each to the nearest leaves the least d d instead. The task is AdaRound's (Nagel et al. 2020, equation 13); it is solved by
coordinate descent over all integers, as QuantEase does (Behdin et al. 2023), which needs nothing of the data but C.
Law: no round leaves more error than it found; neighbours that are held together stay so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..precise import Floats
from .integers import ANY_TOGETHER, LARGEST, IntegerWeights, Number
from .sites import Site

ROUNDS = 4
"""After which descent gains little."""
_BLOCK = 32
"""Coordinates whose changes are gathered before they are told to all others, in one product of matrices."""


def covariance(gram: Floats, mean: Floats, count: float) -> Floats:
    """The covariance [C,C] of data of which `gram` is the sum of all x x' over `count` samples, and `mean` [C] their mean."""
    return gram / count - np.outer(mean, mean)


def rounded_weights(site: Site, nearest: IntegerWeights, spread: Floats) -> IntegerWeights:
    """The constant weights of a site, of which `nearest` is, rounded for data whose indices of `data_axis` have a covariance.

    Scales stay. Each tap of a filter is rounded by itself, as if data at different places had nothing to do with one another.
    Where weights sum over other than the data's indices, one by one in a depthwise convolution, they are the nearest integers.
    """
    constant, channel, summed = site.weights.constant, site.channel_axis, site.summed_axis
    assert constant is not None
    if channel is None or constant.shape[summed] != len(spread) or len(spread) < 2:
        return nearest
    order = (*(axis for axis in range(len(constant.shape)) if axis not in (channel, summed)), channel, summed)
    scaled = constant.array.astype(np.float64) / nearest.along_axis(nearest.scales.astype(np.float64))
    wanted = scaled.transpose(order).reshape(-1, len(spread))
    steps = nearest.steps.transpose(order)
    best = descend(wanted, steps.reshape(-1, len(spread)), spread, together=nearest.together).reshape(steps.shape)
    return replace(nearest, steps=np.ascontiguousarray(best.transpose(np.argsort(order))))


def descend(
    wanted: Floats, steps: npt.NDArray[np.int8], spread: Floats, rounds: int = ROUNDS, together: int = ANY_TOGETHER
) -> npt.NDArray[np.int8]:
    """Integers [R,C] near `wanted` [R,C] with less (steps - wanted) spread (steps - wanted)' in each row than `steps` has.

    Neighbours are held `together`, as they are in `steps`.
    """
    matrix = np.ascontiguousarray(spread, np.float32)
    variances = np.diag(matrix)  # one that is no number of f32 is none
    found = np.ascontiguousarray(steps.T, np.float32)
    slopes = matrix @ (found - wanted.T.astype(np.float32))
    for _ in range(rounds):
        is_better = False
        for start in range(0, len(spread), _BLOCK):
            part = slice(start, start + _BLOCK)
            own, before, inner = slopes[part].copy(), found[part].copy(), matrix[part, part]
            for index, old in enumerate(before):
                variance = variances[start + index]
                if variance <= 0:
                    continue
                least, most = _limits(found, start + index, together)
                new = np.clip(np.rint(old - own[index] / variance), least, most)
                found[start + index] = new
                own[index + 1 :] += np.outer(inner[index, index + 1 :], new - old)
            changes = found[part] - before
            if changes.any():
                is_better = True
                slopes += matrix[:, part] @ changes
        if not is_better:
            break
    return np.ascontiguousarray(found.T).astype(np.int8)


def _limits(
    found: npt.NDArray[np.float32], index: int, together: int
) -> tuple[npt.NDArray[np.float32] | int, npt.NDArray[np.float32] | int]:
    """The least and the greatest steps at an index of `found` [C,R], beside which its neighbour's are."""
    beside = index ^ 1
    if together >= ANY_TOGETHER or beside >= len(found):
        return -LARGEST, LARGEST
    other = found[beside]
    return np.maximum(-LARGEST, -together - np.minimum(other, 0)), np.minimum(LARGEST, together - np.maximum(other, 0))


def loss(wanted: Floats, steps: npt.NDArray[Number], spread: Floats) -> Floats:
    """The mean squared error [R] of rows of integers in place of `wanted`, in steps, on data with this covariance."""
    left = steps.astype(np.float64) - wanted
    return np.einsum("ri,ij,rj->r", left, spread, left, optimize=True)

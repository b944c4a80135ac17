"""Balance between data and weights: (x / s) (s w) = x w, with s chosen so that rounding both to 8 bits errs least.

Data have one scale for all channels, weights one for each channel of the output. A channel of large data wastes the steps of
all others; making it smaller makes its weights larger, which wastes theirs. The family s = a^p / b^(1-p) of SmoothQuant (Xiao
et al. 2022, equation 4), with a and b the largest number of a channel in data and weights, holds cross-layer equalization
(Nagel et al. 2019, equation 11: p = 1/2). The power is the one of the least expected error; where none helps, nothing changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from irc.ir import Value, dims

from ..precise import Floats

POWERS = (0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)
WORTHWHILE = 0.7
"""The share of the expected error that a balance may leave, to be worth it."""
DATA_STEPS, WEIGHT_STEPS = 255, 127
_PEAK = 4.0
"""The largest number of a channel, in standard deviations, where nothing better is known."""
OUTLYING = 3.0
"""How many times as far as is usual a channel has to reach to be one of outliers."""
FEWEST = 16
"""Numbers of a channel in one input, below which nothing is balanced."""
LARGEST_FACTOR = 1e4
"""Beyond which numbers of one channel are too far from those of others to be trusted."""


@dataclass(frozen=True)
class Reader:
    """The weights [C, outputs, taps] that C channels of data are multiplied with; in a depthwise one, each has its own."""

    weights: Floats
    is_depthwise: bool = False

    @property
    def largest(self) -> Floats:
        """The largest weight of each channel of data [C]."""
        return np.abs(self.weights).max(axis=(1, 2))

    def error(self, own: Floats, step: float, squares: Floats) -> float:
        """Twelve times the expected squared error of all products, with data of mean squares `squares` divided by `own`."""
        scaled = self.weights * own[:, None, None]
        of_data = step**2 * float(np.square(scaled).sum())
        if self.is_depthwise:
            return of_data  # a channel's own scale takes whatever factor it gets
        steps = np.abs(scaled).max(axis=(0, 2)) / WEIGHT_STEPS
        return of_data + float(np.square(steps).sum()) * scaled.shape[2] * float((squares / own**2).sum())


def factors(extremes: Floats, readers: Sequence[Reader], squares: Floats | None = None) -> Floats | None:
    """What data channels [C] should be divided by, or None where nothing is worth it.

    `extremes` [C] are the largest absolute numbers of the channels, `squares` [C] their mean squares. `readers` are all that
    the data are multiplied with.
    """
    if not readers or not np.isfinite(extremes).all() or not (extremes > 0).any():
        return None
    spread = np.square(extremes / _PEAK) if squares is None else squares
    largest = np.max([reader.largest for reader in readers], axis=0)

    def error(own: Floats) -> float:
        step = 2 * float((extremes / own).max()) / DATA_STEPS
        return sum(reader.error(own, step, spread) for reader in readers)

    found = [_factors(extremes, largest, power) for power in POWERS]
    errors = [error(own) for own in found]
    best = int(np.argmin(errors))
    return found[best] if errors[best] < WORTHWHILE * error(np.ones(len(extremes))) else None


def is_short(value: Value, axis: int) -> bool:
    """Whether an input has so few numbers of each channel that a few inputs do not tell how far channels reach."""
    count = dims.product(size for index, size in enumerate(value.shape or ()) if index != axis)
    return isinstance(count, int) and count < FEWEST


def steady(extremes: Floats, squares: Floats) -> Floats:
    """The largest numbers [C] to expect of channels of like distribution: as many deviations from zero as is usual among them.

    Which of them has had a larger number yet is luck, and data made to fit that are cut off by the next input. Channels that
    reach `OUTLYING` times as far are believed.
    """
    deviations = np.sqrt(squares)
    used = deviations > 0
    usual = float(np.median(extremes[used] / deviations[used])) if used.any() else 0.0
    return np.where(extremes > OUTLYING * usual * deviations, extremes, usual * deviations)


def _factors(extremes: Floats, largest: Floats, power: float) -> Floats:
    """Positive, with the geometric mean 1; 1 for channels that are always 0 or that nothing reads."""
    used = (extremes > 0) & (largest > 0)
    own = np.ones(len(extremes))
    own[used] = extremes[used] ** power / largest[used] ** (1 - power)
    own[used] /= np.exp(np.log(own[used]).mean()) if used.any() else 1.0
    return np.clip(own, 1 / LARGEST_FACTOR, LARGEST_FACTOR)

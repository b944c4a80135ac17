"""Ranges of values, and the 256 steps that stand for them: step 0 of the scale is exact, so that zeros stay zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from irc.ir import UsageError

STEPS = 255
"""From the smallest to the largest number of 8 bits."""
SMALLEST_SCALE = 1e-30
"""Below it, quotients by a scale overflow or lose digits."""


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; both are moved, where they have to be, so that zero is among them.

    Raises UsageError for bounds that are not finite or not in order.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise UsageError(f"a range ends at {self.low} and {self.high}, which are not both finite")
        if self.low > self.high:
            raise UsageError(f"a range from {self.low} to {self.high} is empty")
        object.__setattr__(self, "low", min(float(self.low), 0.0))
        object.__setattr__(self, "high", max(float(self.high), 0.0))

    @property
    def width(self) -> float:
        """How far it reaches."""
        return self.high - self.low

    def union(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))

    def scale_and_zero(self) -> tuple[np.float32, np.uint8]:
        """The size of a step and the step that is 0, for u8: x stands as round(x / scale) + zero (Jacob et al. 2018)."""
        if not self.width:
            return np.float32(1.0), np.uint8(0)
        scale = max(self.width / STEPS, SMALLEST_SCALE)
        return np.float32(scale), np.uint8(np.clip(round(-self.low / scale), 0, STEPS))

"""Whether one contestant is faster than another: said only when a test that assumes no distribution says so."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from .strict_json import Json

SMALLEST_DIFFERENCE = 0.02
"""Ratios nearer to 1 than this are no difference, however certain."""
FEWEST_ROUNDS = 4
"""Below this many paired rounds nothing is said: even unanimous ones agree by chance too often."""
_AGREEING = 0.8
_RESAMPLES = 2000


class Verdict(Enum):
    """What a comparison comes to; the value is how it is printed."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference beyond noise"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One contestant against a baseline, by paired rounds.

    `ratio` is the median of baseline time / contestant time, above 1 where the contestant is faster; `low` and `high`
    bound it with 95 % confidence.
    """

    name: str
    baseline: str
    ratio: float
    low: float
    high: float
    verdict: Verdict

    def __str__(self) -> str:
        if self.verdict is Verdict.SAME:
            return f"{self.name} against {self.baseline}: {self.verdict.value}"
        times = self.ratio if self.verdict is Verdict.FASTER else 1 / self.ratio
        return f"{self.name} is {times:.2f} times {self.verdict.value} than {self.baseline}"

    def to_json(self) -> Json:
        """The comparison as JSON."""
        numbers: dict[str, Json] = {"ratio": self.ratio, "low": self.low, "high": self.high}
        return {"name": self.name, "baseline": self.baseline, **numbers, "verdict": self.verdict.value}


def compare(name: str, times: Sequence[float], baseline: str, baseline_times: Sequence[float], seed: int = 0) -> Comparison:
    """Compare two contestants' rounds, paired in the order they were measured; any unit of time, the same for both.

    Faster or slower needs three things: at least four of five rounds agree (and there are at least four), a bootstrap
    95 % confidence interval of the median ratio excludes 1, and the ratio differs from 1 by more than 2 %.
    Raises ValueError unless there are as many rounds of one as of the other, and at least one.
    """
    if not times or len(times) != len(baseline_times):
        raise ValueError(f"rounds cannot be paired: {len(times)} of {name}, {len(baseline_times)} of {baseline}")
    ratios = np.asarray(baseline_times, np.float64) / np.asarray(times, np.float64)
    ratio = statistics.median(map(float, ratios))
    draws = np.random.default_rng(seed).integers(0, len(ratios), (_RESAMPLES, len(ratios)))
    low, high = (float(each) for each in np.quantile(np.median(ratios[draws], axis=1), (0.025, 0.975)))
    return Comparison(name, baseline, ratio, low, high, _verdict(ratios, ratio, low, high))


def _verdict(ratios: np.ndarray[tuple[int, ...], np.dtype[np.float64]], ratio: float, low: float, high: float) -> Verdict:
    if len(ratios) < FEWEST_ROUNDS or abs(ratio - 1) <= SMALLEST_DIFFERENCE or low <= 1 <= high:
        return Verdict.SAME
    agreeing = float(np.mean(ratios > 1 if ratio > 1 else ratios < 1))
    if agreeing < _AGREEING:
        return Verdict.SAME
    return Verdict.FASTER if ratio > 1 else Verdict.SLOWER

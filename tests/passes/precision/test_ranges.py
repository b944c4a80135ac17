"""Ranges and their steps: zero is exact, both ends are about where they were, and what is no range is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irc.ir import UsageError
from irc.passes import Range

BOUNDS = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(low=BOUNDS, high=BOUNDS)
def test_zero_is_a_step_and_the_ends_are_within_a_step(low: float, high: float) -> None:
    found = Range(min(low, high), max(low, high))
    scale, zero = found.scale_and_zero()
    assert found.low <= 0 <= found.high
    assert (scale.dtype, zero.dtype) == (np.float32, np.uint8)
    assert scale > 0
    smallest, largest = (0 - int(zero)) * float(scale), (255 - int(zero)) * float(scale)
    slack = 0.5001 * float(scale)
    assert smallest - slack <= found.low
    assert largest + slack >= found.high


def test_what_is_never_negative_has_all_its_steps_above_zero() -> None:
    scale, zero = Range(1.0, 5.1).scale_and_zero()
    assert zero == 0
    assert scale == np.float32(0.02)


def test_what_is_always_zero_has_steps_too() -> None:
    assert Range(0.0, 0.0).scale_and_zero() == (1.0, 0)


def test_ranges_unite() -> None:
    assert Range(-1.0, 2.0).union(Range(0.5, 3.0)) == Range(-1.0, 3.0)


@pytest.mark.parametrize(("low", "high"), [(math.nan, 1.0), (0.0, math.inf), (2.0, 1.0)])
def test_what_is_no_range_is_refused(low: float, high: float) -> None:
    with pytest.raises(UsageError, match="a range"):
        Range(low, high)

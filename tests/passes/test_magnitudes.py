"""How large the elements of weights are: exactly, or at a glance, for all the float dtypes that weights have."""

from __future__ import annotations

import math

import numpy as np
import pytest

from irc.ir import DType, Tensor
from irc.passes.rules.magnitudes import glance, magnitude

FLOATS = (DType.F16, DType.BF16, DType.F32, DType.F64)


def weight(numbers: object, dtype: DType = DType.F32) -> Tensor:
    return Tensor.from_array(np.asarray(numbers, np.float64).astype(dtype.numpy), dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.text)
def test_a_magnitude_is_the_largest_absolute_value(dtype: DType) -> None:
    assert magnitude(weight([[0.25, -3.0], [1.5, -0.0]], dtype)) == 3.0
    assert magnitude(weight([[0.25, 5.0], [1.5, -4.0]], dtype)) == 5.0
    assert magnitude(weight([[-0.0, 0.0]], dtype)) == 0.0


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.text)
def test_a_glance_is_never_below_the_magnitude(dtype: DType) -> None:
    rng = np.random.default_rng(0)
    for spread in (1e-3, 0.3):
        one = weight(rng.uniform(-spread, spread, (7, 300)), dtype)
        assert magnitude(one) <= glance(one) < 2.0


def test_a_glance_may_say_nothing_where_the_magnitude_is_known() -> None:
    one = weight([2.0, 1.5])
    assert not glance(one) < math.inf
    assert magnitude(one) == 2.0


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.text)
@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_is_below_nothing(number: float, dtype: DType) -> None:
    one = weight([1.0, number, 0.5], dtype)
    assert not magnitude(one) < math.inf
    assert not glance(one) < math.inf


def test_a_transposed_view_is_read_where_it_lies() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert magnitude(Tensor.view(array.T, DType.F32)) == 5.0


def test_an_empty_weight_has_no_large_elements() -> None:
    empty = weight(np.zeros((0, 3)))
    assert magnitude(empty) == 0.0
    assert glance(empty) == 0.0


def test_a_long_weight_is_read_to_its_end() -> None:
    numbers = np.full(200_001, 0.5)
    numbers[-1] = -7.0
    assert magnitude(weight(numbers)) == 7.0

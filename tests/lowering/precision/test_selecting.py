"""Selections: the best saving for the error first, within a bound for the root of the sum of squares."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import inf, sqrt

import numpy as np

from irc.lowering.precision.selecting import Option, saved_by, select
from irc.passes.precision import Form


def option(pattern: str, saved: float, error: float, form: Form = Form.INT8) -> Option:
    """An option of a pattern that takes 10 ms in f32."""
    return Option(pattern, form, saved, error, 10.0)


def test_what_does_not_pay_is_not_taken() -> None:
    assert select([option("a", -1.0, 0.0), option("b", 0.1, 0.0)], 1.0) == {}


def test_errors_add_up_as_squares() -> None:
    both = [option("a", 1.0, 3e-3), option("b", 1.0, 4e-3)]
    assert select(both, 5.1e-3).keys() == {"a", "b"}
    assert select(both, 4.9e-3).keys() == {"a"}


def test_the_best_saving_for_the_error_comes_first() -> None:
    options = [option("a", 5.0, 4e-3), option("b", 4.0, 2e-3), option("c", 4.0, 2e-3)]
    assert select(options, 3e-3).keys() == {"b", "c"}


def test_a_pattern_goes_on_to_a_form_that_saves_more() -> None:
    options = [option("a", 2.0, 1e-3, Form.BF16), option("a", 4.0, 8e-3)]
    assert select(options, 2e-3)["a"].form is Form.BF16
    assert select(options, 1e-2)["a"].form is Form.INT8


def test_an_error_that_is_not_known_is_taken_for_a_share_of_the_whole() -> None:
    options = [replace(option("a", 4.0, inf), share=3e-3), replace(option("b", 4.0, 1e-3), share=3e-3)]
    assert select(options, 2e-3).keys() == {"b"}
    assert select(options, 3.2e-3).keys() == {"a", "b"}


def test_an_error_that_is_not_known_fits_no_bound() -> None:
    assert select([option("a", 5.0, inf)], 1.0) == {}


def test_it_is_near_the_best_there_is() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        several: dict[str, list[Option]] = {}
        for name in "abcdef":
            saved, errors = generator.uniform(0.5, 5, 2), generator.uniform(1e-4, 1e-2, 2)
            pairs = zip(saved.tolist(), errors.tolist(), (Form.BF16, Form.INT8), strict=True)
            several[name] = [option(name, *each) for each in pairs]
        bound = 1e-2
        taken = select([each for both in several.values() for each in both], bound)
        assert sqrt(sum(each.error**2 for each in taken.values())) <= bound
        best = max(
            sum(each.saved for each in choice if each)
            for choice in product(*((None, *both) for both in several.values()))
            if sum(each.error**2 for each in choice if each) <= bound**2
        )
        assert saved_by(taken) >= 0.75 * best

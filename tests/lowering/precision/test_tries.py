"""Which of several programs is kept: within the bound, and by time where there are times."""

from __future__ import annotations

from typing import Any, cast

import pytest

from irc.lowering.precision.judge import Judged
from irc.lowering.precision.tries import Try, chosen


def tried(name: str, loss: float, milliseconds: float | None = None) -> Try:
    """A program of which nothing but its name, its loss and its time counts."""
    times = () if milliseconds is None else tuple([milliseconds] * 8)
    return Try(name, cast("Any", None), Judged(loss, loss), 1, times)


@pytest.mark.parametrize(
    ("tries", "by_speed_alone", "kept"),
    [
        ([tried("int8", 1e-3, 1.0), tried("f32", 0.0, 2.0)], True, "int8"),
        ([tried("int8", 1e-3, 2.0), tried("f32", 0.0, 1.0)], True, "f32"),
        ([tried("int8", 1e-3, 2.0), tried("f32", 0.0, 1.0)], False, "f32"),
        ([tried("int8", 1e-3, 1.0), tried("f32", 0.0, 1.01)], True, "f32"),
        ([tried("int8", 1e-3, 1.0), tried("f32", 0.0, 1.01)], False, "int8"),
        ([tried("int8", 1e-3, 1.01), tried("f32", 0.0, 1.0)], False, "int8"),
        ([tried("int8", 1.0, 1.0), tried("f32", 0.0, 2.0)], False, "f32"),
        ([tried("int8", 1e-3), tried("f32", 0.0)], False, "int8"),
        ([tried("int8", 1.0), tried("f32", 0.2)], False, "f32"),
    ],
    ids=[
        "faster",
        "slower",
        "slower, though asked for by name",
        "no faster beyond noise",
        "no slower, and asked for by name",
        "no slower beyond noise, and asked for by name",
        "out of bounds",
        "not timed",
        "nothing within the bound",
    ],
)
def test_which_is_kept(tries: list[Try], by_speed_alone: bool, kept: str) -> None:
    found, fates = chosen(tries, 1e-2, by_speed_alone=by_speed_alone)
    assert found.name == kept
    assert fates[kept] == "kept"


def test_why_the_others_are_not() -> None:
    _, fates = chosen([tried("int8", 1.0, 1.0), tried("bf16", 1e-3, 3.0), tried("f32", 0.0, 2.0)], 1e-2, by_speed_alone=True)
    assert fates == {"int8": "1.0e+00 is beyond the bound of 1.0e-02", "bf16": "slower", "f32": "kept"}

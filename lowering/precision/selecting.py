"""Which of many options to take under one bound: the best saving for the error first, errors adding up as squares.

Errors of different places point in about independent directions, so that their squares add up; what that misses is found when
the whole is measured, and the bound is tightened.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from irc.passes.precision import Form

WORTHWHILE = 0.02
"""The share of what a pattern takes in f32 that another form has to save, so that it is more than noise."""

LITTLE = 0.25
"""The share of what a pattern takes in f32 that a form may take more, so that its neighbours need no conversion."""


@dataclass(frozen=True)
class Option:
    """A form for all sites of a pattern: milliseconds that it saves, of `whole` in f32, and the error that it alone makes.

    `conversions` are the kernels that do nothing but convert for it. An error that is not known is infinite, and `share` what
    it is taken for: a share of what the form makes everywhere.
    """

    pattern: str
    form: Form
    saved: float
    error: float
    whole: float = 0.0
    conversions: int = 0
    share: float = inf

    @property
    def expected(self) -> float:
        """The error, or what it is taken for."""
        return self.share if self.error == inf else self.error

    @property
    def pays(self) -> bool:
        """Whether it saves more than noise."""
        return self.saved > max(WORTHWHILE * self.whole, 0.0)


def select(options: Iterable[Option], bound: float) -> dict[str, Option]:
    """The option for each pattern that gets one, by pattern, of those that pay; together within `bound`.

    One step after another is taken, from f32 or from what was taken before, that saves most for the square of the error that it
    adds, as long as one fits.
    """
    paying = [each for each in options if each.pays]
    taken: dict[str, Option] = {}
    total = 0.0
    while True:
        steps = [(each, *_step(each, taken)) for each in paying]
        fitting = [
            (rate, each, added)
            for each, saved, added in steps
            if saved > 0 and total + added <= bound * bound
            for rate in (saved / added if added > 0 else inf,)
        ]
        if not fitting:
            return taken
        _, best, added = max(fitting, key=lambda each: (each[0], each[1].saved, each[1].pattern))
        taken[best.pattern] = best
        total += added


def _step(option: Option, taken: Mapping[str, Option]) -> tuple[float, float]:
    """What an option saves beyond what its pattern has, and the square of the error that it adds."""
    before = taken.get(option.pattern)
    if before is None:
        return option.saved, option.expected**2
    return option.saved - before.saved, option.expected**2 - before.expected**2


def fastest(options: Iterable[Option]) -> dict[str, Option]:
    """The option of each pattern that saves most, of those that pay, whatever error they make."""
    taken: dict[str, Option] = {}
    for each in options:
        if each.pays and (each.pattern not in taken or each.saved > taken[each.pattern].saved):
            taken[each.pattern] = each
    return taken


def with_neighbours(taken: Mapping[str, Option], options: Iterable[Option]) -> dict[str, Option]:
    """A selection with the form that most of it has also where that costs little: what is between needs no conversion then."""
    forms = [each.form for each in taken.values()]
    usual = max(forms, key=forms.count, default=None)
    more = {each.pattern: each for each in options if each.form is usual and each.saved > -LITTLE * each.whole}
    return {**more, **taken}


def saved_by(taken: Mapping[str, Option]) -> float:
    """Milliseconds that a selection saves."""
    return sum(each.saved for each in taken.values())

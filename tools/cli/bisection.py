"""Finding the first step of a compilation that makes a program bad: a rewrite, a form of the engine or its optimization.

A step is found by halving, so that of n steps about log2(n) are tried. Where badness comes and goes, halving still ends at a
step that brings it, and a few more trials say that it is not the only one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from irc.runtime import OptionValue

LEVELS = ("disable", "basic", "extended", "all")
"""The engine's levels of optimization, each of which includes the one before."""
SPOT_CHECKS = 3


@dataclass(frozen=True)
class Trial:
    """One way to compile: after how many rewrites to stop, settings of the engine beside the usual ones, forms left out."""

    rewrites: int
    settings: Mapping[str, OptionValue] = field(default_factory=dict[str, "OptionValue"])
    disabled: tuple[str, ...] = ()


class Judge(Protocol):
    """Says what is wrong with a program."""

    def symptom(self, trial: Trial) -> str | None:
        """What is wrong, as a clause; None where nothing is."""
        ...


@dataclass(frozen=True)
class Optimizations:
    """What the engine may do: its `level`, the optimizations that are `disabled` anyway, and which of them change a program.

    `active` names those that change the program of a trial, in the order in which they run; `forms` the rewrites by which
    ops are said as the engine runs them fastest.
    """

    level: str
    disabled: tuple[str, ...]
    active: Callable[[Trial], Sequence[str]]
    forms: Callable[[Trial], Sequence[str]] = lambda trial: ()


@dataclass(frozen=True)
class Step:
    """A step that makes the program bad: `good` is the trial without it, `bad` with it, `symptom` what is wrong then.

    `rewrite` is the number of the rewrite, or None for a `form` of the engine or an optimization of it, which `optimizer` names
    as far as it is known (`level` at least). `alone` is False where badness comes and goes with other steps as well.
    """

    good: Trial
    bad: Trial
    symptom: str
    rewrite: int | None = None
    level: str = ""
    optimizer: str = ""
    form: str = ""
    alone: bool = True


@dataclass(frozen=True)
class Found:
    """What a search came to: the steps that together make the program bad, or none where it is bad with nothing done to it."""

    symptom: str
    steps: tuple[Step, ...]


def search(judge: Judge, total: int, engine: Optimizations) -> Found | None:
    """The steps that make the program of `total` rewrites and the engine's optimizations bad; None where it is good."""
    off: dict[str, OptionValue] = {"optimization": LEVELS[0]}
    symptom = judge.symptom(Trial(total))
    if symptom is None:
        return None
    form = _first_form(judge, total, engine)
    if form is not None:
        return Found(symptom, (form,))
    if engine.level == LEVELS[0] or judge.symptom(Trial(total, off)) is not None:
        if judge.symptom(Trial(0, off)) is not None:
            return Found(symptom, ())
        return Found(symptom, (_first_rewrite(judge, total, off),))
    if judge.symptom(Trial(0)) is not None:
        return Found(symptom, (_first_optimization(judge, 0, engine),))
    # Neither the rewrites nor the engine alone: the engine errs on what a rewrite has made.
    step = _first_rewrite(judge, total, {})
    assert step.rewrite is not None
    return Found(symptom, (step, _first_optimization(judge, step.rewrite, engine)))


def search_speed(by_rewrites: Judge, by_engine: Judge, total: int, engine: Optimizations) -> Found | None:
    """The same for speed: one judge compares with the program as captured, the other with the engine's optimizations off."""
    symptom = by_rewrites.symptom(Trial(total)) if total else None
    if symptom is not None:
        return Found(symptom, (_first_rewrite(by_rewrites, total, {}),))
    symptom = by_engine.symptom(Trial(total)) if engine.level != LEVELS[0] else None
    if symptom is not None:
        return Found(symptom, (_first_optimization(by_engine, total, engine),))
    return None


def _first_rewrite(judge: Judge, total: int, settings: Mapping[str, OptionValue]) -> Step:
    symptoms: dict[int, str | None] = {}

    def is_bad(count: int) -> bool:
        symptoms[count] = judge.symptom(Trial(count, settings))
        return symptoms[count] is not None

    first, alone = first_bad(total, is_bad)
    return Step(Trial(first - 1, settings), Trial(first, settings), symptoms.get(first) or "", first, alone=alone)


def _first_form(judge: Judge, total: int, engine: Optimizations) -> Step | None:
    """The first form that makes the program bad; None where it is bad without any, or cannot be run without them."""
    names = tuple(engine.forms(Trial(total)))
    symptoms: dict[int, str | None] = {}

    def cut(count: int) -> Trial:
        """The trial in which only the first `count` forms are used."""
        return Trial(total, disabled=names[count:])

    def is_bad(count: int) -> bool:
        symptoms[count] = judge.symptom(cut(count))
        return symptoms[count] is not None

    if not names or is_bad(0):
        return None
    first, alone = first_bad(len(names), is_bad)
    return Step(cut(first - 1), cut(first), symptoms.get(first) or "", form=names[first - 1], alone=alone)


def _first_optimization(judge: Judge, rewrites: int, engine: Optimizations) -> Step:
    levels = LEVELS[: LEVELS.index(engine.level) + 1] if engine.level in LEVELS else LEVELS
    trials = [Trial(rewrites, {"optimization": each}) for each in levels]
    index, alone = first_bad(len(levels) - 1, lambda i: judge.symptom(trials[i]) is not None)
    bad = trials[index]
    symptom = judge.symptom(bad) or ""
    names = list(engine.active(bad))

    def cut(count: int) -> Trial:
        """The trial in which only the first `count` optimizations are on."""
        return Trial(rewrites, {**bad.settings, "disabled_optimizers": (*engine.disabled, *names[count:])})

    if not names or judge.symptom(cut(0)) is not None:
        return Step(trials[index - 1], bad, symptom, level=levels[index], alone=alone)
    last, only = first_bad(len(names), lambda count: judge.symptom(cut(count)) is not None)
    return Step(cut(last - 1), cut(last), symptom, level=levels[index], optimizer=names[last - 1], alone=alone and only)


def first_bad(last: int, is_bad: Callable[[int], bool]) -> tuple[int, bool]:
    """The index of 1 to `last` where badness begins, and whether it seems to begin there alone.

    0 is known to be good and `last` to be bad. Where a spot check finds badness before it, that beginning is looked for.
    """
    known = {0: False, last: True}

    def ask(index: int) -> bool:
        if index not in known:
            known[index] = is_bad(index)
        return known[index]

    alone, low, high = True, 0, last
    while True:
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if ask(middle) else (middle, high)
        is_bad(high)  # once more, so that what is known of it is what was seen last
        before = [index for index in _spots(0, low) if ask(index)]
        if not before:
            return high, alone and all(ask(index) for index in _spots(high, last))
        alone, low, high = False, 0, min(before)


def _spots(low: int, high: int) -> list[int]:
    """A few indices strictly between two others."""
    inner = range(low + 1, high)
    return (
        [inner[len(inner) * (i + 1) // (SPOT_CHECKS + 1)] for i in range(SPOT_CHECKS)] if len(inner) > SPOT_CHECKS else [*inner]
    )

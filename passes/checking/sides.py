"""Both sides of a region, run by the reference, and whether what is between their results is more than rounding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from irc.ir import EvaluationError, Evaluator, Graph

from ..base import Contract
from ..integer_sums import moved_half_a_step
from .feeds import Feed
from .judging import (
    ERROR_GROWTH,
    SENSITIVITY,
    WIDE_TOLERANCE,
    Array,
    Gap,
    apart,
    bits_apart,
    narrowed,
    nudged,
    tolerance,
    widened,
)
from .pinning import pin
from .regions import Region


class Sides:
    """Both sides of a region, ready to run: in one session where it can be had, else apart."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._count = len(region.old)
        self._wide: dict[int, Evaluator | EvaluationError] = {}
        self._pinned: dict[int, Evaluator | EvaluationError] = {}
        self._new: tuple[Mapping[str, Any], list[Any]] | None = None
        self._alone: tuple[Evaluator | EvaluationError, Evaluator | EvaluationError] | None = None
        self._both: Evaluator | None = None
        try:
            self._both = Evaluator(region.program((region.old, region.new)))
        except EvaluationError:
            self._alone = self._apart()

    def _apart(self) -> tuple[Evaluator | EvaluationError, Evaluator | EvaluationError]:
        return _evaluator(self._region.program((self._region.old,))), _evaluator(self._region.program((self._region.new,)))

    def old(self, arrays: Mapping[str, Any]) -> list[Any]:
        """The old side on `arrays`. Raises EvaluationError."""
        self._new = None
        if self._both is not None:
            try:
                results = self._both.run(arrays)
            except EvaluationError:
                if self._alone is None:
                    self._alone = self._apart()
            else:
                self._new = (arrays, results[self._count :])
                return results[: self._count]
        assert self._alone is not None
        return _run(self._alone[0], arrays)

    def new(self, arrays: Mapping[str, Any]) -> list[Any]:
        """The new side on the arrays the old one was just run on. Raises EvaluationError."""
        if self._new is not None and self._new[0] is arrays:
            return self._new[1]
        assert self._alone is not None
        return _run(self._alone[1], arrays)

    def gap(self, index: int, wanted: Any, got: Any, feed: Feed, contract: Contract) -> Gap | None:
        """How result `index` differs beyond what the contract allows, or None."""
        if contract is Contract.EXACT:
            return self._bits_apart(index, wanted, got, feed)
        gap = self._gap_beyond_steps(index, wanted, got, feed)
        if gap.distance <= tolerance(wanted):
            return None
        return gap if self._is_no_rounding(index, wanted, got, gap, feed) else None

    def _gap_beyond_steps(self, index: int, wanted: Any, got: Any, feed: Feed) -> Gap:
        """How far result `index` is off, beyond half a step where it is a sum of products of integers.

        Arithmetic on integers holds such sums as multiples of the step, so what is added to them is rounded to one: that is its
        last bit, and below it is only rounding, however large it looks beside a sum that happens to be near 0. In f64 it shows,
        too, as no other rounding does. A gap of a whole step is none of rounding, and is seen.
        """
        maker = self._region.old[index].op
        if maker is not None and isinstance(wanted, np.ndarray) and isinstance(got, np.ndarray):
            got = moved_half_a_step(cast("Array", got), cast("Array", wanted), maker)
        return apart(wanted, got, finite_inputs=not feed.special)

    def _bits_apart(self, index: int, wanted: Any, got: Any, feed: Feed) -> Gap | None:
        """How bits differ that the reference does not leave open."""
        gap = bits_apart(wanted, got)
        if gap is None:
            return None
        try:
            first, second = (self._in_pinned(side, feed) for side in (0, 1))
        except EvaluationError:
            return gap
        return bits_apart(first[index], second[index])

    def _in_pinned(self, side: int, feed: Feed) -> list[Any]:
        if side not in self._pinned:
            program = self._region.program(((self._region.old, self._region.new)[side],))
            pin(program)
            self._pinned[side] = _evaluator(program)
        return _run(self._pinned[side], feed.arrays)

    def _is_no_rounding(self, index: int, wanted: Any, got: Any, gap: Gap, feed: Feed) -> bool:
        """Whether a gap is more than another order of operations may come to.

        Both sides in f64 tell; with only the old side in f64, whether the new one is about as near to it as the old one;
        without either, what the last bits of the inputs do to the old one.
        """
        truth = self._in_f64(0, feed)
        other = self._in_f64(1, feed) if truth is not None else None
        if truth is not None and other is not None:
            return self._gap_beyond_steps(index, truth[index], other[index], feed).distance > WIDE_TOLERANCE
        if truth is not None:
            exact = narrowed(truth[index], wanted)
            mine, its = (self._gap_beyond_steps(index, exact, result, feed).distance for result in (wanted, got))
            return its > max(tolerance(wanted), ERROR_GROWTH * mine)
        if feed.special:
            return True
        moved = self.old({name: nudged(array, seed) for seed, (name, array) in enumerate(feed.arrays.items())})[index]
        return gap.distance > SENSITIVITY * apart(wanted, moved, finite_inputs=True).distance

    def _in_f64(self, side: int, feed: Feed) -> list[Any] | None:
        """The results of one side in f64, or None where there are no such kernels."""
        if not self._region.may_widen:
            return None
        if side not in self._wide:
            self._wide[side] = _evaluator(self._region.program(((self._region.old, self._region.new)[side],), wide=True))
        try:
            return _run(self._wide[side], {name: widened(array) for name, array in feed.arrays.items()})
        except EvaluationError:
            return None


def _evaluator(graph: Graph) -> Evaluator | EvaluationError:
    try:
        return Evaluator(graph)
    except EvaluationError as error:
        return error


def _run(side: Evaluator | EvaluationError, arrays: Mapping[str, Any]) -> list[Any]:
    if isinstance(side, EvaluationError):
        raise side
    return side.run(arrays)

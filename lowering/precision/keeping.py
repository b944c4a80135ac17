"""Whether a compression is kept: where it makes the program faster, or smaller where that is asked for.

Law: what is said was measured, and where nothing was, the report says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from irc.runtime import Comparison, Verdict, compare

from .tries import Try


@dataclass(frozen=True)
class Rule:
    """What is asked for: a `smaller` program as well as a faster one, or never one that is slower than the original."""

    smaller: bool = False
    never_slower: bool = False

    def decide(self, new: Try, best: Try, original: Try, *, saves_work: bool) -> tuple[bool, str]:
        """Whether a program is kept in place of the best so far, and a clause that says why.

        Where they were timed, all three were in the same turns. Else fewer multiply-adds (`saves_work`) stand for time.
        """
        share = 1.0 - new.bytes / max(best.bytes, 1)
        shrinks = self.smaller and share > 0
        if not (new.times and best.times and original.times):
            reason = "fewer multiply-adds" if saves_work else f"{share:.0%} smaller" if shrinks else ""
            return bool(reason), f"{reason or self._nothing('no fewer multiply-adds')}, not timed"
        found = compared(new, best)
        apart = _milliseconds(abs((best.milliseconds or 0.0) - (new.milliseconds or 0.0)))
        if found.verdict is Verdict.FASTER:
            return True, f"{share:.0%} smaller, {apart} faster" if shrinks else f"{apart} faster"
        slower = f"{apart} slower" if found.verdict is Verdict.SLOWER else "no faster beyond noise"
        if not shrinks:
            return False, slower if found.verdict is Verdict.SLOWER else self._nothing(slower)
        if self.never_slower and compared(new, original).verdict is Verdict.SLOWER:
            return False, f"{share:.0%} smaller, but slower than the original"
        return True, f"{share:.0%} smaller, {slower}"

    def _nothing(self, first: str) -> str:
        return f"{first}, and no smaller" if self.smaller else first


def _milliseconds(number: float) -> str:
    return f"{number:.3f} ms" if number >= 0.01 else f"{number:.1g} ms"


def compared(one: Try, other: Try) -> Comparison:
    """How the times of two programs compare."""
    return compare(one.name, one.times, other.name, other.times)


__all__ = ["Rule", "compared"]

"""Programs of different precision, side by side: how far each is off, how long it takes, and which one is kept.

Law: what is kept is within the bound wherever any of them is, and never slower than the program in f32 where both were timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from irc.runtime import (
    Contestant,
    PrecisionRow,
    RunError,
    Verdict,
    Workload,
    compare,
    measure,
    scratch_folder,
    write_arrays,
    write_passing_folder,
)

from ..compiled import Compiled
from ..tuning.search import is_plain
from .judge import Feeds, Judged

ROUNDS, SECONDS = 8, 0.2
IN_F32 = "f32"
"""What the program is called that keeps its precision."""


@dataclass(frozen=True)
class Try:
    """A program that was made, how it was judged, the bytes of its files, and its times in milliseconds, one a turn."""

    name: str
    compiled: Compiled
    judged: Judged
    bytes: int
    times: tuple[float, ...] = ()

    @property
    def milliseconds(self) -> float | None:
        """The median of its turns."""
        return float(np.median(self.times)) if self.times else None

    def row(self, fate: str) -> PrecisionRow:
        """What a report says of it."""
        return PrecisionRow(self.name, self.judged.error, self.judged.loss, self.milliseconds, self.bytes, fate)


def byte_count(compiled: Compiled) -> int:
    """The size of the files of a program."""
    chunks = compiled.program.files.to_chunks()
    return sum(memoryview(chunk).nbytes for part in chunks.values() for chunk in part)


def timed(tries: Sequence[Try], feeds: Feeds) -> tuple[list[Try], str]:
    """Programs with their times, each run in a process of its own, in turns; and why they have none, where they have not."""
    if not all(map(is_plain, feeds.values())):
        return list(tries), "it takes what is no array of numbers"
    try:
        with scratch_folder("precision") as folder:
            inputs = folder / "inputs.npz"
            write_arrays(inputs, dict[str, Any](feeds))
            field = [_contestant(each, folder) for each in tries]
            found = measure(field, Workload(inputs=inputs, rounds=ROUNDS, seconds=SECONDS))
    except (RunError, OSError) as error:
        return list(tries), str(error)
    return [replace(each, times=one.times) for each, one in zip(tries, found, strict=True)], ""


def _contestant(one: Try, folder: Path) -> Contestant:
    program = one.compiled.program
    place = folder / f"{one.name}.irc"
    write_passing_folder(place, program.manifest, program.files.to_chunks())
    return Contestant(one.name, place)


def chosen(tries: Sequence[Try], limit: float | None, *, by_speed_alone: bool) -> tuple[Try, dict[str, str]]:
    """The one that is kept, and what became of each by its name; of those within `limit` the fastest.

    In place of f32 one has to be faster where speed is all that it was asked for; else it only must not be slower. Without
    times the first is kept, and where none is within the limit, the nearest.
    """
    valid = [each for each in tries if limit is None or each.judged.loss <= limit]
    kept = _fastest(valid, by_speed_alone) if valid else min(tries, key=lambda each: each.judged.loss)
    return kept, {each.name: _fate(each, kept, each in valid, limit) for each in tries}


def _fastest(valid: Sequence[Try], by_speed_alone: bool) -> Try:
    exact = next((each for each in valid if each.name == IN_F32), None)
    others = [each for each in valid if each is not exact]
    if exact is None or not others or not all(each.times for each in valid):
        return valid[0]
    best = min(others, key=lambda each: each.milliseconds or 0.0)
    good = (Verdict.FASTER,) if by_speed_alone else (Verdict.FASTER, Verdict.SAME)
    return best if _verdict(best, exact) in good else exact


def _fate(one: Try, kept: Try, is_valid: bool, limit: float | None) -> str:
    if one is kept:
        return "kept"
    return _why_not(one, kept) if is_valid or limit is None else f"{one.judged.loss:.1e} is beyond the bound of {limit:.1e}"


def _verdict(one: Try, other: Try) -> Verdict:
    return compare(one.name, one.times, other.name, other.times).verdict


def _why_not(one: Try, kept: Try) -> str:
    if one.milliseconds is None or kept.milliseconds is None:
        return "not asked for"
    verdict = _verdict(one, kept)
    return "slower" if verdict is Verdict.SLOWER else "no faster beyond noise"


def closed(tries: Sequence[Try], kept: Try) -> None:
    """Let go of the programs that were not kept."""
    for each in tries:
        if each is not kept:
            each.compiled.program.close()


__all__ = ["IN_F32", "Try", "byte_count", "chosen", "closed", "timed"]

"""How far a compilation is: one line on stderr that is written over, on a terminal only."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from irc.passes import Instrument

WIDTH = 24
APART = 0.05
"""Seconds between two lines that count the same thing."""
_COUNTED = re.compile(r"(?P<what>.*?)(?:: )?(?:reading )?sample (?P<done>\d+) of (?P<whole>\d+)\Z")


@contextmanager
def progress() -> Generator[Sequence[Instrument]]:
    """An instrument that shows what it hears, for as long as the block lasts; none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield []
        return
    shown = 0.0

    from irc.passes import Instrument

    class Shown(Instrument):
        def heard(self, event: str) -> None:
            nonlocal shown
            found = _COUNTED.match(event)
            if found and found["done"] != found["whole"] and time.monotonic() - shown < APART:
                return
            shown = time.monotonic()
            _write(line(event))

    try:
        yield [Shown()]
    finally:
        if shown:
            _write("")


def line(event: str) -> str:
    """An event as a line; one that counts as a bar."""
    found = _COUNTED.match(event)
    if found is None:
        return event
    done, whole = int(found["done"]), int(found["whole"])
    full = WIDTH * done // max(whole, 1)
    return f"{found['what'] or 'samples'} {'━' * full}{'╌' * (WIDTH - full)} {done}/{whole}"


def _write(text: str) -> None:
    columns = shutil.get_terminal_size().columns
    sys.stderr.write(f"\r\x1b[2K{text[: columns - 1]}")
    sys.stderr.flush()

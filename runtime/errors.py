"""What can go wrong when a program runs: one sentence, where, what to do about it, and an exit code.

The shape is that of the compiler's errors, so that the command line prints both alike; neither knows the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class RunError(Exception):
    """A refusal the user can act on.

    `message` is one sentence; `location` names the file, input or op it speaks of; `hint` says what to do.
    """

    exit_code: ClassVar[int] = 5

    def __init__(self, message: str, *, location: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.location = location
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        way_out = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{way_out}"


class ArtifactError(RunError):
    """The artifact is damaged, tampered with, of another schema version, or no artifact at all."""

    exit_code: ClassVar[int] = 3


class FeedError(RunError):
    """What was fed does not fit the program's signature, or the program is closed."""

    exit_code: ClassVar[int] = 2


class EngineFailure(RunError):  # noqa: N818  "engine error" would read as if the engine's own class were meant
    """The engine could not build or run the program, or the process that measured it died."""

    exit_code: ClassVar[int] = 5


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """A hint that names the candidate spelled most like `name`, or None when none is near."""
    import difflib

    near = difflib.get_close_matches(name, list(candidates), n=1)
    return f"did you mean {near[0]}?" if near else None

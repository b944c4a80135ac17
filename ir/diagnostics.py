"""What can be said against a program: one sentence, where it applies, what to do about it, and an exit code."""

from __future__ import annotations

from typing import ClassVar


class IrcError(Exception):
    """A refusal the user can act on.

    `message` is one sentence; `location` names the op, file or span it speaks of; `hint` says what to do.
    `exit_code` is what the command line returns: 1 a check failed, 2 usage, 3 bad model, 4 not supported, 5 engine failed.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, location: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.location = location
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location else ""
        way_out = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{way_out}"


class UsageError(IrcError):
    """The caller asked for something that does not exist or cannot be meant."""

    exit_code: ClassVar[int] = 2


class ModelError(IrcError):
    """The model is malformed, inconsistent, oversized or hostile."""

    exit_code: ClassVar[int] = 3


class UnsupportedError(IrcError):
    """The model is fine, but irc cannot do this with it."""

    exit_code: ClassVar[int] = 4


class VerifyError(IrcError):
    """A graph breaks a law of the IR; raised by the verifier, so a defect of whoever built the graph."""

    exit_code: ClassVar[int] = 3


class EvaluationError(IrcError):
    """The reference refused to evaluate a graph."""

    exit_code: ClassVar[int] = 5


def closest(name: str, candidates: list[str]) -> str | None:
    """A hint that names the candidate spelled most like `name`, or None when none is near."""
    import difflib

    near = difflib.get_close_matches(name, candidates, n=1)
    return f"did you mean {near[0]}?" if near else None

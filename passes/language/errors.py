"""Mistakes in rule files: the message shows the line with a caret under the culprit."""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import UsageError

from .tree import Place


class RuleError(UsageError):
    """A mistake in a rule file, with the place it stands at."""


@dataclass(frozen=True)
class Source:
    """The text of a rule file and the name it is shown by."""

    name: str
    text: str

    def error(self, message: str, place: Place, hint: str | None = None) -> RuleError:
        """The error to raise for what stands at `place`."""
        lines = self.text.splitlines()
        shown = lines[place.line - 1] if 0 < place.line <= len(lines) else ""
        width = max(1, min(place.width, len(shown) - place.column + 1))
        caret = " " * (place.column - 1) + "^" * width
        end = "\n" if hint else ""
        return RuleError(f"{message}\n{shown}\n{caret}{end}", location=f"{self.name}:{place.line}:{place.column}", hint=hint)

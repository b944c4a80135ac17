"""Pipelines as text and back: `"fold-constants{max-bytes=1048576}, cse, O2"` is a list of passes; a level stands for its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from irc.ir import UsageError, closest

from .base import Pass, make_pass

_STEP = re.compile(r"\s*(?P<name>[A-Za-z][A-Za-z0-9_-]*)\s*(\{(?P<options>[^{}]*)\})?\s*")


def parse_pipeline(text: str, passes: Mapping[str, type[Pass]], levels: Mapping[str, tuple[Pass, ...]]) -> tuple[Pass, ...]:
    """The passes a pipeline text stands for.

    Raises UsageError with a caret under the culprit for an unknown pass, an unknown option or broken syntax.
    """
    steps: list[Pass] = []
    position = 0
    while position < len(text) or not steps:
        match = _STEP.match(text, position)
        if match is None:
            raise _mistake(text, position, "a pass name is expected here", "a pipeline reads: fold-constants{max-bytes=1024}, cse")
        name = match["name"].replace("_", "-")
        try:
            steps.extend(_step(name, match["options"], passes, levels))
        except UsageError as error:
            raise _mistake(text, match.start("name"), error.message, error.hint) from None
        position = match.end()
        if position < len(text) and text[position] != ",":
            raise _mistake(text, position, "a comma is expected here", None)
        position += 1
    return tuple(steps)


def _step(name: str, options: str | None, passes: Mapping[str, type[Pass]], levels: Mapping[str, tuple[Pass, ...]]) -> tuple[Pass, ...]:
    if name in levels and options is None:
        return levels[name]
    if name not in passes:
        hint = closest(name, [*passes, *levels]) or "`irc passes` lists them"
        raise UsageError(f"there is no pass '{name}'", hint=hint)
    pairs: dict[str, str] = {}
    for part in (options or "").split(","):
        key, separator, value = part.partition("=")
        if part.strip() and not separator:
            raise UsageError(f"option '{part.strip()}' of pass '{name}' has no value", hint=f"write {part.strip()}=VALUE")
        if part.strip():
            pairs[key.strip()] = value.strip()
    return (make_pass(passes[name], pairs),)


def _mistake(text: str, position: int, message: str, hint: str | None) -> UsageError:
    return UsageError(f"{message}\n  {text}\n  {' ' * position}^\n", location="pipeline", hint=hint)


def pipeline_text(passes: Iterable[Pass]) -> str:
    """The text `parse_pipeline` reads back as these passes."""
    return ", ".join(map(str, passes))

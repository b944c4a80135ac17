"""Pipelines as text and back: `"fold-constants{max-bytes=1024}, cse, O2"` is a list of passes; a level stands for its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from irc.ir import UsageError, closest

from .base import Pass, make_pass

_STEP = re.compile(r"\s*(?P<name>[A-Za-z][A-Za-z0-9_-]*)\s*(\{(?P<options>[^{}]*)\})?\s*")


def parse_pipeline(text: str, passes: Mapping[str, type[Pass]], levels: Mapping[str, tuple[Pass, ...]]) -> tuple[Pass, ...]:
    """The passes a pipeline text stands for; none for a blank one.

    Raises UsageError with a caret under the culprit for an unknown pass, an unknown option or broken syntax.
    """
    steps: list[Pass] = []
    position = 0
    while text.strip():
        match = _STEP.match(text, position)
        if match is None:
            raise _mistake(
                text, position, "a pass name is expected here", "a pipeline reads: fold-constants{max-bytes=1024}, cse"
            )
        steps.extend(_step(text, match, passes, levels))
        position = match.end()
        if position == len(text):
            break
        if text[position] != ",":
            raise _mistake(text, position, "a comma is expected here", None)
        position += 1
    return tuple(steps)


def _step(
    text: str, match: re.Match[str], passes: Mapping[str, type[Pass]], levels: Mapping[str, tuple[Pass, ...]]
) -> tuple[Pass, ...]:
    name = match["name"].replace("_", "-")
    if match["name"] in levels and match["options"] is None:
        return levels[match["name"]]
    if match["name"] in levels:
        raise _mistake(text, match.start("options") - 1, f"level '{match['name']}' has no options", None)
    if name not in passes:
        hint = closest(name, [*passes, *levels]) or "`irc passes` lists them"
        raise _mistake(text, match.start("name"), f"there is no pass '{name}'", hint)
    made = passes[name]()
    position = match.start("options")
    given: dict[str, str] = {}
    for part in (match["options"] or "").split(","):
        key, separator, value = part.partition("=")
        place = position + len(part) - len(part.lstrip())
        position += len(part) + 1
        if not part.strip():
            continue
        if not separator:
            raise _mistake(text, place, f"option '{part.strip()}' of pass '{name}' has no value", f"write {part.strip()}=VALUE")
        if key.strip() in given:
            raise _mistake(text, place, f"option '{key.strip()}' of pass '{name}' is given twice", None)
        given[key.strip()] = value.strip()
        try:
            made = make_pass(passes[name], given)
        except UsageError as error:
            raise _mistake(text, place, error.message, error.hint) from None
    return (made,)


def _mistake(text: str, position: int, message: str, hint: str | None) -> UsageError:
    return UsageError(f"{message}\n  {text}\n  {' ' * position}^\n", location="pipeline", hint=hint)


def pipeline_text(passes: Iterable[Pass]) -> str:
    """The text `parse_pipeline` reads back as these passes."""
    return ", ".join(map(str, passes))

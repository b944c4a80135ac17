"""What `--compress` names: one compression after another, each as strong as it says, or as strong as is found to be good.

Law: a step that says how strong it is has one strength; of any other the mildest comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irc.ir import UsageError
from irc.passes import LEVELS, PASSES, Pass, parse_pipeline
from irc.passes.compression import LowRank, PruneChannels, PruneWeights, ShareWeights

SHARES = tuple(f"{percent / 100:.2f}" for percent in range(10, 80, 5))


@dataclass(frozen=True)
class Strengths:
    """The option that says how strong a compression is, its values from the mildest on, and others that say as much."""

    option: str
    values: Sequence[str]
    instead: Sequence[str] = ()


COMPRESSIONS: Mapping[type[Pass], Strengths] = {
    PruneChannels: Strengths("share", SHARES),
    PruneWeights: Strengths("share", SHARES, ("pattern",)),
    LowRank: Strengths("share", SHARES, ("max-error",)),
    ShareWeights: Strengths("clusters", ("256", "16")),
}
"""The passes that compress; one row each."""


@dataclass(frozen=True)
class Strength:
    """A compression as strong as its text says."""

    text: str
    one: Pass


@dataclass(frozen=True)
class Step:
    """A compression as it was asked for, and how strong it may be, the mildest first."""

    text: str
    strengths: Sequence[Strength]

    @property
    def is_free(self) -> bool:
        """Whether how strong it is has to be found."""
        return len(self.strengths) > 1


def steps_of(text: str) -> list[Step]:
    """The steps that a pipeline text names. Raises UsageError, pointing into it, for what is no compression, and for none."""
    for one in _parsed(text):
        if type(one) not in COMPRESSIONS:
            hint = f"it is one of {', '.join(kind.name for kind in COMPRESSIONS)}"
            raise UsageError(f"'{one.name}' is no compression", hint=hint)
    found = [_step(part.strip()) for part in re.findall(r"[^,{}]+(?:\{[^{}]*\})?", text) if part.strip()]
    if not found or not all(each.strengths for each in found):
        raise UsageError("--compress names no compression", hint='name some, such as "prune-channels, share-weights"')
    return found


def _step(text: str) -> Step:
    """One compression; a level without passes has no strengths."""
    made = _parsed(text)
    if not made:
        return Step(text, ())
    own = COMPRESSIONS[type(made[0])]
    name, _, options = text.partition("{")
    inside = options.rstrip("} ").strip()
    given = {part.partition("=")[0].strip().replace("_", "-") for part in inside.split(",")}
    if given.intersection((own.option, *own.instead)):
        return Step(text, [Strength(text, made[0])])
    texts = [f"{name.strip()}{{{', '.join(filter(None, (inside, f'{own.option}={value}')))}}}" for value in own.values]
    return Step(text, [Strength(each, _parsed(each)[0]) for each in texts])


def _parsed(text: str) -> tuple[Pass, ...]:
    return parse_pipeline(text, {kind.name: kind for kind in PASSES}, LEVELS)


__all__ = ["COMPRESSIONS", "Step", "Strength", "steps_of"]

"""Compilations that were done before: their artifacts come from the cache, and what was told of them is told again.

Law: what is written is what compiling would write. Compilations that took no second are not worth the room and are not kept.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .output import Json, note

if TYPE_CHECKING:
    from irc.runtime import Manifest

SHORTEST = 1.0
"""Seconds that a compilation has to take to be kept."""


@dataclass(frozen=True)
class Told:
    """What was told of a compilation: the remarks, the lines after the first one, the same as JSON, and its seconds."""

    remarks: str
    lines: str
    values: dict[str, Json]
    seconds: float


@dataclass(frozen=True)
class Taken:
    """What the cache had: an artifact, which is where it should be now, by its manifest; and what was told of it."""

    manifest: Manifest
    told: Told


def take(key: str | None, place: Path) -> Taken | None:
    """Write the artifact kept under `key` to `place`; None where there is none. Raises ArtifactError where that cannot be."""
    from irc.runtime import take_program, told_of

    if key is None:
        return None
    entry = told_of(key)
    if entry.note:
        note(entry.note)
    if entry.content is None:
        return None
    artifact = take_program(key, place)
    if isinstance(artifact, str):
        if artifact:
            note(artifact)
        return None
    return Taken(artifact.manifest, Told(**json.loads(entry.content)))


def keep(key: str | None, place: Path, told: Callable[[], Told]) -> None:
    """Keep the artifact at `place` under `key` with what `told` says was told of it; why that could not be is a remark."""
    from irc.runtime import keep_program

    if key is None:
        return
    said = told()
    if said.seconds < SHORTEST:
        return
    refused = keep_program(key, place, json.dumps(asdict(said)).encode())
    if refused:
        note(refused)


def told(tell: Callable[[], None], warn: Callable[[], None], values: dict[str, Json], seconds: float) -> Told:
    """What `tell` prints and `warn` remarks, caught, beside the values and the seconds."""
    with contextlib.redirect_stdout(io.StringIO()) as lines, contextlib.redirect_stderr(io.StringIO()) as remarks:
        tell()
        warn()
    plain = cast("dict[str, Json]", json.loads(json.dumps(values)))
    return Told(remarks.getvalue(), lines.getvalue(), plain, seconds)

"""What parts of a program have in common is in an artifact once: a table says which weights and files of a part are another's.

Law: same memory, one copy. Weights that parts share in memory are written once, and shared again when they are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from .errors import ArtifactError
from .strict_json import Fields, Json, canonical, parse_object
from .weights import WeightView
from .zip_store import Buffer

LINKS_FILE = "links.json"
SMALLEST = 1 << 10
"""Bytes that are worth a line in the table."""

Place: TypeAlias = "tuple[str, str]"
"""A part, and the name of a weight or file in it."""
Files: TypeAlias = "Mapping[str, Sequence[Buffer]]"


@dataclass(frozen=True, slots=True)
class Links:
    """For weights and for files that are another's, by part and name: where they are, which is in a part itself."""

    weights: Mapping[Place, Place] = field(default_factory=dict[Place, Place])
    files: Mapping[Place, Place] = field(default_factory=dict[Place, Place])

    def __bool__(self) -> bool:
        return bool(self.weights or self.files)

    def to_bytes(self) -> bytes:
        """The table as the bytes of LINKS_FILE."""
        return canonical({"weights": _to_json(self.weights), "files": _to_json(self.files)})

    @staticmethod
    def from_bytes(data: bytes) -> Links:
        """The table in the bytes of LINKS_FILE; raises ArtifactError where it is none."""
        fields = parse_object(data, LINKS_FILE)
        links = Links(_from_json(fields, "weights"), _from_json(fields, "files"))
        fields.finish()
        return links


def find_links(weights: Mapping[str, Mapping[str, WeightView]], files: Mapping[str, Files]) -> Links:
    """The weights and files, by part, that are the same memory as one before them, parts and names in order."""
    kinds = {(p, n): (w.dtype, w.shape) for p, own in weights.items() for n, w in own.items()}
    memories = {(p, n): _memory([w.data]) for p, own in weights.items() for n, w in own.items()}
    return Links(
        _repeated({place: (kinds[place], memory) for place, memory in memories.items() if memory}),
        _repeated({(p, n): m for p, own in files.items() for n, chunks in own.items() if (m := _memory(chunks))}),
    )


def resolve(links: Mapping[Place, Place], stored: Mapping[Place, object], what: str) -> None:
    """Raises ArtifactError for a link to what is not stored, and for one from what is."""
    for (part, name), target in links.items():
        if (part, name) in stored:
            raise ArtifactError(f"has a link for the {what} {name} of part {part}, which is there itself", location=LINKS_FILE)
        if target not in stored:
            reason = f"says that the {what} {name} of part {part} is {target[1]} of part {target[0]}, which is not there"
            raise ArtifactError(reason, location=LINKS_FILE)


def _memory(chunks: Sequence[Buffer]) -> tuple[tuple[int, int], ...]:
    """Where chunks lie and how long they are: equal for the same memory only, and empty for what is too small to matter."""
    views = [np.frombuffer(chunk, np.uint8) for chunk in chunks if len(chunk)]
    if sum(view.nbytes for view in views) < SMALLEST:
        return ()
    return tuple((view.ctypes.data, view.nbytes) for view in views)


def _repeated(what: Mapping[Place, object]) -> dict[Place, Place]:
    first: dict[object, Place] = {}
    links: dict[Place, Place] = {}
    for place, identity in what.items():
        found = first.setdefault(identity, place)
        if found != place:
            links[place] = found
    return links


def _to_json(links: Mapping[Place, Place]) -> Json:
    table: dict[str, dict[str, Json]] = {}
    for (part, name), target in links.items():
        table.setdefault(part, {})[name] = list[Json](target)
    return dict[str, Json](table)


def _from_json(fields: Fields, key: str) -> dict[Place, Place]:
    def targets(part: Fields) -> dict[str, Place]:
        found: dict[str, Place] = {}
        for name, value in part.rest().items():
            match value:
                case [str(other), str(there)]:
                    found[name] = other, there
                case _:
                    raise part.refuse(f"{name} should be a part and a name")
        return found

    return {(part, name): place for part, own in fields.table(key, targets).items() for name, place in own.items()}


__all__ = ["LINKS_FILE", "Links", "find_links", "resolve"]

"""Artifacts kept in the cache, each beside what was told of it; where they are too large together, those used longest ago go.

Law: what is taken is what was kept, every hash checked; whatever is not whole is as if it were not there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .artifact import Artifact, copy_artifact, copy_bytes
from .cache import Entry, cache_folder, check_folder, make_folder, read_entry, write_entry
from .errors import ArtifactError
from .scratch import temporary_beside

LIMIT_VARIABLE = "IRC_CACHE_PROGRAMS"
"""The variable of the environment for how many bytes of artifacts are kept: a number, or a text such as `20 GiB`."""
USUAL_LIMIT = 5 << 30
SPARED = 1 << 30
"""Bytes of the disk that are left free."""
_UNITS = {"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


@dataclass(frozen=True, slots=True)
class Room:
    """What artifacts in the cache take, and may take: how many, and bytes."""

    count: int
    used: int
    limit: int


def most_kept() -> int | None:
    """How many bytes of artifacts may be kept; None where the environment says what is no number of bytes."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return USUAL_LIMIT
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,6})?) ?(B|KiB|MiB|GiB|TiB|)", text)
    return int(float(match[1]) * (1 << _UNITS[match[2]])) if match else None


def told_of(key: str) -> Entry:
    """What was told of the artifact kept under `key`; nothing where none is kept, or none may be."""
    limit = most_kept()
    if limit is None:
        text = f"{LIMIT_VARIABLE}={os.environ[LIMIT_VARIABLE]} is no number of bytes, so no artifact is kept or taken"
        return Entry(None, f"{text} (write 0, or a text such as 20GiB)")
    return read_entry(_told_name(key)) if limit else Entry(None)


def take_program(key: str, place: Path) -> Artifact | str:
    """Write the artifact kept under `key` to `place`, as `write_artifact` does; or why there is none, which may be empty.

    Raises ArtifactError where `place` cannot be written.
    """
    kept = _place(key)
    try:
        check_folder(kept.parent)
        artifact = copy_artifact(kept, place)
    except FileNotFoundError:
        return ""
    except PermissionError as error:
        return f"the cache {kept.parent} is not used: {(error.strerror or str(error)).lower()}"
    except ArtifactError as error:
        if isinstance(error.__cause__, OSError):  # the disk refuses
            raise
        return f"the artifact {kept} in the cache is damaged and was ignored"
    with contextlib.suppress(OSError):  # a cache that may only be read forgets what is used
        os.utime(kept)
    return artifact


def keep_program(key: str, artifact: Path, told: bytes) -> str:
    """Keep a copy of the file `artifact` and what was told of it; why that could not be, or an empty string.

    One that is larger than all may be, or would fill the disk, is not kept, and nothing is said.
    """
    size, limit, kept = artifact.stat().st_size, most_kept() or 0, _place(key)
    if size > limit:
        return ""
    try:
        make_folder(kept.parent)
        _make_room(limit - size)
        if shutil.disk_usage(kept.parent).free < size + SPARED:
            return ""
        with temporary_beside(kept, 0o600) as (descriptor, temporary):
            with open(artifact, "rb") as source, open(descriptor, "wb") as target:
                copy_bytes(source, target)
            os.replace(temporary, kept)
    except OSError as error:
        return f"nothing is kept in the cache {kept.parent}: {(error.strerror or str(error)).lower()}"
    return write_entry(_told_name(key), told)


def room() -> Room:
    """What the artifacts in the cache take."""
    sizes = [size for _, size, _ in _all_kept()]
    return Room(len(sizes), sum(sizes), most_kept() or 0)


def _make_room(limit: int) -> None:
    """Remove artifacts until they have `limit` bytes or fewer."""
    kept = sorted(_all_kept())
    used = sum(size for _, size, _ in kept)
    for _, size, path in kept:
        if used <= limit:
            return
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)
        used -= size


def _all_kept() -> list[tuple[float, int, Path]]:
    """When each was last used, its bytes, and where it is."""
    found: list[tuple[float, int, Path]] = []
    for path in cache_folder().glob("program-*.irc"):
        with contextlib.suppress(FileNotFoundError):  # another process makes room too
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    return found


def _place(key: str) -> Path:
    return cache_folder() / f"program-{key}.irc"


def _told_name(key: str) -> str:
    return f"program-{key}.json"

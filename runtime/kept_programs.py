"""What is large in the cache: artifacts, each beside what was told of it, and weights; what was used longest ago makes room.

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
"""The variable of the environment for how many bytes of them are kept: a number, or a text such as `20 GiB`."""
USUAL_LIMIT = 5 << 30
SPARED = 1 << 30
"""Bytes of the disk that are left free."""
_UNITS = {"": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30, "TiB": 40}


@dataclass(frozen=True, slots=True)
class Room:
    """What artifacts and weights in the cache take, and may take: how many, and bytes."""

    count: int
    used: int
    limit: int


def most_kept() -> int | None:
    """How many bytes may be kept; None where the environment says what is no number of bytes."""
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
    kept = _place(key)
    try:
        if not _is_room_for(artifact.stat().st_size):
            return ""
        with temporary_beside(kept, 0o600) as (descriptor, temporary):
            with open(artifact, "rb") as source, open(descriptor, "wb") as target:
                copy_bytes(source, target)
            os.replace(temporary, kept)
    except OSError as error:
        return f"nothing is kept in the cache {kept.parent}: {(error.strerror or str(error)).lower()}"
    return write_entry(_told_name(key), told)


def take_weights(name: str) -> bytes | None:
    """What `keep_weights` keeps under `name`; None where nothing is kept, may be, or can be read."""
    found = read_entry(_weights_name(name)).content if most_kept() else None
    if found is not None:
        with contextlib.suppress(OSError):
            os.utime(cache_folder() / _weights_name(name))
    return found


def keep_weights(name: str, content: bytes) -> bool:
    """Keep `content` under `name`, where there is room for it and the cache can be written; whether it is kept."""
    try:
        return _is_room_for(len(content)) and not write_entry(_weights_name(name), content)
    except OSError:
        return False


def room() -> Room:
    """What artifacts and weights in the cache take."""
    sizes = [size for _, size, _ in _all_kept()]
    return Room(len(sizes), sum(sizes), most_kept() or 0)


def _is_room_for(size: int) -> bool:
    """Whether so many bytes can be kept, others having made room. Raises OSError where the cache cannot be used."""
    limit = most_kept() or 0
    if size > limit:
        return False
    make_folder(cache_folder())
    _make_room(limit - size)
    return shutil.disk_usage(cache_folder()).free >= size + SPARED


def _make_room(limit: int) -> None:
    """Remove what was used longest ago until the rest has `limit` bytes or fewer."""
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
    for pattern in ("program-*.irc", _weights_name("*")):
        for path in cache_folder().glob(pattern):
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
    return found


def _place(key: str) -> Path:
    return cache_folder() / f"program-{key}.irc"


def _weights_name(name: str) -> str:
    return f"weights-{name}.safetensors"


def _told_name(key: str) -> str:
    return f"program-{key}.json"

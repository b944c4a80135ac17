"""Temporary folders and files that do not pile up: each is locked by its maker, and the next removes what the dead have left.

Law: nothing is removed whose maker may still be alive. A lock ends with the process that holds it, however that ends; where
there are no locks, nothing is removed but by its maker.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from .errors import EngineFailure

_FOLDERS = re.compile(r"irc-scratch-.*")
TEMPORARY_HINT = "set TMPDIR to a folder that can be written to and has room"


@dataclass(frozen=True, slots=True)
class Held:
    """A temporary file or folder and the descriptor that locks it, None where it cannot be locked."""

    path: Path
    lock: int | None

    def release(self) -> None:
        """Give up the lock; what is still there is then removed by whoever comes next."""
        if self.lock is not None:
            os.close(self.lock)


def new_folder(purpose: str, place: Path | None = None) -> Held:
    """A new temporary folder, held; folders of dead processes beside it are removed. Raises OSError."""
    place = Path(tempfile.gettempdir()) if place is None else place
    remove_abandoned(place, _FOLDERS)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f"irc-scratch-{purpose}-", dir=place)).resolve()
        held = Held(folder, _lock(folder, wait=True))
        if folder.exists():
            return held
        held.release()  # it was taken for abandoned before it was locked


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Generator[Path]:
    """A temporary folder for as long as the block runs. Raises EngineFailure for what the system refuses in making it."""
    try:
        held = new_folder(purpose)
    except OSError as error:
        raise no_scratch(tempfile.tempdir or "the folder for temporary files", error) from error
    try:
        yield held.path
    finally:
        shutil.rmtree(held.path, ignore_errors=True)
        held.release()


def no_scratch(place: object, error: OSError) -> EngineFailure:
    """What is said where the system refuses a temporary file in `place`."""
    reason = (error.strerror or str(error)).lower()
    return EngineFailure(f"no temporary file can be written: {reason}", location=str(place), hint=TEMPORARY_HINT)


@contextlib.contextmanager
def temporary_beside(target: Path, mode: int = 0o666) -> Generator[tuple[int, Path]]:
    """A new file to be renamed to `target` within the block, open for reading and writing, and gone after it otherwise.

    The descriptor is the caller's to close. What writers of `target` that died have left is removed. Raises OSError.
    """
    remove_abandoned(target.parent, re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.part"))
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(path, flags, mode)
        held = Held(path, _lock(path, wait=True))
        if path.exists():
            break
        held.release()
        os.close(descriptor)
    try:
        yield descriptor, path
    finally:
        with contextlib.suppress(OSError):  # it was renamed, or the folder cannot be changed any more
            path.unlink(missing_ok=True)
        held.release()


@contextlib.contextmanager
def folder_beside(target: Path) -> Generator[Path]:
    """As `temporary_beside`, a folder."""
    remove_abandoned(target.parent, re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.tmp"))
    while True:
        path = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        path.mkdir()
        held = Held(path, _lock(path, wait=True))
        if path.exists():
            break
        held.release()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        held.release()


def remove_abandoned(place: Path, names: re.Pattern[str]) -> None:
    """Remove the files and folders of this user in `place` that are called so and whose maker is dead."""
    if sys.platform == "win32":
        return
    try:
        with os.scandir(place) as entries:
            found = [entry for entry in entries if names.fullmatch(entry.name) and not entry.is_symlink()]
    except OSError:  # who wants to write there will be told
        return
    for entry in found:
        with contextlib.suppress(OSError):  # somebody else removes it too
            if entry.stat(follow_symlinks=False).st_uid == os.geteuid():
                _remove_unlocked(Path(entry.path))


def _remove_unlocked(path: Path) -> None:
    lock = _lock(path, wait=False)
    if lock is None:
        return
    try:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def _lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor that holds the lock on a file or folder, None where there are no locks or, unless we `wait`, it is taken."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # it is gone, or not ours to read
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # it is taken, or this file system has no locks
        os.close(descriptor)
        return None
    return descriptor


__all__ = ["Held", "folder_beside", "new_folder", "no_scratch", "remove_abandoned", "scratch_folder", "temporary_beside"]

"""The user's cache folder: what irc can make again, kept in files of which each says itself whether it is whole.

A cache never stands in anyone's way: where it cannot be read or written, work goes on without it and a note says why. It
is used only where it is the user's and not everyone may write to it, since what lies in it is believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .scratch import temporary_beside

_HEADER = b"irc-cache 1 "


def cache_folder() -> Path:
    """Where the cache is: $IRC_CACHE_DIR, else `irc` in $XDG_CACHE_HOME or ~/.cache; it need not exist."""
    own = os.environ.get("IRC_CACHE_DIR")
    if own:
        return Path(own)
    above = os.environ.get("XDG_CACHE_HOME")
    if above:
        return Path(above) / "irc"
    try:
        return Path.home() / ".cache" / "irc"
    except RuntimeError:  # nobody knows this user's home
        return Path(tempfile.gettempdir()) / f"irc-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache holds under a name: None where it holds nothing that can be used, for which `note` may say why."""

    content: bytes | None
    note: str = ""


def read_entry(name: str) -> Entry:
    """The entry called `name`, a plain file name; never raises."""
    path = cache_folder() / name
    try:
        check_folder(path.parent)
        content = path.read_bytes()
    except FileNotFoundError:
        return Entry(None)
    except OSError as error:
        return Entry(None, f"the cache entry {path} cannot be read: {_reason(error)}")
    head, _, body = content.partition(b"\n")
    if head != _HEADER + hashlib.sha256(body).hexdigest().encode():
        return Entry(None, f"the cache entry {path} is damaged and was ignored")
    return Entry(body)


def write_entry(name: str, content: bytes) -> str:
    """Keep an entry, which appears whole or not at all; why it could not be kept, or an empty string. Never raises."""
    path = cache_folder() / name
    try:
        make_folder(path.parent)
        with temporary_beside(path, 0o600) as (descriptor, temporary):
            with open(descriptor, "wb") as file:
                file.write(_HEADER + hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except OSError as error:
        return f"nothing is kept in the cache {path.parent}: {_reason(error)} (set IRC_CACHE_DIR to another folder)"
    return ""


def why_no_cache() -> str:
    """Why nothing can be kept in the cache folder, as a clause; an empty string where it can."""
    folder = cache_folder()
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return _reason(error)
    return ""


def make_folder(folder: Path) -> None:
    """Make the cache folder where it is not there. Raises OSError for one that cannot be used."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Raises PermissionError for a folder of somebody else's, or that everyone may write to."""
    status = folder.stat()
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "it belongs to another user")
    if status.st_mode & stat.S_IWOTH:  # a group is often the user's own
        raise PermissionError(errno.EPERM, "everyone may write to it")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

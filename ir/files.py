"""Files that appear whole or not at all; large ones are written past the page cache, several times faster and without
pushing out what other programs keep there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path

LARGE = 32 << 20
_BLOCK = 8 << 20  # a multiple of every device's sector


class Writer:
    """Bytes in order to a file descriptor, by way of a buffer of whole blocks."""

    def __init__(self, descriptor: int, *, expected: int) -> None:
        self._descriptor = descriptor
        self._buffer = memoryview(mmap(-1, _BLOCK))  # anonymous mappings are aligned as direct writing asks for
        self._filled = 0
        if expected >= LARGE:
            self._set_direct(True)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        view = memoryview(data).cast("B")
        while len(view):
            part = view[: _BLOCK - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == _BLOCK:
                self._flush(self._buffer)

    def finish(self) -> None:
        """Write what is left, and wait until the device has everything."""
        self._set_direct(False)  # the rest is no whole block
        self._flush(self._buffer[: self._filled])
        os.fsync(self._descriptor)

    def _flush(self, view: memoryview) -> None:
        while len(view):
            try:
                written = os.write(self._descriptor, view)
            except OSError:
                if not self._direct:
                    raise
                self._set_direct(False)  # this file system has no direct writing after all
                continue
            view = view[written:]
        self._filled = 0

    def _set_direct(self, wanted: bool) -> None:
        self._direct = False
        try:
            import fcntl

            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            direct = os.O_DIRECT
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | direct if wanted else flags & ~direct)
            self._direct = wanted
        except (ImportError, AttributeError, OSError):
            return  # a system or a file system without it: the page cache serves


@contextmanager
def replacing(path: Path, *, expected: int = 0) -> Generator[Writer]:
    """A writer to a file that takes the place of `path` when the block ends well, and leaves nothing when it does not.

    `expected` is about how many bytes will come.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.absolute().parent)
    try:
        os.fchmod(descriptor, 0o644)
        try:
            writer = Writer(descriptor, expected=expected)
            yield writer
            writer.finish()
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise

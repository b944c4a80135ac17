"""A shared library that is loaded from bytes, and unloaded when its last user is gone."""

from __future__ import annotations

import _ctypes
import ctypes
import os
import weakref
from pathlib import Path
from typing import Any

from .errors import ArtifactError, EngineFailure
from .scratch import scratch_folder
from .zip_store import Buffer


class Library:
    """A shared library in the memory of this process; raises EngineFailure where the system does not take it."""

    def __init__(self, content: Buffer) -> None:
        self._library = _load(content)

    def function(self, name: str, result: Any) -> Any:
        """A function that returns `result`, one of ctypes' types; raises ArtifactError where there is none of that name."""
        found = self._symbol(name)
        found.restype = result
        return found

    def address(self, name: str) -> int:
        """Where a symbol lies; raises ArtifactError where there is none of that name."""
        return ctypes.cast(self._symbol(name), ctypes.c_void_p).value or 0

    def _symbol(self, name: str) -> Any:
        try:
            return self._library[name]
        except (AttributeError, ValueError) as error:
            raise ArtifactError(f"the library has no kernel {name[:60]!r}") from error


def _load(content: Buffer) -> ctypes.CDLL:
    descriptor = _file_in_memory(content)
    if descriptor is not None:
        try:
            loaded = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
        except OSError:  # there is no /proc, or memory may not be executed as a file
            os.close(descriptor)
        else:
            # The descriptor stays: a library that is loaded under a name is what the loader gives for that name.
            weakref.finalize(loaded, _unload, loaded._handle, descriptor).atexit = False
            return loaded
    with scratch_folder("library") as folder:
        path = Path(folder, "program.so")
        path.write_bytes(content)
        try:
            loaded = ctypes.CDLL(str(path))
        except OSError as error:
            raise EngineFailure(f"the library of kernels cannot be loaded: {error}") from error
    weakref.finalize(loaded, _unload, loaded._handle, None).atexit = False
    return loaded


def _file_in_memory(content: Buffer) -> int | None:
    """The descriptor of a file that lies on no disk, with this content; None where the system has none."""
    if not hasattr(os, "memfd_create"):
        return None
    try:
        descriptor = os.memfd_create("irc-kernels", os.MFD_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def _unload(handle: int, descriptor: int | None) -> None:
    if hasattr(_ctypes, "dlclose"):
        _ctypes.dlclose(handle)
    if descriptor is not None:
        os.close(descriptor)

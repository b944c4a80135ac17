"""Weights that wait on a disk instead of in memory: an engine that makes its own form of them reads them there.

Law: they are the same weights by name, and no longer in memory once nobody else holds them; without a disk for them they
stay where they are.
"""

from __future__ import annotations

import mmap
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from .scratch import Held, new_folder
from .weights import WEIGHTS_FILE, WeightView, layout_weights

_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_MOUNTS = Path("/proc/self/mountinfo")


def spill(weights: Mapping[str, WeightView], names: Collection[str]) -> Mapping[str, WeightView]:
    """The weights with those of these `names` as views of a temporary file, for which their `folder` is set.

    They lie in the file where `layout_weights(weights)` has them, the rest of it is never written. It goes away with the
    last view, or with the process. The weights come back as they are where there is no disk with room for them.
    """
    layout = layout_weights(weights).ranges
    size = sum(layout[name][1] for name in names)
    place = _disk_with(size) if size else None
    if place is None:
        return weights
    try:
        held = new_folder("weights", place)
    except OSError:  # as where there is no disk
        return weights
    folder = held.path
    try:
        whole = _written(folder / WEIGHTS_FILE, [(layout[name][0], weights[name].data) for name in names])
    except OSError:  # the disk is full after all: then they stay in memory, as where there is none
        _remove(held, os.getpid())
        return weights
    weakref.finalize(whole.obj, _remove, held, os.getpid())
    spilled = {name: whole[layout[name][0] : sum(layout[name])] for name in names}
    return {n: replace(w, data=spilled[n], folder=folder) if n in spilled else w for n, w in weights.items()}


def forget_pages(weights: Mapping[str, WeightView]) -> None:
    """Let the system take back the memory of what was read of spilled weights; it is read again where it is needed."""
    for mapped in {id(w.data.obj): w.data.obj for w in weights.values() if w.folder is not None}.values():
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)


def _written(path: Path, chunks: Iterable[tuple[int, memoryview]]) -> memoryview:
    """The bytes of a new file that has these chunks at their offsets and is mapped."""
    with open(path, "x+b") as file:
        for offset, chunk in chunks:
            file.seek(offset)
            file.write(chunk)
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _remove(held: Held, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has the views too, but not the file
        shutil.rmtree(held.path, ignore_errors=True)
        held.release()


def _disk_with(size: int) -> Path | None:
    """A folder for temporary files on a disk with twice the room; a file system in memory is none."""
    if sys.platform != "linux":
        return None  # nowhere else has it been measured, and an open file cannot be removed everywhere
    try:
        usual = [Path(tempfile.gettempdir())]
    except FileNotFoundError:  # there is none that can be written to
        usual = []
    for folder in (*usual, Path("/var/tmp")):
        usable = folder.is_dir() and os.access(folder, os.W_OK) and not _is_in_memory(folder)
        if usable and shutil.disk_usage(folder).free > 2 * size:
            return folder
    return None


def _is_in_memory(folder: Path) -> bool:
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = _MOUNTS.read_text(errors="replace").splitlines() if _MOUNTS.exists() else []
    mounts = [line.split() for line in lines]
    return any(each[2] == number and each[each.index("-") + 1] in _IN_MEMORY for each in mounts)


__all__ = ["forget_pages", "spill"]

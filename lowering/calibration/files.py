"""Arrays in `.npy` and `.npz` files: what they hold is known from their headers, and their elements are read part by part.

Law: nothing is unpickled, nothing is believed that the size of the file contradicts, and no more is in memory than the part
asked for (an array in Fortran order apart, which has no parts that lie together; one of those may not be large).
"""

from __future__ import annotations

import contextlib
import math
import zipfile
import zlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from irc.ir import UsageError

Array = npt.NDArray[Any]
LARGEST_FORTRAN = 1 << 28
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_DENSEST = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""How many bytes one may stand for."""
_UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)
"""What NumPy, zipfile and zlib raise for a file that is no array, damaged, or encrypted."""


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file: a `.npy` file, or the member of an `.npz` file. `start` is where its elements begin."""

    path: Path
    member: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    start: int

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return place_of(self.path, self.member)

    def parts(self, indices: Iterable[int], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Iterator[Array]:
        """Equal parts in memory order, by rising indices: part i is elements i * prod(shape) and on, as an array of `shape`.

        `dtype` has the size of the file's own and takes its place. Raises UsageError where the file cannot be read.
        """
        if self.fortran:
            whole = self._whole().reshape(-1)
            size = math.prod(shape)
            yield from (whole[i * size : (i + 1) * size].view(dtype).reshape(shape).copy() for i in indices)
            return
        byte_count = math.prod(shape) * dtype.itemsize
        with _reading(self.path, self.member), _opened(self.path, self.member) as file:
            for index in indices:
                file.seek(self.start + index * byte_count)
                buffer = np.empty(byte_count, np.uint8)
                if file.readinto(buffer.data) != byte_count:  # type: ignore[attr-defined]  # typing.IO lacks it, all files have it
                    raise EOFError
                yield buffer.view(dtype).reshape(shape)

    def _whole(self) -> Array:
        with _reading(self.path, self.member), _opened(self.path, self.member) as file:
            return np.ascontiguousarray(np.lib.format.read_array(file, allow_pickle=False))


def read_header(path: Path, member: str | None = None) -> ArrayFile:
    """What is in a file, without reading it. Raises UsageError for what is no array that can be fed."""
    with _reading(path, member), _opened(path, member) as file:
        read = _HEADERS.get(np.lib.format.read_magic(file))
        if read is None:
            raise ValueError
        shape, fortran, dtype = read(file)
        start = file.tell()
        end = path.stat().st_size if member is None else _size_of(path, member)
    if dtype.hasobject:
        hint = "save an array of numbers or of str, without dtype=object"
        raise UsageError("holds pickled Python objects, which are never loaded", location=place_of(path, member), hint=hint)
    byte_count = math.prod(shape) * dtype.itemsize
    if any(dim < 0 for dim in shape) or byte_count > end - start:
        hint = "write it again"
        raise UsageError("is cut short: it has fewer bytes than its header says", location=place_of(path, member), hint=hint)
    fortran = fortran and len(shape) > 1
    if fortran and byte_count > LARGEST_FORTRAN:
        hint = "save numpy.ascontiguousarray(array)"
        raise UsageError("is in Fortran order and too large to be turned in memory", location=place_of(path, member), hint=hint)
    return ArrayFile(path, member, tuple(shape), dtype, fortran, start)


def members(path: Path) -> list[str]:
    """The names of the arrays in an `.npz` file, in its order. Raises UsageError where it is none."""
    with _reading(path, None), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    other = next((name for name in names if not name.endswith(".npy")), None)
    if other is not None:
        raise UsageError(f"holds {other}, which is no array", location=str(path), hint="write it with numpy.savez")
    if not names:
        raise UsageError("is empty: it holds no arrays", location=str(path), hint="write it with numpy.savez")
    return [name.removesuffix(".npy") for name in names]


def place_of(path: Path, member: str | None) -> str:
    """A file, or a member of a file, as errors name it."""
    return str(path) if member is None else f"{path}[{member}]"


def _size_of(path: Path, member: str) -> int:
    """The bytes of a member, or the most that its compressed form may hold where it claims more."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{member}.npy")
    return min(info.file_size, info.compress_size * _DENSEST.get(info.compress_type, 1 << 20))


@contextlib.contextmanager
def _opened(path: Path, member: str | None) -> Generator[IO[bytes]]:
    if member is None:
        with path.open("rb") as file:
            yield file
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{member}.npy") as file:
        yield file


@contextlib.contextmanager
def _reading(path: Path, member: str | None) -> Generator[None]:
    """What a file that cannot be read raises, as one sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError("there is no such file", location=str(path), hint="give an .npz file or a folder") from error
    except PermissionError as error:
        raise UsageError("may not be read", location=str(path), hint="change its permissions") from error
    except _UNREADABLE as error:
        kind = "array" if member is not None or path.suffix == ".npy" else ".npz file of arrays"
        reason = f"is no {kind}, or it is damaged"
        raise UsageError(reason, location=place_of(path, member), hint="write it with numpy.save or numpy.savez") from error

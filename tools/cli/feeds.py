"""Inputs for a program from files or from a seed, in the types and shapes its signature asks for."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from irc.ir import DType, UsageError, closest, parse_dims

if TYPE_CHECKING:
    from irc.runtime import SignatureEntry

Array = np.ndarray[Any, Any]
# What NumPy and the zip reader raise on files that are damaged in one way or another.
_DAMAGE = (ValueError, OSError, EOFError, KeyError, NotImplementedError, struct.error, zlib.error, zipfile.BadZipFile)


def read_feeds(pairs: list[str] | None, archive: Path | None, inputs: Sequence[SignatureEntry]) -> dict[str, Array]:
    """The arrays that `NAME=FILE.npy` pairs and an .npz archive hold; the pairs are None for a verb without --input.

    Raises UsageError for what is no such file or name.
    """
    feeds: dict[str, Array] = {}
    if archive is not None:
        if _magic(archive).startswith(_NPY):
            way_out = "save it with numpy.savez, by its name" if pairs is None else f"give it as --input NAME={archive}"
            raise UsageError(f"'{archive}' holds a single array", hint=way_out)
        feeds.update(_load_archive(archive))
    paired: set[str] = set()
    for pair in pairs or ():
        name, separator, file = pair.partition("=")
        if not separator or not file or not name:
            raise UsageError(f"'{pair}' names no input and file", hint="write --input NAME=FILE.npy")
        if name in paired:
            raise UsageError(f"input '{name}' is given twice", hint="give each --input once")
        paired.add(name)
        feeds[name] = _load_array(Path(file))
    known = {entry.name: entry for entry in inputs}
    for name, array in feeds.items():
        if name not in known:
            hint = closest(name, list(known)) or f"its inputs are {', '.join(known) or 'none'}"
            raise UsageError(f"the model has no input '{name}'", hint=hint)
        if array.dtype.kind == "V":  # files have no name for bf16 and its like
            own = _numpy_type(known[name].dtype)
            feeds[name] = array.view(own) if own.itemsize == array.dtype.itemsize else array
    return feeds


_NPY = b"\x93NUMPY"


def _magic(path: Path) -> bytes:
    if not path.is_file():
        raise UsageError(f"there is no file '{path}'", hint="inputs are .npy or .npz files")
    with path.open("rb") as file:
        return file.read(len(_NPY))


def _load_array(path: Path) -> Array:
    magic = _magic(path)
    if magic.startswith(b"PK"):
        raise UsageError(f"'{path}' holds several arrays", hint=f"give it as --inputs {path}")
    if magic != _NPY:
        raise UsageError(f"'{path}' is no .npy file", hint="save it with numpy.save")
    try:
        return cast("Array", np.load(path, allow_pickle=False))
    except _DAMAGE as error:
        raise _bad(path, error) from None


def _load_archive(path: Path) -> dict[str, Array]:
    if not _magic(path).startswith(b"PK"):
        raise UsageError(f"'{path}' is no .npz file", hint="save it with numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files}
    except _DAMAGE as error:
        raise _bad(path, error) from None


def write_archive(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write an `.npz` file that `read_feeds` reads; `numpy.savez` would take an array called `file` for its own parameter."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _bad(path: Path, error: Exception) -> UsageError:
    if "pickle" in str(error):
        reason, hint = "holds Python objects, which are never unpickled", "save numbers, booleans or strings of dtype str"
        return UsageError(f"'{path}' {reason}", hint=hint)
    return UsageError(f"'{path}' is damaged or cut short", hint="save it again with numpy.save or numpy.savez")


def _numpy_type(text: str) -> np.dtype[Any]:
    return next(dtype for dtype in DType if dtype.text == text).numpy


def random_feeds(
    inputs: Sequence[SignatureEntry], seed: int, sizes: Mapping[str, int], given: Mapping[str, Array]
) -> dict[str, Any]:
    """Seeded inputs for whatever is not given; a named dim has the size of a given input's, of `sizes`, or 1.

    Raises UsageError for a size of a dim that no input has, FeedError for an input that cannot be made up.
    """
    from irc.runtime import random_inputs

    check_dims(inputs, sizes)
    missing = [entry for entry in inputs if entry.name not in given]
    return {**random_inputs(missing, {**_sizes_of(inputs, given), **sizes}, seed), **given}


def check_dims(inputs: Sequence[SignatureEntry], sizes: Mapping[str, int]) -> None:
    """Refuse a size for a dim that no input has. Raises UsageError."""
    known = sorted({dim for entry in inputs for dim in entry.shape or () if isinstance(dim, str)})
    for name in sizes:
        if name not in known:
            hint = closest(name, known) or (f"it has {', '.join(known)}" if known else "it has none")
            raise UsageError(f"the model's inputs have no open dim '{name}'", hint=hint)


def check_complete(inputs: Sequence[SignatureEntry], given: Mapping[str, Array], way_out: str = "") -> None:
    """Refuse feeds that lack an input; `way_out` is for a verb without --input and --random. Raises UsageError."""
    for entry in inputs:
        if entry.name not in given and not entry.optional and entry.kind != "optional":
            usual = f"give it with --input {entry.name}=FILE.npy, or let --random make it up"
            raise UsageError(f"input '{entry.name}' is missing", hint=f"it is {entry}; {way_out or usual}")


def _sizes_of(inputs: Sequence[SignatureEntry], given: Mapping[str, Array]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for entry in inputs:
        array = given.get(entry.name)
        if array is not None and entry.shape is not None and len(entry.shape) == array.ndim:
            sizes.update({dim: size for dim, size in zip(entry.shape, array.shape, strict=True) if isinstance(dim, str)})
    return sizes


def one_size_each(texts: list[str]) -> dict[str, int]:
    """The one size of each dim of `--dim`. Raises UsageError for several, which are for compiling: a call has one."""
    given = parse_dims(texts)
    for name, size in given.items():
        if not isinstance(size, int):
            raise UsageError(f"dim '{name}' is given several sizes, and a call has one", hint="give one of them")
    return {name: size for name, size in given.items() if isinstance(size, int)}

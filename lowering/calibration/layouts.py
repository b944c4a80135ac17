"""How samples lie in files: which array is for which input, and where in it one sample ends and the next begins.

Law: what an array holds is decided by its rank against that of its input, never by its numbers. With one axis more than the
input, the first counts samples; with as many, the first is the batch, and a sample is as many rows as the input takes (one
where it takes any number); with one fewer, it is one sample whose batch axis, of size 1, was left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irc.ir import DType, UsageError, closest
from irc.runtime import FeedChecker, FeedError, SignatureEntry

from .files import ArrayFile, members, read_header

LABELS = ("label", "labels", "target", "targets")
"""Names of arrays that may lie beside the inputs without being any: what a metric compares answers with."""
_TYPES = {dtype.text: dtype.numpy for dtype in DType}


@dataclass(frozen=True)
class Cut:
    """An array cut into samples: their number, the shape of each, and the type of the elements."""

    array: ArrayFile
    count: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, indices: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
        """Samples by rising indices."""
        return self.array.parts(indices, self.shape, self.dtype)


@dataclass(frozen=True)
class Part:
    """Files that hold the same samples, one array per input; `place` names them."""

    place: str
    cuts: Mapping[str, Cut]
    labels: Mapping[str, Cut]
    count: int


def parts_of(path: Path, inputs: Sequence[SignatureEntry]) -> list[Part]:
    """The samples in a file or folder, in order of names, with all their headers checked against the inputs.

    Raises UsageError for what does not fit.
    """
    for entry in inputs:
        if entry.kind != "tensor" and not entry.optional and entry.kind != "optional":
            hint = "give an iterable of dicts in Python"
            raise UsageError(f"input {entry.name} is a {entry.kind}, which no array file holds", location=str(path), hint=hint)
    return [_part(place, arrays, inputs) for place, arrays in _arrays(path, inputs)]


def _arrays(path: Path, inputs: Sequence[SignatureEntry]) -> Iterator[tuple[str, dict[str, ArrayFile]]]:
    """The arrays by name of one file or set of files after another, with the place that stands for them."""
    required = [entry.name for entry in inputs if not entry.optional]
    if not path.is_dir():
        if path.suffix == ".npy":
            yield str(path), {_only(required, path): read_header(path)}
        else:
            yield str(path), {name: read_header(path, name) for name in members(path)}
        return
    files = _files(path)
    names = {*(entry.name for entry in inputs), *LABELS}
    if not files:
        yield from _folders(path, names)
    elif files[0].suffix == ".npz":
        yield from ((str(file), {name: read_header(file, name) for name in members(file)}) for file in files)
    elif all(file.stem in names for file in files):
        yield str(path), {file.stem: read_header(file) for file in files}
    else:
        only = _only(required, path)
        yield from ((str(file), {only: read_header(file)}) for file in files)


def _only(required: Sequence[str], path: Path) -> str:
    """The one input that files without names can be for."""
    if len(required) == 1:
        return required[0]
    hint = "give .npz files, or a folder for each input with files of the same names"
    raise UsageError(
        f"the model has {len(required)} inputs, and .npy files do not say for which", location=str(path), hint=hint
    )


def _files(folder: Path) -> list[Path]:
    """The array files in a folder, by name; other files are none of our business."""
    found = sorted(each for each in folder.iterdir() if each.suffix in (".npy", ".npz") and not each.name.startswith("."))
    kinds = {each.suffix for each in found}
    if len(kinds) > 1:
        raise UsageError("holds both .npy and .npz files", location=str(folder), hint="keep one kind in a folder")
    return found


def _folders(path: Path, names: Collection[str]) -> Iterator[tuple[str, dict[str, ArrayFile]]]:
    """A folder for each input, in which files of one name are one sample, or one set of samples."""
    folders = {each.name: each for each in sorted(path.iterdir()) if each.is_dir() and each.name in names}
    found = {name: {file.name: file for file in _files(folder)} for name, folder in folders.items()}
    if not any(found.values()):
        hint = f"an .npz file, a folder of .npy or .npz files, or one with a folder for each input: {', '.join(names)}"
        raise UsageError("is empty: it holds no .npy or .npz files", location=str(path), hint=hint)
    for file in sorted({file for files in found.values() for file in files}):
        missing = next((name for name, files in found.items() if file not in files), None)
        if missing is not None:
            reason = f"there is no {missing}/{file} beside those of the other inputs"
            raise UsageError(reason, location=str(path), hint="the folders have to hold files of the same names")
        yield f"{path}/*/{file}", {name: read_header(files[file]) for name, files in found.items()}


def _part(place: str, arrays: Mapping[str, ArrayFile], inputs: Sequence[SignatureEntry]) -> Part:
    """The arrays of one file cut into samples, which fit the model."""
    entries = {entry.name: entry for entry in inputs}
    labels = {name: array for name, array in arrays.items() if name in LABELS and name not in entries}
    for name in arrays:
        if name not in entries and name not in labels:
            hint = closest(name, list(entries)) or f"its inputs are {', '.join(entries)}"
            raise UsageError(f"the model has no input {name}", location=place, hint=hint)
    cuts = {name: cut(entries[name], array) for name, array in arrays.items() if name not in labels}
    _check_one(cuts, inputs, place)
    count = _agreed({name: each.count for name, each in cuts.items()}, place)
    marks = {name: _cut_labels(name, array, count) for name, array in labels.items()}
    return Part(place, cuts, marks, count)


def cut(entry: SignatureEntry, array: ArrayFile) -> Cut:
    """An array as samples of an input, by the law of this module. Raises UsageError where rows are left over."""
    shape, dtype = array.shape, _dtype(entry, array.dtype)
    if entry.shape is None or len(shape) == len(entry.shape) == 0:
        return Cut(array, 1, shape, dtype)
    first = entry.shape[0] if entry.shape else None
    if len(shape) == len(entry.shape) + 1:
        return Cut(array, shape[0], shape[1:], dtype)
    if len(shape) == len(entry.shape) - 1 and (first == 1 or not isinstance(first, int)):
        return Cut(array, 1, (1, *shape), dtype)
    if len(shape) != len(entry.shape):
        return Cut(array, 1, shape, dtype)
    rows = first if isinstance(first, int) and first else 1
    if shape[0] % rows:
        reason = f"input {entry.name} has {shape[0]} rows, which is no multiple of the {rows} that the model takes at once"
        raise UsageError(reason, location=array.place, hint=f"it is {entry}".replace(f"{entry.name}: ", ""))
    return Cut(array, shape[0] // rows, (rows, *shape[1:]), dtype)


def _dtype(entry: SignatureEntry, own: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the elements; a file cannot say those that NumPy itself does not have, but for their size."""
    wanted = _TYPES[entry.dtype]
    return wanted if own.kind == "V" and own.names is None and own.itemsize == wanted.itemsize else own


def _cut_labels(name: str, array: ArrayFile, count: int) -> Cut:
    """Labels by sample: as many in each as in every other."""
    if array.shape and array.shape[0] and count and array.shape[0] % count == 0:
        own = array.shape[0] // count
        return Cut(array, count, (own, *array.shape[1:]), array.dtype)
    if count == 1:
        return Cut(array, 1, array.shape, array.dtype)
    reason = f"{name} has shape {list(array.shape)}, which does not go with {count} samples"
    raise UsageError(reason, location=array.place, hint=f"its first axis has to count the samples, {count}")


def _check_one(cuts: Mapping[str, Cut], inputs: Sequence[SignatureEntry], place: str) -> None:
    """One sample, as far as headers tell, is what the model can be fed."""
    likeness = {name: np.broadcast_to(np.zeros((), each.dtype), each.shape) for name, each in cuts.items()}
    try:
        FeedChecker(inputs).check(likeness)
    except FeedError as error:
        raise UsageError(error.message.replace("the program", "the model"), location=place, hint=error.hint) from error


def _agreed(counts: Mapping[str, int], place: str) -> int:
    """The number of samples, on which all inputs agree."""
    (first, count), *others = counts.items() or (("", 0),)
    for name, other in others:
        if other != count:
            reason = f"input {first} has {count} samples, and {name} has {other}"
            hint = "each needs one array of all samples; one more axis in front makes clear what a sample is"
            raise UsageError(reason, location=place, hint=hint)
    if not count:
        raise UsageError("is empty: it holds no samples", location=place, hint="give at least one; some dozens are usual")
    return count

"""Inputs to measure with: seeded by name, so that two contestants with one signature are fed the same."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .dtypes import ELEMENT_TYPES
from .errors import FeedError
from .manifest import SignatureEntry


def random_inputs(inputs: Sequence[SignatureEntry], dims: Mapping[str, int], seed: int) -> dict[str, object]:
    """An array for every input that has to be fed.

    Symbolic dims have the size `dims` gives, else 1. Floats are normally distributed, integers 0 or 1 (valid as token
    and as mask), booleans true, strings `a`. Raises FeedError for an input that cannot be made up (a map).
    """
    return {each.name: _random(each, dims, seed) for each in inputs if not each.optional and each.kind != "optional"}


def read_inputs(inputs: Sequence[SignatureEntry], path: str | Path) -> dict[str, object]:
    """The arrays of an `.npz` file by name, its element types taken from the signature where the file cannot say them.

    Raises FeedError where the file cannot be read; pickled objects in it are refused.
    """
    types = {each.name: ELEMENT_TYPES[each.dtype].numpy for each in inputs}
    refusal = FeedError("is no .npz file of arrays", location=str(path), hint="write it with numpy.savez")
    if not zipfile.is_zipfile(path):
        raise refusal
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise refusal from error
    return {
        name: array.view(types[name]) if array.dtype.kind == "V" and name in types else array for name, array in arrays.items()
    }


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """What `numpy.savez` writes, with any name: it would take an output called `file` for its own parameter."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)


def _random(entry: SignatureEntry, dims: Mapping[str, int], seed: int) -> object:
    if entry.kind == "map":
        raise FeedError(f"input {entry.name} is a map, which cannot be made up", hint="give the inputs in a file")
    sizes = [dim if isinstance(dim, int) else dims.get(dim or "", 1) for dim in entry.shape or ()]
    generator = np.random.default_rng([seed, zlib.crc32(entry.name.encode())])
    element = ELEMENT_TYPES[entry.dtype]
    if entry.dtype == "str":
        array = np.full(sizes, "a", object)
    elif entry.dtype == "bool":
        array = np.ones(sizes, np.bool_)
    elif entry.dtype[0] in "iu":
        array = generator.integers(0, 2, sizes).astype(element.numpy)
    else:
        array = generator.standard_normal(sizes, np.float32).astype(element.numpy)
    return [array] if entry.kind == "sequence" else array

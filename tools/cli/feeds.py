"""Inputs for a program from files or from a seed, in the types and shapes its signature asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from irc.runtime import SignatureEntry

Array = np.ndarray[Any, Any]


def read_feeds(pairs: list[str], archive: Path | None, inputs: Sequence[SignatureEntry]) -> dict[str, Array]:
    """The arrays that `NAME=FILE.npy` pairs and an .npz archive hold. Raises UsageError for a file or name that does not fit."""
    from irc.ir import UsageError, closest

    feeds: dict[str, Array] = {}
    if archive is not None:
        loaded = _load(archive)
        if isinstance(loaded, np.ndarray):
            raise UsageError(f"'{archive}' holds a single array", hint=f"give it as --input NAME={archive}")
        feeds.update(loaded)
    known = [entry.name for entry in inputs]
    for pair in pairs:
        name, separator, file = pair.partition("=")
        if not separator or not file:
            raise UsageError(f"'{pair}' names no file", hint="write --input NAME=FILE.npy")
        array = _load(Path(file))
        if not isinstance(array, np.ndarray):
            raise UsageError(f"'{file}' holds several arrays", hint=f"give it as --inputs {file}")
        feeds[name] = array
    for name in feeds:
        if name not in known:
            raise UsageError(f"the model has no input '{name}'", hint=closest(name, known) or f"it has {', '.join(known)}")
    return feeds


def _load(path: Path) -> Array | dict[str, Array]:
    from irc.ir import UsageError

    if not path.is_file():
        raise UsageError(f"there is no file '{path}'", hint="inputs are .npy or .npz files")
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise UsageError(f"'{path}' is no NumPy file: {str(error).splitlines()[0]}", hint="save it with numpy.save") from None


def random_feeds(
    inputs: Sequence[SignatureEntry], seed: int, sizes: Mapping[str, int], given: Mapping[str, Array]
) -> dict[str, Any]:
    """Seeded inputs for whatever is not given; a named dim has the size of a given input's, of `sizes`, or 1.

    Raises FeedError for an input that cannot be made up.
    """
    from irc.runtime import random_inputs

    missing = [entry for entry in inputs if entry.name not in given]
    return {**random_inputs(missing, {**_sizes_of(inputs, given), **sizes}, seed), **given}


def _sizes_of(inputs: Sequence[SignatureEntry], given: Mapping[str, Array]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for entry in inputs:
        array = given.get(entry.name)
        if array is not None and entry.shape is not None and len(entry.shape) == array.ndim:
            sizes.update({dim: size for dim, size in zip(entry.shape, array.shape, strict=True) if isinstance(dim, str)})
    return sizes

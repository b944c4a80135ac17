"""Calibration data: samples of what a model is going to be fed, checked before any work is done with them.

A source is an `.npz` file, a folder of `.npy` or `.npz` files, an iterable of dicts from input names to arrays, or nothing,
and then samples are made up. Law: samples come in one order, each time anew, and one at a time; every one of them is what
the model can be fed, and holds neither NaN nor Inf.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from irc.ir import DType, Graph, UsageError
from irc.runtime import FeedChecker, FeedError, SignatureEntry, read_inputs, scratch_folder, write_arrays

from .layouts import LABELS, Part, parts_of
from .made_up import MadeUp

Array = npt.NDArray[Any]
Feeds: TypeAlias = "dict[str, Any]"
Data: TypeAlias = "str | Path | Iterable[Mapping[str, Any]]"
"""Where samples come from: a path, or dicts of what a program is fed (`labels` may be among them)."""
Progress: TypeAlias = Callable[[int, int], object]
"""Told how many of how many samples are done, after each."""
MOST_KEPT = 1 << 16
"""Samples that an iterable without a length may give before it is taken to be endless."""
MADE_UP = 32
"""Samples that are made up where none are given."""
HELD_BACK, FEWEST_HELD = 5, 4
"""One sample of so many is held back, to measure the error on, and more of few samples, so that so many are."""


_WITH_NAN = frozenset(each.numpy for each in DType if each.is_float or each in (DType.C64, DType.C128))


@dataclass(frozen=True)
class Sample:
    """What the model is fed once, what was beside it for a metric, and where both are from."""

    feeds: Feeds
    labels: Mapping[str, Array]
    place: str


class Source(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        """The samples of these numbers, which rise."""
        ...


@dataclass(frozen=True)
class Calibration:
    """A stream of samples that can be walked any number of times. `warning` is what a user should know about them."""

    source: Source
    indices: Sequence[int]
    origin: str
    warning: str = ""

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Feeds]:
        """What the model is fed, one sample after another."""
        return (sample.feeds for sample in self.samples())

    def samples(self) -> Iterator[Sample]:
        """The samples with what lies beside their inputs."""
        return self.source.samples(self.indices)

    def evenly(self, most: int) -> Calibration:
        """At most `most` of the samples, evenly spread over all."""
        count = len(self.indices)
        if count <= most:
            return self
        return replace(self, indices=[self.indices[i * count // most] for i in range(most)])

    def split(self) -> tuple[Calibration, Calibration]:
        """What to calibrate with, and what is held back to measure the error: one in HELD_BACK, of few up to every other.

        Samples next to each other are often alike (sorted by class, frames of a film), so they are dealt out in turns. Of one
        sample alone both parts are made, with a warning.
        """
        count = len(self.indices)
        if count == 1:
            warning = "there is one sample: the error is measured on what the model was calibrated with"
            return self, replace(self, warning=f"{self.warning}; {warning}" if self.warning else warning)
        step = min(HELD_BACK, max(2, count // FEWEST_HELD))
        held = [self.indices[i] for i in range(step - 1, count, step)]
        kept = [self.indices[i] for i in range(count) if i % step != step - 1]
        return replace(self, indices=kept), replace(self, indices=held)


def read_calibration(
    data: Data | None,
    inputs: Sequence[SignatureEntry],
    *,
    graph: Graph | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Samples for a model with these inputs; `most` takes so many of them, evenly spread.

    Without data, samples are made up, with a warning: of sizes on which `graph` runs, and as indices into its tables.
    Names, shapes and types are checked for all, and every number of those that are taken, of which `progress` hears.
    Raises UsageError for what does not fit, with its place and what to do.
    """
    if most is not None and most < 1:
        raise UsageError(f"{most} samples are none", hint="take at least one")
    if data is None:
        made_up = MadeUp.fitting(inputs, graph, min(most or MADE_UP, MADE_UP))
        warning = "the model is calibrated with made-up inputs, whose ranges are not those of real ones: give some (--calib)"
        return Calibration(_MadeUpSamples(made_up), range(made_up.count), "made-up inputs", warning)
    if isinstance(data, str | Path):
        calibration = _of_files(Path(data), inputs)
    elif isinstance(data, list | tuple):
        given = _Given(cast("Sequence[object]", data), FeedChecker(inputs), frozenset(entry.name for entry in inputs))
        calibration = Calibration(given, range(len(given)), "the samples given")
    else:
        return _kept(_iterable(data), inputs, most, progress)
    if not len(calibration):
        raise UsageError("there are no samples", location=calibration.origin, hint="give at least one; some dozens are usual")
    calibration = calibration if most is None else calibration.evenly(most)
    for done, sample in enumerate(calibration.samples(), 1):
        _check_numbers(sample)
        if progress is not None:
            progress(done, len(calibration))
    return calibration


def _iterable(data: object) -> Iterable[object]:
    kind = type(data).__name__
    if isinstance(data, Iterable) and not isinstance(data, Mapping):
        return cast("Iterable[object]", data)
    hint = "give an .npz file, a folder of .npy or .npz files, or a list of dicts from input names to arrays, one a sample"
    raise UsageError(f"calibration data is a {kind}", hint=hint)


def _check_numbers(sample: Sample) -> None:
    for name, value in sample.feeds.items():
        for array in cast("Sequence[object]", value if isinstance(value, list) else [value]):
            if not isinstance(array, np.ndarray) or cast("Array", array).dtype not in _WITH_NAN:
                continue
            finite = np.isfinite(cast("Array", array))
            if not finite.all():
                word = "NaN" if np.isnan(cast("Array", array)).any() else "Inf"
                first = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), finite.shape))
                reason = f"input {name} holds {word} (first at {list(first)})"
                raise UsageError(reason, location=sample.place, hint="mend the sample or leave it out")


# Files


def _of_files(path: Path, inputs: Sequence[SignatureEntry]) -> Calibration:
    source = _Files(parts_of(path, inputs), FeedChecker(inputs))
    return Calibration(source, range(len(source)), str(path))


class _Files:
    """The samples of files, read when asked for."""

    def __init__(self, parts: Sequence[Part], checker: FeedChecker) -> None:
        self._parts = parts
        self._checker = checker
        self._ends = list(accumulate(part.count for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        start = 0
        while start < len(indices):
            number = bisect_right(self._ends, indices[start])
            stop = start
            while stop < len(indices) and indices[stop] < self._ends[number]:
                stop += 1
            part = self._parts[number]
            begin = self._ends[number] - part.count
            yield from self._of_part(part, [index - begin for index in indices[start:stop]])
            start = stop

    def _of_part(self, part: Part, indices: Sequence[int]) -> Iterator[Sample]:
        feeds = {name: cut.read(indices) for name, cut in part.cuts.items()}
        labels = {name: cut.read(indices) for name, cut in part.labels.items()}
        for index in indices:
            place = f"sample {index} of {part.place}" if part.count > 1 else part.place
            own = {name: next(arrays) for name, arrays in feeds.items()}
            yield Sample(_checked(self._checker, own, place), {name: next(arrays) for name, arrays in labels.items()}, place)


def _checked(checker: FeedChecker, feeds: object, place: str) -> Feeds:
    try:
        return checker.check(cast("Mapping[str, object]", feeds))
    except FeedError as error:
        raise UsageError(error.message.replace("the program", "the model"), location=place, hint=error.hint) from error


# Iterables


class _Given:
    """Samples that somebody holds in a list."""

    def __init__(self, items: Sequence[object], checker: FeedChecker, names: frozenset[str]) -> None:
        self._items, self._checker, self._names = items, checker, names

    def __len__(self) -> int:
        return len(self._items)

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        return (_sample(self._items[index], self._checker, self._names, index) for index in indices)


def _sample(item: object, checker: FeedChecker, names: frozenset[str], index: int) -> Sample:
    """A sample of what an iterable gives."""
    place = f"sample {index}"
    if not isinstance(item, Mapping):
        return Sample(_checked(checker, item, place), {}, place)  # which says what it is instead
    given = cast("Mapping[str, Any]", item)
    labels = {name: np.asarray(value) for name, value in given.items() if name in LABELS and name not in names}
    return Sample(_checked(checker, {n: v for n, v in given.items() if n not in labels}, place), labels, place)


class _Kept:
    """Samples that were walked once, in files of a temporary folder that goes when they do."""

    def __init__(self, inputs: Sequence[SignatureEntry]) -> None:
        self._inputs = inputs
        self._checker = FeedChecker(inputs)
        self._names = frozenset(entry.name for entry in inputs)
        stack = ExitStack()
        self._folder = stack.enter_context(scratch_folder("calibration"))
        self._finalizer = weakref.finalize(self, stack.close)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, item: object) -> None:
        """Check a sample and write it down."""
        sample = _sample(item, self._checker, self._names, self._count)
        _check_numbers(sample)
        arrays = {**sample.feeds, **sample.labels}
        for name, value in arrays.items():
            if not isinstance(value, np.ndarray):
                hint = "give all samples as a list"
                raise UsageError(f"input {name} is no array, and only arrays can be kept", location=sample.place, hint=hint)
        plain = {name: array.astype(str) if array.dtype == object else array for name, array in arrays.items()}
        write_arrays(self._path(self._count), plain)
        self._count += 1

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        for index in indices:
            arrays = cast("dict[str, Any]", read_inputs(self._inputs, self._path(index)))
            yield _sample(arrays, self._checker, self._names, index)

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.npz"


def _kept(data: Iterable[object], inputs: Sequence[SignatureEntry], most: int | None, progress: Progress | None) -> Calibration:
    """Samples of an iterable that may be walked only once, or in another order each time."""
    kept = _Kept(inputs)
    for item in data:
        kept.add(item)
        if progress is not None:
            progress(len(kept), most or 0)
        if len(kept) == most:
            break
        if len(kept) >= MOST_KEPT:
            hint = "end it, as with itertools.islice(samples, 512)"
            raise UsageError(f"the iterable has given {MOST_KEPT:,} samples and goes on", hint=hint)
    if not len(kept):
        raise UsageError("there are no samples: the iterable is empty", hint="give at least one; some dozens are usual")
    return Calibration(kept, range(len(kept)), "the samples given")


# Made up


@dataclass(frozen=True)
class _MadeUpSamples:
    """Samples made when asked for."""

    made_up: MadeUp

    def __len__(self) -> int:
        return self.made_up.count

    def samples(self, indices: Sequence[int]) -> Iterator[Sample]:
        return (Sample(self.made_up.feeds(index), {}, f"made-up sample {index}") for index in indices)

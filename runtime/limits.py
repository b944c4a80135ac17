"""How fast this machine computes and moves data at best, measured by a process of its own when asked, and kept in the cache.

`python -m irc.runtime.limits THREADS CACHE_BYTES` is that process. Arithmetic is a product of square f32 matrices by the
BLAS of NumPy; bandwidth is a copy, read and write counted once each, as STREAM does (McCalpin 1995).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .cache import read_entry, write_entry
from .children import run_child
from .errors import ArtifactError, EngineFailure
from .machine import Processor, processor
from .strict_json import parse_object

if TYPE_CHECKING:
    import numpy as np

_POOLS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_SECONDS = 0.5
_SHORTEST = 0.005  # so the clock is exact enough, and there are many chances of having all cores
_TIMEOUT = 60.0
_LARGEST_MATRIX = 8192
_SMALLEST_ARRAY = 64 << 20
_LARGEST_ARRAY = 1 << 30
_ARRAYS_PER_CACHE = 4  # so little of an array is still in the cache when it is read again


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a device does: f32 arithmetic in GFLOP/s (10⁹), and data to and from memory in GB/s (10⁹ bytes)."""

    gflops: float | None = None
    bandwidth: float | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Limits of this machine, None where they have not been measured; `note` says what was wrong with the cache."""

    limits: Limits | None
    note: str = ""


def measured_limits() -> Measured:
    """What an earlier `measure_limits` found for this processor and as many cores; nothing is measured here."""
    entry = read_entry(entry_name(processor()))
    if entry.content is None:
        return Measured(None, entry.note)
    try:
        return Measured(_parsed(entry.content))
    except ArtifactError as error:
        return Measured(None, f"the measured limits in the cache were ignored: {error}")


def measure_limits() -> Measured:
    """Measure on all cores this process may use, which takes about two seconds, and keep it in the cache.

    Whatever else runs makes a figure smaller, never larger; so where an earlier one is larger, that stays.

    Raises EngineFailure where the measuring process fails.
    """
    here = processor()
    arguments = str(here.cores), str(here.caches.l3 or here.caches.l2 or 0)
    said = run_child(__name__, *arguments, timeout=_TIMEOUT, environment=dict.fromkeys(_POOLS, str(here.cores)))
    try:
        limits = _larger(_parsed(said), measured_limits().limits or Limits())
    except ArtifactError as error:
        raise EngineFailure(f"measuring this machine failed: {error}") from error
    return Measured(limits, write_entry(entry_name(here), json.dumps(asdict(limits)).encode()))


def _larger(one: Limits, other: Limits) -> Limits:
    pairs = ((one.gflops, other.gflops), (one.bandwidth, other.bandwidth))
    return Limits(*(max((each for each in pair if each is not None), default=None) for pair in pairs))


def entry_name(here: Processor) -> str:
    """The cache entry that holds the limits of a processor with so many cores."""
    return f"limits-{hashlib.sha256(repr(here).encode()).hexdigest()[:32]}.json"


def _parsed(text: bytes) -> Limits:
    fields = parse_object(text, "limits")
    limits = Limits(fields.optional_number("gflops"), fields.optional_number("bandwidth"))
    fields.finish()
    return limits


def main(arguments: list[str]) -> int:
    """Measure and print one line of JSON."""
    threads, cache = map(int, arguments)
    limits = Limits(round(_gflops(), 1), round(_bandwidth(threads, cache), 1))
    print(json.dumps(asdict(limits)))
    return 0


def _gflops() -> float:
    import numpy as np

    size, taken = 512, 0.0
    while size < _LARGEST_MATRIX and taken < _SHORTEST:
        size *= 2
        a, b, out = (np.ones((size, size), np.float32) for _ in range(3))
        np.matmul(a, b, out)  # threads start, pages are touched
        taken = _seconds(lambda a=a, b=b, out=out: np.matmul(a, b, out))
    a, b, out = (np.ones((size, size), np.float32) for _ in range(3))
    np.matmul(a, b, out)
    return 2 * size**3 / _best(lambda: np.matmul(a, b, out)) / 1e9


def _bandwidth(threads: int, cache: int) -> float:
    import numpy as np

    count = min(max(_ARRAYS_PER_CACHE * cache, _SMALLEST_ARRAY), _LARGEST_ARRAY, _free_memory() // 4) // 4
    source, target = np.ones(count, np.float32), np.zeros(count, np.float32)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    best = _best(lambda: _copy(parts))
    return 2 * source.nbytes / best / 1e9


def _copy(parts: list[tuple[np.ndarray, np.ndarray]]) -> None:
    import numpy as np

    # NumPy lets go of the interpreter while it copies.
    workers = [threading.Thread(target=np.copyto, args=(target, source)) for source, target in parts[1:]]
    for worker in workers:
        worker.start()
    np.copyto(parts[0][1], parts[0][0])
    for worker in workers:
        worker.join()


def _best(action: Callable[[], object]) -> float:
    """The shortest of at least three times that `action` takes, for about half a second."""
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        times.append(_seconds(action))
    return min(times)


def _seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 4 * _LARGEST_ARRAY


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Fair measuring: one process per contestant, taking turns, so that no contestant's threads or good minute decide.

Load, first run, steady state, peak memory and error are measured and reported apart. One round of each contestant
follows the other; a contestant's figure is the median of its rounds.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from .strict_json import Fields, Json
from .workers import Worker


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something to measure: an `.irc` artifact, or an `.onnx` file, which runs in `engine` by itself.

    `optimize` False runs an `.onnx` file in ONNX Runtime with every optimization off; on an artifact both have no meaning. In
    OpenVINO a file runs for the shortest time of a call: with the engine `openvino` in f32, with `openvino-default` in what
    OpenVINO itself prefers.
    """

    name: str
    path: Path
    optimize: bool = True
    engine: str = "onnxruntime"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What every contestant of a comparison is put through.

    inputs: an `.npz` file of arrays by input name; None makes up seeded random ones, symbolic dims from `dims`, else 1.
    reference: an `.npz` file of outputs by name, from which the error is measured; None leaves the error out.
    threads: None leaves each contestant its own default. rounds x seconds is the time each contestant is measured.
    timeout: seconds that loading and the first run may take, and that a round may take beyond `seconds`.
    """

    inputs: Path | None = None
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    seed: int = 0
    reference: Path | None = None
    threads: int | None = None
    rounds: int = 5
    seconds: float = 0.4
    timeout: float = 300.0


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one contestant: runs made in it, and percentiles of their times in milliseconds."""

    runs: int
    p50: float
    p90: float
    p99: float
    throughput: float

    @staticmethod
    def from_json(fields: Fields) -> Round:
        """The round that a worker reports."""
        numbers = [fields.optional_number(name) or 0.0 for name in ("p50", "p90", "p99", "throughput")]
        return Round(fields.natural("runs"), numbers[0], numbers[1], numbers[2], numbers[3])


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one contestant came to.

    Times in milliseconds, medians over rounds; `throughput` in runs per second, one after another; `peak_memory` in
    MiB, the largest resident size of the contestant's process; `error` the relative L2 distance from the reference,
    the worst output's, infinite where an output is missing or has another shape, None without a reference.
    """

    name: str
    threads: int | None
    load_ms: float
    first_run_ms: float
    rounds: tuple[Round, ...]
    peak_memory: float
    error: float | None

    @property
    def p50(self) -> float:
        """The median time of a run in milliseconds."""
        return self._median(lambda each: each.p50)

    @property
    def p90(self) -> float:
        """The time in milliseconds that nine of ten runs keep."""
        return self._median(lambda each: each.p90)

    @property
    def p99(self) -> float:
        """The time in milliseconds that 99 of 100 runs keep; of few runs, the longest."""
        return self._median(lambda each: each.p99)

    @property
    def throughput(self) -> float:
        """Runs per second, one after another."""
        return self._median(lambda each: each.throughput)

    @property
    def runs(self) -> int:
        """Runs measured, in all rounds together."""
        return sum(each.runs for each in self.rounds)

    @property
    def times(self) -> tuple[float, ...]:
        """Each round's median in milliseconds: what `compare` pairs."""
        return tuple(each.p50 for each in self.rounds)

    def _median(self, read: Callable[[Round], float]) -> float:
        return statistics.median(read(each) for each in self.rounds)

    def to_json(self) -> Json:
        """The measurement as JSON; an infinite error is the string `inf`."""
        return {
            "name": self.name,
            "threads": self.threads,
            "load_ms": self.load_ms,
            "first_run_ms": self.first_run_ms,
            "p50_ms": self.p50,
            "p90_ms": self.p90,
            "p99_ms": self.p99,
            "throughput": self.throughput,
            "runs": self.runs,
            "rounds_ms": list(self.times),
            "peak_memory_mib": self.peak_memory,
            "error": "inf" if self.error == float("inf") else self.error,
        }


def measure(
    contestants: Sequence[Contestant],
    workload: Workload,
    on_round: Callable[[str, int], None] = lambda name, index: None,
) -> tuple[Measurement, ...]:
    """Measure contestants in turns; `on_round` hears of every round finished, by contestant and index.

    Raises EngineFailure, naming the contestant, where one cannot load or run, dies, or does not answer in time. However
    this ends, an interrupt included, no process is left behind.
    """
    rounds: list[list[Round]] = [[] for _ in contestants]
    with ExitStack() as stack:
        workers: list[Worker] = []
        ready: list[_Ready] = []
        for each in contestants:  # one after another: loading is measured too
            worker = stack.enter_context(Worker(each.name, arguments(each, workload)))
            ready.append(_Ready.from_json(worker.answer(workload.timeout)))
            workers.append(worker)
        for index in range(workload.rounds):
            for worker, mine in zip(workers, rounds, strict=True):
                worker.ask("go")
                mine.append(Round.from_json(worker.answer(workload.timeout + workload.seconds)))
                on_round(worker.name, index)
        peaks = [worker.finish(workload.timeout) for worker in workers]
    return tuple(
        Measurement(each.name, start.threads, start.load_ms, start.first_run_ms, tuple(mine), peak, start.error)
        for each, start, mine, peak in zip(contestants, ready, rounds, peaks, strict=True)
    )


def measure_reference(contestant: Contestant, workload: Workload, outputs: Path) -> None:
    """Run a contestant once in a process of its own and write its outputs to an `.npz` file: a reference for others.

    Raises EngineFailure as `measure` does.
    """
    words = [*arguments(contestant, workload), "--outputs", str(outputs)]
    with Worker(contestant.name, words) as worker:
        worker.answer(workload.timeout)
        worker.finish(workload.timeout)


@dataclass(frozen=True, slots=True)
class _Ready:
    """What a worker says once it has loaded and run once."""

    load_ms: float
    first_run_ms: float
    threads: int | None
    error: float | None

    @staticmethod
    def from_json(fields: Fields) -> _Ready:
        load, first = fields.optional_number("load_ms") or 0.0, fields.optional_number("first_run_ms") or 0.0
        threads = fields.optional_number("threads")
        error = float("inf") if fields.flag("differs") else fields.optional_number("error")
        return _Ready(load, first, None if threads is None else int(threads), error)


def arguments(contestant: Contestant, workload: Workload) -> list[str]:
    """What the process that measures a contestant is called with."""
    words = [str(contestant.path), "--seed", str(workload.seed), "--seconds", str(workload.seconds)]
    if workload.threads is not None:
        words += ["--threads", str(workload.threads)]
    if workload.inputs is not None:
        words += ["--inputs", str(workload.inputs)]
    if workload.reference is not None:
        words += ["--reference", str(workload.reference)]
    for name, size in workload.dims.items():
        words += ["--dim", f"{name}={size}"]
    words += ["--engine", contestant.engine]
    return words if contestant.optimize else [*words, "--no-optimize"]

"""Times of single kernels: a program is run in a session that records, and each kernel is traced back to what it stands for.

Law: no kernel counts twice, and one of which nobody knows what it stands for is kept without a source, never dropped. How an
engine's kernels are timed is said by its row of PROFILERS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .errors import ArtifactError, EngineFailure
from .executor import EngineFiles
from .manifest import Manifest, OptionValue, SignatureEntry
from .plan import PLAN, PLAN_FILE, Plan, Step
from .plan_executor import PlanExecutor
from .provenance import Provenance

WARM_UP = 2
"""Runs in front that are not counted."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel of the engine's graph and what a run spends in it.

    `ms` are milliseconds a run and `calls` how often a run calls it, which in a loop is not once; `sources` are the nodes of
    the lowered model that it stands for, and empty where that is not known; shapes read like `float[1,3,224,224]`, those of
    the first call. `implementation` is what the engine calls the code that ran, where it tells; `part` is the part of a
    program of several that it is in.
    """

    name: str
    op: str
    ms: float
    calls: float
    sources: tuple[Provenance, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    implementation: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a kernel in the last run: when it began, counted from the run's beginning, and how long it took, in µs.

    Of an engine that tells no times of single calls it is the mean, one call after the other.
    """

    kernel: Kernel
    start: float
    duration: float


@dataclass(frozen=True, slots=True)
class Passed:
    """A value at the boundary of a part, and its bytes; None for what is no array, or holds texts."""

    name: str
    bytes: int | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a program of several: milliseconds that it takes when run alone, what it takes and what it makes."""

    name: str
    engine: str
    run_ms: float
    takes: tuple[Passed, ...]
    makes: tuple[Passed, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What a run of a program is made of: `run_ms` milliseconds, and the kernels in the order in which they are first called.

    Times are the mean over the middle half of `runs`, of an engine that sums up its kernels itself that over all. `calls` are
    those of the last run, in order. A program of several `parts` runs one after the other; each is profiled by itself, on
    what those before it make. `gflops` are the f32 operations that its threads do at most, in 10⁹ a second, found between the
    runs, where the engine can tell.
    """

    engine: str
    threads: int
    runs: int
    run_ms: float
    kernels: tuple[Kernel, ...]
    calls: tuple[Call, ...]
    parts: tuple[Part, ...] = ()
    gflops: float | None = None

    @property
    def kernels_ms(self) -> float:
        """Milliseconds that a run spends in kernels."""
        return sum(kernel.ms for kernel in self.kernels)

    @property
    def unknown_ms(self) -> float:
        """Milliseconds that a run spends in kernels of which nobody knows what they stand for."""
        return sum(kernel.ms for kernel in self.kernels if not kernel.sources)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is profiled: files for one engine, with its options and the signature."""

    engine: str
    files: EngineFiles
    options: Mapping[str, OptionValue]
    inputs: tuple[SignatureEntry, ...]
    outputs: tuple[SignatureEntry, ...]


def profile(
    manifest: Manifest, files: EngineFiles, feeds: dict[str, object], runs: int = 20, threads: int | None = None
) -> Profile:
    """Run a program `runs` times on checked `feeds` in a session of its own, and what its kernels took.

    An engine that can record only so many calls makes fewer runs; `Profile.runs` says how many there were. Raises
    EngineFailure where an engine keeps no times or fails.
    """
    if manifest.engine == PLAN:
        return _profile_plan(manifest, files, feeds, runs, threads)
    subject = Subject(manifest.engine, files, manifest.engine_options, manifest.inputs, manifest.outputs)
    return _profile_one(subject, feeds, runs, threads)[0]


def _profile_one(subject: Subject, feeds: dict[str, object], runs: int, threads: int | None) -> tuple[Profile, list[object]]:
    if subject.engine not in PROFILERS:
        raise EngineFailure(f"the engine {subject.engine} keeps no times of its kernels")
    return PROFILERS[subject.engine](subject, feeds, runs, threads)


ProfileRun: TypeAlias = "Callable[[Subject, dict[str, object], int, int | None], tuple[Profile, list[object]]]"
"""Runs a subject so many times on feeds with so many threads: the profile, and the results; raises EngineFailure."""


def _onnxruntime(subject: Subject, feeds: dict[str, object], runs: int, threads: int | None) -> tuple[Profile, list[object]]:
    from .onnxruntime_profiling import profile_onnxruntime

    return profile_onnxruntime(subject, feeds, runs, threads)


def _openvino(subject: Subject, feeds: dict[str, object], runs: int, threads: int | None) -> tuple[Profile, list[object]]:
    from .openvino_profiling import profile_openvino

    return profile_openvino(subject, feeds, runs, threads)


def _tvm(subject: Subject, feeds: dict[str, object], runs: int, threads: int | None) -> tuple[Profile, list[object]]:
    from .cuda_executor import LAUNCHES_FILE
    from .native_profiling import profile_native

    if LAUNCHES_FILE in subject.files.files:
        hint = "NVIDIA's nsys names them; `irc inspect --plan` says what each does"
        raise EngineFailure("kernels on a GPU are not timed one by one", hint=hint)
    return profile_native(subject, feeds, runs, threads)


PROFILERS: dict[str, ProfileRun] = {"onnxruntime": _onnxruntime, "openvino": _openvino, "tvm": _tvm}
"""How the kernels of each engine are timed, by the engine's name; an engine of your own adds itself."""


# Programs of several parts


@dataclass(slots=True)
class _Recorder:
    """Stands for the executor of a step: it is profiled where it would run, on what it would run on."""

    step: Step
    files: EngineFiles
    runs: int
    threads: int | None
    found: list[tuple[Part, Profile]] = field(default_factory=list[tuple[Part, Profile]])

    def run(self, feeds: dict[str, object]) -> list[object]:
        step = self.step
        subject = Subject(step.engine, self.files, step.options, step.inputs, step.outputs)
        found, results = _profile_one(subject, feeds, self.runs, self.threads)
        made = {entry.name: value for entry, value in zip(step.outputs, results, strict=True)}
        self.found.append((Part(step.part, step.engine, found.run_ms, _passed(feeds), _passed(made)), found))
        return results

    def close(self) -> None:
        """Nothing to do: a profile leaves nothing open."""


def _profile_plan(manifest: Manifest, files: EngineFiles, feeds: dict[str, object], runs: int, threads: int | None) -> Profile:
    """The profiles of the steps of the variant that the feeds choose, one after the other."""
    found: list[tuple[Part, Profile]] = []

    def build(step: Step) -> _Recorder:
        if step.part not in files.parts:
            raise ArtifactError(f"the artifact has no folder {step.part}, which its plan needs")
        return _Recorder(step, files.parts[step.part], runs, threads, found)

    plan = Plan.from_bytes(files.read(PLAN_FILE))
    PlanExecutor(plan, manifest.inputs, manifest.outputs, build).run(feeds)
    kernels: list[Kernel] = []
    calls: list[Call] = []
    begin = 0.0
    for part, each in found:
        moved = {kernel: replace(kernel, part=part.name) for kernel in each.kernels}
        kernels.extend(moved.values())
        calls.extend(Call(moved[call.kernel], begin + call.start, call.duration) for call in each.calls)
        begin = max(begin + each.run_ms * 1e3, max((c.start + c.duration for c in calls), default=0.0))
    profiles: Sequence[Profile] = [each for _, each in found]
    return Profile(
        manifest.engine,
        max(each.threads for each in profiles),
        min(each.runs for each in profiles),
        sum(each.run_ms for each in profiles),
        tuple(kernels),
        tuple(calls),
        tuple(part for part, _ in found),
        max((each.gflops for each in profiles if each.gflops is not None), default=None),
    )


def _passed(values: Mapping[str, Any]) -> tuple[Passed, ...]:
    return tuple(Passed(name, _bytes(value)) for name, value in values.items())


def _bytes(value: Any) -> int | None:
    """How many bytes an array takes; arrays of objects, and what is none, do not tell."""
    return int(value.nbytes) if hasattr(value, "nbytes") and value.dtype.kind != "O" else None


def middle_mean(values: Sequence[float]) -> float:
    """The mean of the middle half: one slow run does not move it, and it is finer than the clock."""
    ordered = sorted(values)
    cut = len(ordered) // 4
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)

"""Times of our own kernels: each step of a plan is one call of one kernel, and the plan says what it does the work of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from time import perf_counter

from .executor import EngineFiles
from .native_executor import NativeExecutor, NativeOptions
from .native_plan import NativeStep
from .openvino_executor import OPS_FILE
from .profiling import WARM_UP, Call, Kernel, Profile, Subject, middle_mean
from .provenance import Provenance, read_sources

LIMITS = 8
"""How often the limit of arithmetic is measured between the runs: machines have faster and slower seconds, for both alike."""


def profile_native(subject: Subject, feeds: dict[str, object], runs: int, threads: int | None) -> tuple[Profile, list[object]]:
    """The profile of a program of kernels, as `profiling.profile` has it, and its results."""
    options = NativeOptions.from_manifest(subject.options)
    executor = NativeExecutor(subject.files, NativeOptions(threads or options.threads), subject.inputs, subject.outputs)
    results = [executor.run(feeds) for _ in range(WARM_UP)][-1]
    limits = [executor.gflops()]
    walls: list[float] = []
    noted: list[list[int]] = []
    for _ in range(runs):
        begin = perf_counter()
        results, times = executor.run_timed(feeds)
        walls.append(perf_counter() - begin)
        noted.append(times)
        if len(walls) * LIMITS >= runs * len(limits):
            limits.append(executor.gflops())
    calls_of = executor.times(feeds)
    executor.close()
    known = [each for each in limits if each is not None]
    gflops = middle_mean(known) if known else None
    sources = _sources(subject.files)
    took = [middle_mean(each) for each in zip(*noted, strict=True)]
    steps = enumerate(zip(executor.steps, took, calls_of, strict=True))
    kernels = [_kernel(i, step, ns / 1e6, often, sources) for i, (step, ns, often) in steps]
    begins = accumulate(noted[-1], initial=0)
    calls = [Call(kernel, begin / 1e3, ns / 1e3) for kernel, begin, ns in zip(kernels, begins, noted[-1], strict=False)]
    run_ms = middle_mean(walls) * 1e3
    return Profile(subject.engine, executor.threads, runs, run_ms, tuple(kernels), tuple(calls), gflops=gflops), results


def _kernel(index: int, step: NativeStep, ms: float, calls: int, known: Mapping[str, Provenance]) -> Kernel:
    sources = tuple(known.get(name, Provenance(name, "", (name,))) for name in step.ops)
    op = "+".join(dict.fromkeys(each.op for each in sources if each.op)) or "kernel"
    return Kernel(f"{index} {_short(step.ops) or step.kernel}", op, ms, calls, sources, (), (), step.kernel)


def _short(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more" if names else ""


def _sources(files: EngineFiles) -> dict[str, Provenance]:
    """The nodes of what was lowered, by name; an artifact may come without them."""
    if OPS_FILE not in files.files:
        return {}
    import onnx  # for profiles only: running an artifact does without

    return read_sources(onnx.load_model_from_string(files.read(OPS_FILE)).graph)

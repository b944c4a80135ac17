"""`irc doctor`: what is installed and whether it works; each engine is tried in a process of its own, so none can end ours."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING

from . import flags
from .output import Failure, Json, print_json, size

if TYPE_CHECKING:
    from irc.lowering import Engine

TIMEOUT = 120.0
"""Seconds that an engine may take for one op; a busy machine that reads libraries from disk needs some."""


class State(StrEnum):
    """How it is with something: `BROKEN` fails the check, what is `ABSENT` is not needed, `ODD` is worth a look."""

    OK = "ok"
    ABSENT = "-"
    ODD = "odd"
    BROKEN = "BROKEN"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `remedy` is what to do about it, where something can be done.

    `version` is that of a package or an engine that is installed.
    """

    section: str
    name: str
    state: State
    detail: str
    remedy: str = ""
    version: str = ""


def doctor_command(as_json: flags.JsonFlag = False) -> None:
    """Check this installation: packages, engines (each runs a one-op model), GPU, cache; what is missing, how to get it."""
    findings = [*_machine(), *_packages(), *_engines(), *_gpu(), *_cache()]
    broken = [each for each in findings if each.state is State.BROKEN]
    if as_json:
        rows: list[Json] = [{key: str(value) for key, value in asdict(each).items()} for each in findings]
        print_json({"good": not broken, "python": platform.python_version(), "findings": rows})
    else:
        _print(findings)
    if broken:
        names = ", ".join(each.name for each in broken)
        raise Failure(f"this installation is not whole: {names}", broken[0].remedy or None)
    if not as_json:
        print("\nall that is needed works")


def _print(findings: list[Finding]) -> None:
    width = max(len(each.name) for each in findings) + 2
    section = ""
    for each in findings:
        if each.section != section:
            print(f"{'' if not section else chr(10)}{each.section}")
            section = each.section
        version = f"{each.version:<15}" if each.version else ""
        print(f"  {each.state:<8}{each.name:<{width}}{version}{each.detail}")
        if each.remedy:
            print(f"  {'':<8}{'':<{width}}do: {each.remedy}")


# What is looked at


def _machine() -> Iterator[Finding]:
    from irc.lowering import find_target

    from .targets import headline

    here = find_target("cpu")
    yield Finding("machine", "processor", State.OK, headline(here))
    yield Finding("machine", "system", State.OK, platform.platform())
    limits = here.limits
    if limits is None:
        yield Finding("machine", "limits", State.ABSENT, "not measured", "irc targets --measure")
    else:
        yield Finding("machine", "limits", State.OK, f"{limits.gflops} GFLOP/s in f32, {limits.bandwidth} GB/s")


_NEEDED = (
    ("irc-compiler", "irc"),
    ("numpy", "arrays"),
    ("onnx", "schemas and shape inference"),
    ("ml_dtypes", "bf16, fp8 and int4 in NumPy"),
    ("protobuf", "model files"),
    ("lark", "the text form and the rules"),
    ("safetensors", "weights"),
    ("rich", "tables"),
    ("typer", "this command line"),
)
_OPTIONAL = (
    ("torch", "PyTorch models", "torch"),
    ("onnxscript", "PyTorch models through torch.onnx", "torch"),
    ("apache-tvm", "kernels of our own", "tvm"),
    ("cuda-bindings", "NVRTC, for kernels of our own on GPUs", "cuda"),
)


def _packages() -> Iterator[Finding]:
    yield Finding("packages", "python", State.OK, platform.python_version())
    for name, purpose in _NEEDED:
        version = _version(name)
        if version:
            yield Finding("packages", name, State.OK, purpose, version=version)
        elif name == "irc-compiler":
            yield Finding("packages", name, State.ODD, "runs from its sources, without being installed")
        else:
            yield Finding("packages", name, State.BROKEN, f"missing: {purpose}", "pip install irc-compiler")
    for name, purpose, extra in _OPTIONAL:
        version = _version(name)
        if version:
            yield Finding("packages", name, State.OK, purpose, version=version)
        else:
            yield Finding("packages", name, State.ABSENT, f"not installed: {purpose}", _extra(extra))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _extra(name: str) -> str:
    return f"pip install 'irc-compiler[{name}]'"


def _engines() -> Iterator[Finding]:
    from irc.lowering import ENGINES, FAMILIES, Kind, find_target

    targets = [target for name in FAMILIES if (target := find_target(name)).is_here]
    for engine in ENGINES:
        if not engine.version:
            state = State.BROKEN if engine is ENGINES[0] else State.ABSENT
            remedy = "pip install onnxruntime" if engine is ENGINES[0] else _extra(engine.name)
            yield Finding("engines", engine.name, state, "not installed", remedy)
            continue
        for target in targets:
            if not engine.serves(target):
                continue
            runs = engine.runs(target)
            if engine.name == "tvm" and target.kind is Kind.CPU and (missing := _no_linker()) is not None:
                yield missing
            elif runs:
                yield _tried(engine, target.name)
            else:
                reason = f"not on {target.name}: {runs.reason}"
                yield Finding("engines", engine.name, State.ABSENT, reason, version=engine.version)


def _no_linker() -> Finding | None:
    """What is missing to link kernels for this machine, if anything is."""
    from irc.ir import UnsupportedError
    from irc.lowering import find_target
    from irc.lowering.tvm import compiler, llvm_target

    try:
        compiler(llvm_target(find_target("cpu")).triple)
    except UnsupportedError as error:
        return Finding("engines", "tvm", State.ABSENT, error.message, error.hint or "")
    return None


def _tried(engine: Engine, target: str) -> Finding:
    """Whether the engine runs one op on the target, in a process that may die or hang."""
    from irc.lowering.onnxruntime import package
    from irc.runtime import EngineFailure, RunError, parse_object, run_child

    try:
        said = run_child("irc.tools.cli.trial", engine.name, target, timeout=TIMEOUT)
        failure = parse_object(said.splitlines()[-1] if said else b"", "its answer").optional_text("failure")
    except EngineFailure as error:
        failure = error.message
    except RunError as error:
        failure = str(error)
    if failure is None:
        ran = f"ran a one-op model on {target}{_linked(engine, target)}"
        return Finding("engines", engine.name, State.OK, ran, version=engine.version)
    name = package().name if engine.name == "onnxruntime" else engine.name
    remedy = f"pip install --force-reinstall --no-deps {name}=={engine.version}"
    if engine.name == "tvm":
        remedy = _extra("tvm")
    return Finding("engines", engine.name, State.BROKEN, f"fails on {target}: {failure}", remedy, engine.version)


def _linked(engine: Engine, target: str) -> str:
    """With what an engine that links its programs did so."""
    from irc.lowering import Kind, find_target
    from irc.lowering.tvm import compiler, llvm_target

    if engine.name != "tvm":
        return ""
    if find_target(target).kind is not Kind.CPU:
        return ", compiled by NVRTC"
    command = compiler(llvm_target(find_target("cpu")).triple)
    return f", linked by {'ziglang' if 'ziglang' in command else command[0]}"


def _gpu() -> Iterator[Finding]:
    from irc.lowering.onnxruntime import GPU, install_gpu, package
    from irc.runtime import cuda_driver

    driver, wheel = cuda_driver(), package()
    wanted = wheel.name == GPU or GPU in wheel.others
    if not driver.gpus:
        state = State.ODD if wanted or driver.version else State.ABSENT
        yield Finding("gpu", "driver", state, driver.reason)
    else:
        yield Finding("gpu", "driver", State.OK, f"runs CUDA up to {driver.version}")
    for gpu in driver.gpus:
        capability = f"sm_{gpu.compute_capability[0]}{gpu.compute_capability[1]}"
        detail = f"{gpu.name}, {capability}, {gpu.multiprocessors} multiprocessors, {size(gpu.memory)}"
        yield Finding("gpu", "device", State.OK, detail)
    yield from _libraries(bool(driver.gpus), wheel.name == GPU)
    if GPU in wheel.others:
        state = State.BROKEN if driver.gpus else State.ODD
        detail = f"the files of {wheel.name} took the place of those of {GPU}, which is installed too"
        yield Finding("gpu", "onnxruntime/", state, detail, install_gpu())
    elif wheel.name == GPU:
        detail = f"holds {GPU}{''.join(f'; {other} is installed too' for other in wheel.others)}"
        yield Finding("gpu", "onnxruntime/", State.OK, detail)
    elif driver.gpus:
        yield Finding("gpu", "onnxruntime/", State.ABSENT, f"holds {wheel.name}, which has no kernels for GPUs", install_gpu())


def _libraries(gpu: bool, kernels: bool) -> Iterator[Finding]:
    """The libraries of CUDA: they are needed where there are both a `gpu` and ONNX Runtime's `kernels` for it."""
    from irc.runtime import cuda_libraries

    places = cuda_libraries()
    for place in sorted({*places.values()} - {""}):
        names = " ".join(name for name, each in places.items() if each == place)
        yield Finding("gpu", "CUDA libraries", State.OK, f"in {place}: {names}")
    missing = [name for name, place in places.items() if not place]
    if missing:
        state = State.BROKEN if gpu and kernels else State.ABSENT
        yield Finding("gpu", "CUDA libraries", state, f"not found: {' '.join(missing)}", _extra("cuda") if gpu else "")


def _cache() -> Iterator[Finding]:
    from irc.runtime import LIMIT_VARIABLE, cache_folder, measured_limits, room, why_no_cache

    folder, reason = cache_folder(), why_no_cache()
    if reason:
        yield Finding("cache", "folder", State.ODD, f"{folder} is not used: {reason}", "set IRC_CACHE_DIR to a folder of yours")
        return
    files = [each.stat().st_size for each in folder.iterdir() if each.is_file()]
    yield Finding("cache", "folder", State.OK, f"{folder} can be written; {len(files)} files, {size(sum(files))}")
    kept = room()
    count = "1 artifact or learnt weights" if kept.count == 1 else f"{kept.count} artifacts and learnt weights"
    yield Finding("cache", "artifacts", State.OK, f"{count}, {size(kept.used)} of {size(kept.limit)} ({LIMIT_VARIABLE})")
    damaged = measured_limits().note
    if damaged:
        yield Finding("cache", "limits", State.ODD, damaged, "irc targets --measure")

"""Kernels as object files: each is built once, several at a time in processes of their own, and kept in the user's cache.

Law: what is in the cache is what would be built: its name follows from all that a build depends on. Where all is there, TVM is
not even imported.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from irc.ir import UnsupportedError
from irc.runtime import Worker, read_entry, scratch_folder, write_entry

from ..processors import PROCESSORS
from ..targets import ARM, Kind, Target
from .adapter import installed_version
from .kernel import Kernel

FORMAT = 1
"""Goes up when `adapter` makes other objects of the same text."""

LLVM_FEATURES: Mapping[str, tuple[str, ...]] = {
    "x86-64": (
        *("sse2", "sse4.2", "avx", "f16c", "fma", "avx2", "avxvnni"),
        *("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx512vnni", "avx512bf16", "avx512fp16"),
        *("amx-tile", "amx-int8", "amx-bf16", "amx-fp16"),
    ),
    ARM: ("neon", "fullfp16", "dotprod", "bf16", "i8mm", "sve", "sve2", "sme"),
}
"""The instruction sets that LLVM is told of, by architecture; we call all of them as LLVM does."""

_TRIPLES = {"x86-64": "x86_64-linux-gnu", ARM: "aarch64-linux-gnu"}
_GENERIC = {"x86-64": "x86-64", ARM: "generic"}
_TIMEOUT = 300.0
"""Seconds that TVM may take for one kernel."""


@dataclass(frozen=True, slots=True)
class LlvmTarget:
    """LLVM's names of a target; `features` each begin with + or -."""

    triple: str
    processor: str
    features: tuple[str, ...]


def llvm_target(target: Target) -> LlvmTarget:
    """What LLVM calls a CPU target; raises UnsupportedError for one that objects cannot be made for."""
    if target.kind is not Kind.CPU or target.architecture not in _TRIPLES:
        raise UnsupportedError(f"there are no kernels for the target {target.name}")
    if target.is_here and sys.platform != "linux":
        raise UnsupportedError(f"there are kernels for Linux only, and this is {platform.system()}")
    known = PROCESSORS.get(target.processor)
    has = set(known.features) if known else set[str]()
    names = LLVM_FEATURES[target.architecture]
    more = tuple(f"+{name}" for name in names if name in target.features and name not in has)
    fewer = tuple(f"-{name}" for name in names if name in has and name not in target.features)
    processor = target.processor if known else _GENERIC[target.architecture]
    return LlvmTarget(_TRIPLES[target.architecture], processor, more + fewer)


def objects(kernels: Iterable[Kernel], target: Target, jobs: int, deadline: float = math.inf) -> dict[str, bytes]:
    """The ELF objects of kernels, by their names, in the order of the kernels; at most `jobs` are built at a time.

    Raises UnsupportedError where TVM is not installed or has nothing for the target, and EngineFailure where a build fails,
    or is not done at `deadline`, a time of `time.monotonic`.
    """
    texts = {kernel.name: kernel.text for kernel in kernels}
    llvm, version = llvm_target(target), installed_version()
    if not version:
        raise UnsupportedError("TVM, which makes the kernels, is not installed", hint="pip install 'irc-compiler[tvm]'")
    entries = {name: _entry(text, llvm, version) for name, text in texts.items()}
    kept = {name: read_entry(entry).content for name, entry in entries.items()}
    missing = {name: texts[name] for name, content in kept.items() if content is None}
    built = _build(missing, llvm, entries, jobs, deadline) if missing else {}
    return {name: built[name] if content is None else content for name, content in kept.items()}


def _entry(text: str, llvm: LlvmTarget, version: str) -> str:
    """The name in the cache of the object of a text."""
    parts = (str(FORMAT), version, llvm.triple, llvm.processor, ",".join(llvm.features), text)
    return f"kernel-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.o"


def _build(
    texts: Mapping[str, str], llvm: LlvmTarget, entries: Mapping[str, str], jobs: int, deadline: float
) -> dict[str, bytes]:
    """Objects by name, built and put in the cache; whatever happens, no process is left behind."""
    jobs = max(1, min(jobs, len(texts)))
    # The longest first: a process that gets one last keeps all others waiting.
    rest = deque(sorted(texts, key=lambda name: (-len(texts[name]), name)))
    built: dict[str, bytes] = {}
    workers: list[Worker] = []
    with scratch_folder("kernels") as folder, ThreadPoolExecutor(jobs) as threads:

        def serve() -> None:
            arguments = (str(folder), llvm.triple, llvm.processor, *llvm.features)
            with Worker("building kernels", arguments, f"{__package__}.building_worker") as worker:
                workers.append(worker)
                while rest:
                    try:
                        name = rest.popleft()
                    except IndexError:  # another thread was faster
                        return
                    built[name] = _ask(worker, name, texts[name], folder, deadline)
                    write_entry(entries[name], built[name])

        futures = [threads.submit(serve) for _ in range(jobs)]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        except BaseException:  # Ctrl-C too: the threads end with their processes
            rest.clear()
            for worker in workers:
                worker.kill()
            raise
    return built


def _ask(worker: Worker, name: str, text: str, folder: Path, deadline: float) -> bytes:
    worker.ask(json.dumps({"name": name, "text": text}))
    fields = worker.answer(min(_TIMEOUT, max(0.0, deadline - time.monotonic())))
    path = folder / fields.text("file")
    fields.finish()
    content = path.read_bytes()
    path.unlink()
    return content

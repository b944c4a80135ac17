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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from irc.ir import UnsupportedError

from ..processors import PROCESSORS
from ..targets import ARM, Kind, Target
from .adapter import installed_version
from .kernel import Kernel
from .making import Maker, Task, made

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
    tasks = {name: Task(_entry(text, llvm, version), {"text": text}) for name, text in texts.items()}
    arguments = (llvm.triple, llvm.processor, *llvm.features)
    return made(tasks, Maker("building kernels", f"{__package__}.building_worker", arguments), jobs, deadline)


def _entry(text: str, llvm: LlvmTarget, version: str) -> str:
    """The name in the cache of the object of a text."""
    parts = (str(FORMAT), version, llvm.triple, llvm.processor, ",".join(llvm.features), text)
    return f"kernel-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.o"

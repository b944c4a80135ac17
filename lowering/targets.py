"""Targets: what a program is compiled for, described once and looked up by name."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from irc.ir import UnsupportedError, UsageError, closest

_INSTRUCTION_SETS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "neon", "asimd", "sve")


@dataclass(frozen=True)
class Target:
    """A machine to compile for: its name, what it is, and whether irc can lower to it here."""

    name: str
    description: str
    available: bool
    reason: str = ""

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that serve it, best first."""
        return ("onnxruntime",) if self.available else ()


def physical_cores() -> int:
    """The physical cores this process may use; hyper-threads of one core count once where the system tells."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores: set[str] = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return max(1, len(cores))


def instruction_sets() -> tuple[str, ...]:
    """The vector instruction sets of this processor that matter to kernels, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return ()
    for line in info.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            flags = set(line.split(":", 1)[1].split())
            return tuple(name for name in _INSTRUCTION_SETS if name in flags)
    return ()


def _this_cpu() -> Target:
    words = [platform.machine() or "unknown processor", f"{physical_cores()} cores", *instruction_sets()]
    return Target("cpu", "this machine: " + ", ".join(words), True)


TARGETS: tuple[Target, ...] = (
    _this_cpu(),
    Target("cuda", "NVIDIA GPUs", False, "no engine for it is built in yet"),
)


def find_target(name: str) -> Target:
    """The target called `name`. Raises UsageError for an unknown one, UnsupportedError for one that cannot be served."""
    for target in TARGETS:
        if target.name == name:
            if not target.available:
                raise UnsupportedError(f"target '{name}' cannot be served: {target.reason}", hint="use --target cpu")
            return target
    near = None if name == "gpu" else closest(name, [t.name for t in TARGETS])  # it is spelled like cpu
    hint = near or f"there are {', '.join(t.name for t in TARGETS)}"
    raise UsageError(f"there is no target '{name}'", hint=hint)

"""What processor this machine has: its cores, instruction sets and caches, as far as the system tells.

Nothing is read before it is asked for, and then once. What a system does not tell is unknown: None, or left out.
"""

from __future__ import annotations

import functools
import itertools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = Path("/sys/devices/system/cpu")

_ARCHITECTURES = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}

BASELINE: Mapping[str, tuple[str, ...]] = {"x86-64": ("sse2",), "arm64": ("neon",)}
"""What every processor of an architecture has."""

FEATURES: Mapping[str, str] = {
    "sse2": "sse2",
    "sse4_2": "sse4.2",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "avx_vnni": "avxvnni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512cd": "avx512cd",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
    "amx_fp16": "amx-fp16",
    "asimd": "neon",
    "asimdhp": "fullfp16",
    "asimddp": "dotprod",
    "bf16": "bf16",
    "i8mm": "i8mm",
    "sve": "sve",
    "sve2": "sve2",
    "sme": "sme",
}
"""The instruction sets that matter to kernels, weakest first: as Linux writes them, and as LLVM and we do."""


@dataclass(frozen=True, slots=True)
class Caches:
    """Sizes in bytes, None where unknown: `l1d` and `l2` of one core, `l3` of all cores that share one."""

    l1d: int | None = None
    l2: int | None = None
    l3: int | None = None


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor as this process may use it: `architecture` is `x86-64`, `arm64`, or the system's word for another.

    `features` are names of FEATURES in its order; `cores` are physical ones within affinity and quota.
    """

    architecture: str
    model: str
    features: tuple[str, ...]
    cores: int
    caches: Caches


@functools.cache
def processor() -> Processor:
    """The processor of this machine."""
    architecture = _ARCHITECTURES.get(platform.machine().lower(), platform.machine() or "unknown")
    if sys.platform == "darwin":
        return read_sysctl(_sysctl(), architecture)
    model, features = read_cpuinfo(_first_processor(), architecture)
    return Processor(architecture, model, features, physical_cores(), _caches())


@functools.cache
def physical_cores() -> int:
    """Physical cores this process may run on, at least 1: its affinity and its control group's quota are kept."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    siblings = {_read(_SYSTEM / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed}
    return max(1, min(len(siblings), _quota()))


def read_cpuinfo(text: str, architecture: str) -> tuple[str, tuple[str, ...]]:
    """Name and instruction sets of the first processor in the text of /proc/cpuinfo; at least the baseline's."""
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    own = {ours for theirs, ours in FEATURES.items() if theirs in flags}
    arm = _ARM_PARTS.get(fields.get("CPU part", ""), "") if fields.get("CPU implementer") == "0x41" else ""
    return fields.get("model name", arm), in_order({*own, *BASELINE.get(architecture, ())})


_ARM_PARTS = {
    "0xd03": "cortex-a53",
    "0xd08": "cortex-a72",
    "0xd0b": "cortex-a76",
    "0xd0c": "neoverse-n1",
    "0xd40": "neoverse-v1",
    "0xd49": "neoverse-n2",
    "0xd4f": "neoverse-v2",
}
"""Arm's own processors by the part number in their identification register; Linux gives them no name."""


def _first_processor() -> str:
    """What /proc/cpuinfo says of the first processor; the rest is not read, for hundreds of them take their time."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return "".join(itertools.takewhile(str.strip, file))
    except OSError:
        return ""


def in_order(features: set[str]) -> tuple[str, ...]:
    """Instruction sets in the order of FEATURES."""
    return tuple(name for name in FEATURES.values() if name in features)


def cache_size(text: str) -> int | None:
    """Bytes of a size as Linux writes it, such as `32K`; None for what is no size."""
    match = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]] if match else None


def _caches() -> Caches:
    sizes: dict[str, int | None] = {}
    for folder in sorted(_SYSTEM.glob("cpu0/cache/index*")):
        if _read(folder / "type") in ("Data", "Unified"):
            sizes[_read(folder / "level")] = cache_size(_read(folder / "size"))
    return Caches(sizes.get("1"), sizes.get("2"), sizes.get("3"))


def _quota() -> int:
    """Cores that the control group grants, rounded up; very many where there is no limit."""
    limit, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if not limit:  # the older form of control groups
        limit, period = _read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), _read("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if limit.isdigit() and period.isdigit() and int(limit) > 0 and int(period) > 0:
        return -(-int(limit) // int(period))
    return 1 << 30


_APPLE = {"FEAT_FP16": "fullfp16", "FEAT_DotProd": "dotprod", "FEAT_BF16": "bf16", "FEAT_I8MM": "i8mm", "FEAT_SME": "sme"}
"""What macOS calls instruction sets of Arm."""


def _sysctl() -> str:
    try:
        done = subprocess.run(["sysctl", "hw", "machdep.cpu"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def read_sysctl(text: str, architecture: str) -> Processor:
    """The processor in what `sysctl hw machdep.cpu` prints on macOS, of unlike cores the fastest kind."""
    fields = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    def number(*names: str) -> int | None:
        return next((int(fields[name]) for name in names if fields.get(name, "").isdigit()), None)

    flags = f"{fields.get('machdep.cpu.features', '')} {fields.get('machdep.cpu.leaf7_features', '')}".lower().split()
    intel = {"avx1.0": "avx", **{name: name for name in FEATURES.values()}}
    own = {intel[flag] for flag in flags if flag in intel}
    own |= {ours for theirs, ours in _APPLE.items() if fields.get(f"hw.optional.arm.{theirs}") == "1"}
    caches = Caches(
        number("hw.perflevel0.l1dcachesize", "hw.l1dcachesize"),
        number("hw.perflevel0.l2cachesize", "hw.l2cachesize"),
        number("hw.l3cachesize"),
    )
    cores = number("hw.physicalcpu") or physical_cores()
    features = in_order({*own, *BASELINE.get(architecture, ())})
    return Processor(architecture, fields.get("machdep.cpu.brand_string", ""), features, cores, caches)


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""

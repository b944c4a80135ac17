"""The processors and GPUs that targets may name, as a visible table: what each has beyond its architecture's baseline.

Instruction sets are those of LLVM's processor definitions, as far as they matter to kernels; caches those of one core in the
makers' manuals. What differs between models of one name, such as the L3, is left unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from irc.runtime import Caches

_V2 = ("sse2", "sse4.2")
_V3 = (*_V2, "avx", "f16c", "fma", "avx2")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_VNNI = (*_V4, "avx512vnni")
_BF16 = (*_VNNI, "avx512bf16")
_AMX = (*_BF16, "avxvnni", "avx512fp16", "amx-tile", "amx-int8", "amx-bf16")
_ARM82 = ("neon", "fullfp16", "dotprod")
_ARM86 = (*_ARM82, "bf16", "i8mm")
_K, _M = 1 << 10, 1 << 20


@dataclass(frozen=True, slots=True)
class Named:
    """A processor or a level of instruction sets that has a name."""

    architecture: str
    features: tuple[str, ...]
    caches: Caches = field(default_factory=Caches)


def _x86(features: tuple[str, ...], l1d: int | None = None, l2: int | None = None) -> Named:
    return Named("x86-64", features, Caches(l1d, l2))


def _arm(features: tuple[str, ...], l1d: int | None = None, l2: int | None = None) -> Named:
    return Named("arm64", features, Caches(l1d, l2))


LEVELS: Mapping[str, Named] = {
    "x86-64": _x86(("sse2",)),
    "x86-64-v2": _x86(_V2),
    "x86-64-v3": _x86(_V3),
    "x86-64-v4": _x86(_V4),
    "avx": _x86((*_V2, "avx")),
    "avx2": _x86(_V3),
    "avx512": _x86(_V4),
    "avx512vnni": _x86(_VNNI),
    "avx512bf16": _x86(_BF16),
    "amx": _x86(_AMX),
}
"""Levels of instruction sets, which processors of several makers have; a level without a number brings the lower ones."""

PROCESSORS: Mapping[str, Named] = {
    # Intel
    "nehalem": _x86(_V2, 32 * _K, 256 * _K),
    "sandybridge": _x86((*_V2, "avx"), 32 * _K, 256 * _K),
    "haswell": _x86(_V3, 32 * _K, 256 * _K),
    "broadwell": _x86(_V3, 32 * _K, 256 * _K),
    "skylake": _x86(_V3, 32 * _K, 256 * _K),
    "skylake-avx512": _x86(_V4, 32 * _K, _M),
    "cascadelake": _x86(_VNNI, 32 * _K, _M),
    "cooperlake": _x86(_BF16, 32 * _K, _M),
    "icelake-server": _x86(_VNNI, 48 * _K, 1280 * _K),
    "alderlake": _x86((*_V3, "avxvnni"), 48 * _K, 1280 * _K),
    "sapphirerapids": _x86(_AMX, 48 * _K, 2 * _M),
    "emeraldrapids": _x86(_AMX, 48 * _K, 2 * _M),
    "graniterapids": _x86((*_AMX, "amx-fp16"), 48 * _K, 2 * _M),
    # AMD
    "znver1": _x86(_V3, 32 * _K, 512 * _K),
    "znver2": _x86(_V3, 32 * _K, 512 * _K),
    "znver3": _x86(_V3, 32 * _K, 512 * _K),
    "znver4": _x86(_BF16, 32 * _K, _M),
    "znver5": _x86((*_BF16, "avxvnni"), 48 * _K, _M),
    # Arm
    "cortex-a53": _arm(("neon",), 32 * _K),
    "cortex-a72": _arm(("neon",), 32 * _K),
    "cortex-a76": _arm(_ARM82, 64 * _K),
    "neoverse-n1": _arm(_ARM82, 64 * _K, _M),
    "neoverse-v1": _arm((*_ARM86, "sve"), 64 * _K, _M),
    "neoverse-n2": _arm((*_ARM86, "sve", "sve2"), 64 * _K),
    "neoverse-v2": _arm((*_ARM86, "sve", "sve2"), 64 * _K),
    "apple-m1": _arm(_ARM82, 128 * _K),
    "apple-m2": _arm(_ARM86, 128 * _K),
    "apple-m3": _arm(_ARM86, 128 * _K),
    "apple-m4": _arm((*_ARM86, "sme"), 128 * _K),
}
"""Processors by maker and age, under LLVM's names."""

NAMED: Mapping[str, Named] = {**LEVELS, **PROCESSORS}
"""All that may stand behind the colon of a CPU target."""

CAPABILITIES: Mapping[tuple[int, int], str] = {
    (7, 0): "V100",
    (7, 2): "Jetson Xavier",
    (7, 5): "T4, RTX 20",
    (8, 0): "A100",
    (8, 6): "A10, A40, RTX 30",
    (8, 7): "Jetson Orin",
    (8, 9): "L4, L40, RTX 40",
    (9, 0): "H100, H200",
    (10, 0): "B200",
    (10, 3): "B300",
    (12, 0): "RTX 50",
    (12, 1): "GB10",
}
"""Compute capabilities of NVIDIA GPUs, and some GPUs that have them."""

_TENSOR_CORES = (
    ((7, 0), "tensor-f16"),
    ((7, 2), "tensor-i8"),
    ((8, 0), "tensor-bf16"),
    ((8, 0), "tensor-tf32"),
    ((8, 9), "tensor-f8"),
    ((10, 0), "tensor-f4"),
)


def gpu_features(capability: tuple[int, int]) -> tuple[str, ...]:
    """The element types that tensor cores of a compute capability multiply."""
    return tuple(name for since, name in _TENSOR_CORES if capability >= since)

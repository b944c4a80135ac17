"""Targets: what a program is compiled for, described in full from a short name, from this machine, or from a file.

A target need not be here: what would have to be measured on it is then decided by rules. Nothing is asked of the machine
before a target is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from irc.ir import UsageError, closest
from irc.runtime import BASELINE, Caches, Gpu, Limits, cuda_driver, measured_limits, processor

from .processors import CAPABILITIES, NAMED, PROCESSORS, gpu_features


class Kind(StrEnum):
    """Which kind of device a target is."""

    CPU = "cpu"
    CUDA = "cuda"


_VNNI = frozenset({"avx512vnni", "avxvnni"})
_BF16 = frozenset({"avx512bf16", "amx-bf16", "bf16"})


@dataclass(frozen=True)
class Target:
    """What to compile for; what is not known of it is None or empty.

    `name` is as the user wrote it. Of a CPU, `architecture` is `x86-64` or `arm64`, `features` are the instruction sets that
    it has for sure, weakest first, and `cores` physical ones. Of a GPU, `architecture` is `nvidia`, `features` say what its
    tensor cores multiply, `memory` is in bytes, and the L2 stands in `caches`. `not_here` says why programs for it cannot
    run on this machine.
    """

    name: str
    kind: Kind
    architecture: str
    processor: str = ""
    features: tuple[str, ...] = ()
    cores: int | None = None
    caches: Caches = field(default_factory=Caches)
    limits: Limits | None = None
    compute_capability: tuple[int, int] | None = None
    multiprocessors: int | None = None
    memory: int | None = None
    not_here: str = ""

    @property
    def is_here(self) -> bool:
        """Whether programs for it run, and can be measured, on this machine."""
        return not self.not_here

    @property
    def saturates_bytes(self) -> bool:
        """Whether it has no fast exact sums of u8 by i8: x86-64 without VNNI, whose VPMADDUBSW adds two products in 16 bits."""
        return self.kind is Kind.CPU and self.architecture == "x86-64" and not _VNNI.intersection(self.features)

    @property
    def multiplies_bf16(self) -> bool:
        """Whether it has products of bf16: elsewhere they are those of f32, between conversions."""
        return self.kind is Kind.CUDA or not _BF16.isdisjoint(self.features)


ARM = "arm64"
FAMILIES = ("cpu", ARM, "cuda")
"""The targets that have no colon in their names."""

TARGETS: tuple[str, ...] = (
    "cpu",
    *(f"cpu:{name}" for name, named in NAMED.items() if named.architecture != ARM),
    ARM,
    *(f"{ARM}:{name}" for name, named in NAMED.items() if named.architecture == ARM),
    "cuda",
    *(f"cuda:sm_{major}{minor}" for major, minor in CAPABILITIES),
)
"""The names that `find_target` knows."""


def find_target(text: str) -> Target:
    """The target called `text`, one of TARGETS or a path to a TOML file. Raises UsageError for an unknown or wrong one."""
    if text.endswith(".toml"):
        from .target_files import read_target  # it looks up the target that a file starts from

        return located(read_target(Path(text), text))
    return located(known_target(text))


def known_target(text: str) -> Target:
    """As `find_target` without files, and without asking whether it is here."""
    family, _, detail = text.partition(":")
    if text == "cpu":
        return _this_processor()
    if text == "cuda":
        return _this_gpu()
    if text == ARM:
        return Target(text, Kind.CPU, ARM, features=BASELINE[ARM])
    named = NAMED.get(detail)
    if named is not None and (family == "cpu" or family == named.architecture):
        model = detail if detail in PROCESSORS else ""
        return Target(text, Kind.CPU, named.architecture, model, named.features, caches=named.caches)
    capability = next((c for c in CAPABILITIES if detail == f"sm_{c[0]}{c[1]}"), None)
    if family == "cuda" and capability is not None:
        return Target(text, Kind.CUDA, "nvidia", features=gpu_features(capability), compute_capability=capability)
    raise _unknown(text, family, detail)


def located(target: Target) -> Target:
    """The same target, with why it is not here if it is not."""
    return replace(target, not_here=_why_no_cpu(target) if target.kind is Kind.CPU else _why_no_gpu(target))


def _this_processor() -> Target:
    here = processor()
    return Target(
        name="cpu",
        kind=Kind.CPU,
        architecture=here.architecture,
        processor=here.model,
        features=here.features,
        cores=here.cores,
        caches=here.caches,
        limits=measured_limits().limits,
    )


def _this_gpu() -> Target:
    """The first GPU, which is the one that programs run on; without one, any GPU at all."""
    gpus = cuda_driver().gpus
    return _from_gpu(gpus[0]) if gpus else Target("cuda", Kind.CUDA, "nvidia")


def _from_gpu(gpu: Gpu) -> Target:
    return Target(
        name="cuda",
        kind=Kind.CUDA,
        architecture="nvidia",
        processor=gpu.name,
        features=gpu_features(gpu.compute_capability),
        caches=Caches(l2=gpu.l2),
        compute_capability=gpu.compute_capability,
        multiprocessors=gpu.multiprocessors,
        memory=gpu.memory,
    )


def _why_no_cpu(target: Target) -> str:
    here = processor()
    if target.architecture != here.architecture:
        return f"this machine is {here.architecture}, not {target.architecture}"
    lacking = [name for name in target.features if name not in here.features]
    if lacking:
        return f"this machine has no {', '.join(lacking)}"
    if target.cores is not None and target.cores > here.cores:
        return f"this machine has {here.cores} cores for this process, not {target.cores}"
    return ""


def _why_no_gpu(target: Target) -> str:
    driver = cuda_driver()
    if not driver.gpus:
        return driver.reason
    gpu, wanted = driver.gpus[0], target.compute_capability
    if wanted is not None and (gpu.compute_capability[0] != wanted[0] or gpu.compute_capability < wanted):
        # Code for one compute capability runs on later ones of the same major version.
        return f"the GPU here, {gpu.name}, is sm_{gpu.compute_capability[0]}{gpu.compute_capability[1]}"
    return ""


def _unknown(text: str, family: str, detail: str) -> UsageError:
    message = f"there is no target '{text}'"
    if detail and family in FAMILIES:
        details = [name.partition(":")[2] for name in TARGETS if name.startswith(f"{family}:")]
        near = closest(detail, details) and closest(text, [f"{family}:{each}" for each in details])
        return UsageError(message, hint=near or f"{family}: goes with {', '.join(details)}")
    usual = f"there are {', '.join(FAMILIES)} and more; `irc targets` lists them"
    if text == "gpu":  # it is spelled like cpu
        return UsageError(message, hint=usual)
    return UsageError(message, hint=closest(text, [*FAMILIES, *TARGETS]) or usual)

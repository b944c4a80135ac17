"""What is known of this machine, from samples of what systems and drivers say."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from irc.runtime import gpu, machine
from irc.runtime.gpu import Driver, Gpu, ask_driver, cuda_driver, cuda_libraries
from irc.runtime.machine import FEATURES, cache_size, in_order, physical_cores, processor, read_cpuinfo, read_sysctl

# The processor


def test_this_machine() -> None:
    here = processor()
    assert here.architecture
    assert here.cores == physical_cores() >= 1
    assert set(here.features) <= set(FEATURES.values())
    assert processor() is here


def test_instruction_sets_have_one_order() -> None:
    assert in_order({"avx2", "sse2", "fma"}) == ("sse2", "fma", "avx2")
    assert len(set(FEATURES.values())) == len(FEATURES)


EPYC = """\
processor\t: 0
model name\t: AMD EPYC 9654 96-Core Processor
flags\t\t: fpu sse sse2 sse4_2 avx avx2 fma f16c avx512f avx512_vnni avx512_bf16

processor\t: 1
model name\t: another
"""
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp sve bf16 i8mm\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n"


def test_cpuinfo_of_linux() -> None:
    name, features = read_cpuinfo(EPYC, "x86-64")
    assert name == "AMD EPYC 9654 96-Core Processor"
    assert features == ("sse2", "sse4.2", "avx", "f16c", "fma", "avx2", "avx512f", "avx512vnni", "avx512bf16")
    assert read_cpuinfo(GRAVITON, "arm64") == ("neoverse-v1", ("neon", "fullfp16", "dotprod", "bf16", "i8mm", "sve"))


def test_a_system_that_says_nothing_has_the_baseline() -> None:
    assert read_cpuinfo("", "x86-64") == ("", ("sse2",))
    assert read_cpuinfo("", "arm64") == ("", ("neon",))
    assert read_cpuinfo("", "riscv64") == ("", ())


M1 = """\
hw.physicalcpu: 8
hw.perflevel0.l1dcachesize: 131072
hw.perflevel0.l2cachesize: 12582912
hw.l1dcachesize: 65536
hw.optional.arm.FEAT_DotProd: 1
hw.optional.arm.FEAT_BF16: 0
machdep.cpu.brand_string: Apple M1
"""
INTEL_MAC = """\
hw.physicalcpu: 4
hw.l1dcachesize: 32768
hw.l3cachesize: 6291456
machdep.cpu.brand_string: Intel(R) Core(TM) i5
machdep.cpu.features: FPU SSE SSE2 SSE4.2 AVX1.0 FMA F16C
machdep.cpu.leaf7_features: AVX2 BMI1
"""


def test_sysctl_of_macos() -> None:
    apple = read_sysctl(M1, "arm64")
    assert (apple.model, apple.cores, apple.features) == ("Apple M1", 8, ("neon", "dotprod"))
    assert (apple.caches.l1d, apple.caches.l2, apple.caches.l3) == (131072, 12582912, None)
    intel = read_sysctl(INTEL_MAC, "x86-64")
    assert intel.features == ("sse2", "sse4.2", "avx", "f16c", "fma", "avx2")
    assert (intel.cores, intel.caches.l1d, intel.caches.l3) == (4, 32768, 6291456)
    assert read_sysctl("", "arm64").features == ("neon",)


def test_sizes_of_caches() -> None:
    assert [cache_size(text) for text in ("32K", "1M", "512", "", "much")] == [32 << 10, 1 << 20, 512, None, None]


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 4),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"/sys/fs/cgroup/cpu.max": "1000 100000"}, 1),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 4),
        ({f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 2},{i % 2 + 2}" for i in range(4)}, 2),
    ],
    ids=["no limit", "max", "a core and a half", "little", "the old form", "the old form without limit", "hyper-threads"],
)
def test_cores(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], cores: int) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: files.get(str(path), ""))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    assert physical_cores.__wrapped__() == cores


# GPUs


class FakeDriver:
    """libcuda as far as it is asked: one GPU, or an error from `cuInit`."""

    def __init__(self, status: int = 0, count: int = 1) -> None:
        self._status, self._count = status, count

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802  the name is the library's, as those below
        version._obj.value = 13010
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self._status

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self._count
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:  # noqa: N802
        name.value = b"NVIDIA H100"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:  # noqa: N802
        memory._obj.value = 80 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {16: 132, 38: 50 << 20, 75: 9, 76: 0}[which]
        return 0

    def cuGetErrorString(self, status: int, text: Any) -> int:  # noqa: N802
        text._obj.value = b"no CUDA-capable device is detected"
        return 0


def test_what_the_driver_says() -> None:
    hopper = Gpu("NVIDIA H100", (9, 0), 132, 80 << 30, 50 << 20)
    assert ask_driver(FakeDriver()) == Driver("13.1", (hopper,))
    assert ask_driver(FakeDriver(count=0)).reason == "the NVIDIA driver has no GPU for this process"
    failed = ask_driver(FakeDriver(status=100))
    assert failed.gpus == ()
    assert failed.reason == "the NVIDIA driver says: no CUDA-capable device is detected (error 100)"


def test_no_driver_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    driver = cuda_driver.__wrapped__()
    assert driver.gpus == ()
    assert "there is no NVIDIA driver" in driver.reason
    monkeypatch.setattr(gpu.sysconfig, "get_path", lambda name: "/nowhere")
    assert set(cuda_libraries().values()) <= {""}


@pytest.mark.gpu
def test_the_gpu_here() -> None:
    gpus = cuda_driver().gpus
    if not gpus:
        pytest.skip(cuda_driver().reason)
    assert gpus[0].multiprocessors > 0
    assert gpus[0].memory > 1 << 30

"""Programs for GPUs on a CPU: their CUDA C compiled by the system's compiler, behind a driver of our own that launches it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from irc.lowering.tvm.cuda import adapter, nvrtc, program
from irc.lowering.tvm.cuda.code import Code
from irc.runtime import gpu

HERE = Path(__file__).parent
HAS_COMPILER = sys.platform == "linux" and shutil.which("c++") is not None
HAS_TVM = importlib.util.find_spec("tvm") is not None

needs_emulator = pytest.mark.skipif(not (HAS_TVM and HAS_COMPILER), reason="needs TVM, and a C++ compiler on Linux")
needs_nvrtc = pytest.mark.skipif(not HAS_TVM or bool(nvrtc.why_not()), reason=nvrtc.why_not() or "needs TVM")

_KERNEL = re.compile(r'^extern "C" __global__ .*?\b(irc_\w+)\(', re.MULTILINE)


def image_here(source: str, architecture: str) -> bytes:
    """In place of a cubin: a shared library behind its size, whose kernels threads run that take turns."""
    return _image(source)


@cache
def _image(source: str) -> bytes:
    kernels = "".join(f"IRC_KERNEL({name})\n" for name in _KERNEL.findall(source))
    content = _library(f'#include "{HERE}/emulated.h"\n{source}\n{kernels}')
    return struct.pack("<Q", len(content)) + content


@cache
def _code(model: bytes, architecture: str) -> Code:
    return adapter.device_code(model, architecture, f"irc_{len(_numbers)}_{_numbers.setdefault(model, len(_numbers))}_")


_numbers: dict[bytes, int] = {}


def codes_here(models: Iterable[bytes], architecture: str, jobs: int) -> dict[bytes, Code]:
    """As `building.codes`, in this process and out of its memory."""
    return {model: _code(model, architecture.replace("compute_", "sm_")) for model in models}


def _library(source: str) -> bytes:
    with TemporaryDirectory() as folder:
        Path(folder, "k.cpp").write_text(source)
        command = ["c++", "-std=c++17", "-O0", "-w", "-fPIC", "-shared", "-ffp-contract=off", "-o", "k.so", "k.cpp"]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        return Path(folder, "k.so").read_bytes()


@cache
def driver() -> Path:
    """The driver, built once and kept until the process ends."""
    folder = TemporaryDirectory()
    _kept.append(folder)
    path = Path(folder.name, "libcuda.so.1")
    path.write_bytes(_library((HERE / "driver.cpp").read_text()))
    return path


_kept: list[TemporaryDirectory[str]] = []


@contextmanager
def emulated() -> Iterator[Any]:
    """One GPU of compute capability 9.0 is here, and kernels for it are compiled for this CPU; yields the driver's library."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_DRIVER", str(driver()))
        patch.setattr(program, "image", image_here)
        patch.setattr(program, "codes", codes_here)
        patch.setattr(nvrtc, "installed_version", lambda: "emulated")
        gpu.cuda_driver.cache_clear()
        try:
            yield ctypes.CDLL(str(driver()))
        finally:
            gpu.cuda_driver.cache_clear()
    gpu.cuda_driver.cache_clear()

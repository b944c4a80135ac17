"""NVIDIA GPUs of this machine, asked of the driver's own library without any package; no reason stays unsaid.

Asking starts the driver in this process but makes no context, so it takes no memory of a GPU.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

# CUdevice_attribute in cuda.h
_MULTIPROCESSORS, _L2_BYTES, _MAJOR, _MINOR = 16, 38, 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU: `memory` and `l2` in bytes."""

    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    memory: int
    l2: int


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver: the newest CUDA version it runs, such as `13.0`, and its GPUs as CUDA_VISIBLE_DEVICES leaves them.

    `reason` says why there are no GPUs, as a clause.
    """

    version: str
    gpus: tuple[Gpu, ...]
    reason: str = ""


@functools.cache
def cuda_driver() -> Driver:
    """The driver and GPUs of this machine; never raises."""
    try:
        library = driver_library()
    except OSError:
        return Driver("", (), f"there is no NVIDIA driver ({_DRIVER} is not found)")
    return ask_driver(library)


def driver_library() -> Any:
    """The driver's own library; raises OSError where there is none."""
    return ctypes.CDLL(_DRIVER)


def ask_driver(library: Any) -> Driver:
    """What a loaded libcuda says."""
    number = ctypes.c_int()
    version = ""
    if library.cuDriverGetVersion(ctypes.byref(number)) == 0:
        version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    for step in (lambda: library.cuInit(0), lambda: library.cuDeviceGetCount(ctypes.byref(number))):
        status = step()
        if status:
            return Driver(version, (), f"the NVIDIA driver says: {_error(library, status)}")
    gpus = tuple(_gpu(library, index) for index in range(number.value))
    return Driver(version, gpus, "" if gpus else "the NVIDIA driver has no GPU for this process")


def _gpu(library: Any, index: int) -> Gpu:
    device = ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), index)
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGetName(name, len(name), device)
    memory = ctypes.c_size_t()
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        library.cuDeviceGetAttribute(ctypes.byref(value), which, device)
        return value.value

    capability = attribute(_MAJOR), attribute(_MINOR)
    return Gpu(
        name.value.decode("utf-8", "replace"), capability, attribute(_MULTIPROCESSORS), memory.value, attribute(_L2_BYTES)
    )


def _error(library: Any, status: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(status, ctypes.byref(text))
    return f"{text.value.decode('utf-8', 'replace') if text.value else 'an unknown error'} (error {status})"


# Libraries

_NEEDED = (
    ("libcudart.so.13", "cu13"),
    ("libcublasLt.so.13", "cu13"),
    ("libcublas.so.13", "cu13"),
    ("libcurand.so.10", "cu13"),
    ("libcufft.so.12", "cu13"),
    ("libnvrtc.so.13", "cu13"),
    ("libcudnn.so.9", "cudnn"),
)
"""What ONNX Runtime's CUDA kernels are linked with, and the folder under `nvidia/` where NVIDIA's packages put it."""


def cuda_libraries() -> Mapping[str, str]:
    """Where each library of CUDA and cuDNN that kernels need is found: a folder, `the system`, or nothing.

    On Windows nothing is looked for, and there is no entry. What the system has is loaded to find it.
    """
    if sys.platform == "win32":
        return {}
    return {name: _place(name, f"nvidia/{folder}/lib") for name, folder in _NEEDED}


def tensorrt_library() -> str:
    """Where the TensorRT that ONNX Runtime's kernels are linked with is found: a folder, `the system`, or nothing."""
    return "" if sys.platform == "win32" else _place("libnvinfer.so.10", "tensorrt_libs")


def _place(name: str, folder: str) -> str:
    for packages in (sysconfig.get_path("platlib"), sysconfig.get_path("purelib")):
        place = Path(packages, folder)
        if (place / name).is_file():
            return str(place)
    try:
        ctypes.CDLL(name)
    except OSError:
        return ""
    return "the system"

# pyright: basic
"""From CUDA C to what a GPU's driver loads: NVRTC, NVIDIA's compiler as a library, which needs no GPU.

Law: nothing else imports it. It is found through the package cuda-bindings.
"""

from __future__ import annotations

import importlib
from importlib import metadata, util
from typing import Any

from irc.runtime import IMAGE_FILES

OLDEST = (7, 5)
"""The oldest compute capability that NVRTC of CUDA 13 makes code for."""
ANY = "compute_75"
"""What is compiled for where the GPU is not known: PTX, which the driver of any later one finishes."""

_CUBIN, _PTX = IMAGE_FILES
_MODULE = "cuda.bindings.nvrtc"
_INSTALL = "pip install 'irc-compiler[cuda]'"


def architecture(capability: tuple[int, int] | None) -> str:
    """What NVRTC calls a compute capability."""
    return ANY if capability is None else f"sm_{capability[0]}{capability[1]}"


def image_file(name: str) -> str:
    """The file for what is compiled for an architecture: machine code for one, PTX where it is virtual."""
    return _PTX if name.startswith("compute_") else _CUBIN


def installed_version() -> str:
    """The versions of the package and of the library, or an empty string where one is missing."""
    try:
        bindings = metadata.version("cuda-bindings")
    except metadata.PackageNotFoundError:
        return ""
    if util.find_spec(_MODULE) is None:
        return ""
    try:
        return f"{bindings}+nvrtc{metadata.version('nvidia-cuda-nvrtc')}"
    except metadata.PackageNotFoundError:  # it may be the system's
        return bindings


def why_not() -> str:
    """Why nothing can be compiled here, as a clause; empty where it can."""
    return "" if installed_version() else f"NVRTC, which compiles its kernels, is not installed ({_INSTALL})"


def image(source: str, name: str) -> bytes:
    """The kernels of a source for an architecture. Raises ValueError with the compiler's words where it refuses."""
    nvrtc: Any = importlib.import_module(_MODULE)
    try:
        status, program = nvrtc.nvrtcCreateProgram(source.encode(), b"program.cu", 0, [], [])
    except RuntimeError as error:  # the package is there, and the library is not
        raise ValueError(f"NVRTC cannot be loaded: {error}") from error
    _check(nvrtc, status)
    options = [f"--gpu-architecture={name}".encode(), b"--std=c++17"]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise ValueError(f"NVRTC refuses the kernels: {_log(nvrtc, program)}")
    size_of, get = (
        (nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX)
        if image_file(name) == _PTX
        else (nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    )
    status, size = size_of(program)
    _check(nvrtc, status)
    content = bytearray(size)
    _check(nvrtc, *get(program, content))
    nvrtc.nvrtcDestroyProgram(program)
    return bytes(content).rstrip(b"\0") if image_file(name) == _PTX else bytes(content)


def _log(nvrtc: Any, program: Any) -> str:
    """The first error of a compilation."""
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytearray(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    lines = bytes(log).rstrip(b"\0").decode("utf-8", "replace").splitlines()
    return next((line for line in lines if "error" in line), lines[0] if lines else "it does not say why")[:300]


def _check(nvrtc: Any, status: Any) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        said = nvrtc.nvrtcGetErrorString(status)[1]
        raise ValueError(f"NVRTC fails: {said.decode() if isinstance(said, bytes) else said}")


__all__ = ["ANY", "OLDEST", "architecture", "image", "image_file", "installed_version", "why_not"]

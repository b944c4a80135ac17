"""The little of NVIDIA's driver that a program of kernels needs, called in its own library: no package has to be installed.

Law: whatever the driver refuses is an EngineFailure that says what was asked for and why not, in the driver's own words.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from .errors import EngineFailure
from .gpu import cuda_driver, driver_library

_U = c_uint
_ARGUMENTS: dict[str, list[Any]] = {
    "cuInit": [_U],
    "cuDeviceGet": [POINTER(c_int), c_int],
    "cuGetErrorString": [c_int, POINTER(c_char_p)],
    "cuDevicePrimaryCtxRetain": [POINTER(c_void_p), c_int],
    "cuDevicePrimaryCtxRelease_v2": [c_int],
    "cuCtxSetCurrent": [c_void_p],
    "cuModuleLoadData": [POINTER(c_void_p), c_void_p],
    "cuModuleUnload": [c_void_p],
    "cuModuleGetFunction": [POINTER(c_void_p), c_void_p, c_char_p],
    "cuMemAlloc_v2": [POINTER(c_uint64), c_size_t],
    "cuMemFree_v2": [c_uint64],
    "cuMemcpyHtoD_v2": [c_uint64, c_void_p, c_size_t],
    "cuMemcpyHtoDAsync_v2": [c_uint64, c_void_p, c_size_t, c_void_p],
    "cuMemcpyDtoHAsync_v2": [c_void_p, c_uint64, c_size_t, c_void_p],
    "cuMemcpyDtoDAsync_v2": [c_uint64, c_uint64, c_size_t, c_void_p],
    "cuMemsetD8Async": [c_uint64, ctypes.c_ubyte, c_size_t, c_void_p],
    "cuStreamCreate": [POINTER(c_void_p), _U],
    "cuStreamSynchronize": [c_void_p],
    "cuStreamDestroy_v2": [c_void_p],
    "cuLaunchKernel": [c_void_p, _U, _U, _U, _U, _U, _U, _U, c_void_p, c_void_p, c_void_p],
}
"""The functions of cuda.h that are called, with what they take."""

NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: what others do on the default stream is not waited for."""


class Device:
    """The first GPU in its primary context, which is that of other libraries in this process too."""

    def __init__(self) -> None:
        """Raises EngineFailure where there is none."""
        driver = cuda_driver()
        if not driver.gpus:
            raise EngineFailure(f"the program runs on an NVIDIA GPU, but {driver.reason}")
        self.gpu = driver.gpus[0]
        library = driver_library()
        self._functions: dict[str, Any] = {}
        for name, arguments in _ARGUMENTS.items():
            try:
                function = getattr(library, name)
            except AttributeError as error:
                raise EngineFailure(f"the NVIDIA driver has no {name}", hint="install a newer one") from error
            function.argtypes, function.restype = arguments, c_int
            self._functions[name] = function
        self.call("cuInit", 0)
        device, context = c_int(), c_void_p()
        self.call("cuDeviceGet", byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._device, self._context = device, context

    def function(self, name: str) -> Any:
        """A function of the driver, for calls whose status is looked at by the caller."""
        return self._functions[name]

    def call(self, name: str, *arguments: Any) -> None:
        """Call the driver; raises EngineFailure where it refuses."""
        self.check(self._functions[name](*arguments), name)

    def check(self, status: int, what: str) -> None:
        """Raises EngineFailure for a status that is an error."""
        if status:
            text = c_char_p()
            self._functions["cuGetErrorString"](status, byref(text))
            said = text.value.decode("utf-8", "replace") if text.value else "an unknown error"
            raise EngineFailure(f"the NVIDIA driver says of {what}: {said} (error {status})")

    def enter(self) -> None:
        """Make its context that of the calling thread."""
        self.call("cuCtxSetCurrent", self._context)

    def load(self, image: bytes) -> int:
        """Load a cubin, or PTX with a zero behind it; its handle."""
        module = c_void_p()
        self.call("cuModuleLoadData", byref(module), image)
        return module.value or 0

    def kernel(self, module: int, name: str) -> int:
        """A kernel of a module."""
        function = c_void_p()
        self.check(self._functions["cuModuleGetFunction"](byref(function), module, name.encode()), f"kernel {name[:60]}")
        return function.value or 0

    def allocate(self, size: int) -> int:
        """The address of so many bytes of its memory."""
        address = c_uint64()
        status = self._functions["cuMemAlloc_v2"](byref(address), max(size, 1))
        self.check(status, f"{size} bytes of its memory")
        return address.value

    def stream(self) -> int:
        """A queue of work of its own."""
        stream = c_void_p()
        self.call("cuStreamCreate", byref(stream), NON_BLOCKING)
        return stream.value or 0

    def release(self) -> None:
        """Let go of the context; the last user's call ends it."""
        self.call("cuDevicePrimaryCtxRelease_v2", self._device)


__all__ = ["Device"]

"""Running kernels on an NVIDIA GPU by their plan: constants stay there, a run copies what is fed, launches, and copies back.

Law: a run allocates its outputs and nothing else. Nothing but the driver is needed; a plan that was read points nowhere but
into the memory that was made for it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from ctypes import addressof, c_uint64, c_void_p, cast, pointer
from typing import Any, TypeAlias

import numpy as np

from .cuda_device import Device
from .dtypes import ELEMENT_TYPES
from .errors import ArtifactError, EngineFailure
from .executor import EngineFiles
from .manifest import SignatureEntry
from .native_plan import CONSTANTS, CONSTANTS_FILE, FIRST_VALUE, NATIVE_PLAN_FILE, NativePlan, NativeStep, NativeValue
from .strict_json import Json, canonical, parse_object

LAUNCHES_FILE = "launches.json"
"""A program that has this file runs on a GPU: it says how many blocks of how many threads each kernel is launched with."""
IMAGE_FILES = ("program.cubin", "program.ptx")
"""The kernels: for GPUs of one major compute capability, or for all from some on."""
SOURCE_FILE = "program.cu"
"""The CUDA C that they were compiled from, for people to look at."""
COPY = "copy"
"""Instead of a kernel: the bytes of the first argument are copied to the second."""
NVIDIA = "nvidia"

_ALIGNMENT = 256
_MOST_BLOCKS, _MOST_THREADS = 1 << 31, 1024

Extents: TypeAlias = tuple[int, int, int, int, int, int]


def launches_to_bytes(extents: Mapping[str, Extents]) -> bytes:
    """The bytes of LAUNCHES_FILE: for each kernel its blocks and threads, along x, y and z."""
    return canonical({"kernels": [{"name": name, "extents": list[Json](each)} for name, each in sorted(extents.items())]})


def launches_from_bytes(data: bytes) -> dict[str, Extents]:
    """The launches in `launches_to_bytes`; raises ArtifactError where they are none."""
    fields = parse_object(data, LAUNCHES_FILE)
    kernels = fields.objects("kernels", lambda each: (each.text("name"), each.naturals("extents")))
    fields.finish()
    found: dict[str, Extents] = {}
    for name, numbers in kernels:
        if len(numbers) != 6 or not all(0 < each < _MOST_BLOCKS for each in numbers):
            raise fields.refuse(f"the kernel {name[:60]} has no six extents")
        gx, gy, gz, bx, by, bz = numbers
        if bx * by * bz > _MOST_THREADS:
            raise fields.refuse(f"the kernel {name[:60]} has {bx * by * bz} threads in a block")
        found[name] = (gx, gy, gz, bx, by, bz)
    return found


class CudaExecutor:
    """The kernels on the device, and memory for as many calls as there are at a time."""

    def __init__(self, files: EngineFiles, inputs: Sequence[SignatureEntry], outputs: Sequence[SignatureEntry]) -> None:
        """Raises EngineFailure where there is no GPU that it is for, or the driver does not take the kernels."""
        self._plan = plan = NativePlan.from_bytes(files.read(NATIVE_PLAN_FILE))
        _check_signature(plan, inputs, outputs)
        extents = launches_from_bytes(files.read(LAUNCHES_FILE))
        image = next((files.read(name) for name in IMAGE_FILES if name in files.files), b"")
        constants = b"".join(files.files.get(CONSTANTS_FILE, ()))
        if len(constants) != plan.constants:
            raise ArtifactError(f"{CONSTANTS_FILE} has {len(constants)} bytes, and {plan.constants} are needed")
        device = Device()
        _check_capability(plan, device.gpu.compute_capability)
        self._loaded: _Loaded | None = _Loaded(device, plan, image, constants, extents)
        first = FIRST_VALUE + len(plan.inputs)
        self._inputs = [(FIRST_VALUE + i, *_array_of(each)) for i, each in enumerate(plan.inputs)]
        self._outputs = [(first + i, *_array_of(each)[1:]) for i, each in enumerate(plan.outputs)]
        self._idle: deque[_Memory] = deque()

    @property
    def steps(self) -> tuple[NativeStep, ...]:
        """What a run does, in order."""
        return self._plan.steps

    def run(self, feeds: dict[str, Any]) -> list[object]:
        """The outputs in signature order; raises EngineFailure for other shapes than it is for, and where the driver fails."""
        loaded = self._loaded  # it lives as long as this run
        if loaded is None:
            raise EngineFailure("the program is closed", hint="load it again")
        loaded.device.enter()
        memory = self._memory(loaded)
        for base, name, shape, dtype in self._inputs:
            array = feeds[name]
            if array.shape != shape or array.dtype != dtype:
                raise _other_shape(name, array, shape, dtype)
            memory.fill(base, np.ascontiguousarray(array))
        memory.launch()
        results: list[object] = []
        for base, shape, dtype in self._outputs:
            result = np.empty(shape, dtype)
            memory.fetch(base, result)
            results.append(result)
        memory.wait()
        self._idle.append(memory)  # that of a run which failed is not used again
        return results

    def poison(self) -> None:
        """Set every bit of the memory that the next run computes in: a kernel that reads what nobody wrote then reads NaN."""
        loaded = self._loaded
        assert loaded is not None
        loaded.device.enter()
        memory = self._memory(loaded)
        memory.poison()
        self._idle.append(memory)

    def close(self) -> None:
        """Let go of the device and its memory; runs under way end normally, what they use goes with the last of them."""
        self._loaded = None
        self._idle.clear()

    def _memory(self, loaded: _Loaded) -> _Memory:
        try:
            return self._idle.pop()
        except IndexError:
            return _Memory(loaded)


class _Loaded:
    """The kernels and constants of a program on a device, let go of when nothing uses them any more."""

    def __init__(
        self, device: Device, plan: NativePlan, image: bytes, constants: bytes, extents: Mapping[str, Extents]
    ) -> None:
        self.device, self.plan = device, plan
        device.enter()
        module = device.load(image + b"\0") if any(step.kernel != COPY for step in plan.steps) else 0
        address = 0
        try:
            self.kernels = [_kernel(device, module, step, extents) for step in plan.steps]
            address = device.allocate(plan.constants)
            device.call("cuMemcpyHtoD_v2", address, constants, len(constants))
        except EngineFailure:
            _unload(device, module, address)
            raise
        self.constants = address
        weakref.finalize(self, _unload, device, module, address).atexit = False


class _Memory:
    """The arena, inputs and outputs of one run at a time, the queue of its work, and the launches with their arguments."""

    def __init__(self, loaded: _Loaded) -> None:
        device, plan = loaded.device, loaded.plan
        self._loaded, self._sizes = loaded, plan.sizes()
        offsets, self._size = _laid_out(self._sizes)
        self._address, self._stream = device.allocate(self._size), device.stream()
        weakref.finalize(self, _free, loaded, self._address, self._stream).atexit = False
        self._bases = [self._address + offset for offset in offsets]
        self._bases[CONSTANTS] = loaded.constants
        self._held: list[object] = []
        self._calls = [self._call(step, kernel) for step, kernel in zip(plan.steps, loaded.kernels, strict=True)]
        self._fed: list[np.ndarray] = []

    def fill(self, base: int, array: np.ndarray) -> None:
        """Copy what is fed to its place; the array is held until the run has ended."""
        self._fed.append(array)
        size = self._sizes[base]
        self._loaded.device.call("cuMemcpyHtoDAsync_v2", self._bases[base], array.ctypes.data, size, self._stream)

    def launch(self) -> None:
        """Put all kernels into the queue."""
        for step, (function, arguments) in zip(self._loaded.plan.steps, self._calls, strict=True):
            status = function(*arguments)
            if status:
                self._loaded.device.check(status, f"the launch of {', '.join(step.ops) or step.kernel}")

    def fetch(self, base: int, array: np.ndarray) -> None:
        """Copy an output to an array, which is filled after `wait`."""
        size = self._sizes[base]
        self._loaded.device.call("cuMemcpyDtoHAsync_v2", array.ctypes.data, self._bases[base], size, self._stream)

    def wait(self) -> None:
        """Wait until all is done; raises EngineFailure where a kernel failed."""
        status = self._loaded.device.function("cuStreamSynchronize")(self._stream)
        self._loaded.device.check(status, "the run")
        self._fed.clear()

    def poison(self) -> None:
        """Set every bit."""
        self._loaded.device.call("cuMemsetD8Async", self._address, 0xFF, self._size, self._stream)
        self.wait()

    def _call(self, step: NativeStep, kernel: tuple[int, Extents]) -> tuple[Any, tuple[Any, ...]]:
        """The function of the driver for a step, and its arguments."""
        device, addresses = self._loaded.device, [self._bases[each.base] + each.offset for each in step.arguments]
        if step.kernel == COPY:
            return device.function("cuMemcpyDtoDAsync_v2"), (addresses[1], addresses[0], step.arguments[1].size, self._stream)
        values = (c_uint64 * len(addresses))(*addresses)
        pointers = (c_void_p * len(addresses))(*(addressof(values) + 8 * i for i in range(len(addresses))))
        self._held += [values, pointers]
        handle, extents = kernel
        return device.function("cuLaunchKernel"), (handle, *extents, 0, self._stream, cast(pointer(pointers), c_void_p), None)


def _kernel(device: Device, module: int, step: NativeStep, extents: Mapping[str, Extents]) -> tuple[int, Extents]:
    """The handle of a step's kernel, and how it is launched."""
    if step.kernel == COPY:
        if len(step.arguments) != 2 or step.arguments[0].size != step.arguments[1].size:
            raise ArtifactError(f"a step of {NATIVE_PLAN_FILE} copies between places of two sizes")
        return 0, (1, 1, 1, 1, 1, 1)
    if step.kernel not in extents:
        raise ArtifactError(f"{LAUNCHES_FILE} has no kernel {step.kernel[:60]!r}")
    return device.kernel(module, step.kernel), extents[step.kernel]


def _laid_out(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Where each base begins in one piece of memory, and how large that is; constants lie elsewhere."""
    offsets: list[int] = []
    end = 0
    for base, size in enumerate(sizes):
        offsets.append(end)
        end += 0 if base == CONSTANTS else -(-size // _ALIGNMENT) * _ALIGNMENT
    return offsets, end


def _unload(device: Device, module: int, constants: int) -> None:
    device.enter()
    if constants:
        device.function("cuMemFree_v2")(constants)
    if module:
        device.function("cuModuleUnload")(module)
    device.release()


def _free(loaded: _Loaded, address: int, stream: int) -> None:
    loaded.device.enter()
    loaded.device.function("cuStreamDestroy_v2")(stream)
    loaded.device.function("cuMemFree_v2")(address)


def _array_of(value: NativeValue) -> tuple[str, tuple[int, ...], np.dtype[np.generic]]:
    return value.name, value.shape, ELEMENT_TYPES[value.dtype].numpy


def _check_signature(plan: NativePlan, inputs: Sequence[SignatureEntry], outputs: Sequence[SignatureEntry]) -> None:
    """Raises ArtifactError where the plan is not for this signature."""
    for values, entries, what in ((plan.inputs, inputs, "input"), (plan.outputs, outputs, "output")):
        known = {each.name: each for each in entries}
        for value in values:
            entry = known.get(value.name)
            if entry is None or (entry.kind, entry.dtype) != ("tensor", value.dtype):
                raise ArtifactError(f"{NATIVE_PLAN_FILE} has {what} {value.name}, and the manifest has none such")
    if [each.name for each in plan.outputs] != [each.name for each in outputs]:
        raise ArtifactError(f"the outputs in {NATIVE_PLAN_FILE} are not those of the manifest")


def _check_capability(plan: NativePlan, here: tuple[int, int]) -> None:
    """Raises EngineFailure where the GPU here does not run them: `sm_` is for one major version, `compute_` for all later."""
    if plan.architecture != NVIDIA:
        raise ArtifactError(f"the program is for {plan.architecture}, and its files are for a GPU")
    if plan.blocks or any(each.counts for each in (*plan.inputs, *plan.outputs)):
        raise ArtifactError(f"{NATIVE_PLAN_FILE} counts entries, which programs for GPUs do not")
    for feature in plan.features:
        kind, _, digits = feature.partition("_")
        if kind not in ("sm", "compute") or not digits.isdecimal() or len(digits) < 2:
            raise ArtifactError(f"{feature[:60]!r} is no compute capability")
        wanted = int(digits[:-1]), int(digits[-1])
        if here < wanted or (kind == "sm" and here[0] != wanted[0]):
            hint = "compile it for this GPU, with --target cuda"
            raise EngineFailure(f"the program is for {feature}, and the GPU here is sm_{here[0]}{here[1]}", hint=hint)


def _other_shape(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> EngineFailure:
    given, wanted = (f"{kind}{list(dims)}" for kind, dims in ((array.dtype, array.shape), (dtype, shape)))
    return EngineFailure(f"input {name} is {given}, and the program was compiled for {wanted}")


__all__ = ["COPY", "IMAGE_FILES", "LAUNCHES_FILE", "NVIDIA", "SOURCE_FILE", "CudaExecutor", "Extents", "launches_to_bytes"]

"""Running a library of kernels by its plan: one call into C a run, on memory that is there before the run begins.

Law: a run allocates its outputs and nothing else, and copies nothing but inputs that do not lie in memory as kernels need them.
Python's lock is not held while kernels run.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .dtypes import ELEMENT_TYPES
from .errors import ArtifactError, EngineFailure
from .executor import EngineFiles
from .machine import physical_cores, processor
from .manifest import OptionValue, SignatureEntry
from .native_library import Library
from .native_plan import (
    ALIGNMENT,
    ARENA,
    CONSTANTS_FILE,
    FIRST_VALUE,
    LIBRARY_FILE,
    MOST_ROWS,
    NATIVE_PLAN_FILE,
    STATUS,
    NativePlan,
    NativeStep,
    NativeValue,
    aligned_memory,
)
from .zip_store import Buffer


@dataclass(frozen=True, slots=True)
class NativeOptions:
    """How a program of kernels is run; this is also the schema of `engine_options` for the engine `tvm`.

    threads: that work on one call, the caller's among them; None for one per physical core that this process may use.
    tiles: how contractions were cut where that was measured, by their keys; the kernels were made so.
    """

    threads: int | None = None
    tiles: Mapping[str, str] = field(default_factory=dict[str, str])

    def to_manifest(self) -> dict[str, OptionValue]:
        """The options as a manifest holds them."""
        threads: dict[str, OptionValue] = {} if self.threads is None else {"threads": self.threads}
        return {**threads, **({"tiles": self.tiles} if self.tiles else {})}

    @staticmethod
    def from_manifest(values: Mapping[str, OptionValue]) -> NativeOptions:
        """The options in a manifest; raises ArtifactError for one unknown or of the wrong type."""
        for name in values:
            if name not in ("threads", "tiles"):
                raise ArtifactError(f"{name} is no option of the engine tvm")
        threads = values.get("threads")
        if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool)):
            raise ArtifactError("the option threads of the engine tvm has a value of the wrong type")
        tiles = values.get("tiles", {})
        if not isinstance(tiles, Mapping):
            raise ArtifactError("the option tiles of the engine tvm has a value of the wrong type")
        return NativeOptions(threads, tiles)


_Shape: TypeAlias = "tuple[int, ...]"
_Input: TypeAlias = "tuple[int, str, _Shape, np.dtype[np.generic]]"
_Output: TypeAlias = "tuple[int, _Shape, np.dtype[np.generic]]"
"""The base, the name where that is needed, the shape and the element type of what is fed or made."""


PEAK_RUNS = 16
"""How often arithmetic alone is run, about a millisecond each time: something else may have had a core meanwhile."""


class NativeExecutor:
    """A session of the library, and memory for as many calls as there are at a time."""

    def __init__(
        self,
        files: EngineFiles,
        options: NativeOptions,
        inputs: Sequence[SignatureEntry],
        outputs: Sequence[SignatureEntry],
    ) -> None:
        self._plan = plan = NativePlan.from_bytes(files.read(NATIVE_PLAN_FILE))
        _check_signature(plan.inputs, {each.name: each for each in inputs}, "input")
        _check_signature(plan.outputs, {each.name: each for each in outputs}, "output")
        if [each.name for each in plan.outputs] != [each.name for each in outputs]:
            raise ArtifactError(f"the outputs in {NATIVE_PLAN_FILE} are not those of the manifest")
        _check_processor(plan)
        self.threads = options.threads or physical_cores()
        self._constants = _aligned(files.files.get(CONSTANTS_FILE, ()))
        if self._constants.size != plan.constants:
            raise ArtifactError(f"{CONSTANTS_FILE} has {self._constants.size} bytes, and {plan.constants} are needed")
        self._library = Library(files.view(LIBRARY_FILE))
        self._session: _Session | None = _Session(self._library, plan, self.threads)
        first = FIRST_VALUE + len(plan.inputs)
        self._inputs = [(FIRST_VALUE + i, *_array_of(each)) for i, each in enumerate(plan.inputs)]
        self._outputs = [(first + i, *_array_of(each)[1:]) for i, each in enumerate(plan.outputs)]
        self._counted = next((each for each in plan.inputs if each.counts), None)
        self._idle: deque[_Memory] = deque()
        OPEN.add(self)

    @property
    def steps(self) -> tuple[NativeStep, ...]:
        """What a run does, in order."""
        return self._plan.steps

    def run(self, feeds: dict[str, object]) -> list[object]:
        """The outputs in signature order; raises EngineFailure for other shapes than it is for, or an index out of range."""
        return self._run(feeds, None)

    def run_timed(self, feeds: dict[str, object]) -> tuple[list[object], list[int]]:
        """As `run`, with the nanoseconds that each step took."""
        times = (ctypes.c_uint64 * len(self._plan.steps))()
        return self._run(feeds, times), list(times)

    def times(self, feeds: dict[str, Any]) -> tuple[int, ...]:
        """How often a run on these feeds does each step."""
        counted = self._counted
        return self._plan.times(1 if counted is None else len(feeds[counted.name]) // counted.shape[0])

    def run_by_kernel(self, feeds: dict[str, object]) -> tuple[list[object], dict[str, int]]:
        """As `run`, with the nanoseconds that were spent in each kernel, by its name."""
        results, times = self.run_timed(feeds)
        summed = dict.fromkeys((step.kernel for step in self._plan.steps), 0)
        for step, took in zip(self._plan.steps, times, strict=True):
            summed[step.kernel] += took
        return results, summed

    def gflops(self) -> float | None:
        """The f32 operations that the threads do now at most, in 10⁹ a second; None where no kernel is for that."""
        step = self._plan.peak
        if step is None:
            return None
        session = _Session(self._library, replace(self._plan, steps=(step,), blocks=()), self.threads)
        memory, status = aligned_memory(step.byte_count), ctypes.c_int32()
        memory.view(np.float32)[:] = 0.5
        bases = (ctypes.c_void_p * FIRST_VALUE)()
        bases[ARENA], bases[STATUS] = memory.ctypes.data, ctypes.addressof(status)
        times = (ctypes.c_uint64 * 1)()
        taken: list[int] = []
        for _ in range(PEAK_RUNS):
            session.run(bases, times)
            taken.append(times[0])
        return step.flops / max(min(taken), 1)

    def poison(self) -> None:
        """Set every bit of the memory that the next run computes in: a kernel that reads what nobody wrote then reads NaN."""
        memory = self._idle.pop() if self._idle else _Memory(self._plan, self._constants)
        memory.arena.fill(0xFF)
        self._idle.append(memory)

    def close(self) -> None:
        """Let go of the threads and the memory; runs under way end normally, the threads with the last of them."""
        OPEN.discard(self)
        self._session = None
        self._idle.clear()

    def open_again(self) -> None:
        """Take a session of its own in a process that was forked: the threads are its parent's."""
        if self._session is not None:
            self._session = _Session(self._library, self._plan, self.threads)

    def _run(self, feeds: dict[str, Any], times: object) -> list[object]:
        session = self._session  # it lives as long as this run
        if session is None:
            raise EngineFailure("the program is closed", hint="load it again")
        try:
            memory = self._idle.pop()
        except IndexError:
            memory = _Memory(self._plan, self._constants)
        bases = memory.bases
        inputs, outputs, counted = self._inputs, self._outputs, self._counted
        entries = 1
        if counted is not None:
            entries = len(feeds[counted.name]) // counted.shape[0]
            inputs, outputs = self._sized(entries)
        held: list[object] = []  # calling list[object] takes half a microsecond
        for base, name, shape, dtype in inputs:
            array = feeds[name]
            if array.shape != shape or array.dtype != dtype:
                raise _other_shape(name, array, shape, dtype)
            flags = array.flags
            if not (flags.c_contiguous and flags.aligned):
                array = np.array(array, order="C")
                held.append(array)
            bases[base] = _address(array)
        results: list[object] = []
        for base, shape, dtype in outputs:
            result = np.empty(shape, dtype)
            bases[base] = _address(result)
            results.append(result)
        failed = session.run(bases, times) if counted is None else session.run_blocks(bases, times, entries)
        self._idle.append(memory)
        if failed:
            step = self._plan.steps[failed - 1]
            raise EngineFailure(f"an index is out of range in {', '.join(step.ops) or step.kernel}")
        return results

    def _sized(self, entries: int) -> tuple[list[_Input], list[_Output]]:
        """The inputs and outputs as they are for so many entries; raises EngineFailure for more than there may be."""
        plan = self._plan
        if any(each.counts and entries * each.shape[0] >= MOST_ROWS for each in (*plan.inputs, *plan.outputs)):
            raise EngineFailure(f"{entries} entries are too many for one run", hint="run them in several parts")
        inputs = [
            (base, name, _rows(shape, entries) if each.counts else shape, dtype)
            for each, (base, name, shape, dtype) in zip(plan.inputs, self._inputs, strict=True)
        ]
        outputs = [
            (base, _rows(shape, entries) if each.counts else shape, dtype)
            for each, (base, shape, dtype) in zip(plan.outputs, self._outputs, strict=True)
        ]
        return inputs, outputs


OPEN: weakref.WeakSet[NativeExecutor] = weakref.WeakSet()
"""The executors that have a session, for a forked process to give them threads of its own."""


def _after_fork() -> None:
    for executor in tuple(OPEN):
        executor.open_again()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Step(ctypes.Structure):
    """`irc_step` of program.c."""

    _fields_ = (
        ("kernel", ctypes.c_void_p),
        ("tasks", ctypes.c_int32),
        ("arity", ctypes.c_int32),
        ("first_argument", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    )


class _Argument(ctypes.Structure):
    """`irc_argument` of program.c."""

    _fields_ = (("base", ctypes.c_int32), ("offset", ctypes.c_int64))


class _Block(ctypes.Structure):
    """`irc_block` of program.c."""

    _fields_ = (("entries", ctypes.c_int64), ("first", ctypes.c_int32), ("end", ctypes.c_int32))


class _Session:
    """A session of the library; it is closed when its last user is gone."""

    def __init__(self, library: Library, plan: NativePlan, threads: int) -> None:
        arguments = [_Argument(each.base, each.offset) for step in plan.steps for each in step.arguments]
        steps = [
            _Step(library.address(step.kernel), step.tasks, len(step.arguments), first, 0)
            for step, first in zip(plan.steps, plan.first_arguments(), strict=True)
        ]
        opened = library.function("irc_open", ctypes.c_void_p)(
            (_Step * len(steps))(*steps), len(steps), (_Argument * len(arguments))(*arguments), threads
        )
        if not opened:
            raise EngineFailure("the program could not be opened: there is not enough memory")
        self._handle = ctypes.c_void_p(opened)
        weakref.finalize(self, _close, library, self._handle).atexit = False
        self.run = partial(library.function("irc_run", ctypes.c_int), self._handle)
        self._run_blocks = library.function("irc_run_blocks", ctypes.c_int) if plan.blocks else None
        strides = plan.strides()
        self._strides, self._bases = (ctypes.c_int64 * len(strides))(*strides), len(strides)
        blocks = [_Block(each.entries, each.first, each.end) for each in plan.blocks]
        self._blocks, self._block_count = (_Block * len(blocks))(*blocks), len(blocks)

    def run_blocks(self, bases: Any, times: object, entries: int) -> int:
        """Run the blocks on so many entries; the bases of values that count them move on. 0, or the step that failed."""
        assert self._run_blocks is not None, "the plan has blocks"
        call, count = self._run_blocks, ctypes.c_int64(entries)
        return call(self._handle, bases, self._strides, self._bases, self._blocks, self._block_count, count, times)


def _close(library: Library, handle: ctypes.c_void_p) -> None:
    library.function("irc_close", None)(handle)


class _Memory:
    """What one call at a time needs: an arena, a word of status, and the table of bases with both in it."""

    def __init__(self, plan: NativePlan, constants: np.ndarray) -> None:
        try:
            self.arena = aligned_memory(plan.arena)
        except MemoryError as error:
            raise EngineFailure(f"there is no room for the {plan.arena} bytes that a run needs") from error
        self._status = ctypes.c_int32()
        self.bases = (ctypes.c_void_p * len(plan.sizes()))()
        self.bases[0] = self.arena.ctypes.data
        self.bases[1] = constants.ctypes.data
        self.bases[STATUS] = ctypes.addressof(self._status)


def _aligned(chunks: Sequence[Buffer]) -> np.ndarray:
    """The bytes of a file at a multiple of ALIGNMENT: where they lie if they lie so, as in an artifact, else copied."""
    if len(chunks) == 1:
        whole = np.frombuffer(chunks[0], np.uint8)
        if whole.ctypes.data % ALIGNMENT == 0:
            return whole
    room = aligned_memory(sum(len(chunk) for chunk in chunks))
    begin = 0
    for chunk in chunks:
        room[begin : begin + len(chunk)] = np.frombuffer(chunk, np.uint8)
        begin += len(chunk)
    return room


def _address(array: np.ndarray) -> int:
    """Where an array's elements lie. The first way takes a third of the time, and is not for all arrays."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # read-only, empty, or of a dtype that only NumPy knows
        return array.ctypes.data


def _rows(shape: tuple[int, ...], entries: int) -> tuple[int, ...]:
    """The shape of so many entries, where that of one is known."""
    return (shape[0] * entries, *shape[1:])


def _array_of(value: NativeValue) -> tuple[str, tuple[int, ...], np.dtype[np.generic]]:
    return value.name, value.shape, ELEMENT_TYPES[value.dtype].numpy


def _check_signature(values: Sequence[NativeValue], entries: Mapping[str, SignatureEntry], what: str) -> None:
    for value in values:
        entry = entries.get(value.name)
        if entry is None or (entry.kind, entry.dtype) != ("tensor", value.dtype):
            raise ArtifactError(f"{NATIVE_PLAN_FILE} has {what} {value.name}, and the manifest has none such")


def _check_processor(plan: NativePlan) -> None:
    """Raises EngineFailure where this machine would not understand the kernels: it would end the process."""
    here = processor()
    if plan.architecture != here.architecture:
        raise EngineFailure(f"the program is for {plan.architecture}, and this machine is {here.architecture}")
    lacking = [name for name in plan.features if name not in here.features]
    if lacking:
        hint = "compile it for this machine"
        raise EngineFailure(f"the program needs {', '.join(lacking)}, which this machine does not have", hint=hint)


def _other_shape(name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> EngineFailure:
    given, wanted = (f"{kind}{list(dims)}" for kind, dims in ((array.dtype, array.shape), (dtype, shape)))
    return EngineFailure(f"input {name} is {given}, and the program was compiled for {wanted}")

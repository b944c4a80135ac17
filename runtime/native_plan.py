"""What a library of kernels is to do, as a flat list: `NativePlan.from_bytes(plan.to_bytes())` is the plan.

Law: a plan that was read points nowhere but into its bases: each argument says how many bytes behind it the kernel touches, and
these lie within the base. What is done to them is for the kernels to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from .dtypes import ELEMENT_TYPES
from .strict_json import Fields, Json, canonical, parse_object

NATIVE_PLAN_FILE = "plan.json"
LIBRARY_FILE = "program.so"
CONSTANTS_FILE = "constants.bin"

ARENA, CONSTANTS, STATUS, FIRST_VALUE = range(4)
"""The bases: one arena, the constants, a word that kernels leave complaints in; then each input, then each output."""

STATUS_BYTES = 4
MOST_ARGUMENTS = 24
MOST_TASKS = 1 << 31
MOST_ROWS = 1 << 29
"""Rows that no value has: a program for any number of entries refuses as many."""
ALIGNMENT = 64
"""Arena and constants begin at a multiple of this many bytes, a cache line and the widest vector."""


def aligned_memory(size: int) -> NDArray[np.uint8]:
    """So many bytes at a multiple of ALIGNMENT, not set to anything."""
    room = np.empty(size + ALIGNMENT, np.uint8)
    begin = -room.ctypes.data % ALIGNMENT
    return room[begin : begin + size]


@dataclass(frozen=True, slots=True)
class Argument:
    """A pointer that a kernel gets: `offset` bytes behind a base, with the `size` bytes that it may touch there."""

    base: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class NativeStep:
    """One call of a kernel, by its symbol in the library; `ops` are the names of the nodes that it does the work of.

    `flops` are those of the call as the model has them, so a convolution has those of the direct method whatever is done.
    `way` is of a kernel that could be made in several ways: the key of what it computes, a space, and how it is made.
    """

    kernel: str
    tasks: int
    arguments: tuple[Argument, ...]
    ops: tuple[str, ...] = ()
    flops: int = 0
    way: str = ""

    @property
    def byte_count(self) -> int:
        """The bytes that the call touches."""
        return sum(each.size for each in self.arguments)

    def to_json(self) -> Json:
        """As JSON; arguments are numbers by threes."""
        numbers = [number for each in self.arguments for number in (each.base, each.offset, each.size)]
        return {
            "kernel": self.kernel,
            "tasks": self.tasks,
            "arguments": list[Json](numbers),
            "ops": list[Json](self.ops),
            "flops": self.flops,
            **({"way": self.way} if self.way else {}),
        }

    @staticmethod
    def from_json(fields: Fields) -> NativeStep:
        """From JSON; raises ArtifactError where it is none."""
        kernel, tasks, numbers = fields.text("kernel"), fields.natural("tasks"), fields.naturals("arguments")
        if len(numbers) % 3 or not 3 <= len(numbers) <= 3 * MOST_ARGUMENTS:
            raise fields.refuse(f"a kernel has one to {MOST_ARGUMENTS} arguments, of three numbers each")
        if tasks >= MOST_TASKS:
            raise fields.refuse(f"{tasks} tasks are too many")
        triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
        ops, flops, way = fields.texts("ops"), fields.natural("flops"), fields.optional_text("way") or ""
        return NativeStep(kernel, tasks, tuple(Argument(*each) for each in triples), ops, flops, way)


@dataclass(frozen=True, slots=True)
class NativeBuffer:
    """What lies in the arena from the step `first` to the step `last`, by the name of the value that it is."""

    name: str
    offset: int
    size: int
    first: int
    last: int

    def to_json(self) -> Json:
        """As JSON."""
        return {"name": self.name, "place": [self.offset, self.size, self.first, self.last]}

    @staticmethod
    def from_json(fields: Fields) -> NativeBuffer:
        """From JSON; raises ArtifactError where it is none."""
        name, numbers = fields.text("name"), fields.naturals("place")
        if len(numbers) != 4 or numbers[2] > numbers[3]:
            raise fields.refuse("place should be an offset, a size, a first step, and a last step that is not before it")
        return NativeBuffer(name, *numbers)


@dataclass(frozen=True, slots=True)
class NativePlace:
    """Where the first element of the value `name` is: `offset` bytes behind a base."""

    name: str
    base: int
    offset: int

    def to_json(self) -> Json:
        """As JSON."""
        return {"name": self.name, "at": [self.base, self.offset]}

    @staticmethod
    def from_json(fields: Fields) -> NativePlace:
        """From JSON; raises ArtifactError where it is none."""
        name, numbers = fields.text("name"), fields.naturals("at")
        if len(numbers) != 2:
            raise fields.refuse("at should be a base and an offset")
        return NativePlace(name, *numbers)


@dataclass(frozen=True, slots=True)
class NativeValue:
    """An input or output as the kernels have it, dense and in row-major order; where it `counts` entries, those of one."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    counts: bool = False

    @property
    def byte_count(self) -> int:
        """How many bytes it has."""
        return ELEMENT_TYPES[self.dtype].numpy.itemsize * math.prod(self.shape)

    def to_json(self) -> Json:
        """As JSON."""
        counts: dict[str, Json] = {"counts": True} if self.counts else {}
        return {"name": self.name, "dtype": self.dtype, "shape": list[Json](self.shape), **counts}

    @staticmethod
    def from_json(fields: Fields) -> NativeValue:
        """From JSON; raises ArtifactError where it is none."""
        value = NativeValue(fields.text("name"), fields.text("dtype"), fields.naturals("shape"), fields.flag("counts"))
        if value.dtype not in ELEMENT_TYPES or value.dtype == "str":
            raise fields.refuse(f"{value.dtype} is no element type that kernels compute with")
        if len(value.shape) > 64:
            raise fields.refuse("shape should be a list of at most 64 dims")
        if value.counts and (not value.shape or not value.shape[0]):
            raise fields.refuse(f"{value.name} has no rows for an entry")
        return value


@dataclass(frozen=True, slots=True)
class NativeBlock:
    """Steps from `first` to before `end` that compute so many `entries` of what counts them; those for 0 are done once."""

    entries: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class NativePlan:
    """The steps in order, the bytes of the arena and of the constants, and the values that come in and go out.

    `inputs` are those of the program that are used at all. `architecture` and `features` are what the kernels were made for,
    as `Processor` has them. For people to look at, where a run needs the steps alone: `buffers` are what lies in the arena,
    `values` where the values of the graph are that lie in memory at all, in blocks the largest one's, and `peak` is a step
    that does nothing but arithmetic, on memory of its own where others have the arena.
    Where there are `blocks`, a run does the steps that are done once, then those of each block as often as so many entries are
    left, the largest block first; the last is for one entry. Without blocks it does all steps.
    """

    steps: tuple[NativeStep, ...]
    arena: int
    constants: int
    inputs: tuple[NativeValue, ...]
    outputs: tuple[NativeValue, ...]
    architecture: str
    features: tuple[str, ...]
    buffers: tuple[NativeBuffer, ...] = ()
    blocks: tuple[NativeBlock, ...] = ()
    peak: NativeStep | None = None
    values: tuple[NativePlace, ...] = ()

    def sizes(self, entries: int = 1) -> tuple[int, ...]:
        """The bytes of each base, of values that count entries those of so many."""
        values = (*self.inputs, *self.outputs)
        return (
            *(self.arena, self.constants, STATUS_BYTES),
            *(each.byte_count * entries if each.counts else each.byte_count for each in values),
        )

    def strides(self) -> tuple[int, ...]:
        """How many bytes behind the one before each entry begins, by base; 0 where there are none."""
        return (0, 0, 0, *(each.byte_count if each.counts else 0 for each in (*self.inputs, *self.outputs)))

    def entries(self, times: Sequence[int]) -> int:
        """On how many entries each step is done so often; 1 where there are none."""
        return sum(b.entries * times[b.first] for b in self.blocks if b.end > b.first) if self.blocks else 1

    def times(self, entries: int) -> tuple[int, ...]:
        """How often each step is done in a run on so many entries."""
        if not self.blocks:
            return (1,) * len(self.steps)
        found: list[int] = []
        for block in self.blocks:
            often = entries // block.entries if block.entries else 1
            found += [often] * (block.end - block.first)
            entries -= often * block.entries
        return tuple(found)

    def first_arguments(self) -> tuple[int, ...]:
        """Where the arguments of each step begin in a list of all."""
        return tuple(accumulate((len(step.arguments) for step in self.steps), initial=0))[:-1]

    def to_bytes(self) -> bytes:
        """The plan as the bytes of NATIVE_PLAN_FILE; equal plans have equal bytes."""
        return canonical(
            {
                "architecture": self.architecture,
                "arena": self.arena,
                **({"blocks": _blocks_to_json(self.blocks)} if self.blocks else {}),
                "buffers": [each.to_json() for each in self.buffers],
                "constants": self.constants,
                "features": list[Json](self.features),
                "inputs": [each.to_json() for each in self.inputs],
                "outputs": [each.to_json() for each in self.outputs],
                **({} if self.peak is None else {"peak": self.peak.to_json()}),
                "steps": [each.to_json() for each in self.steps],
                "values": [each.to_json() for each in self.values],
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> NativePlan:
        """The plan in the bytes of NATIVE_PLAN_FILE; raises ArtifactError where it is none, or points beyond its bases."""
        fields = parse_object(data, NATIVE_PLAN_FILE)
        plan = NativePlan(
            fields.objects("steps", NativeStep.from_json),
            fields.natural("arena"),
            fields.natural("constants"),
            fields.objects("inputs", NativeValue.from_json),
            fields.objects("outputs", NativeValue.from_json),
            fields.text("architecture"),
            fields.texts("features"),
            fields.objects("buffers", NativeBuffer.from_json),
            fields.optional_object("blocks", _blocks_from_json) or (),
            fields.optional_object("peak", NativeStep.from_json),
            fields.objects("values", NativePlace.from_json),
        )
        fields.finish()
        plan._check(fields)
        return plan

    def _check(self, fields: Fields) -> None:
        """Raises ArtifactError for an argument or a buffer that does not lie within its base."""
        counting = any(each.counts for each in self.inputs)
        if counting != bool(self.blocks) or (not counting and any(each.counts for each in self.outputs)):
            raise fields.refuse("there should be blocks where an input counts entries, and only there")
        if self.blocks and self.blocks[-1].end != len(self.steps):
            raise fields.refuse("the blocks should have all steps")
        for block in self.blocks or (NativeBlock(1, 0, len(self.steps)),):
            self._check_steps(self.steps[block.first : block.end], self.sizes(block.entries), fields)
        if self.peak is not None and [(each.base, each.offset) for each in self.peak.arguments] != [(ARENA, 0)]:
            raise fields.refuse(f"the kernel {self.peak.kernel} gets other memory than its own")
        for buffer in self.buffers:
            if buffer.offset + buffer.size > self.arena or buffer.last >= len(self.steps):
                raise fields.refuse(f"the buffer {buffer.name[:60]!r} does not lie within the arena and the steps")
        sizes = self.sizes(max((block.entries for block in self.blocks), default=1))
        for value in self.values:
            if value.base >= len(sizes) or value.offset > sizes[value.base]:
                raise fields.refuse(f"the value {value.name[:60]!r} does not lie within its base")

    def _check_steps(self, steps: tuple[NativeStep, ...], sizes: tuple[int, ...], fields: Fields) -> None:
        if max(sizes) >> 62:
            raise fields.refuse("no machine has so much memory")
        for step in steps:
            for each in step.arguments:
                if each.base >= len(sizes):
                    raise fields.refuse(f"the kernel {step.kernel} gets base {each.base}, and there are {len(sizes)}")
                if each.offset + each.size > sizes[each.base]:
                    end = each.offset + each.size
                    raise fields.refuse(f"the kernel {step.kernel} goes up to byte {end} of {sizes[each.base]}")


def _blocks_to_json(blocks: tuple[NativeBlock, ...]) -> Json:
    """The entries of each, and where its steps end: they begin where those of the one before end."""
    return {"entries": [each.entries for each in blocks], "ends": [each.end for each in blocks]}


def _blocks_from_json(fields: Fields) -> tuple[NativeBlock, ...]:
    entries, ends = fields.naturals("entries"), fields.naturals("ends")
    counted = [each for each in entries if each] if entries[:1] == (0,) else list(entries)
    if counted[-1:] != [1] or counted != sorted(set(counted), reverse=True):
        raise fields.refuse("each block should be for less entries than the one before, and the last one for one")
    if len(ends) != len(entries) or list(ends) != sorted(ends):
        raise fields.refuse("each block should end where the next one begins")
    return tuple(NativeBlock(*each) for each in zip(entries, (0, *ends), ends, strict=False))


__all__ = [
    "ALIGNMENT",
    "ARENA",
    "CONSTANTS",
    "CONSTANTS_FILE",
    "FIRST_VALUE",
    "LIBRARY_FILE",
    "MOST_ARGUMENTS",
    "MOST_ROWS",
    "NATIVE_PLAN_FILE",
    "STATUS",
    "Argument",
    "NativeBlock",
    "NativeBuffer",
    "NativePlace",
    "NativePlan",
    "NativeStep",
    "NativeValue",
    "aligned_memory",
]

"""What a library of kernels is to do, as a flat list: `NativePlan.from_bytes(plan.to_bytes())` is the plan.

Law: a plan that was read points nowhere but into its bases: each argument says how many bytes behind it the kernel touches, and
these lie within the base. What is done to them is for the kernels to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

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
ALIGNMENT = 64
"""Arena and constants begin at a multiple of this many bytes, a cache line and the widest vector."""


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
    """

    kernel: str
    tasks: int
    arguments: tuple[Argument, ...]
    ops: tuple[str, ...] = ()
    flops: int = 0

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
        return NativeStep(
            kernel, tasks, tuple(Argument(*each) for each in triples), fields.texts("ops"), fields.natural("flops")
        )


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
class NativeValue:
    """An input or output as the kernels have it, dense and in row-major order."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def byte_count(self) -> int:
        """How many bytes it has."""
        return ELEMENT_TYPES[self.dtype].numpy.itemsize * math.prod(self.shape)

    def to_json(self) -> Json:
        """As JSON."""
        return {"name": self.name, "dtype": self.dtype, "shape": list[Json](self.shape)}

    @staticmethod
    def from_json(fields: Fields) -> NativeValue:
        """From JSON; raises ArtifactError where it is none."""
        value = NativeValue(fields.text("name"), fields.text("dtype"), fields.naturals("shape"))
        if value.dtype not in ELEMENT_TYPES or value.dtype == "str":
            raise fields.refuse(f"{value.dtype} is no element type that kernels compute with")
        if len(value.shape) > 64:
            raise fields.refuse("shape should be a list of at most 64 dims")
        return value


@dataclass(frozen=True, slots=True)
class NativePlan:
    """The steps in order, the bytes of the arena and of the constants, and the values that come in and go out.

    `inputs` are those of the program that are used at all. `architecture` and `features` are what the kernels were made for,
    as `Processor` has them. `buffers` are what lies in the arena, for people to look at: a run needs the steps alone.
    """

    steps: tuple[NativeStep, ...]
    arena: int
    constants: int
    inputs: tuple[NativeValue, ...]
    outputs: tuple[NativeValue, ...]
    architecture: str
    features: tuple[str, ...]
    buffers: tuple[NativeBuffer, ...] = ()

    def sizes(self) -> tuple[int, ...]:
        """The bytes of each base."""
        return (self.arena, self.constants, STATUS_BYTES, *(each.byte_count for each in (*self.inputs, *self.outputs)))

    def first_arguments(self) -> tuple[int, ...]:
        """Where the arguments of each step begin in a list of all."""
        return tuple(accumulate((len(step.arguments) for step in self.steps), initial=0))[:-1]

    def to_bytes(self) -> bytes:
        """The plan as the bytes of NATIVE_PLAN_FILE; equal plans have equal bytes."""
        return canonical(
            {
                "architecture": self.architecture,
                "arena": self.arena,
                "buffers": [each.to_json() for each in self.buffers],
                "constants": self.constants,
                "features": list[Json](self.features),
                "inputs": [each.to_json() for each in self.inputs],
                "outputs": [each.to_json() for each in self.outputs],
                "steps": [each.to_json() for each in self.steps],
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
        )
        fields.finish()
        plan._check(fields)
        return plan

    def _check(self, fields: Fields) -> None:
        """Raises ArtifactError for an argument or a buffer that does not lie within its base."""
        sizes = self.sizes()
        if max(sizes) >> 62:
            raise fields.refuse("no machine has so much memory")
        for step in self.steps:
            for each in step.arguments:
                if each.base >= len(sizes):
                    raise fields.refuse(f"the kernel {step.kernel} gets base {each.base}, and there are {len(sizes)}")
                if each.offset + each.size > sizes[each.base]:
                    end = each.offset + each.size
                    raise fields.refuse(f"the kernel {step.kernel} goes up to byte {end} of {sizes[each.base]}")
        for buffer in self.buffers:
            if buffer.offset + buffer.size > self.arena or buffer.last >= len(self.steps):
                raise fields.refuse(f"the buffer {buffer.name[:60]!r} does not lie within the arena and the steps")


__all__ = [
    "ALIGNMENT",
    "ARENA",
    "CONSTANTS",
    "CONSTANTS_FILE",
    "FIRST_VALUE",
    "LIBRARY_FILE",
    "MOST_ARGUMENTS",
    "NATIVE_PLAN_FILE",
    "STATUS",
    "Argument",
    "NativeBuffer",
    "NativePlan",
    "NativeStep",
    "NativeValue",
]

"""A graph as a program for a GPU: the image with all its kernels, its constants, and the plan of what is launched with what."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from irc.ir import DType, Graph, Op, Value, cost_of, emit
from irc.runtime import (
    ARENA,
    CONSTANTS,
    CONSTANTS_FILE,
    COPY,
    FIRST_VALUE,
    LAUNCHES_FILE,
    NATIVE_PLAN_FILE,
    NVIDIA,
    OPS_FILE,
    SOURCE_FILE,
    Argument,
    EngineFailure,
    Extents,
    NativePlan,
    NativeStep,
    NativeValue,
    launches_to_bytes,
)

from ...engine import EngineFiles, weight_view
from ...targets import Target
from ..describing import named_buffers, ops_model
from ..expressions import dtype_of, shape_of
from ..kernel import Kernel
from ..memory import ALIGNMENT, Span, arena_of
from ..places import Buffer, Call, Storage, lifetimes
from ..regions import Region, regions
from .building import codes, image
from .code import Code, Launch
from .models import RegionModel, region_model
from .nvrtc import architecture, image_file
from .source import whole

WITH_EPILOGUE = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Ops that take the pointwise ops behind them along."""

VIEWS = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
"""Ops whose result is the memory of their first operand."""


@dataclass
class _Program:
    """What is launched so far, and where values are."""

    graph: Graph
    codes: Mapping[bytes, Code]
    places: dict[Value, Buffer] = field(default_factory=dict[Value, Buffer])
    constants: dict[Buffer, bytes | memoryview] = field(default_factory=dict[Buffer, "bytes | memoryview"])
    calls: list[Call] = field(default_factory=list[Call])
    launches: list[tuple[Launch | None, tuple[Buffer, ...]]] = field(
        default_factory=list["tuple[Launch | None, tuple[Buffer, ...]]"]
    )

    def __post_init__(self) -> None:
        for index, value in enumerate(self.graph.inputs):
            self.places[value] = Buffer(dtype_of(value), _elements(value), Storage.INPUT, index=index)

    def place(self, value: Value) -> Buffer:
        """Where a value is; a constant gets a place when it is first asked for."""
        if value not in self.places:
            tensor = value.constant
            assert tensor is not None, "every region in front has been placed"
            self.places[value] = self._constant(weight_view(tensor).data, tensor.byte_count)
        return self.places[value]

    def add(self, region: Region, model: RegionModel) -> None:
        """The launches of a region."""
        code = self.codes[model.content]
        made = dict(zip(code.outputs, model.outputs, strict=True))
        for number, value in made.items():
            _check_size(code.buffers[number].byte_count, value)
        buffers = [self.place(value) for value in model.inputs]
        for number, each in enumerate(code.buffers[len(buffers) :], len(buffers)):
            if each.content is not None:
                buffers.append(self._constant(each.content, each.byte_count))
            else:
                buffers.append(self._fresh(made.get(number), each.byte_count))
        for value, number in zip(model.outputs, code.outputs, strict=True):
            self.places[value] = buffers[number]
        flops = sum(cost_of(op).flops for op in region.ops)
        for launch in code.launches:
            given = tuple(buffers[number] for number in launch.arguments)
            self._launch(launch, given, region.ops, flops, written=buffers[code.outputs[0]])
            flops = 0

    def alias(self, op: Op) -> None:
        """The result of an op is the memory of what it takes."""
        self.places[op.result] = self.place(op.needed(0))

    def return_outputs(self) -> None:
        """Copy what is not where the caller will find it."""
        for index, value in enumerate(self.graph.outputs):
            place = self.place(value)
            if place.storage is not Storage.OUTPUT or place.index != index:
                result = Buffer(place.dtype, place.size, Storage.OUTPUT, index=index)
                self._launch(None, (place, result), (), 0, written=result)

    def _launch(
        self, launch: Launch | None, given: tuple[Buffer, ...], ops: tuple[Op, ...], flops: int, written: Buffer
    ) -> None:
        """Note a launch; for its lifetimes and names it is a call whose result is `written` where it has that."""
        result = written if written in given else given[0]
        others = tuple(each for each in given if each is not result)
        tasks = 1
        for extent in launch.grid if launch else ():
            tasks *= extent
        self.calls.append(Call(Kernel("", tasks, len(given), flops), (*others, result), ops))
        self.launches.append((launch, given))

    def _fresh(self, value: Value | None, byte_count: int) -> Buffer:
        if value is not None and value.is_output:
            index = self.graph.outputs.index(value)
            return Buffer(DType.U8, byte_count, Storage.OUTPUT, index=index)
        return Buffer(DType.U8, byte_count)

    def _constant(self, content: bytes | memoryview, byte_count: int) -> Buffer:
        buffer = Buffer(DType.U8, byte_count, Storage.CONSTANT)
        self.constants[buffer] = content
        return buffer


def lower(graph: Graph, target: Target) -> EngineFiles:
    """The files of a graph, every op of which is taken. Raises EngineFailure where kernels can be neither made nor compiled."""
    found = regions(graph, WITH_EPILOGUE)
    models = {region: region_model(region.ops) for region in found if not _is_view(region)}
    name = architecture(target.compute_capability)
    program = _Program(graph, codes([each.content for each in models.values()], name, os.cpu_count() or 1))
    for region in found:
        if region in models:
            program.add(region, models[region])
        else:
            program.alias(region.op)
    program.return_outputs()
    return _files(program, name)


def _is_view(region: Region) -> bool:
    return region.main is not None and region.tree is None and region.op.is_a(*VIEWS)


def _files(program: _Program, name: str) -> EngineFiles:
    graph, calls = program.graph, program.calls
    source = whole(code.source for code in program.codes.values() if code.launches)
    spans = {buffer: Span(*span, buffer.byte_count) for buffer, span in lifetimes(calls).items()}
    arena = arena_of(spans)
    used = sorted({each.index for call in calls for each in call.buffers if each.storage is Storage.INPUT})
    constants, end = _laid_out([buffer for call in calls for buffer in call.buffers if buffer in program.constants])
    emitted = emit(graph)
    node_names = {op: own for own, op in emitted.op_names.items()}

    def argument(buffer: Buffer) -> Argument:
        if buffer.storage is Storage.ARENA:
            return Argument(ARENA, arena.offsets[buffer], buffer.byte_count)
        if buffer.storage is Storage.CONSTANT:
            return Argument(CONSTANTS, constants[buffer], buffer.byte_count)
        place = used.index(buffer.index) if buffer.storage is Storage.INPUT else len(used) + buffer.index
        return Argument(FIRST_VALUE + place, 0, buffer.byte_count)

    steps: list[NativeStep] = []
    extents: dict[str, Extents] = {}
    for call, (launch, given) in zip(calls, program.launches, strict=True):
        if launch is not None:
            extents[launch.kernel] = (*launch.grid, *launch.block)
        ops = tuple(node_names.get(op, op.name) for op in call.ops)
        kernel = COPY if launch is None else launch.kernel
        steps.append(NativeStep(kernel, call.kernel.tasks, tuple(map(argument, given)), ops, call.kernel.flops))
    plan = NativePlan(
        steps=tuple(steps),
        arena=arena.byte_count,
        constants=end,
        inputs=tuple(_value(graph.input_names[index], graph.inputs[index]) for index in used),
        outputs=tuple(map(_value, graph.output_names, graph.outputs)),
        architecture=NVIDIA,
        features=(name,),
        buffers=named_buffers(calls, spans, arena, emitted, graph),
    )
    files: dict[str, Sequence[bytes | memoryview]] = {
        NATIVE_PLAN_FILE: (plan.to_bytes(),),
        LAUNCHES_FILE: (launches_to_bytes(extents),),
        CONSTANTS_FILE: _padded([program.constants[buffer] for buffer in constants]),
        OPS_FILE: (ops_model(emitted),),
    }
    if extents:
        files |= {image_file(name): (image(source, name),), SOURCE_FILE: (source.encode(),)}
    return EngineFiles(files, {}, emitted.op_names)


def _laid_out(buffers: Sequence[Buffer]) -> tuple[dict[Buffer, int], int]:
    """Where each constant begins in the file of constants, in the order in which they are first used, and where that ends."""
    places: dict[Buffer, int] = {}
    end = 0
    for buffer in dict.fromkeys(buffers):
        places[buffer] = end
        end += -(-buffer.byte_count // ALIGNMENT) * ALIGNMENT
    return places, end


def _padded(contents: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    chunks: list[bytes | memoryview] = []
    for content in contents:
        data = memoryview(content).cast("B")
        chunks += [data, bytes(-len(data) % ALIGNMENT)] if len(data) % ALIGNMENT else [data]
    return chunks


def _check_size(byte_count: int, value: Value) -> None:
    """Raises EngineFailure where TVM makes something else of an op than ONNX says."""
    if byte_count != dtype_of(value).byte_count(_elements(value)):
        raise EngineFailure(f"TVM makes {byte_count} bytes of {value}, which is {value.type}")


def _elements(value: Value) -> int:
    count = 1
    for size in shape_of(value):
        count *= size
    return count


def _value(name: str, value: Value) -> NativeValue:
    return NativeValue(name, dtype_of(value).text, shape_of(value))


__all__ = ["lower"]

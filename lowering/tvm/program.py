"""A graph as files: one library with all its kernels, its constants, and the plan of what is called with what."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from irc.ir import Graph, Op, Value, emit
from irc.runtime import (
    ARENA,
    CONSTANTS,
    CONSTANTS_FILE,
    FIRST_VALUE,
    LIBRARY_FILE,
    NATIVE_PLAN_FILE,
    OPS_FILE,
    STATUS,
    Argument,
    NativePlan,
    NativeStep,
    NativeValue,
)

from ..engine import EngineFiles
from ..targets import ARM, Target
from .building import llvm_target, objects
from .describing import named_buffers, ops_model
from .kernels import MAINS
from .linking import link
from .lowerer import Lowerer, dtype_of, shape_of
from .memory import ALIGNMENT, Arena, Span, arena_of
from .movement import MOVEMENT
from .ordering import in_low_order
from .places import Buffer, Call, Storage, lifetimes
from .regions import regions
from .tiling import Machine
from .trees import lower_movement, lower_tree


def machine_of(target: Target) -> Machine:
    """What kernels have to know of a CPU."""
    wide, middle = "avx512f" in target.features, "avx2" in target.features
    lanes = 16 if wide else 8 if middle else 4
    registers = 32 if wide or target.architecture == ARM else 16
    caches = target.caches
    return Machine(lanes, registers, caches.l1d or 1 << 15, caches.l2 or 1 << 19, target.cores or os.cpu_count() or 1)


def calls_of(graph: Graph, machine: Machine) -> list[Call]:
    """The calls that compute the outputs of a graph, every op of which has a kernel."""
    lowerer = Lowerer(graph, machine)
    for region in regions(graph, tuple(name for name, (_, takes_epilogue) in MAINS.items() if takes_epilogue)):
        if region.main is None:
            lower_tree(lowerer, region)
        elif region.main.qualified_name in MOVEMENT:
            lower_movement(lowerer, region.main)
        else:
            MAINS[region.main.qualified_name][0](lowerer, region)
    lowerer.return_outputs()
    return in_low_order(needed(lowerer.calls))


def needed(calls: Sequence[Call]) -> list[Call]:
    """The calls without those whose result nobody reads."""
    read: set[Buffer] = set()
    kept: list[Call] = []
    for call in reversed(calls):
        if call.result.storage is Storage.OUTPUT or call.result in read:
            kept.append(call)
            read.update(call.buffers[:-1])
    return kept[::-1]


def lower(graph: Graph, target: Target) -> EngineFiles:
    """The files of a graph. Raises UnsupportedError and EngineFailure where kernels can be neither built nor linked."""
    calls = calls_of(graph, machine_of(target))
    kernels = [call.kernel for call in calls]
    spans = {buffer: Span(*span, buffer.byte_count) for buffer, span in lifetimes(calls).items()}
    arena = arena_of(spans)
    constants = _laid_out(calls)
    used = sorted({each.index for call in calls for each in call.buffers if each.storage is Storage.INPUT})
    built = objects(kernels, target, os.cpu_count() or 1)
    library = link(list(built.values()), llvm_target(target).triple)
    emitted = emit(graph)
    node_names = {op: name for name, op in emitted.op_names.items()}
    plan = NativePlan(
        steps=tuple(_step(call, _arguments(call, arena, constants, used), node_names) for call in calls),
        arena=arena.byte_count,
        constants=_end(constants),
        inputs=tuple(_value(graph.input_names[index], graph.inputs[index]) for index in used),
        outputs=tuple(map(_value, graph.output_names, graph.outputs)),
        architecture=target.architecture,
        features=target.features,
        buffers=named_buffers(calls, spans, arena, emitted, graph),
    )
    files: dict[str, Sequence[bytes | memoryview]] = {
        LIBRARY_FILE: (library,),
        NATIVE_PLAN_FILE: (plan.to_bytes(),),
        CONSTANTS_FILE: _chunks(constants),
        OPS_FILE: (ops_model(emitted),),
    }
    return EngineFiles(files, {}, emitted.op_names)


def _laid_out(calls: Sequence[Call]) -> dict[Buffer, int]:
    """Where each constant begins in the file of constants, in the order in which they are first used."""
    places: dict[Buffer, int] = {}
    end = 0
    for buffer in (each for call in calls for each in call.buffers):
        if buffer.storage is Storage.CONSTANT and buffer not in places:
            places[buffer] = end
            end += -(-buffer.byte_count // ALIGNMENT) * ALIGNMENT
    return places


def _end(constants: dict[Buffer, int]) -> int:
    return max((begin + -(-buffer.byte_count // ALIGNMENT) * ALIGNMENT for buffer, begin in constants.items()), default=0)


def _chunks(constants: dict[Buffer, int]) -> list[bytes | memoryview]:
    chunks: list[bytes | memoryview] = []
    for buffer in constants:
        assert buffer.content is not None
        content = buffer.content.view(np.uint8).data
        chunks.append(content)
        if len(content) % ALIGNMENT:
            chunks.append(bytes(-len(content) % ALIGNMENT))
    return chunks


def _arguments(call: Call, arena: Arena[Buffer], constants: dict[Buffer, int], used: Sequence[int]) -> tuple[Argument, ...]:
    def argument(buffer: Buffer) -> Argument:
        if buffer.storage is Storage.ARENA:
            return Argument(ARENA, arena.offsets[buffer], buffer.byte_count)
        if buffer.storage is Storage.CONSTANT:
            return Argument(CONSTANTS, constants[buffer], buffer.byte_count)
        if buffer.storage is Storage.STATUS:
            return Argument(STATUS, 0, buffer.byte_count)
        is_input = buffer.storage is Storage.INPUT
        place = used.index(buffer.index) if is_input else len(used) + buffer.index
        return Argument(FIRST_VALUE + place, 0, buffer.byte_count)

    return tuple(argument(buffer) for buffer in call.buffers)


def _step(call: Call, arguments: tuple[Argument, ...], node_names: Mapping[Op, str]) -> NativeStep:
    names = tuple(node_names.get(op, op.name) for op in call.ops)
    return NativeStep(call.kernel.name, call.kernel.tasks, arguments, names, call.kernel.flops)


def _value(name: str, value: Value) -> NativeValue:
    return NativeValue(name, dtype_of(value).text, shape_of(value))


__all__ = ["calls_of", "lower", "machine_of"]

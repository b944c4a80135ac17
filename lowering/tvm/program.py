"""A graph as files: one library with all its kernels, its constants, and the plan of what is called with what."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate

from irc.ir import Emitted, Graph, Op, Value, emit
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
    NativeBlock,
    NativeBuffer,
    NativePlace,
    NativePlan,
    NativeStep,
    NativeValue,
    aligned_memory,
)

from ..blocks import Part, Parts
from ..engine import EngineFiles
from ..targets import ARM, Target
from .building import llvm_target, objects
from .describing import named_buffers, ops_model, value_names
from .expressions import dtype_of, shape_of
from .foreign import lower_foreign, with_searched
from .inplace import placed
from .kernel import product
from .kernels import KEEPING, MAINS
from .legality import why_not_ours
from .linking import link
from .lowerer import Known, Lowerer
from .memory import ALIGNMENT, Arena, Span
from .movement import MOVEMENT
from .narrow import is_known
from .ordering import in_low_order
from .peak import peak, peak_bytes
from .places import Buffer, Call, Place, Storage
from .regions import regions
from .tiling import Machine
from .trees import lower_movement, lower_tree
from .ways import AS_MODELLED, TILES, Ways


def machine_of(target: Target) -> Machine:
    """What kernels have to know of a CPU."""
    wide, middle = "avx512f" in target.features, "avx2" in target.features
    lanes = 16 if wide else 8 if middle else 4
    registers = 32 if wide or target.architecture == ARM else 16
    caches = target.caches
    threads, features = target.cores or os.cpu_count() or 1, frozenset(target.features)
    return Machine(lanes, registers, caches.l1d or 1 << 15, caches.l2 or 1 << 19, threads, features)


def calls_of(graph: Graph, machine: Machine, ways: Ways = AS_MODELLED, known: Known | None = None) -> list[Call]:
    """The calls that compute the outputs of a graph, every op of which has a kernel; `known` are constants of other graphs."""
    return _computed(Lowerer(graph, machine, ways, known or Known()))


def _computed(lowerer: Lowerer) -> list[Call]:
    graph = lowerer.graph
    for region in regions(graph, tuple(name for name, (_, takes_epilogue) in MAINS.items() if takes_epilogue), KEEPING):
        if is_known(region.ops[-1]):
            lowerer.know(region.ops[-1])
        elif region.main is None:
            lower_tree(lowerer, region)
        elif region.main.qualified_name in MOVEMENT:
            lower_movement(lowerer, region.main)
        elif why_not_ours(region.main):
            lower_foreign(lowerer, region)
        else:
            MAINS[region.main.qualified_name][0](lowerer, region)
    lowerer.return_outputs()
    return in_low_order(needed(lowerer.calls))


def needed(calls: Sequence[Call]) -> list[Call]:
    """The calls without those whose result nobody reads."""
    read: set[Buffer] = set()
    kept: list[Call] = []
    for call in reversed(calls):
        if any(buffer.storage is Storage.OUTPUT or buffer in read for buffer in call.written):
            kept.append(call)
            read.update(call.read)
    return kept[::-1]


def lower(parts: Parts, target: Target, ways: Ways = AS_MODELLED, deadline: float = math.inf) -> EngineFiles:
    """The files of a graph, in one part or in blocks.

    Raises UnsupportedError and EngineFailure where kernels can be neither built nor linked.

    `deadline` is a time of `time.monotonic` at which building them is given up, which is a failure, too.
    """
    machine, known = machine_of(target), Known()
    foreign = [op for part in parts.parts for op in part.graph if not op.is_constant and why_not_ours(op)]
    ways = with_searched(ways, foreign, target, deadline)
    # The last part first: the form of large constants is that which suits one entry, and the others do with it.
    lowered = [_lowered(part, machine, ways, known) for part in reversed(parts.parts)][::-1]
    calls = [call for each in lowered for call in each.calls]
    limit = peak(machine)
    kernels = [*(call.kernel for call in calls), limit]
    places = _places(parts, lowered, _laid_out(calls))
    built = objects(kernels, target, os.cpu_count() or 1, deadline)
    library = link(list(built.values()), llvm_target(target).triple)
    emitted = emit(parts.whole)
    node_names = {op: name for name, op in emitted.op_names.items()}
    plan = NativePlan(
        steps=tuple(_step(call, places.arguments(each, call), node_names) for each in lowered for call in each.calls),
        arena=places.kept_bytes + max(each.arena.byte_count for each in lowered),
        constants=_end(places.constants),
        inputs=places.inputs,
        outputs=places.outputs,
        architecture=target.architecture,
        features=target.features,
        buffers=_buffers(parts, lowered, places, emitted),
        peak=NativeStep(limit.name, limit.tasks, (Argument(ARENA, 0, peak_bytes(machine)),), (), limit.flops),
        blocks=_blocks(parts, lowered),
        values=_values(lowered, places, value_names(emitted)),
    )
    files: dict[str, Sequence[bytes | memoryview]] = {
        LIBRARY_FILE: (library,),
        NATIVE_PLAN_FILE: (plan.to_bytes(),),
        CONSTANTS_FILE: (_filled(places.constants),),
        OPS_FILE: (ops_model(emitted),),
    }
    keys = {call.kernel.way.partition(" ")[0] for call in calls}
    tiles = {key: text for key, text in ways.chosen if key in keys}
    return EngineFiles(files, {}, emitted.op_names, {TILES: tiles} if tiles else {})


def _laid_out(calls: Sequence[Call]) -> dict[Buffer, int]:
    """Where each constant begins in the file of constants, in the order in which they are first used."""
    places: dict[Buffer, int] = {}
    end = 0
    for buffer in (each for call in calls for each in call.buffers):
        if buffer.storage is Storage.CONSTANT and buffer not in places:
            places[buffer] = end
            end += _room(buffer)
    return places


def _end(constants: Mapping[Buffer, int]) -> int:
    return max((begin + _room(buffer) for buffer, begin in constants.items()), default=0)


def _room(buffer: Buffer) -> int:
    """Its bytes, and those up to where the next begins."""
    return -(-buffer.byte_count // ALIGNMENT) * ALIGNMENT


def _filled(constants: Mapping[Buffer, int]) -> memoryview:
    """The file of constants: each written where it will lie, several at a time."""
    whole = aligned_memory(_end(constants))

    def write(buffer: Buffer) -> None:
        assert buffer.content is not None
        begin, count = constants[buffer], buffer.byte_count
        buffer.content(whole[begin : begin + count])
        whole[begin + count : begin + _room(buffer)] = 0

    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        for _ in threads.map(write, constants):
            pass
    return whole.data


def _step(call: Call, arguments: tuple[Argument, ...], node_names: Mapping[Op, str]) -> NativeStep:
    names = tuple(node_names.get(op, op.name) for op in call.ops)
    return NativeStep(call.kernel.name, call.kernel.tasks, arguments, names, call.kernel.flops, call.kernel.way)


def _value(name: str, value: Value, counts: bool) -> NativeValue:
    return NativeValue(name, dtype_of(value).text, shape_of(value), counts)


# Programs of several parts: they follow one another in one arena, and read the same constants


@dataclass(frozen=True)
class _Lowered:
    """A part with its calls, which say the ops of the whole, where its values are, and its buffers behind what is kept."""

    part: Part
    values: Mapping[Value, Place]
    calls: Sequence[Call]
    spans: Mapping[Buffer, Span]
    arena: Arena[Buffer]


def _lowered(part: Part, machine: Machine, ways: Ways, known: Known) -> _Lowered:
    lowerer = Lowerer(part.graph, machine, ways, known)
    calls = [replace(call, ops=tuple(part.origin.get(op, op) for op in call.ops)) for call in _computed(lowerer)]
    found = placed(calls)
    return _Lowered(part, lowerer.places, found.calls, found.spans, found.arena)


@dataclass(frozen=True)
class _Places:
    """Where a program has its values: those kept for all blocks where the arena begins, the arenas of the parts behind."""

    constants: Mapping[Buffer, int]
    inputs: tuple[NativeValue, ...]
    outputs: tuple[NativeValue, ...]
    kept: Mapping[str, int]
    kept_bytes: int

    def arguments(self, part: _Lowered, call: Call) -> tuple[Argument, ...]:
        """What the kernel of a call gets."""
        return tuple(self.argument(part, buffer) for buffer in call.buffers)

    def has(self, part: _Lowered, buffer: Buffer) -> bool:
        """Whether a buffer is anywhere: what nobody needs is not."""
        if buffer.storage is Storage.INPUT:
            return _name(part, buffer) in {*self.kept, *(each.name for each in self.inputs)}
        known = {Storage.ARENA: part.arena.offsets, Storage.CONSTANT: self.constants}.get(buffer.storage)
        return known is None or buffer in known

    def argument(self, part: _Lowered, buffer: Buffer) -> Argument:
        """What a kernel gets of a buffer."""
        if buffer.storage is Storage.ARENA:
            return Argument(ARENA, self.kept_bytes + part.arena.offsets[buffer], buffer.byte_count)
        if buffer.storage is Storage.CONSTANT:
            return Argument(CONSTANTS, self.constants[buffer], buffer.byte_count)
        if buffer.storage is Storage.STATUS:
            return Argument(STATUS, 0, buffer.byte_count)
        name = _name(part, buffer)
        if name in self.kept:
            return Argument(ARENA, self.kept[name], buffer.byte_count)
        is_input = buffer.storage is Storage.INPUT
        names = [each.name for each in (self.inputs if is_input else self.outputs)]
        place = names.index(name) if is_input else len(self.inputs) + names.index(name)
        return Argument(FIRST_VALUE + place, 0, buffer.byte_count)


def _name(part: _Lowered, buffer: Buffer) -> str:
    """What an input or output is called."""
    graph = part.part.graph
    return (graph.input_names if buffer.storage is Storage.INPUT else graph.output_names)[buffer.index]


def _places(parts: Parts, lowered: Sequence[_Lowered], constants: Mapping[Buffer, int]) -> _Places:
    """The places of a program; an input that counts entries is there even where no kernel reads it."""
    read = {_name(e, b) for e in lowered for call in e.calls for b in call.buffers if b.storage is Storage.INPUT}
    read.update([each for each in parts.whole.input_names if each in parts.counting][:1])
    taken: dict[str, Value] = {}
    made: dict[str, Value] = {}
    for each in parts.parts:  # the last one is for one entry
        taken.update(zip(each.graph.input_names, each.graph.inputs, strict=True))
        made.update(zip(each.graph.output_names, each.graph.outputs, strict=True))
    kept: dict[str, int] = {}
    end = 0
    for name in parts.kept:
        kept[name] = end
        end += -(-dtype_of(made[name]).byte_count(product(shape_of(made[name]))) // ALIGNMENT) * ALIGNMENT
    inputs = (_value(name, taken[name], name in parts.counting) for name in parts.whole.input_names if name in read)
    outputs = (_value(name, made[name], name in parts.counting) for name in parts.whole.output_names)
    return _Places(constants, tuple(inputs), tuple(outputs), kept, end)


def _buffers(parts: Parts, lowered: Sequence[_Lowered], places: _Places, emitted: Emitted) -> tuple[NativeBuffer, ...]:
    """What lies in the arena, of all parts; steps are counted through."""
    last = sum(len(each.calls) for each in lowered) - 1
    ends = [*list(places.kept.values())[1:], places.kept_bytes]
    names = value_names(emitted)
    found = [
        NativeBuffer(names.get(parts.kept[name], name), begin, end - begin, 0, last)
        for (name, begin), end in zip(places.kept.items(), ends, strict=False)
    ]
    first = 0
    for each in lowered:
        for own in named_buffers(each.calls, each.spans, each.arena, emitted, each.part.graph):
            place = own.offset + places.kept_bytes, own.size, own.first + first, own.last + first
            found.append(NativeBuffer(own.name, *place))
        first += len(each.calls)
    return tuple(found)


def _values(lowered: Sequence[_Lowered], places: _Places, names: Mapping[Value, str]) -> tuple[NativePlace, ...]:
    """Where the values are that are in memory, in the order of the graph; of those in several parts the first's."""
    found: dict[str, NativePlace] = {}
    for each in lowered:
        for op in each.part.graph:
            whole = each.part.origin.get(op, op)
            for own, value in zip(op.results, whole.results, strict=True):
                place, name = each.values.get(own), names.get(value)
                if place is not None and name is not None and name not in found and places.has(each, place.buffer):
                    at = places.argument(each, place.buffer)
                    found[name] = NativePlace(name, at.base, at.offset + place.dtype.byte_count(place.view.offset))
    return tuple(found.values())


def _blocks(parts: Parts, lowered: Sequence[_Lowered]) -> tuple[NativeBlock, ...]:
    """The steps of each part, where there are entries to count."""
    ends = [*accumulate(len(each.calls) for each in lowered)]
    blocks = zip(parts.parts, (0, *ends), ends, strict=False)
    return tuple(NativeBlock(part.entries, first, end) for part, first, end in blocks) if parts.counting else ()


__all__ = ["calls_of", "lower", "machine_of"]

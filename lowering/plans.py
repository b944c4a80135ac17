"""Programs of several parts: a graph in pieces, each lowered by its engine, and variants of a graph for some calls only.

A plan says how values pass between pieces, and which variant runs. Parts with the same weights have them in the same memory,
and therefore in an artifact once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from irc.ir import Graph, Op
from irc.passes import Context
from irc.runtime import PLAN, PLAN_FILE, Manifest, OptionValue, Placement, Plan, Step, Variant, WeightView
from irc.runtime import EngineFiles as RuntimeFiles

from .engine import EngineFiles
from .openvino.merging import one_bin
from .partitioning import Piece, extract
from .signatures import input_entries, output_entries
from .targets import Target


def lower_pieces(
    graph: Graph,
    pieces: Sequence[Piece],
    target: Target,
    opt_level: int,
    given: Mapping[str, OptionValue],
    context: Context | None = None,
) -> EngineFiles:
    """The files of a graph of several pieces; `given` are options that every engine knows, such as `threads`.

    Below O2 the graph is as it is, and engines have their own defaults: nothing in several pieces keeps every bit.
    Raises UnsupportedError and EngineFailure as the engines do.
    """
    parts: dict[str, EngineFiles] = {}
    steps: list[Step] = []
    op_names: dict[str, Op] = {}
    for number, (piece, own) in enumerate(zip(pieces, extract(graph, pieces), strict=True)):
        files = piece.engine.lower(own, target, opt_level, context)
        name = str(number)
        graph.assumed_dims.update(own.assumed_dims)
        parts[name] = files
        op_names.update((f"{name}/{node}", op) for node, op in files.op_names.items())
        usual = piece.engine.settings(opt_level, target) if opt_level >= 2 else piece.engine.defaults(target)
        options = {**(usual[0] if usual else {}), **files.options, **given}  # irc's own engine has no defaults
        steps.append(Step(name, piece.engine.name, options, input_entries(own), output_entries(own)))
    plan = Plan((Variant(tuple(steps)),))
    return EngineFiles({PLAN_FILE: (plan.to_bytes(),)}, {}, op_names, parts=parts)


def placement(files: EngineFiles, engines: Sequence[str]) -> tuple[Placement, ...]:
    """How many ops each piece has, in order; `engines` are those of the pieces."""
    parts = files.parts.values() if files.parts else (files,)
    return tuple(Placement(engine, len(part.op_names)) for engine, part in zip(engines, parts, strict=True))


@dataclass(frozen=True)
class Made:
    """A program as its manifest and files; `dims` are the sizes that it is for, none for all."""

    manifest: Manifest
    files: RuntimeFiles
    dims: Mapping[str, int] = field(default_factory=dict[str, int])


def assemble(general: Made, variants: Sequence[Made]) -> RuntimeFiles:
    """The files of a program with variants: of the first that fits what is fed, or of the general one, is what runs.

    Inputs that a variant lacks have their defaults in it, so it is for calls that do not feed them.
    """
    parts: dict[str, RuntimeFiles] = {}
    assumed = set(general.manifest.dims_must_agree)
    last = Variant(_steps(general, parts))
    first: list[Variant] = []
    for each in variants:
        more = sorted(set(each.manifest.dims_must_agree) - assumed)
        takes = {entry.name for entry in each.manifest.inputs}
        absent = tuple(entry.name for entry in general.manifest.inputs if entry.name not in takes)
        first.append(Variant(_steps(each, parts), each.dims, tuple(more), absent))
    plan = Plan((*first, last))
    return RuntimeFiles({PLAN_FILE: (plan.to_bytes(),)}, {}, in_one_place(one_bin(parts)))


def _steps(made: Made, parts: dict[str, RuntimeFiles]) -> tuple[Step, ...]:
    """The steps of a program; its files are added to `parts`, under numbers."""
    manifest = made.manifest
    if manifest.engine != PLAN:
        name = str(len(parts))
        parts[name] = made.files
        return (Step(name, manifest.engine, manifest.engine_options, manifest.inputs, manifest.outputs),)
    steps: list[Step] = []
    for step in Plan.from_bytes(made.files.read(PLAN_FILE)).variants[-1].steps:
        name = str(len(parts))
        parts[name] = made.files.parts[step.part]
        steps.append(Step(name, step.engine, step.options, step.inputs, step.outputs))
    return tuple(steps)


SMALLEST_SHARED = 1 << 10
"""Bytes that are worth looking for elsewhere."""


def in_one_place(parts: Mapping[str, RuntimeFiles]) -> dict[str, RuntimeFiles]:
    """The parts with weights and files of equal bytes in the same memory, that of the first of them."""
    known = _Known()
    return {
        name: RuntimeFiles(
            {each: known.file(chunks) for each, chunks in part.files.items()},
            {each: known.weight(weight) for each, weight in part.weights.items()},
        )
        for name, part in parts.items()
    }


class _Known:
    """What was seen so far, by content; of a piece of memory the digest is computed once."""

    def __init__(self) -> None:
        self._digests: dict[tuple[int, int], bytes] = {}
        self._held: list[object] = []  # memory let go of could come back as another's
        self._weights: dict[tuple[str, tuple[int, ...], bytes], WeightView] = {}
        self._files: dict[tuple[bytes, ...], Sequence[bytes | memoryview]] = {}

    def weight(self, weight: WeightView) -> WeightView:
        """The weight, in the memory of the first like it; then the file that it waited in is not its own any more."""
        if weight.data.nbytes < SMALLEST_SHARED:
            return weight
        first = self._weights.setdefault((weight.dtype, weight.shape, self._digest(weight.data)), weight)
        return weight if first is weight else WeightView(weight.dtype, weight.shape, first.data)

    def file(self, chunks: Sequence[bytes | memoryview]) -> Sequence[bytes | memoryview]:
        """The chunks, or the first ones like them."""
        if sum(map(len, chunks)) < SMALLEST_SHARED:
            return chunks
        return self._files.setdefault(tuple(map(self._digest, chunks)), chunks)

    def _digest(self, data: bytes | memoryview) -> bytes:
        if not len(data):
            return b""
        view = np.frombuffer(data, np.uint8)
        place = view.ctypes.data, view.nbytes
        if place not in self._digests:
            self._held.append(data)
            self._digests[place] = hashlib.sha256(data).digest()
        return self._digests[place]

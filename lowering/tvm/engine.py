"""Kernels of our own, generated through TVM: a graph becomes one shared library, its constants, and a flat plan of calls."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from irc.ir import Graph, Op, UnsupportedError, UsageError
from irc.passes import Context, Rule, looked_up, op_count, unfused
from irc.runtime import OptionValue

from ..blocks import divided, touched_by_entry, undivided
from ..engine import YES, EngineFiles, Verdict, Wish
from ..mapping import Hindrance, mapping_of, open_dims
from ..targets import Kind, Target
from . import cuda
from .adapter import installed_version
from .arithmetic import BF16, INT8_BY_PAIRS, arithmetic_of_bytes
from .legality import why_not, why_not_placed
from .opening import opened
from .program import lower
from .sinking import sunk
from .tiling import NEIGHBOURS
from .ways import AS_MODELLED, TILES, Ways

BLOCK = 8
"""Entries of a dim that are computed at a time: enough for a kernel to have work for all its registers."""
LARGEST_BLOCK = 1 << 25
"""Bytes that an op may touch for a block: entries that fill the caches by themselves gain nothing by being many."""


@dataclass(frozen=True)
class Tvm:
    """Our own kernels; how contractions are cut on CPUs is part of the engine, and when building them is given up."""

    name: str = "tvm"
    rest: str = "onnxruntime"
    ways: Ways = AS_MODELLED
    deadline: float = math.inf

    @property
    def version(self) -> str:
        """The installed version of TVM, or an empty string."""
        return installed_version()

    def serves(self, target: Target) -> Verdict:
        """CPUs of either architecture, where TVM is installed, and GPUs where NVRTC is too."""
        if not self.version:
            return Verdict("it is not installed (pip install 'irc-compiler[tvm]')")
        return YES if target.kind is Kind.CPU else Verdict(_why_no_gpu(target))

    def runs(self, target: Target) -> Verdict:
        """What the target itself says."""
        return Verdict(target.not_here)

    def takes(self, op: Op, target: Target) -> Verdict:
        """Whether there is a kernel for `op`."""
        return Verdict(why_not(op) if target.kind is Kind.CPU else cuda.why_not(op))

    def wishes(self, target: Target) -> frozenset[Wish]:
        """Its attention multiplies bf16 where the processor does; without VNNI it sums bytes twice as fast if few bits do."""
        found = {Wish.NARROW_ATTENTION} if set(BF16.features) <= set(target.features) else set[Wish]()
        return frozenset(found | ({Wish.SMALL_NEIGHBOURS} if arithmetic_of_bytes(target.features) is INT8_BY_PAIRS else set()))

    def why_not_elsewhere(self, target: Target) -> str:
        """Its programs are machine code."""
        return f"its kernels run on {target.name} alone"

    def takes_signature(self, graph: Graph) -> Verdict:
        """Whether all inputs and outputs have memory of a known size, and none is left out by callers."""
        if graph.defaults:
            return Verdict("an input has a default")
        for value, name in zip((*graph.inputs, *graph.outputs), (*graph.input_names, *graph.output_names), strict=True):
            if reason := why_not_placed(value):
                return Verdict(f"'{name}' is not taken: {reason}")
        return YES

    def block_sizes(self, graph: Graph, target: Target) -> Sequence[int]:
        """On CPUs a block, of less entries where one of them is large, and one entry."""
        if target.kind is not Kind.CPU:
            return ()
        block = BLOCK
        while block > 1 and block * touched_by_entry(graph) > LARGEST_BLOCK:
            block //= 2
        return (block, 1) if block > 1 else (1,)

    def settings(self, opt_level: int, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """One setting, from O2 on: sums are in an order of our own."""
        return ({},) if opt_level >= 2 else ()

    def defaults(self, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """None: there is no such engine without irc."""
        return ()

    @property
    def forms(self) -> Sequence[Rule]:
        """None: kernels start from ops as ONNX has them."""
        return ()

    def seconds_to_lower(self, graph: Graph, target: Target) -> float:
        """TVM's import, a kernel for some of the ops, the others' being the same, of each block, and the weights."""
        constants = sum(op.value.byte_count for op in graph.walk() if op.is_constant)
        blocks = len(self.block_sizes(graph, target)) if open_dims(graph) else 1
        return 3.0 + 0.015 * op_count(graph) * blocks + constants / 1e8

    def lower(self, graph: Graph, target: Target, opt_level: int, context: Context | None = None) -> EngineFiles:
        """The library, constants and plan of a graph; equal bytes for equal graphs, targets and compilers.

        A graph that maps over a dim is lowered for blocks of its entries; then the inputs have to agree on how many there are.
        """
        plain = unfused(graph)
        if target.kind is Kind.CUDA:
            self._check(plain, target)
            return cuda.lower(plain, target)
        plain = sunk(opened(looked_up(plain)))
        mapped = mapping_of(plain)
        if isinstance(mapped, Hindrance):
            reason = f"tvm takes sizes that are known ahead, or entries of one dim that it computes apart: {mapped}"
            raise UnsupportedError(reason, hint="give dims their sizes with --dim, or use --engine onnxruntime")
        parts = undivided(plain) if mapped is None else divided(plain, mapped, self.block_sizes(plain, target))
        for part in parts.parts:
            self._check(part.graph, target)
        if mapped is not None:
            graph.assumed_dims.add(mapped.name)
        return lower(parts, target, self.ways, self.deadline)

    def _check(self, graph: Graph, target: Target) -> None:
        """Raises UnsupportedError for a graph that is not taken as it is."""
        refused = [(op, said.reason) for op in graph.walk() if not op.is_constant and not (said := self.takes(op, target))]
        if refused:
            shown = "\n  ".join(f"{op.qualified_name} at {op.location}: {reason}" for op, reason in refused[:20])
            raise UnsupportedError(f"there are no kernels for these ops:\n  {shown}\n", hint="use another engine for them")
        signature = self.takes_signature(graph)
        if not signature:
            raise UnsupportedError(f"tvm does not take the model: {signature.reason}", hint="use --engine onnxruntime")

    def with_settings(self, settings: Mapping[str, OptionValue]) -> Tvm:
        """The engine that cuts contractions as `tiles` among the settings says. Raises UsageError for what is no tiling."""
        tiles = settings.get(TILES, {})
        if not isinstance(tiles, Mapping):
            raise UsageError(f"'{tiles}' are no tiles by the keys of kernels")
        return replace(self, ways=Ways.of(tiles)) if tiles else self

    @property
    def trials(self) -> int:
        """The most neighbours of a tiling."""
        return NEIGHBOURS

    def trial(self, number: int, keys: Collection[str], deadline: float) -> Tvm:
        """The engine that cuts the contractions `keys` as their `number`-th neighbours."""
        return replace(self, ways=Ways(trial=number, tried=frozenset(keys)), deadline=deadline)

    def chosen(self, ways: Mapping[str, str]) -> Mapping[str, OptionValue]:
        """The settings for texts of tilings by the keys of contractions."""
        return {TILES: dict(sorted(ways.items()))}


def _why_no_gpu(target: Target) -> str:
    """Why there are no kernels for a GPU, as a clause; empty where there are."""
    capability = target.compute_capability
    if capability is not None and capability < cuda.OLDEST:
        return f"NVRTC makes no code for GPUs before sm_{cuda.OLDEST[0]}{cuda.OLDEST[1]}"
    return cuda.why_not_compiled()

"""Kernels of our own, generated through TVM: a graph becomes one shared library, its constants, and a flat plan of calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from irc.ir import Graph, Op, UnsupportedError
from irc.passes import Context, Rule, op_count, unfused
from irc.runtime import OptionValue

from ..engine import YES, EngineFiles, Verdict
from ..targets import Kind, Target
from .adapter import installed_version
from .legality import why_not, why_not_placed
from .program import lower


@dataclass(frozen=True)
class Tvm:
    """Our own kernels, for CPUs."""

    name: str = "tvm"
    rest: str = "onnxruntime"

    @property
    def version(self) -> str:
        """The installed version of TVM, or an empty string."""
        return installed_version()

    def serves(self, target: Target) -> Verdict:
        """CPUs of either architecture, where TVM is installed."""
        if not self.version:
            return Verdict("it is not installed (pip install 'irc-compiler[tvm]')")
        return YES if target.kind is Kind.CPU else Verdict("it has no kernels for GPUs yet")

    def runs(self, target: Target) -> Verdict:
        """What the target itself says."""
        return Verdict(target.not_here)

    def takes(self, op: Op, target: Target) -> Verdict:
        """Whether there is a kernel for `op`."""
        return Verdict(why_not(op))

    def takes_signature(self, graph: Graph) -> Verdict:
        """Whether all inputs and outputs have memory of a known size, and none is left out by callers."""
        if graph.defaults:
            return Verdict("an input has a default")
        for value, name in zip((*graph.inputs, *graph.outputs), (*graph.input_names, *graph.output_names), strict=True):
            if reason := why_not_placed(value):
                return Verdict(f"'{name}' is not taken: {reason}")
        return YES

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
        """TVM's import, a kernel for some of the ops, the others' being the same, and the weights, which are packed."""
        constants = sum(op.value.byte_count for op in graph.walk() if op.is_constant)
        return 3.0 + 0.015 * op_count(graph) + constants / 1e8

    def lower(self, graph: Graph, target: Target, opt_level: int, context: Context | None = None) -> EngineFiles:
        """The library, constants and plan of a graph; equal bytes for equal graphs, targets and compilers."""
        graph = unfused(graph)
        refused = [(op, reason) for op in graph.walk() if not op.is_constant and (reason := why_not(op))]
        if refused:
            shown = "\n  ".join(f"{op.qualified_name} at {op.location}: {reason}" for op, reason in refused[:20])
            raise UnsupportedError(f"there are no kernels for these ops:\n  {shown}\n", hint="use another engine for them")
        signature = self.takes_signature(graph)
        if not signature:
            raise UnsupportedError(f"tvm does not take the model: {signature.reason}", hint="use --engine onnxruntime")
        return lower(graph, target)

"""What values hold on real inputs: the captured graph is evaluated once, and what rewrites make inherits from what it replaced.

Memory is bounded: the largest activations are not kept, and evaluated again from those that are when somebody asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from irc.ir import DType, EvaluationError, Evaluator, Graph, Op, SymbolicDim, TensorType, Value, clone_op, dims, evaluate

from ..base import operands_of

KEPT_BYTES = 1 << 30
LONGEST_WAY = 64
"""Ops evaluated to find an activation that was not kept."""


class Activations:
    """The value of each value of a graph on `feeds`, as far as the reference says it; nothing is known without feeds."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Any] | None) -> None:
        self.sizes: dict[str, int] = {}
        self._known: dict[Value, Any] = {}
        self._same: dict[Value, Value] = {}
        if feeds is None:
            return
        for value, name in zip(graph.inputs, graph.input_names, strict=True):
            if name in feeds:
                self._known[value] = feeds[name]
                self._note_sizes(value, feeds[name])
            elif value in graph.defaults:
                self._known[value] = graph.defaults[value].array
        self._evaluate(graph, feeds)

    def of(self, value: Value) -> Any | None:
        """The activation of a value, or None where it is not known."""
        while value not in self._known and value in self._same:
            value = self._same[value]
        if value.constant is not None:
            return value.constant.array
        if value not in self._known:
            self._known[value] = self._computed(value)
        return self._known[value]

    def hand_on(self, old: Value, new: Value) -> None:
        """Note that `new` takes the place of `old`."""
        if new is not old and new.constant is None and new not in self._known and new not in self._same:
            self._same[new] = old

    def _note_sizes(self, value: Value, array: Any) -> None:
        for dim, size in zip(value.shape or (), getattr(array, "shape", ()), strict=False):
            if isinstance(dim, SymbolicDim) and dim.plain_name is not None:
                self.sizes.setdefault(dim.plain_name, size)

    def _evaluate(self, graph: Graph, feeds: Mapping[str, Any]) -> None:
        mapping: dict[Value, Value] = {}
        program = Graph("activations")
        program.opsets = dict(graph.opsets)
        for value, name in zip(graph.inputs, graph.input_names, strict=True):
            mapping[value] = program.add_input(name, value.type, graph.defaults.get(value))
        for op in graph:
            program.append(clone_op(op, mapping))
        wanted = self._worth_keeping(graph)
        for value in wanted:
            program.add_output(mapping[value], f"activation{len(program.outputs)}")
        try:
            self._known.update(zip(wanted, evaluate(program, feeds), strict=True))
        except EvaluationError:
            return  # then nothing is known but the inputs, and regions are fed made-up values

    def _worth_keeping(self, graph: Graph) -> list[Value]:
        """The results that somebody uses, smallest first, as many as fit."""
        results = [r for op in graph if not op.is_constant for r in op.results if r.uses and _is_readable(r)]
        sized = sorted(((_bytes(r, self.sizes), index) for index, r in enumerate(results)))
        kept, spent = set[int](), 0
        for size, index in sized:
            spent += size
            if spent > KEPT_BYTES:
                break
            kept.add(index)
        return [r for index, r in enumerate(results) if index in kept]

    def _computed(self, value: Value) -> Any | None:
        """The activation by way of the nearest known ones."""
        ops, inputs = self._way_to(value)
        if ops is None:
            return None
        program, mapping = Graph("way"), dict[Value, Value]()
        program.opsets = dict(ops[-1].graph.outermost.opsets) if ops[-1].graph is not None else {}
        for index, known in enumerate(inputs):
            mapping[known] = program.add_input(f"x{index}", known.type)
        for op in ops:
            program.append(clone_op(op, mapping))
        program.add_output(mapping[value], "y")
        try:
            feeds: dict[str, Any] = {f"x{i}": self.of(known) for i, known in enumerate(inputs)}
            return Evaluator(program).run(feeds)[0]
        except EvaluationError:
            return None

    def _way_to(self, value: Value) -> tuple[list[Op] | None, list[Value]]:
        done: dict[Op, None] = {}
        inputs: dict[Value, None] = {}
        pending = [value]
        while pending:
            current = pending[-1]
            if current is not value and current.constant is None and self._is_at_hand(current):
                inputs[current] = None
                pending.pop()
                continue
            op = current.op
            if op is None or op.graph is None or len(done) >= LONGEST_WAY:
                return None, []
            missing = [v for v in operands_of(op) if v not in inputs and v.op not in done]
            if op in done or not missing:
                done[op] = None
                pending.pop()
            else:
                pending.extend(missing)
        return list(done), list(inputs)

    def _is_at_hand(self, value: Value) -> bool:
        while value not in self._known and value in self._same:
            value = self._same[value]
        return self._known.get(value) is not None


def _is_readable(value: Value) -> bool:
    kind = value.type
    if not isinstance(kind, TensorType):
        return False
    return kind.dtype is DType.STR or kind.dtype.numpy.kind in "fiub"


def _bytes(value: Value, sizes: Mapping[str, int]) -> int:
    kind = value.type
    if not isinstance(kind, TensorType) or kind.shape is None:
        return 0
    known = [dims.evaluate(dim, sizes) for dim in kind.shape]
    return int(np.prod([1 if size is None else size for size in known], dtype=np.int64)) * max(1, kind.dtype.bits // 8)

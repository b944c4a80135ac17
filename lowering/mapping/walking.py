"""Whether a graph treats the entries of a dim apart, such as the samples of a batch: then it can be run on some at a time.

A value is shared, which means that the dim has no part in it, or it has the entries along one axis, `k` rows for each, or it
holds sizes that follow from the dim. Law (soundness): of a graph that maps, the rows of an entry in each value follow from the
rows of that entry in the inputs and from shared values alone, by the same ops at any size of the dim. What is not known to
be so is refused: each op has its row in `table.py`, and without one it takes shared values only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from irc.ir import Graph, Op, SymbolicDim, TensorType, Value, dims, shapes

from .entries import Entries, rows_of
from .table import RULES, TAKES_SIZES


@dataclass(frozen=True)
class Mapped:
    """A graph that maps over the dim `name`: the axis along which each value has entries, and the values that are sizes."""

    name: str
    axes: Mapping[Value, int]
    sizes: frozenset[Value] = frozenset()

    def is_shared(self, value: Value) -> bool:
        """Whether the dim has no part in a value."""
        return value not in self.axes and value not in self.sizes


@dataclass(frozen=True)
class Hindrance:
    """Why a graph does not map over a dim: a clause, and the op that it is about, where it is about one."""

    reason: str
    op: Op | None = None

    def __str__(self) -> str:
        return self.reason if self.op is None else f"{self.op.qualified_name} at {self.op.location}: {self.reason}"


def open_dims(graph: Graph) -> list[str]:
    """The names in the shapes of a graph's inputs, sorted; `?` among them where a size has none."""
    found: set[str] = set()
    for value in graph.inputs:
        for dim in value.shape or ():
            found.update({"?"} if dim is None else dim.names() if isinstance(dim, SymbolicDim) else ())
    return sorted(found)


def mapping_of(graph: Graph) -> Mapped | Hindrance | None:
    """Whether a graph maps over its only open dim; None where it has none, and all sizes are known ahead."""
    names = open_dims(graph)
    if not names:
        return None
    if "?" in names:
        return Hindrance("a size of an input has no name")
    if len(names) > 1:
        return Hindrance(f"several dims are open: {', '.join(names)}")
    return _Walk(graph, names[0]).verdict()


@dataclass
class _Walk:
    """One walk through a graph, from its inputs on."""

    graph: Graph
    name: str
    axes: dict[Value, int] = field(default_factory=dict[Value, int])
    sizes: set[Value] = field(default_factory=set[Value])
    late: set[Value] = field(default_factory=set[Value])
    """What ops make that take anything with entries, be it shared or not."""

    def verdict(self) -> Mapped | Hindrance:
        """What is found of inputs, ops and outputs, in order; the first hindrance ends it."""
        for found in (*self._inputs(), *self._ops(), *self._outputs()):
            return found
        return Mapped(self.name, self.axes, frozenset(self.sizes))

    def _inputs(self) -> Iterator[Hindrance]:
        for value, name in zip(self.graph.inputs, self.graph.input_names, strict=True):
            places = [axis for axis, dim in enumerate(value.shape or ()) if not isinstance(dim, int)]
            if not places:
                continue
            if places != [0] or value.shape is None or value.shape[0] != dims.named(self.name):
                yield Hindrance(f"input '{name}' is {value.type}, and {self.name} should be its first axis and no other")
            self.axes[value] = 0

    def _ops(self) -> Iterator[Hindrance]:
        for op in self.graph:
            reason = "" if op.is_constant else self._enter(op)
            if reason:
                yield Hindrance(reason, op)

    def _outputs(self) -> Iterator[Hindrance]:
        for value, name in zip(self.graph.outputs, self.graph.output_names, strict=True):
            if value in self.sizes or (value in self.late and value not in self.axes):
                yield Hindrance(f"output '{name}' says how large something is that has {self.name}")
            if self.axes.get(value, 0) != 0:
                yield Hindrance(f"output '{name}' is {value.type}, and {self.name} should be its first axis")

    def _enter(self, op: Op) -> str:
        """Note what the results of an op are; a clause where that is not allowed."""
        taken = [*op.operands, *(value for body in op.bodies for value in body.captures())]
        known = (self.axes, self.sizes, self.late)
        if not any(value in values for value in taken for values in known):
            return ""
        self.late.update(op.results)
        if not any(value in self.axes or value in self.sizes for value in taken):
            return ""
        if op.bodies:
            return f"it has a body, which takes values that depend on {self.name}"
        if self._holds_sizes(op):
            return ""
        if any(value is not None and not self._is_known(value) for value in op.operands):
            return "not all sizes of its operands are known"
        name = op.qualified_name
        if any(v in self.sizes and i not in TAKES_SIZES.get(name, ()) for i, v in enumerate(op.operands) if v is not None):
            return f"it computes with the size of {self.name}"
        if name not in RULES:
            return f"nothing is known of what it does along {self.name}"
        found = RULES[name](Entries(op, self.name, self.axes))
        if isinstance(found, str):
            return found
        axes = (found,) * len(op.results) if isinstance(found, int) else found
        for result, axis in zip(op.results, axes, strict=False):
            if not self._lies(result, axis):
                return f"it makes {result.type}, and {self.name} should be on axis {axis} and no other"
            self.axes[result] = axis
        return ""

    def _is_known(self, value: Value) -> bool:
        """Whether all sizes of a tensor are known, of one that has entries all but one."""
        shape = value.shape
        return shape is not None and (value in self.axes or all(isinstance(dim, int) for dim in shape))

    def _holds_sizes(self, op: Op) -> bool:
        """Whether the elements of the only result are known, by the dim at most; that is noted."""
        content = shapes.content_of(op.results[0]) if len(op.results) == 1 else None
        if content is None or any(dim is None for dim in content):
            return False
        if any(isinstance(dim, SymbolicDim) for dim in content):
            self.sizes.add(op.results[0])
        return True

    def _lies(self, value: Value, axis: int) -> bool:
        """Whether a value has a multiple of the dim on an axis, and sizes that are known on all others."""
        if not value.uses:
            return True
        shape = value.shape if isinstance(value.type, TensorType) else None
        if shape is None or axis >= len(shape):
            return False
        others = all(isinstance(dim, int) for index, dim in enumerate(shape) if index != axis)
        return others and isinstance(rows_of(shape[axis], self.name), int)


__all__ = ["Hindrance", "Mapped", "mapping_of", "open_dims"]

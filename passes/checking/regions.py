"""The region a rewrite touched: the ops behind old and new values, from shared inputs, as one graph that computes both.

Law: old and new are functions of the same inputs, so that whatever the inputs are fed, both sides can be compared.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from irc.ir import (
    Attribute,
    DType,
    Graph,
    Op,
    SparseTensor,
    Tensor,
    TensorType,
    Type,
    Value,
    clone_op,
    schema,
    wide_op,
    wide_type,
)

from ..base import Application, operands_of

REACH = 12
"""How many ops back from the old value the inputs of its replacement are looked for."""
LARGEST_CLOSED = 64
"""Ops of an expression without inputs that are followed to its constants."""


@dataclass(frozen=True)
class Region:
    """Ops in order, constants included; `inputs` are what they take from outside.

    `key` is equal for regions of equal structure, types and constants; None where bodies make that costly to say.
    `identical` says that both sides are one expression, so that there is nothing to evaluate.
    """

    ops: tuple[Op, ...]
    inputs: tuple[Value, ...]
    old: tuple[Value, ...]
    new: tuple[Value, ...]
    key: Hashable | None
    identical: bool

    def program(self, sides: tuple[tuple[Value, ...], ...], *, wide: bool = False) -> Graph:
        """A graph with an input for each of `inputs` and an output for each value of `sides`; `wide` has f64 for each f32.

        It holds what those outputs need and nothing else: the other side may have no kernels.
        """
        graph, mapping = Graph("region"), dict[Value, Value]()
        for op in self.ops:
            if op.graph is not None:
                graph.opsets = dict(op.graph.outermost.opsets)
                break
        for index, value in enumerate(self.inputs):
            mapping[value] = graph.add_input(f"x{index}", _fed_type(wide_type(value.type) if wide else value.type))
        for op in self._needed([value for side in sides for value in side]):
            graph.append(wide_op(op, mapping) if wide else clone_op(op, mapping))
        for value in (value for side in sides for value in side):
            graph.add_output(mapping[value], f"y{len(graph.outputs)}")
        return graph

    def _needed(self, values: list[Value]) -> list[Op]:
        members, found = set(self.ops), set[Op]()
        pending = [v.op for v in values if v.op in members]
        while pending:
            op = pending.pop()
            if op not in found:
                found.add(op)
                pending.extend(v.op for v in operands_of(op) if v.op in members)
        return [op for op in self.ops if op in found]

    @property
    def may_widen(self) -> bool:
        """Whether an evaluation in f64 means the same: the region computes in f32 and owns no bodies."""
        kinds = [r.type for op in self.ops for r in op.results]
        floats = {kind.dtype for kind in kinds if isinstance(kind, TensorType) and kind.dtype.is_float}
        return floats <= {DType.F32, DType.F64} and DType.F32 in floats and not any(op.bodies for op in self.ops)


def _fed_type(kind: Type) -> Type:
    """The rank is kept for ops that need it, the dims are left open: feeds of several sizes come in."""
    if not isinstance(kind, TensorType) or kind.shape is None:
        return kind
    return TensorType(kind.dtype, (None,) * len(kind.shape))


class Regions:
    """The regions of one application, from the smallest that can be compared to ever deeper ones."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._members = _smallest(application)
        self._closed: dict[Value, bool] = {}

    def current(self) -> Region:
        """The region as it is now."""
        self._close()
        return _Numbering(self.application, self._members).region()

    @property
    def size(self) -> int:
        """The ops in it, constants not counted."""
        return len(self._members)

    def deepen(self, levels: int) -> bool:
        """Take in the makers of the inputs, so many levels of them; whether there were any."""
        grown = False
        for _ in range(levels):
            makers = [v.op for v in self._frontier() if v.op is not None and _is_followed(v)]
            self._members.update(dict.fromkeys(makers))
            grown = grown or bool(makers)
        return grown

    def _frontier(self) -> list[Value]:
        used = (v for op in self._members for v in operands_of(op))
        ends = (*self.application.old, *self.application.new)
        outside = (v for v in (*used, *ends) if v.constant is None and v.op not in self._members)
        return list(dict.fromkeys(outside))

    def _close(self) -> None:
        """Take in every expression of constants, so that what a pass could evaluate is evaluated here as well."""
        pending = self._frontier()
        while pending:
            value = pending.pop()
            if value.op is None or value.op in self._members or not self._is_closed(value):
                continue
            self._members[value.op] = None
            pending.extend(v for v in operands_of(value.op) if v.constant is None)

    def _is_closed(self, value: Value) -> bool:
        seen: set[Op] = set()
        pending = [value]
        while pending:
            current = pending.pop()
            if current.constant is not None or current.op in seen or self._closed.get(current):
                continue
            if current.op is None or not _is_followed(current) or len(seen) >= LARGEST_CLOSED or current in self._closed:
                self._closed[value] = False
                return False
            seen.add(current.op)
            pending.extend(operands_of(current.op))
        self._closed[value] = True
        return True


def _is_followed(value: Value) -> bool:
    """Whether a region may go beyond a value to what made it: not where that draws random numbers, or is no longer there."""
    op = value.op
    return op is not None and op.graph is not None and not op.is_constant and schema.is_deterministic(op)


def _smallest(application: Application) -> dict[Op, None]:
    """What was made, the old op, and as many of the ops behind it as it takes to meet the inputs of what was made."""
    made = dict.fromkeys((application.root, *application.created))
    fresh = {result for op in application.created for result in op.results}
    taken = {v for op in application.created for v in operands_of(op) if v not in fresh}
    wanted = {v for v in (*taken, *application.new) if v.constant is None and v not in fresh}
    members, reached = dict[Op, None](), set[Value]()
    behind, level = dict[Op, None](), [application.root]
    for _ in range(REACH):
        edge = list(dict.fromkeys(v for op in level for v in operands_of(op) if v.constant is None))
        met = wanted.intersection(edge)
        if met - reached:
            reached |= met
            members = dict(behind)
        if wanted <= reached:
            break
        level = [v.op for v in edge if v.op is not None and v not in wanted and v.op not in behind and _is_followed(v)]
        behind.update(dict.fromkeys(level))
    # A replacement that stands nowhere behind the old value is compared with it through its own maker.
    others = (v.op for v in wanted - reached if v.op is not None and _is_followed(v))
    return {**members, **made, **dict.fromkeys(others)}


@dataclass
class _Numbering:
    """Numbers equal expressions equally, from the outputs back, in an order that depends on structure alone."""

    application: Application
    members: dict[Op, None]
    numbers: dict[Value, int] = field(default_factory=dict[Value, int])
    entries: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    ops: list[Op] = field(default_factory=list[Op])
    inputs: list[Value] = field(default_factory=list[Value])
    has_key: bool = True

    def region(self) -> Region:
        """The region of these members."""
        old, new = self.application.old, self.application.new
        for op in _in_order((*old, *new), self.members):
            self._number(op)
        for value in (*old, *new):
            self._seen(value)
        ends = tuple(self.numbers[v] for v in old), tuple(self.numbers[v] for v in new)
        key = (self.application.rewrite, self.application.contract, tuple(self.entries), ends) if self.has_key else None
        return Region(tuple(self.ops), tuple(self.inputs), old, new, key, ends[0] == ends[1])

    def _number(self, op: Op) -> None:
        operands = tuple(None if v is None else self._seen(v) for v in op.operands)
        for value in operands_of(op):
            self._seen(value)
        entry: Hashable = (op.qualified_name, len(op.results), _attributes_key(op), operands)
        if op.bodies or not (op.is_constant or schema.is_deterministic(op)):
            # Two draws are not one, and bodies are not compared.
            entry, self.has_key = object(), self.has_key and not op.bodies
        self.ops.append(op)
        base = self.entries.setdefault(entry, 1000 * len(self.entries))
        self.numbers.update({result: base + index for index, result in enumerate(op.results)})

    def _seen(self, value: Value) -> int:
        if value not in self.numbers:
            entry = ("input", len(self.inputs), value.type, value.content)
            self.inputs.append(value)
            self.numbers[value] = self.entries.setdefault(entry, 1000 * len(self.entries))
        return self.numbers[value]


def _in_order(ends: Iterable[Value], members: dict[Op, None]) -> Iterator[Op]:
    """The members and constants that `ends` depend on, makers before users."""
    done: set[Op] = set()
    pending = [v.op for v in reversed(list(ends)) if v.op is not None]
    while pending:
        op = pending[-1]
        if op in done or (op not in members and not op.is_constant):
            pending.pop()
            continue
        makers = [v.op for v in operands_of(op) if v.op is not None]
        missing = [m for m in makers if m not in done and (m in members or m.is_constant)]
        if missing:
            pending.extend(reversed(missing))
            continue
        pending.pop()
        done.add(op)
        yield op


def _attributes_key(op: Op) -> Hashable:
    return tuple(sorted((name, _attribute_key(value)) for name, value in op.attributes.items()))


def _attribute_key(value: Attribute) -> tuple[str, str]:
    if isinstance(value, Tensor):
        return "tensor", repr(value.fingerprint())
    if isinstance(value, SparseTensor):
        return "sparse", repr((value.shape, value.values.digest, value.indices.digest))
    return type(value).__name__, repr(value) if not isinstance(value, Graph) else ""

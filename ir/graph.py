"""The program: values, ops and graphs in SSA form, with every use known to its value.

Laws: an operand is defined before it is used, in its own graph or in one around it; a value's `uses` are exactly the
operand slots and graph outputs that hold it; every op has a location. The verifier checks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .dims import Dim
from .location import Location
from .operators import CONSTANT, Attribute, Operator
from .tensors import Tensor
from .types import UNKNOWN, TensorType, Type


class Use(NamedTuple):
    """One place a value is used: operand `index` of an op, or output `index` of a graph."""

    user: Op | Graph
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody looks for in a use


class Value:
    """An SSA value: an op's result or a graph's input. `name` is a hint for printing, never identity.

    `content` is what a small integer or bool tensor of rank 0 or 1 is known to hold, element by element (shape
    arithmetic); inference fills it, and None means nothing is known.
    """

    __slots__ = ("content", "graph", "index", "name", "op", "type", "uses")

    def __init__(self, type: Type, name: str = "", *, op: Op | None = None, index: int = 0) -> None:
        self.type = type
        self.name = name
        self.op = op
        self.index = index
        self.graph: Graph | None = None
        self.uses: dict[Use, None] = {}
        self.content: tuple[Dim, ...] | None = None

    @property
    def constant(self) -> Tensor | None:
        """The tensor this value always is, or None when it is computed or fed."""
        op = self.op
        return op.value if op is not None and op.is_constant else None

    @property
    def shape(self) -> tuple[Dim, ...] | None:
        """The shape of a tensor value, or None when it is no tensor or its rank is unknown."""
        kind = self.type
        return kind.shape if isinstance(kind, TensorType) else None

    @property
    def users(self) -> list[Op]:
        """The ops that use this value, each once, in order of first use (graph outputs are not ops)."""
        return list(dict.fromkeys([user for user, _ in self.uses if isinstance(user, Op)]))

    @property
    def is_output(self) -> bool:
        """Whether some graph returns this value."""
        return any(isinstance(user, Graph) for user, _ in self.uses)

    @property
    def has_one_use(self) -> bool:
        """Whether exactly one operand slot or graph output holds this value."""
        return len(self.uses) == 1

    def replace_by(self, other: Value) -> None:
        """Make every user of this value use `other` instead; a name hint the other lacks is handed on."""
        if other is self:
            return
        if not other.name:
            other.name = self.name
        for use in self.uses:
            user, index = use
            places = user.outputs if isinstance(user, Graph) else user.operands
            places[index] = other
            other.uses[use] = None
        self.uses.clear()

    def __repr__(self) -> str:
        return f"%{self.name or '?'} : {self.type}"


class Op(Operator):
    """One operation: an operator, the values it takes and makes, and where it came from.

    An absent optional operand is None; an absent optional result is a value nobody uses.
    """

    __slots__ = (
        "_owns_bodies",
        "graph",
        "location",
        "next",
        "operands",
        "prev",
        "results",
    )

    def __init__(
        self,
        name: str,
        operands: Sequence[Value | None],
        attributes: Mapping[str, Attribute],
        result_types: Sequence[Type],
        location: Location,
        *,
        domain: str = "",
        version: int | None = None,
    ) -> None:
        super().__init__(name, attributes, domain, version)
        self.location = location
        self.graph: Graph | None = None
        self.prev: Op | None = None
        self.next: Op | None = None
        self.operands: list[Value | None] = list(operands)
        for index, operand in enumerate(self.operands):
            if operand is not None:
                operand.uses[Use(self, index)] = None
        self.results = [Value(t, op=self, index=i) for i, t in enumerate(result_types)]
        self._owns_bodies = False
        for attribute in self.attributes.values():
            if isinstance(attribute, (Graph, tuple)):
                for body in bodies_of(attribute):
                    body.owner = self
                    self._owns_bodies = True

    @property
    def result(self) -> Value:
        """The only result; an op with several has none to single out."""
        (only,) = self.results
        return only

    @property
    def bodies(self) -> list[Graph]:
        """The graphs this op owns, in attribute order; it gets them when it is made and keeps them."""
        if not self._owns_bodies:
            return []
        return [body for attribute in self.attributes.values() for body in bodies_of(attribute)]

    @property
    def is_dead(self) -> bool:
        """Whether nobody uses any result."""
        if len(self.results) == 1:  # asked of every op that anything happens to, and most have one
            return not self.results[0].uses
        return not any(result.uses for result in self.results)

    def operand(self, index: int) -> Value | None:
        """Operand `index`, or None when it is absent."""
        return self.operands[index] if index < len(self.operands) else None

    def needed(self, index: int) -> Value:
        """Operand `index`, which the schema requires."""
        value = self.operands[index]
        assert value is not None, f"{self.qualified_name} lacks operand {index}"
        return value

    def constant_operand(self, index: int) -> Tensor | None:
        """The tensor operand `index` always is, or None when it is absent or not constant."""
        value = self.operands[index] if index < len(self.operands) else None
        return None if value is None else value.constant

    def set_operand(self, index: int, value: Value | None) -> None:
        """Use `value` as operand `index`."""
        old = self.operands[index]
        if old is value:
            return
        use = Use(self, index)
        if old is not None:
            del old.uses[use]
        self.operands[index] = value
        if value is not None:
            value.uses[use] = None

    def drop_operands(self) -> None:
        """Stop using all operands, also inside bodies; part of erasing."""
        for body in self.bodies:
            body.drop_uses()
        for index, operand in enumerate(self.operands):
            if operand is not None:
                del operand.uses[Use(self, index)]
                self.operands[index] = None

    def __repr__(self) -> str:
        return f"{self.qualified_name} at {self.location}"


class Graph:
    """One block: inputs, a doubly linked list of ops, outputs.

    The signature (`input_names`, `output_names`, `output_types`, `defaults`) is the model's own and no pass changes it.
    `defaults` gives overridable initializers their values; such an input is never treated as constant.
    `opsets` (domains other than ONNX's own) and `metadata` are set on the outermost graph only; `assumed_dims` are the
    named dims several inputs share on whose agreement some rewrite relied.
    """

    def __init__(self, name: str = "main") -> None:
        self.name = name
        self.owner: Op | None = None
        self.inputs: list[Value] = []
        self.input_names: list[str] = []
        self.defaults: dict[Value, Tensor] = {}
        self.outputs: list[Value] = []
        self.output_names: list[str] = []
        self.output_types: list[Type] = []
        self.opsets: dict[str, int] = {}
        self.metadata: dict[str, str] = {}
        self.assumed_dims: set[str] = set()
        self.first: Op | None = None
        self.last: Op | None = None
        self.size = 0

    def add_input(self, name: str, type: Type, default: Tensor | None = None) -> Value:
        """Append an input to the signature."""
        value = Value(type, name, index=len(self.inputs))
        value.graph = self
        self.inputs.append(value)
        self.input_names.append(name)
        if default is not None:
            self.defaults[value] = default
        return value

    def add_output(self, value: Value, name: str, type: Type | None = None) -> None:
        """Append an output to the signature; `type` is what the model declares, by default the value's own."""
        value.uses[Use(self, len(self.outputs))] = None
        self.outputs.append(value)
        self.output_names.append(name)
        self.output_types.append(value.type if type is None else type)

    def set_output(self, index: int, value: Value) -> None:
        """Return `value` as output `index`; the signature keeps its name and type."""
        use = Use(self, index)
        del self.outputs[index].uses[use]
        self.outputs[index] = value
        value.uses[use] = None

    def drop_uses(self) -> None:
        """Stop using everything: outputs and the operands of all ops."""
        for index, value in enumerate(self.outputs):
            value.uses.pop(Use(self, index), None)
        for op in self:
            op.drop_operands()

    def append(self, op: Op) -> Op:
        """Put `op` last."""
        return self._link(op, self.last, None)

    def insert(self, op: Op, before: Op) -> Op:
        """Put `op` in front of `before`, which is in this graph."""
        assert before.graph is self
        return self._link(op, before.prev, before)

    def _link(self, op: Op, prev: Op | None, next: Op | None) -> Op:
        op.graph, op.prev, op.next = self, prev, next
        if prev is None:
            self.first = op
        else:
            prev.next = op
        if next is None:
            self.last = op
        else:
            next.prev = op
        self.size += 1
        return op

    def unlink(self, op: Op) -> None:
        """Take `op` out of the list without touching its operands, to put it elsewhere."""
        if op.prev is None:
            self.first = op.next
        else:
            op.prev.next = op.next
        if op.next is None:
            self.last = op.prev
        else:
            op.next.prev = op.prev
        op.graph = op.prev = op.next = None
        self.size -= 1

    def erase(self, op: Op) -> None:
        """Remove `op`, whose results nobody uses."""
        assert op.is_dead, f"{op} is still used"
        op.drop_operands()
        self.unlink(op)

    def __iter__(self) -> Iterator[Op]:
        """The ops in order; the current one may be erased or replaced while iterating."""
        op = self.first
        while op is not None:
            following = op.next
            yield op
            op = following if op.graph is not self else op.next

    def __len__(self) -> int:
        return self.size

    @property
    def outermost(self) -> Graph:
        """The graph that no op owns."""
        graph = self
        while graph.owner is not None and graph.owner.graph is not None:
            graph = graph.owner.graph
        return graph

    def walk(self) -> Iterator[Op]:
        """All ops of this graph and of the bodies inside it, outer ops before what they own."""
        pending: list[Iterator[Op]] = [iter(self)]
        while pending:
            op = next(pending[-1], None)
            if op is None:
                pending.pop()
                continue
            yield op
            if op.bodies and op.graph is not None:
                pending.extend(iter(body) for body in reversed(op.bodies))

    def graphs(self) -> Iterator[Graph]:
        """This graph and every body inside it."""
        yield self
        for op in self.walk():
            yield from op.bodies

    def captures(self) -> list[Value]:
        """The values from outside that this graph or a body inside it uses, in order of first use."""
        inside = {id(graph) for graph in self.graphs()}
        found: dict[Value, None] = {}

        def note(value: Value | None) -> None:
            if value is not None and id(home_of(value)) not in inside:
                found.setdefault(value)

        for op in self.walk():
            for operand in op.operands:
                note(operand)
        for graph in self.graphs():
            for output in graph.outputs:
                note(output)
        return list(found)


def home_of(value: Value) -> Graph | None:
    """The graph whose input or op result this value is."""
    return value.op.graph if value.op is not None else value.graph


def bodies_of(attribute: Attribute) -> Iterable[Graph]:
    """The graphs an attribute holds."""
    if isinstance(attribute, Graph):
        return (attribute,)
    if isinstance(attribute, tuple):
        return tuple(item for item in attribute if isinstance(item, Graph))
    return ()


def constant_op(tensor: Tensor, location: Location, name: str = "") -> Op:
    """A constant, not yet in any graph."""
    op = Op(CONSTANT, (), {"value": tensor}, (tensor.type,), location)
    op.results[0].name = name
    return op


def unknown_results(count: int) -> tuple[Type, ...]:
    """Types for an op whose results nothing is known of."""
    return (UNKNOWN,) * count

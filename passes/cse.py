"""Common subexpressions: equal ops on equal operands become one, in a graph and between it and the graphs around it.

Ops that are not deterministic are never shared, and 0.0 is not -0.0: constants are equal when their bits are.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from irc.ir import Attribute, Graph, Op, SparseTensor, Tensor, Value, schema, types, via

from .base import Application, Context, Contract, Pass


@dataclass(frozen=True)
class CommonSubexpressions(Pass, name="cse", contract=Contract.EXACT):
    """Merge equal deterministic ops on equal operands."""

    def run(self, graph: Graph, context: Context) -> None:
        """Walk in order; a body sees what the graphs around it have computed before it."""
        constants: dict[Hashable, list[Tensor]] = {}
        known: dict[Hashable, Op] = {}
        # What a body has computed is forgotten at its end; one table for all bodies, because copying it for each is quadratic.
        stack: list[tuple[Op | None, list[Hashable]]] = [(graph.first, [])]
        while stack:
            op, own = stack.pop()
            if op is None:
                for key in own:
                    del known[key]
                continue
            following = op.next
            merged = self._merge(op, known, own, constants, context)
            stack.append((following, own))
            if not merged:
                stack.extend((body.first, list[Hashable]()) for body in op.bodies)

    def _merge(
        self,
        op: Op,
        known: dict[Hashable, Op],
        own: list[Hashable],
        constants: dict[Hashable, list[Tensor]],
        context: Context,
    ) -> bool:
        key = _key(op, constants)
        if key is None:
            return False
        first = known.get(key)
        if first is None:
            known[key] = op
            own.append(key)
            return False
        if context.refuses(Application(self.name, self.contract, op, tuple(op.results), tuple(first.results))):
            return False
        context.take(self.name)
        first.location = first.location if op.is_constant else via(self.name, first.location, op.location)
        for old, new in zip(op.results, first.results, strict=True):
            new.type = types.merge(new.type, old.type)
            old.replace_by(new)
        assert op.graph is not None
        op.graph.erase(op)
        return True


def _key(op: Op, constants: dict[Hashable, list[Tensor]]) -> Hashable | None:
    if op.bodies or not (op.is_constant or schema.is_deterministic(op)):
        return None
    attributes = tuple(sorted((name, _attribute_key(value, constants)) for name, value in op.attributes.items()))
    return (op.qualified_name, len(op.results), attributes, tuple(map(_operand_key, op.operands)))


def _operand_key(value: Value | None) -> int:
    return 0 if value is None else id(value)


def _attribute_key(value: Attribute, constants: dict[Hashable, list[Tensor]]) -> Hashable:
    if isinstance(value, Tensor):
        return ("tensor", _tensor_number(value, constants))
    if isinstance(value, SparseTensor):
        return (
            "sparse",
            value.shape,
            _tensor_number(value.values, constants),
            _tensor_number(value.indices, constants),
        )
    return (type(value).__name__, repr(value))


def _tensor_number(tensor: Tensor, constants: dict[Hashable, list[Tensor]]) -> int:
    """The identity of the first tensor with these bits."""
    peers = constants.setdefault(tensor.fingerprint(), [])
    for peer in peers:
        if peer.same_as(tensor):
            return id(peer)
    peers.append(tensor)
    return id(tensor)

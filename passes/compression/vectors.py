"""Vectors that several ops use, one for each while channels are cut: what only happens to be equal must not be cut alike.

Equal constants are one value in an optimized graph, and biases of zero are equal in layers that have nothing in common.
"""

from __future__ import annotations

from irc.ir import Graph, Op, Use, Value, constant_op

from ..base import erase_dead


def unshare(graph: Graph) -> dict[Value, list[Use]]:
    """Give each user of a constant one of its own, of the same tensor, and tell which they were.

    A matrix that several ops use is left alone: it was meant to be the same.
    """
    shared: dict[Value, list[Use]] = {}
    for op in list(graph):
        if not op.is_constant or op.value.size < 2 or op.value.size != max(op.value.shape):
            continue
        uses = [use for use in op.result.uses if isinstance(use.user, Op)]
        if len(uses) > 1:
            shared[op.result] = uses
            for user, index in uses[1:]:
                assert isinstance(user, Op)
                user.set_operand(index, graph.insert(constant_op(op.value, op.location, op.result.name), op).result)
    return shared


def share(shared: dict[Value, list[Use]]) -> None:
    """Make one of those again that are still equal."""
    for uses in shared.values():
        distinct: list[Value] = []
        for user, index in uses:
            value = user.operand(index) if isinstance(user, Op) and user.graph is not None else None
            if value is None or value.constant is None or value in distinct:
                continue
            equal = next((one for one in distinct if _same(one, value)), None)
            if equal is None:
                distinct.append(value)
            elif isinstance(user, Op):
                user.set_operand(index, equal)
                erase_if_dead(value)


def _same(first: Value, second: Value) -> bool:
    a, b = first.constant, second.constant
    return a is not None and b is not None and a.same_as(b)


def erase_if_dead(value: Value) -> None:
    """Erase the constant that makes a value nobody uses any more."""
    if value.op is not None and value.op.is_dead:
        erase_dead(value.op)

"""Movement behind pointwise ops: what is done to each element is done before elements are moved, by the kernel in front.

Law: an op on each element by itself, whose other operands are single numbers, may change places with one that only moves them.
Only ops are moved that the kernel of what makes the elements takes along.
"""

from __future__ import annotations

from irc.ir import Graph, Op, TensorType, Value, clone_graph
from irc.passes import erase_dead

from .expressions import is_scalar, only_user
from .kernels import MAINS
from .narrow import is_widening
from .scaling import is_pointwise

MOVERS = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Ops that make the same elements lie, or be counted, in another way."""


def sunk(graph: Graph) -> Graph:
    """The graph, or a copy in which pointwise ops come before the movement in front of them, wherever that joins kernels."""
    if not any(_moved(op) is not None for op in graph):
        return graph
    copy = clone_graph(graph)
    for op in list(copy):
        pointwise = op
        while (index := _moved(pointwise)) is not None:
            pointwise = _swapped(pointwise, index)
    return copy


def _moved(op: Op) -> int | None:
    """The operand of a pointwise op that comes from movement, which may come after it instead; None where there is none."""
    if not _is_taken_along(op):
        return None
    data = [index for index, value in enumerate(op.operands) if value is not None and not is_scalar(value)]
    if len(data) != 1:
        return None
    value = op.needed(data[0])
    mover = value.op
    if mover is None or not mover.is_a(*MOVERS) or only_user(value) is not op or value.shape != op.result.shape:
        return None
    source = mover.needed(0)
    numbers = [each for index, each in enumerate(op.operands) if each is not None and index != data[0]]
    if source.shape is None or any(len(each.shape or ()) > len(source.shape) for each in numbers):
        return None
    return data[0] if _is_made_by_a_kernel_that_goes_on(source, mover) else None


def _is_made_by_a_kernel_that_goes_on(value: Value, user: Op) -> bool:
    """Whether what makes a value, behind all movement, takes pointwise ops along, and nobody else reads it."""
    maker = value.op
    if maker is None or only_user(value) is not user:
        return False
    if maker.is_a(*MOVERS):
        return _is_made_by_a_kernel_that_goes_on(maker.needed(0), maker)
    _, takes_epilogue = MAINS.get(maker.qualified_name, (None, False))
    return takes_epilogue or _is_taken_along(maker)


def _is_taken_along(op: Op) -> bool:
    return is_pointwise(op) and not is_widening(op)


def _swapped(op: Op, index: int) -> Op:
    """A pointwise op in front of the movement that its operand came from; that one makes its result now."""
    mover, graph = op.needed(index).op, op.graph
    assert mover is not None
    assert graph is not None
    source, kind = mover.needed(0), op.result.type
    assert isinstance(kind, TensorType)
    operands = [source if each == index else value for each, value in enumerate(op.operands)]
    made = TensorType(kind.dtype, source.shape)
    first = Op(op.name, operands, op.attributes, [made], op.location, domain=op.domain, version=op.version)
    graph.insert(first, op)
    moved = [first.result, *mover.operands[1:]]
    second = Op(mover.name, moved, mover.attributes, [kind], mover.location, domain=mover.domain, version=mover.version)
    graph.insert(second, op)
    op.result.replace_by(second.result)
    erase_dead(op)
    return first


__all__ = ["sunk"]

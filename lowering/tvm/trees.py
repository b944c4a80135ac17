"""Pointwise ops from memory to memory, and ops that only move elements."""

from __future__ import annotations

from irc.ir import Op

from .expressions import Tree, shape_of
from .inplace import lies_as
from .loops import elementwise
from .lowerer import Lowerer
from .movement import MOVEMENT
from .places import Place
from .regions import Region


def lower_movement(lowerer: Lowerer, op: Op) -> None:
    """Other views of the operand; of a copy in row-major order where strides cannot say it."""
    source = lowerer.place(op.needed(0))
    views = MOVEMENT[op.qualified_name](op, source.view)
    if views is None:
        source = lowerer.dense(op.needed(0))
        views = MOVEMENT[op.qualified_name](op, source.view)
    assert views is not None, "a dense view has every shape"
    for result, view in zip(op.results, views, strict=True):
        lowerer.places[result] = Place(source.buffer, view)


def lower_tree(lowerer: Lowerer, region: Region) -> None:
    """Pointwise ops that start from memory; the result lies as the first of the operands does that has its shape."""
    assert region.tree is not None
    evaluate_tree(lowerer, region.tree)


def evaluate_tree(lowerer: Lowerer, tree: Tree) -> None:
    """One kernel that computes a tree from memory."""
    shape = shape_of(tree.result)
    places = [lowerer.place(leaf) for leaf in tree.leaves]
    target = lowerer.fresh_like(tree.result, places)
    kernel = elementwise(
        target.dtype,
        target.view,
        [(place.dtype, place.view.broadcast(shape)) for place in places],
        lambda writer, names: tree.evaluate(writer, dict(zip(tree.leaves, names, strict=True))),
        lowerer.machine.lanes,
    )
    buffers = [*(place.buffer for place in places), target.buffer]
    lowerer.call(kernel, buffers, tree.ops, [place.buffer for place in places if lies_as(place, target)])

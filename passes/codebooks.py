"""The form of shared weights: `Gather(codebook, Cast(indices))`, a few distinct numbers and a narrow index for each weight.

It keeps a model small as long as nothing evaluates it, so constant folding leaves it alone.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Graph, Op, Tensor, clone_graph, constant_op

from .base import erase_dead

NARROW = (DType.U4, DType.U8)
LARGEST = 256
"""As many numbers as the widest index tells apart."""


def is_codebook_index(op: Op) -> bool:
    """Whether an op widens narrow constant indices for codebooks only."""
    stored = op.constant_operand(0) if op.is_a("Cast") else None
    if stored is None or stored.dtype not in NARROW or op.result.is_output or not op.result.uses:
        return False
    return all(is_codebook(user) and user.operands[1] is op.result for user in op.result.users)


def is_codebook(op: Op) -> bool:
    """Whether an op looks weights up: a Gather of indices widened from a narrow constant, in a constant vector of floats."""
    if not op.is_a("Gather") or op.operand(1) is None:
        return False
    book, index = op.constant_operand(0), op.needed(1).op
    if book is None or len(book.shape) != 1 or not 0 < book.size <= LARGEST or not book.dtype.is_float:
        return False
    stored = index.constant_operand(0) if index is not None and index.is_a("Cast") else None
    return stored is not None and stored.dtype in NARROW


def is_codebook_op(op: Op) -> bool:
    """Whether an op is part of such a form."""
    return is_codebook(op) or is_codebook_index(op)


def looked_up(graph: Graph) -> Graph:
    """A copy of a graph with dense weights for codebooks, for engines that keep none; the graph itself where it has none."""
    if not any(is_codebook(op) for op in graph.walk()):
        return graph
    copy = clone_graph(graph)
    for op in list(copy.walk()):
        if op.graph is None or not is_codebook(op):
            continue
        book, index = op.constant_operand(0), op.needed(1).op
        stored = index.constant_operand(0) if index is not None else None
        assert book is not None
        assert stored is not None
        dense = Tensor.from_array(np.take(book.array, stored.array.astype(np.int64)), book.dtype)
        op.result.replace_by(op.graph.insert(constant_op(dense, op.location, op.result.name), op).result)
        erase_dead(op)
    return copy

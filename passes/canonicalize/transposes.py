"""Transposes: those that move nothing vanish, two in a row are one, and those that only move dims of size 1 are reshapes."""

from __future__ import annotations

from irc.ir import Op, Tensor, Value

from ..rewriter import No, Rewriter, Rule, rule


def permutation_of(op: Op) -> tuple[int, ...] | None:
    """The permutation of a Transpose, also where it is left to reverse the dims, or None when the rank is unknown."""
    written = op.integers("perm")
    if written is not None:
        return written
    shape = op.needed(0).shape
    return None if shape is None else tuple(reversed(range(len(shape))))


@rule("Transpose")
def transpose_of_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """A transpose that leaves every dim where it is is its input."""
    permutation = permutation_of(op)
    if permutation is None or permutation != tuple(range(len(permutation))):
        return No("it moves a dim")
    return op.needed(0)


@rule("Transpose", over=["Transpose"])
def transpose_of_transpose(op: Op, rewrite: Rewriter) -> Value | No:
    """Two transposes in a row are one: result dim i is dim inner[outer[i]] of the first input."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Transpose"):
        return No("its input is no Transpose")
    outer_permutation, inner_permutation = permutation_of(op), permutation_of(inner)
    if outer_permutation is None or inner_permutation is None:
        return No("its rank is not known")
    combined = tuple(inner_permutation[i] for i in outer_permutation)
    return rewrite.op("Transpose", [inner.operand(0)], {"perm": combined})


@rule("Transpose")
def transpose_of_ones(op: Op, rewrite: Rewriter) -> Value | No:
    """A transpose that keeps the order of all dims but those of size 1 moves no element: it is a reshape."""
    shape, permutation = op.needed(0).shape, permutation_of(op)
    if shape is None or permutation is None:
        return No("its shape is not known")
    moved = [i for i in permutation if shape[i] != 1]
    if moved != sorted(moved):
        return No("it moves elements")
    sizes = [shape[i] for i in permutation]
    unknown = [i for i, size in enumerate(sizes) if not isinstance(size, int)]
    if len(unknown) > 1 or (unknown and 0 in sizes):
        return No("more than one of its dims is unknown")
    numbers = [size if isinstance(size, int) else -1 for size in sizes]
    if 0 in numbers:
        return No("it has no elements")
    return rewrite.op("Reshape", [op.operand(0), rewrite.constant(Tensor.integers(numbers))])


RULES: tuple[Rule, ...] = (transpose_of_nothing, transpose_of_transpose, transpose_of_ones)

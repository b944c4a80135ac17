"""Data movement: chains of reshapes and transposes, slices and what is put together of them, resizing by repeating."""

from __future__ import annotations

from irc.ir import Op, Value

from ..canonicalize.shapes import shape_range
from ..canonicalize.transposes import permutation_of
from ..rewriter import No, Rewriter, Rule, rule
from . import chains, resizes, slices


@rule("Shape")
def shape_of_transpose(op: Op, rewrite: Rewriter) -> Value | No:
    """Dim i of a transposed value is dim p[i] of the value."""
    transpose, known = op.needed(0).op, shape_range(op.result)
    permutation = permutation_of(transpose) if transpose is not None and transpose.is_a("Transpose") else None
    if transpose is None or permutation is None or known is None:
        return No("its input is no Transpose of a value of known rank")
    _, start, end = known
    places = permutation[start:end]
    if places != tuple(range(places[0], places[0] + len(places))):
        return No("the dims it takes were no neighbours before")
    return rewrite.op("Shape", [transpose.operand(0)], {"start": places[0], "end": places[-1] + 1})


RULES: tuple[Rule, ...] = (shape_of_transpose, *chains.RULES, *slices.RULES, *resizes.RULES)

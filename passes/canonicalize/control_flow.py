"""Control flow that is decided: an If with a known condition is its branch, a loop that never runs is its initial state."""

from __future__ import annotations

import numpy as np

from irc.ir import Graph, Op, Tensor, TensorType, Value
from irc.ir.shapes import scalar_of

from ..rewriter import No, Rewriter, Rule, rule


@rule("If")
def decided_if(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """An If whose condition is known is the ops of that branch."""
    condition = _truth(op.operand(0))
    if condition is None:
        return No("its condition is not known")
    branch = op.attributes["then_branch" if condition else "else_branch"]
    assert isinstance(branch, Graph) and op.graph is not None
    outputs = tuple(branch.outputs)
    for inner in list(branch):
        branch.unlink(inner)
        op.graph.insert(inner, op)
        rewrite.inline(inner)
    return outputs


def _truth(value: Value | None) -> bool | None:
    if value is None:
        return None
    if value.constant is not None:
        return bool(value.constant.array.reshape(-1)[0]) if value.constant.size == 1 else None
    known = scalar_of(value)
    return bool(known) if isinstance(known, int) else None


@rule("Loop")
def loop_that_never_runs(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """A Loop with no trips or a false condition is its initial state, and empty stacks of what it would have collected."""
    trips, condition = scalar_of(op.operand(0)), _truth(op.operand(1))
    if not (isinstance(trips, int) and trips <= 0) and condition is not False:
        return No("it may run")
    results: list[Value] = []
    for index, result in enumerate(op.results):
        initial = op.operand(index + 2)
        if initial is not None:
            results.append(initial)
            continue
        empty = _empty_stack(result)
        if empty is None:
            return No("the shape of what it collects is not known")
        results.append(rewrite.constant(empty))
    return tuple(results)


def _empty_stack(result: Value) -> Tensor | None:
    kind = result.type
    if not isinstance(kind, TensorType) or kind.shape is None or kind.dtype.bits < 8:
        return None
    element = [d for d in kind.shape[1:] if isinstance(d, int)]
    if len(element) != len(kind.shape) - 1:
        return None
    return Tensor.from_array(np.zeros((0, *element), dtype=kind.dtype.numpy), kind.dtype)


RULES: tuple[Rule, ...] = (decided_if, loop_that_never_runs)

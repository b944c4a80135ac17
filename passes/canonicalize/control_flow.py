"""Control flow that is decided: an If with a known condition is its branch, a loop that never runs is its initial state."""

from __future__ import annotations

import numpy as np

from irc.ir import Graph, Op, Tensor, TensorType, Value, shapes

from ..rewriter import No, Rewriter, Rule, rule


@rule("If")
def decided_if(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """An If whose condition is known is the ops of that branch."""
    condition = _truth(op.operand(0))
    if condition is None:
        return No("its condition is not known")
    branch = op.attributes["then_branch" if condition else "else_branch"]
    assert isinstance(branch, Graph)
    return _inlined(branch, op, rewrite)


@rule("If")
def if_of_equal_branches(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """An If whose branches do the same is the ops of one of them."""
    yes, no = op.attributes["then_branch"], op.attributes["else_branch"]
    assert isinstance(yes, Graph)
    assert isinstance(no, Graph)
    if not _do_the_same(yes, no):
        return No("its branches differ")
    return _inlined(yes, op, rewrite)


def _do_the_same(first: Graph, second: Graph) -> bool:
    """Whether two bodies without inputs hold the same ops in the same order; bodies inside them are not compared."""
    if len(first) != len(second):
        return False
    twin: dict[Value, Value] = {}
    for a, b in zip(first, second, strict=True):
        if a.bodies or a.qualified_name != b.qualified_name or len(a.results) != len(b.results):
            return False
        if [v if v is None else twin.get(v, v) for v in a.operands] != b.operands or not _same_attributes(a, b):
            return False
        twin.update(zip(a.results, b.results, strict=True))
    return [twin.get(v, v) for v in first.outputs] == second.outputs


def _same_attributes(a: Op, b: Op) -> bool:
    if a.is_constant and b.is_constant:
        return a.value.same_as(b.value)
    plain = (int, float, str, bytes)
    flat = [item for value in a.attributes.values() for item in (value if isinstance(value, tuple) else (value,))]
    return all(isinstance(item, plain) for item in flat) and repr(a.attributes) == repr(b.attributes)


def _inlined(branch: Graph, op: Op, rewrite: Rewriter) -> tuple[Value, ...]:
    assert op.graph is not None
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
    known = shapes.scalar_of(value)
    return bool(known) if isinstance(known, int) else None


@rule("Loop")
def loop_that_never_runs(op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
    """A Loop with no trips or a false condition is its initial state, and empty stacks of what it would have collected."""
    trips, condition = shapes.scalar_of(op.operand(0)), _truth(op.operand(1))
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


RULES: tuple[Rule, ...] = (decided_if, if_of_equal_branches, loop_that_never_runs)

"""Concatenations: nested ones are flattened, empty parts dropped, and parts put together again as they were split."""

from __future__ import annotations

from irc.ir import Op, Value

from ..rewriter import No, Rewriter, Rule, rule


def _axis(op: Op) -> int | None:
    shape = op.result.shape
    axis = op.integer("axis", 0)
    return None if shape is None else axis % len(shape)


@rule("Concat")
def concat_of_concat(op: Op, rewrite: Rewriter) -> Value | No:
    """A concatenation inside one along the same axis gives its parts to it."""
    axis = _axis(op)
    if axis is None:
        return No("its rank is not known")
    # From the outermost one, so that a long chain is put together once and not at each of its links.
    if op.result.users and _is_inside(op, op.result.users[0], axis):
        return No("the Concat around it takes its parts")
    parts: list[Value] = []
    pending = [v for v in reversed(op.operands) if v is not None]
    while pending:
        part = pending.pop()
        if part.op is not None and _is_inside(part.op, op, axis):
            pending.extend(v for v in reversed(part.op.operands) if v is not None)
        else:
            parts.append(part)
    if len(parts) == len(op.operands):
        return No("no part is a Concat along its axis that only it uses")
    return rewrite.op("Concat", parts, {"axis": axis})


def _is_inside(inner: Op, outer: Op, axis: int) -> bool:
    """Whether `inner` is a Concat along `axis` that is used once, and `outer` another one."""
    if not (inner.is_a("Concat") and outer.is_a("Concat") and inner.result.has_one_use):
        return False
    return _axis(inner) == axis and _axis(outer) == axis


@rule("Concat")
def concat_of_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """A part without elements along the axis adds nothing."""
    axis = _axis(op)
    if axis is None:
        return No("its rank is not known")
    kept = [v for v in op.operands if v is not None and not (v.shape is not None and v.shape[axis] == 0)]
    if not kept or len(kept) == len(op.operands):
        return No("no part is empty")
    return rewrite.op("Concat", kept, {"axis": axis}) if len(kept) > 1 else kept[0]


@rule("Concat")
def concat_of_split(op: Op, rewrite: Rewriter) -> Value | No:
    """All parts of a split put together in order along its axis are what was split."""
    split = op.operands[0].op if op.operands[0] is not None else None
    if split is None or not split.is_a("Split") or list(op.operands) != list(split.results):
        return No("its parts are not all of one Split in order")
    shape = split.needed(0).shape
    if shape is None or split.integer("axis", 0) % len(shape) != _axis(op):
        return No("it joins along another axis")
    return split.needed(0)


RULES: tuple[Rule, ...] = (concat_of_concat, concat_of_nothing, concat_of_split)

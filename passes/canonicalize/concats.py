"""Concatenations: nested ones are flattened, empty parts dropped, and parts put together again as they were split."""

from __future__ import annotations

from irc.ir import Op, Value

from ..rewriter import No, Rewriter, Rule, rule

# A long chain of concatenations would be copied part by part at each step.
_MOST_PARTS = 256


def _axis(op: Op) -> int | None:
    shape = op.result.shape
    axis = op.integer("axis", 0)
    return None if shape is None else axis % len(shape)


@rule("Concat")
def concat_of_concat(op: Op, rewrite: Rewriter) -> Value | No:
    """A concatenation inside one along the same axis gives its parts to it."""
    axis, parts = _axis(op), list[Value]()
    found = False
    for operand in op.operands:
        maker = operand.op if operand is not None else None
        if (
            maker is not None
            and maker.is_a("Concat")
            and maker.result.has_one_use
            and axis is not None
            and _axis(maker) == axis
        ):
            parts.extend(v for v in maker.operands if v is not None)
            found = True
        elif operand is not None:
            parts.append(operand)
    if not found:
        return No("no part is a Concat along its axis that only it uses")
    if len(parts) > _MOST_PARTS:
        return No("it would have too many parts")
    return rewrite.op("Concat", parts, {"axis": axis or 0})


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

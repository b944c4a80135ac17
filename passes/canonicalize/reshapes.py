"""Reshape, Squeeze, Unsqueeze and Flatten: those that change nothing vanish, and what feeds a reshape need not reshape."""

from __future__ import annotations

from irc.ir import Op, Tensor, Value, shapes

from ..rewriter import No, Rewriter, Rule, rule
from .shapes import target_pattern

_SAME_ELEMENTS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@rule(*_SAME_ELEMENTS)
def reshape_of_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """A reshape to the shape its input has is its input."""
    if not rewrite.same_type(op.needed(0), op.result) and not _keeps_each_dim(op):
        return No("its shape is not provably its input's")
    return op.needed(0)


def _keeps_each_dim(op: Op) -> bool:
    """Whether a Reshape says all positive dims again and leaves one, known or not, to be found: it finds what it was."""
    target, source = shapes.content_of(op.operand(1)) if op.is_a("Reshape") else None, op.needed(0).shape
    if target is None or source is None or len(target) != len(source):
        return False
    others = [(wanted, dim) for wanted, dim in zip(target, source, strict=True) if wanted != -1]
    return len(others) == len(target) - 1 and all(isinstance(dim, int) and dim > 0 and dim == wanted for wanted, dim in others)


@rule("Reshape", over=_SAME_ELEMENTS)
def reshape_of_reshape(op: Op, rewrite: Rewriter) -> Value | No:
    """Only the last of several reshapes counts; a dim it copies (0) is copied from the first, or written out."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a(*_SAME_ELEMENTS):
        return No("its input is no reshape")
    target = shapes.content_of(op.operand(1))
    if target is None:
        return No("nothing is known of its shape")
    first, middle = inner.needed(0).shape or (), inner.result.shape or ()
    copied = [] if op.integer("allowzero", 0) else [i for i, d in enumerate(target) if not isinstance(d, int) or d == 0]
    # What is symbolic may turn out to be 0 and then copies a dim, too.
    changed = [
        i for i in copied if not (i < len(first) and i < len(middle) and rewrite.same_dims(first[i : i + 1], middle[i : i + 1]))
    ]
    if not changed:
        return rewrite.op("Reshape", [inner.operand(0), op.operand(1)], dict(op.attributes))
    numbers = [d if isinstance(d, int) else None for d in target]
    for index in changed:
        size = middle[index] if index < len(middle) else None
        if numbers[index] != 0 or not isinstance(size, int) or size == 0:
            return No("its shape may copy a dim of its input")
        numbers[index] = size
    known = [n for n in numbers if n is not None]
    if len(known) != len(numbers):
        return No("some of its shape is not known")
    return rewrite.op("Reshape", [inner.operand(0), rewrite.constant(Tensor.integers(known))])


@rule("Squeeze", "Unsqueeze", "Flatten", over=_SAME_ELEMENTS)
def view_of_reshape(op: Op, rewrite: Rewriter) -> Value | No:
    """A Squeeze, Unsqueeze or Flatten behind a reshape is one Reshape where at most one dim is unknown."""
    inner, shape = op.needed(0).op, op.result.shape
    if inner is None or not inner.is_a(*_SAME_ELEMENTS) or (inner.name == op.name and op.name != "Flatten"):
        return No("its input is no reshape of another kind")
    if shape is None or 0 in shape:
        return No("its shape is not known or empty")
    pattern = target_pattern(shape, inner.needed(0).shape)
    if pattern is None:
        return No("more than one dim is unknown")
    numbers, relied = pattern
    rewrite.assume(relied)
    return rewrite.op("Reshape", [inner.operand(0), rewrite.constant(Tensor.integers(numbers))])


@rule("Reshape")
def plain_reshape(op: Op, rewrite: Rewriter) -> Value | No:
    """`allowzero` says nothing where the shape has no zero."""
    if "allowzero" not in op.attributes:
        return No("it is plain")
    target = op.constant_operand(1)
    if op.integer("allowzero", 0) and (target is None or not target.array.all()):
        return No("its shape may hold a zero that counts")
    return rewrite.op("Reshape", [op.operand(0), op.operand(1)])


@rule("Squeeze", over=["Unsqueeze"])
def squeeze_of_unsqueeze(op: Op, rewrite: Rewriter) -> Value | No:
    """Axes that were put in and are all that is taken away again need not be put in; the others move up."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Unsqueeze"):
        return No("its input is no Unsqueeze")
    removed, added = _axes(op, _rank(op.needed(0))), _axes(inner, _rank(inner.result))
    if removed is None or added is None:
        return No("its axes or its rank are not known")
    if not set(removed) <= set(added):
        return No("it takes away other axes than the Unsqueeze adds")
    left = [axis - sum(gone < axis for gone in removed) for axis in added if axis not in removed]
    if not left:
        return inner.needed(0)
    return rewrite.op("Unsqueeze", [inner.operand(0), rewrite.constant(Tensor.integers(left))])


@rule("Unsqueeze", over=["Squeeze"])
def unsqueeze_of_squeeze(op: Op, rewrite: Rewriter) -> Value | No:
    """Putting in the dims just taken away gives back the input."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Squeeze"):
        return No("its input is no Squeeze")
    put, taken = _axes(op, _rank(op.result)), _axes(inner, _rank(inner.needed(0)))
    if put is None or taken != put:
        return No("it puts in other dims than were taken away")
    return inner.needed(0)


@rule("Unsqueeze", over=["Unsqueeze"])
def unsqueeze_of_unsqueeze(op: Op, rewrite: Rewriter) -> Value | No:
    """Two unsqueezes in a row are one: the inner axes shift past the outer ones."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Unsqueeze"):
        return No("its input is no Unsqueeze")
    outer_axes, inner_axes, rank = _axes(op, _rank(op.result)), _axes(inner, _rank(inner.result)), _rank(op.result)
    if outer_axes is None or inner_axes is None or rank is None:
        return No("its axes or its rank are not known")
    kept = [i for i in range(rank) if i not in outer_axes]
    axes = sorted([*outer_axes, *(kept[a] for a in inner_axes)])
    return rewrite.op("Unsqueeze", [inner.operand(0), rewrite.constant(Tensor.integers(axes))])


@rule("Squeeze", over=["Squeeze"])
def squeeze_of_squeeze(op: Op, rewrite: Rewriter) -> Value | No:
    """Two squeezes in a row are one: the outer axes count among the dims the inner one left."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Squeeze"):
        return No("its input is no Squeeze")
    rank = _rank(inner.needed(0))
    outer_axes, inner_axes = _axes(op, _rank(op.needed(0))), _axes(inner, rank)
    if outer_axes is None or inner_axes is None or rank is None:
        return No("its axes or its rank are not known")
    kept = [i for i in range(rank) if i not in inner_axes]
    axes = sorted([*inner_axes, *(kept[a] for a in outer_axes)])
    return rewrite.op("Squeeze", [inner.operand(0), rewrite.constant(Tensor.integers(axes))])


def _rank(value: Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _axes(op: Op, rank: int | None) -> list[int] | None:
    """The axes of a Squeeze or Unsqueeze, counted from the front of a shape of `rank` dims and sorted."""
    if rank is None:
        return None
    if op.operand(1) is None:
        shape = op.needed(0).shape
        known = shape is not None and op.name == "Squeeze" and all(isinstance(d, int) for d in shape)
        return [i for i, d in enumerate(shape or ()) if d == 1] if known else None
    axes = shapes.content_of(op.operand(1))
    if axes is None or not all(isinstance(a, int) for a in axes):
        return None
    return sorted(a + rank if a < 0 else a for a in axes if isinstance(a, int))


RULES: tuple[Rule, ...] = (
    reshape_of_nothing,
    squeeze_of_unsqueeze,
    unsqueeze_of_squeeze,
    unsqueeze_of_unsqueeze,
    squeeze_of_squeeze,
    reshape_of_reshape,
    view_of_reshape,
    plain_reshape,
)

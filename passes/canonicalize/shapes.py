"""Known shapes: integer tensors whose elements inference knows become constants, and shape operands lose their chains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irc.ir import Dim, Op, Tensor, TensorType, Value, shapes

from ..rewriter import No, Rewriter, Rule, rule


@rule(*shapes.CONTENT)
def known_content(op: Op, rewrite: Rewriter) -> Value | No:
    """A shape computation whose elements are all known is a constant."""
    result = op.results[0]
    content, kind = result.content, result.type
    if content is None or not isinstance(kind, TensorType) or kind.rank is None:
        return No("its elements are not known")
    numbers = [d for d in content if isinstance(d, int)]
    if len(numbers) != len(content):
        return No("some of its elements are symbolic")
    array = np.array(numbers, dtype=kind.dtype.numpy).reshape(() if kind.rank == 0 else (len(numbers),))
    return rewrite.constant(Tensor.from_array(array, kind.dtype))


@rule("Reshape")
def reshape_to_known_shape(op: Op, rewrite: Rewriter) -> Value | No:
    """A target shape with one dim unknown needs no computing: equal dims are copied (0), one dim is found (-1)."""
    target, source = shapes.content_of(op.operand(1)), op.needed(0).shape
    if op.constant_operand(1) is not None:
        return No("its shape is constant already")
    if target is None:
        return No("nothing is known of its shape")
    pattern = target_pattern(target, source, keep_zero=op.integer("allowzero", 0) == 1)
    if pattern is None:
        return No("more than one dim of its shape is unknown")
    numbers, relied = pattern
    rewrite.assume(relied)
    return rewrite.op("Reshape", [op.operand(0), rewrite.constant(Tensor.integers(numbers))])


def target_pattern(
    target: Sequence[Dim], source: Sequence[Dim] | None, *, keep_zero: bool = False
) -> tuple[list[int], list[Dim]] | None:
    """A Reshape's target with 0 for "as in the input" and -1 for the one dim left, and the dims relied on, or None.

    -1 stands only among positive dims: a zero beside it would leave it undetermined.
    """
    source = source or ()
    if any(isinstance(d, int) and d == 0 for d in target) and keep_zero:
        return None
    numbers: list[int | None] = []
    relied: list[Dim] = []
    for index, dim in enumerate(target):
        if isinstance(dim, int) and dim != 0:
            numbers.append(dim)
        elif dim == 0 or (dim is not None and index < len(source) and source[index] == dim):
            numbers.append(0)
            relied.append(dim)
        else:
            numbers.append(None)
    holes = numbers.count(None)
    if holes > 1 or (holes and any(n is not None and n <= 0 for n in numbers)):
        return None
    return [-1 if n is None else n for n in numbers], relied


def shape_range(value: Value | None) -> tuple[Value, int, int] | None:
    """The value whose dims from a start to an end a Shape gives, or None for anything else."""
    maker = None if value is None else value.op
    if maker is None or not maker.is_a("Shape"):
        return None
    rank = len(maker.needed(0).shape or ())
    if maker.needed(0).shape is None:
        return None
    bounds = (maker.integer("start", 0), maker.integer("end", rank))
    start, end = (max(0, min(rank, b + rank if b < 0 else b)) for b in bounds)
    return (maker.needed(0), start, end) if start < end else None


@rule("Slice", over=["Shape"])
def slice_of_shape(op: Op, rewrite: Rewriter) -> Value | No:
    """Dims of a Shape from one place to another are what a Shape with a start and an end gives."""
    source, first, last = shape_range(op.operand(0)), shapes.scalar_of(op.operand(1)), shapes.scalar_of(op.operand(2))
    if source is None or not isinstance(first, int) or not isinstance(last, int):
        return No("it is no slice with known bounds of a Shape")
    if op.operand(4) is not None and shapes.scalar_of(op.operand(4)) != 1:
        return No("it has a step")
    value, start, end = source
    places = range(start, end)[first:last]
    if not places:
        return No("it is empty")
    return rewrite.op("Shape", [value], {"start": places.start, "end": places.stop})


@rule("Concat")
def concat_of_shapes(op: Op, rewrite: Rewriter) -> Value | No:
    """Neighbouring dims of one value are one Shape with a start and an end."""
    parts: list[tuple[Value, tuple[Value, int, int] | None]] = []
    for operand in op.operands:
        known = shape_range(operand)
        last = parts[-1][1] if parts else None
        if known is not None and last is not None and last[0] is known[0] and last[2] == known[1]:
            parts[-1] = (parts[-1][0], (last[0], last[1], known[2]))
        elif operand is not None:
            parts.append((operand, known))
    if len(parts) == len(op.operands):
        return No("no neighbouring parts are neighbouring dims of one value")
    merged = [value if shape_range(value) == known else _shape_of(known, rewrite) for value, known in parts]
    return rewrite.op("Concat", merged, {"axis": 0}) if len(merged) > 1 else merged[0]


def _shape_of(known: tuple[Value, int, int] | None, rewrite: Rewriter) -> Value:
    assert known is not None
    value, start, end = known
    return rewrite.op("Shape", [value], {"start": start, "end": end})


@rule("Expand")
def expand_of_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """Expand to a shape the input already has is the input."""
    data, target = op.needed(0), shapes.content_of(op.operand(1))
    if data.shape is None or target is None:
        return No("its input's or its target shape is not known")
    if len(target) > len(data.shape):
        return No("it adds dims")
    own = data.shape[len(data.shape) - len(target) :]
    for have, want in zip(own, target, strict=True):
        if want != 1 and (have is None or have != want):
            return No(f"it stretches a dim from {have} to {want}")
    rewrite.assume([d for d, want in zip(own, target, strict=True) if want != 1])
    return data


@rule("Tile")
def tile_once(op: Op, rewrite: Rewriter) -> Value | No:
    """Tile by ones is its input."""
    repeats = shapes.content_of(op.operand(1))
    if repeats is None or any(r != 1 for r in repeats):
        return No("it repeats something")
    return op.needed(0)


@rule("Range")
def range_of_scalars(op: Op, rewrite: Rewriter) -> Value | No:
    """Range is defined on scalars; a bound that turns out to be a tensor of one element becomes one."""
    shapes = [operand.shape if operand is not None else None for operand in op.operands]
    if (1,) not in shapes:
        return No("its bounds are scalars as far as is known")
    scalar = rewrite.constant(Tensor.integers([]))
    bounds = [rewrite.op("Reshape", [v, scalar]) if s == (1,) else v for v, s in zip(op.operands, shapes, strict=True)]
    return rewrite.op("Range", bounds)


RULES: tuple[Rule, ...] = (
    known_content,
    reshape_to_known_shape,
    slice_of_shape,
    concat_of_shapes,
    expand_of_nothing,
    tile_once,
    range_of_scalars,
)

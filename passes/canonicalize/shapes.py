"""Known shapes: integer tensors whose elements inference knows become constants, and shape operands lose their chains."""

from __future__ import annotations

import numpy as np

from irc.ir import Op, Tensor, TensorType, Value
from irc.ir.dims import Dim
from irc.ir.shapes import CONTENT, content_of

from ..rewriter import No, Rewriter, Rule, rule


@rule(*CONTENT)
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
    target, source = content_of(op.operand(1)), op.needed(0).shape
    if op.constant_operand(1) is not None:
        return No("its shape is constant already")
    if target is None:
        return No("nothing is known of its shape")
    pattern = _pattern(list(target), list(source) if source is not None else [], op.integer("allowzero", 0) == 1)
    if pattern is None:
        return No("more than one dim of its shape is unknown")
    numbers, relied = pattern
    rewrite.assume(relied)
    return rewrite.op("Reshape", [op.operand(0), rewrite.constant(Tensor.integers(numbers))])


def _pattern(target: list[Dim], source: list[Dim], keep_zero: bool) -> tuple[list[int], list[Dim]] | None:
    """The target with 0 for "as in the input" and -1 for the one dim left, and the dims relied on.

    -1 stands only among positive dims: a zero beside it would leave it undetermined.
    """
    if any(isinstance(d, int) and d == 0 for d in target) and keep_zero:
        return None
    numbers: list[int | None] = []
    relied: list[Dim] = []
    for index, dim in enumerate(target):
        if isinstance(dim, int):
            numbers.append(dim)
        elif dim is not None and index < len(source) and source[index] == dim:
            numbers.append(0)
            relied.append(dim)
        else:
            numbers.append(None)
    holes = numbers.count(None)
    if holes == 0:
        return [n for n in numbers if n is not None], relied
    if holes > 1 or any(n is not None and n < 0 for n in numbers):
        return None
    if 0 in numbers:
        return None
    return [-1 if n is None else n for n in numbers], relied


@rule("Expand")
def expand_of_nothing(op: Op, rewrite: Rewriter) -> Value | No:
    """Expand to a shape the input already has is the input."""
    data, target = op.needed(0), content_of(op.operand(1))
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
    repeats = content_of(op.operand(1))
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


RULES: tuple[Rule, ...] = (known_content, reshape_to_known_shape, expand_of_nothing, tile_once, range_of_scalars)

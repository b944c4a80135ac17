"""Resizing by nearest neighbour, and repeating: written out, by nothing, in front of what broadcasts anyway."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from irc.ir import Dim, DType, Op, Tensor, TensorType, Value, dims, shapes

from ..rewriter import No, Rewriter, Rule, rule
from .chains import VIEWS, Arrangement

_NEAREST = (DType.F32, DType.I32, DType.U8, DType.I8)
"""The dtypes that engines resize."""
_REPEATS = ("Expand", "Tile")
_LONGEST = 8
_BROADCASTING = (
    *("Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "BitwiseAnd", "BitwiseOr", "BitwiseXor"),
    *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Where"),
)


@rule("Reshape", over=_REPEATS)
def nearest_by_repeating(op: Op, rewrite: Rewriter) -> Value | No:
    """Each pixel repeated in new dims behind its row and its column, joined to them, is an image enlarged by whole factors."""
    inner, kind, final = op.needed(0).op, op.result.type, op.result.shape
    if inner is None or not inner.is_a(*_REPEATS) or not inner.result.has_one_use:
        return No("its input is no Expand or Tile that only it uses")
    if final is None or len(final) != 4 or not isinstance(kind, TensorType) or kind.dtype not in _NEAREST:
        return No("its result is no image of a dtype that engines resize")
    chain = [op]
    while len(chain) < _LONGEST and inner is not None and inner.is_a(*_REPEATS, *VIEWS) and inner.result.has_one_use:
        chain.append(inner)
        inner = inner.needed(0).op
    while len(chain) > 2:
        image = chain[-1].needed(0)
        factors = _factors(image, chain[::-1])
        if factors is not None:
            break
        chain.pop()
    else:
        return No("it repeats something else than pixels", 3)
    # Only rows and columns, both: heads and tokens are repeated one dim at a time, and other rules know them by that.
    if [axis for axis, factor in enumerate(factors) if factor != 1] not in ([2, 3], [1, 2]):
        return No("it repeats other dims than rows and columns", 3)
    grown = [dims.multiply(size, factor) for size, factor in zip(image.shape or (), factors, strict=True)]
    if not rewrite.same_dims(grown, final):
        return No("its size is not that of the image times whole factors", 3)
    scales = rewrite.constant(Tensor.from_array(np.array(factors, np.float32)))
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return rewrite.op("Resize", [image, None, scales], dict(attributes))


def _factors(image: Value, chain: Sequence[Op]) -> list[int] | None:
    """How often the elements of each dim are repeated, each right behind itself; None where that is not what happens."""
    arrangement = None if image.shape is None or len(image.shape) != 4 else Arrangement.of(image.shape)
    if arrangement is None:
        return None
    repeats: set[int] = set()
    for op in chain:
        shape, before = op.results[0].shape, op.needed(0).shape
        if shape is None or before is None:
            return None
        if not op.is_a(*_REPEATS):
            if not arrangement.reshape(shape):
                return None
            continue
        if len(shape) != len(before):
            return None
        for axis, (have, want) in enumerate(zip(before, shape, strict=True)):
            if have == 1 and isinstance(want, int) and want > 1:
                repeats.add(len(arrangement.sizes))
                arrangement.after[axis] = [len(arrangement.sizes)]
                arrangement.sizes.append(want)
            elif have is None or have != want:
                return None
    return _behind(arrangement, repeats)


def _behind(arrangement: Arrangement, repeats: set[int]) -> list[int] | None:
    """The product of the repeats in each dim, where they stand behind what the dim had before."""
    factors: list[int] = []
    for before, after in zip(arrangement.before, arrangement.after, strict=True):
        extra = after[len(before) :]
        sizes = [arrangement.sizes[atom] for atom in extra]
        if after[: len(before)] != before or not repeats.issuperset(extra):
            return None
        factors.append(math.prod(size for size in sizes if isinstance(size, int)))
    return factors


@rule(*_BROADCASTING, over=["Tile"])
def tile_before_broadcast(op: Op, rewrite: Rewriter) -> Value | No:
    """An elementwise op repeats a dim of size 1 by itself: an operand need not be tiled where the others give the shape."""
    operands = list(op.operands)
    for index, operand in enumerate(operands):
        tile = operand.op if operand is not None else None
        if tile is None or not tile.is_a("Tile") or not _repeats_ones(tile):
            continue
        trial = [*operands[:index], tile.operand(0), *operands[index + 1 :]]
        if rewrite.same_dims(_common_shape(trial), op.result.shape):
            operands = trial
    if operands == op.operands:
        return No("no operand is a Tile that the others make needless")
    return rewrite.op(op.name, operands, dict(op.attributes))


def _repeats_ones(tile: Op) -> bool:
    shape, repeats = tile.needed(0).shape, tile.constant_operand(1)
    if shape is None or repeats is None:
        return False
    return all(count == 1 or size == 1 for size, count in zip(shape, repeats.to_list(), strict=True))


def _common_shape(operands: list[Value | None]) -> tuple[Dim, ...] | None:
    shape: tuple[Dim, ...] = ()
    for operand in operands:
        if operand is None or operand.shape is None:
            return None
        shape = shapes.broadcast_shapes(shape, operand.shape)
    return shape


RULES: tuple[Rule, ...] = (nearest_by_repeating, tile_before_broadcast)

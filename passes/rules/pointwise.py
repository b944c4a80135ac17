"""What treats each pixel alike, 1x1 convolutions and affine steps, moved across Resize and Concat to where pixels are fewest.

Law: interpolation is a sum of pixels whose factors are the same in all channels and add up to 1, so it commutes with what is
affine in the channels, bias included. Both orders add the same products of three factors, so NaN and infinities stay where
they are: a factor of 0 makes NaN of an infinity in either. Nothing moves to where that is more work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from irc.ir import Attribute, Dim, Op, Tensor, Value, dims

from ..base import Contract
from ..rewriter import No, Rewriter, Rule, rule
from . import interpolation
from .affine import AFFINE, Floats, Step, behind, bias_of, copies_too_much, never_infinite, plus, rounded, step_of
from .convolutions import CONVOLUTIONS, Convolution, convolution_of
from .interpolation import Resizing, resizing_of
from .matmuls import PRODUCTS, Product, biased_product_of

_ELEMENTWISE = 8.0
_COPY = 4.0
"""What an element of a sum and of a copy costs in multiplications of a convolution, as `Resizing.cost`."""
_LEAST_PER_PART = 5e6
"""How many multiplications each part has to save: with fewer, more ops take as long (measured on small detectors)."""
_OPEN = 16
"""What a dim of unknown size counts as."""
_DEEPEST = 3


def _pointwise_of(op: Op) -> Convolution | No:
    """A 1x1 convolution with finite constants: an infinite weight times a sum is not the sum of its products."""
    conv = convolution_of(op)
    if isinstance(conv, No):
        return conv
    if not conv.is_pointwise:
        return No("it is not pointwise", 2)
    finite = bool(np.isfinite(conv.weight.array).all()) and (conv.bias is None or bool(np.isfinite(conv.bias).all()))
    return conv if finite else No("its weight or bias is not finite", 2)


def _has_to_wait(conv: Convolution) -> bool:
    """Whether what stands behind a convolution would be absorbed by it, and is to be before anything comes between."""
    users = conv.op.result.users
    if len(users) != 1 or not users[0].is_a(*AFFINE) or not conv.op.result.has_one_use:
        return False
    return isinstance(step_of(users[0], conv.rank, 1 - conv.rank, conv.outputs), Step)


@rule("Conv", contract=Contract.REASSOCIATING)
def pointwise_after_enlarging(op: Op, rewrite: Rewriter) -> Value | No:
    """A 1x1 convolution of an enlarged image is the enlarged convolution of the image, bias included."""
    if not op.needed(0).has_one_use:
        return No("its input has several users")
    resizing = resizing_of(op.needed(0).op, rewrite)
    if isinstance(resizing, No):
        return resizing
    conv = _pointwise_of(op)
    if isinstance(conv, No):
        return conv
    if resizing.growth <= 1:
        return No("the Resize makes no more pixels", 2)
    if _has_to_wait(conv):
        return No("what stands behind it is to be absorbed first", 2)
    fewer = conv.outputs * conv.inputs * (1 - 1 / resizing.growth)
    # What stands behind it, such as a Relu, no longer is done by the convolution itself.
    if fewer + (conv.inputs - conv.outputs) * resizing.cost <= conv.outputs * _ELEMENTWISE:
        return No("resizing its result is more work", 2)
    made = rewrite.op("Conv", [resizing.source, *op.operands[1:]], dict(op.attributes))
    return resizing.again(made, conv.outputs, rewrite)


@rule("Resize", contract=Contract.REASSOCIATING)
def reducing_after_pointwise(op: Op, rewrite: Rewriter) -> Value | No:
    """An image made smaller after a 1x1 convolution is the convolution of the smaller image."""
    maker = op.needed(0).op
    if maker is None or not maker.is_a("Conv") or not op.needed(0).has_one_use:
        return No("its input is no Conv that only it uses")
    conv = _pointwise_of(maker)
    if isinstance(conv, No):
        return conv
    resizing = resizing_of(op, rewrite)
    if isinstance(resizing, No):
        return resizing
    source = maker.needed(0)
    if resizing.growth >= 1 or source.shape is None:
        return No("it makes no fewer pixels", 2)
    fewer = conv.outputs * conv.inputs * (1 - resizing.growth)
    if fewer + (conv.outputs - conv.inputs) * resizing.cost * resizing.growth <= 0:
        return No("resizing its input is more work", 2)
    small = resizing.again(source, conv.inputs, rewrite)
    return rewrite.op("Conv", [small, *maker.operands[1:]], dict(maker.attributes))


@dataclass(frozen=True)
class _Part:
    """An operand of a Concat of channels, which ones of them it holds, and the Resize to move behind the convolution."""

    value: Value
    channels: slice
    resizing: Resizing | None

    @property
    def width(self) -> int:
        return self.channels.stop - self.channels.start


@rule("Conv", contract=Contract.REASSOCIATING)
def pointwise_of_enlarged_parts(op: Op, rewrite: Rewriter) -> Value | No:
    """A 1x1 convolution of parts side by side is the sum of convolutions of the parts, the enlarged ones convolved before."""
    concat = op.needed(0).op
    if concat is None or not concat.is_a("Concat"):
        return No("its input is no Concat")
    conv = _pointwise_of(op)
    if isinstance(conv, No):
        return conv
    outputs = _outputs_of_users(concat.result)
    if outputs is None:
        return No("something else uses the Concat", 2)
    parts = _parts_of(concat, conv, rewrite)
    if isinstance(parts, No):
        return parts
    if copies_too_much(op):
        return No("its weight is large and others use it too", 2)
    if _has_to_wait(conv):
        return No("what stands behind it is to be absorbed first", 2)
    # All of them or none: whatever is done first, the others save no less then.
    least = len(parts) * _LEAST_PER_PART / _pixels(op.result)
    if any(_gain(parts, conv.inputs, each, len(outputs)) <= least for each in outputs):
        return No("convolving the parts is more work", 2)
    enlarged = [part for part in parts if part.resizing is not None]
    rest = [part for part in parts if part.resizing is None]
    # The convolution that is not resized comes last: engines add to it as they compute it.
    groups = [*([part] for part in enlarged), *([rest] if rest else [])]
    terms = [_term(conv, group, op.operand(2) if group is groups[-1] else None, rewrite) for group in groups]
    return reduce(lambda total, term: rewrite.op("Add", [total, term]), terms)


def _outputs_of_users(value: Value) -> list[int] | None:
    """How many channels each 1x1 convolution makes that uses a value; None where something else uses it."""
    found: list[int] = []
    for use in value.uses:
        conv = _pointwise_of(use.user) if isinstance(use.user, Op) and use.user.is_a("Conv") and not use.index else None
        if not isinstance(conv, Convolution):
            return None
        found.append(conv.outputs)
    return found


def _parts_of(concat: Op, conv: Convolution, rewrite: Rewriter) -> list[_Part] | No:
    if concat.integer("axis", 0) % conv.rank != 1:
        return No("the Concat is not of channels", 2)
    parts: list[_Part] = []
    start = 0
    for index in range(len(concat.operands)):
        value = concat.needed(index)
        width = value.shape[1] if value.shape is not None and len(value.shape) == conv.rank else None
        if not isinstance(width, int):
            return No("how many channels a part has is not known", 2)
        found = resizing_of(value.op, rewrite) if value.has_one_use else No("it has several users")
        grown = None if isinstance(found, No) or found.growth <= 1 else found
        parts.append(_Part(value, slice(start, start + width), grown))
        start += width
    if start != conv.inputs or all(part.resizing is None for part in parts):
        return No("no part is enlarged", 2)
    return parts


def _gain(parts: list[_Part], inputs: int, outputs: int, users: int) -> float:
    """How many multiplications less a pixel costs in one of so many convolutions of the same parts."""
    rest = [part.width for part in parts if part.resizing is None]
    gain = inputs * _COPY / users - (sum(rest) * _COPY if len(rest) > 1 else 0)
    for part in parts:
        if part.resizing is not None:
            gain += part.width * (outputs * (1 - 1 / part.resizing.growth) + part.resizing.cost / users)
            gain -= outputs * part.resizing.cost
    terms = len(parts) - len(rest) + min(len(rest), 1)
    return gain - (terms - 1) * outputs * _ELEMENTWISE


def _pixels(value: Value) -> int:
    """How many pixels an image has, as far as that is known."""
    shape = value.shape or ()
    return max(1, math.prod(size if isinstance(size, int) else _OPEN for size in (*shape[:1], *shape[2:])))


def _term(conv: Convolution, parts: list[_Part], bias: Value | None, rewrite: Rewriter) -> Value:
    """The convolution of some parts, which are resized afterwards where it is one to be resized."""
    weight = np.concatenate([conv.weight.array[:, part.channels] for part in parts], axis=1)
    resizing = parts[0].resizing
    values = [part.value for part in parts] if resizing is None else [resizing.source]
    source = values[0] if len(values) == 1 else rewrite.op("Concat", values, {"axis": 1})
    operands = [source, rewrite.constant(Tensor.from_array(weight, conv.weight.dtype)), *([] if bias is None else [bias])]
    made = rewrite.op("Conv", operands, dict(conv.op.attributes))
    return made if resizing is None else resizing.again(made, conv.outputs, rewrite)


@rule(*AFFINE, contract=Contract.REASSOCIATING)
def affine_after_enlarging(op: Op, rewrite: Rewriter) -> Value | No:
    """s * x + t per channel of an enlarged convolution is done before the Resize, where the convolution absorbs it."""
    index = next((i for i, v in enumerate(op.operands[:2]) if v is not None and v.op is not None and v.op.is_a("Resize")), None)
    if index is None or not op.needed(index).has_one_use:
        return No("it is not done to what a Resize makes that only it uses")
    resizing = resizing_of(op.needed(index).op, rewrite)
    if isinstance(resizing, No):
        return resizing
    maker = resizing.source.op
    if maker is None or not maker.is_a(*CONVOLUTIONS) or not resizing.source.has_one_use:
        return No("what is resized is no convolution that only it uses", 2)
    conv = convolution_of(maker)
    if isinstance(conv, No):
        return conv
    step = step_of(op, conv.rank, 1 - conv.rank, conv.outputs)
    if isinstance(step, No):
        return step
    if resizing.growth < 1:
        return No("the Resize makes fewer pixels", 3)
    operands = [*op.operands[:index], resizing.source, *op.operands[index + 1 :]]
    return resizing.again(rewrite.op(op.name, operands, dict(op.attributes)), conv.outputs, rewrite)


@dataclass(frozen=True)
class _Image:
    """A product whose columns are the channels of an image, and the moves that make it, with where the channels then are."""

    product: Product
    moves: tuple[tuple[Op, int], ...]


@rule("Conv", contract=Contract.REASSOCIATING)
def pointwise_after_product(op: Op, rewrite: Rewriter) -> Value | No:
    """A 1x1 convolution of an image made of x @ v + a is an image of x @ (v @ w) + (a @ w + b), where infinities cannot cancel.

    Where x holds an infinity, x @ v may hold two of opposite signs, whose sum is NaN.
    """
    if op.operand(0) is None or not op.needed(0).has_one_use:
        return No("its input has several users")
    conv = _pointwise_of(op)
    if isinstance(conv, No):
        return conv
    image = _image_of(op.needed(0), rewrite)
    if isinstance(image, No):
        return image
    product = image.product
    if len(product.weight.shape) != 2 or product.op.integer("transA", 0) or product.columns != conv.inputs:
        return No("its channels are not the columns of a product of matrices", 2)
    if product.inner * conv.outputs > product.weight.size + conv.weight.size:
        return No("one would multiply more than both", 2)
    if not never_infinite(product.source):
        return No("what is multiplied may hold infinities", 2)
    outer = conv.weight.array.astype(np.float64).reshape(conv.outputs, conv.inputs).T
    matrix = product.matrix @ outer
    weight = rounded(matrix.T if product.transposed else matrix, product.weight.dtype)
    own = None if product.bias is None else np.broadcast_to(product.bias, (product.columns,)) @ outer
    made = _multiplied(product, weight, plus(own, conv.bias), conv.outputs, rewrite)
    if isinstance(made, No):
        return made
    for move, axis in image.moves:
        made = _again(move, made, axis, conv.outputs, rewrite)
    return made


def _multiplied(product: Product, weight: Tensor | No, bias: Floats | None, columns: int, rewrite: Rewriter) -> Value | No:
    """The product with another weight, stored as before, and a bias for each of its columns."""
    vector = None if bias is None else bias_of(bias, columns, product.weight.dtype)
    if isinstance(weight, No) or isinstance(vector, No):
        return weight if isinstance(weight, No) else No("a bias is not finite", 2)
    operands = [product.source, rewrite.constant(weight)]
    if product.op.is_a("Gemm"):
        attributes: dict[str, Attribute] = {"transB": 1} if product.transposed else {}
        return rewrite.op("Gemm", [*operands, *([] if vector is None else [rewrite.constant(vector)])], attributes)
    made = rewrite.op("MatMul", operands)
    return made if vector is None else rewrite.op("Add", [made, rewrite.constant(vector)])


def _image_of(value: Value, rewrite: Rewriter) -> _Image | No:
    """The product of rows that a value with channels in its second dim is made of by moving dims, each used once."""
    moves: list[tuple[Op, int]] = []
    axis = 1
    while value.op is not None and value.has_one_use and value.op.is_a("Transpose", "Reshape") and len(moves) < _DEEPEST:
        moves.append((value.op, axis))
        inner = _axis_before(value.op, axis, rewrite)
        if inner is None:
            return No("its channels are mixed with something else")
        axis, value = inner, value.op.needed(0)
    if value.op is None or not value.has_one_use or not value.op.is_a(*PRODUCTS, "Add") or not moves:
        return No("it is not made of a product that only it uses")
    if value.shape is None or axis != len(value.shape) - 1:
        return No("its channels are no columns", 2)
    found = biased_product_of(value.op)
    return found if isinstance(found, No) else _Image(found, tuple(reversed(moves)))


def _axis_before(move: Op, axis: int, rewrite: Rewriter) -> int | None:
    """Where a dim behind a Transpose or Reshape was in front of it, whole and by itself; None where that is not known."""
    before, after = move.needed(0).shape, move.result.shape
    if before is None or after is None:
        return None
    if move.is_a("Transpose"):
        return (move.integers("perm") or range(len(before) - 1, -1, -1))[axis]
    if sum(not isinstance(dim, int) for dim in after) > 1 or 0 in after:
        return None
    around = _around(after, axis)
    return next((index for index in range(len(before)) if rewrite.same_dims(around, _around(before, index))), None)


def _around(shape: Sequence[Dim], axis: int) -> tuple[Dim, Dim, Dim]:
    """How many elements there are in front of a dim, in it and behind it."""
    return dims.product(shape[:axis]), shape[axis], dims.product(shape[axis + 1 :])


def _again(move: Op, value: Value, axis: int, channels: int, rewrite: Rewriter) -> Value:
    """A Transpose or Reshape with so many channels."""
    if move.is_a("Transpose"):
        return rewrite.op("Transpose", [value], dict(move.attributes))
    sizes: list[Dim] = list(move.result.shape or ())
    sizes[axis] = channels
    target = np.array([size if isinstance(size, int) else -1 for size in sizes], np.int64)
    return rewrite.op("Reshape", [value, rewrite.constant(Tensor.from_array(target))])


RULES: tuple[Rule, ...] = (
    *interpolation.RULES,
    behind(pointwise_after_enlarging, "Resize"),
    behind(reducing_after_pointwise, "Conv"),
    behind(pointwise_of_enlarged_parts, "Concat"),
    behind(affine_after_enlarging, "Resize"),
    behind(pointwise_after_product, "Reshape", "Transpose"),
)

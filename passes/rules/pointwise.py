"""What treats each pixel alike (1x1 convolutions, affine steps, Relu), moved across Resize and Concat to where pixels are fewest.

Law: interpolation is a sum of pixels whose factors are the same in all channels and add up to 1, so it commutes with what is
affine in the channels, bias included. Both orders add the same products of three factors, so NaN and infinities stay where
they are: a factor of 0 makes NaN of an infinity in either. Nothing moves to where that is more work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from irc.ir import Dim, DType, Op, Tensor, Value, dims

from ..base import Contract
from ..rewriter import No, Rewriter, Rule, rule
from .affine import AFFINE, behind, copies_too_much, dtype_of, never_infinite, plus, rounded, step_of
from .convolutions import CONVOLUTIONS, Convolution, convolution_of
from .matmuls import PRODUCTS, Product, biased_product_of
from .matmuls import rebuilt as product_again

# What an element costs in multiplications of a convolution, measured with ONNX Runtime on two threads.
_RESIZE = {"nearest": 4.0, "linear": 32.0, "cubic": 2048.0}
_ELEMENTWISE = 8.0
_COPY = 4.0
_SAME_EVERYWHERE = ("Relu", "LeakyRelu", "Clip", "Abs", "Neg")
"""What IEEE 754 rounds correctly or not at all, so that its bits do not depend on the place."""


@dataclass(frozen=True)
class Resizing:
    """A Resize of all dims but batch and channels; `growth` is how many pixels of the result there are for each of its input."""

    op: Op
    growth: float

    @property
    def source(self) -> Value:
        """What is resized."""
        return self.op.needed(0)

    @property
    def cost(self) -> float:
        """What an element of its result costs."""
        return _RESIZE[self.op.string("mode", "nearest")]

    def again(self, value: Value, channels: int, rewrite: Rewriter) -> Value:
        """The same Resize of an image of the same size with so many channels."""
        operands = [value, *self.op.operands[1:]]
        sizes = self.op.constant_operand(3)
        if sizes is not None and self.op.integers("axes") is None and int(sizes.array[1]) != channels:
            array = sizes.array.copy()
            array[1] = channels
            operands[3] = rewrite.constant(Tensor.from_array(array))
        return rewrite.op("Resize", operands, dict(self.op.attributes))


def resizing_of(value: Value, rewrite: Rewriter) -> Resizing | No:
    """The Resize that makes a value which has one use, if it interpolates between pixels of one channel only."""
    op = value.op
    if op is None or not op.is_a("Resize") or not value.has_one_use:
        return No("its input is no Resize that only it uses")
    if op.string("mode", "nearest") not in _RESIZE or op.string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return No("the Resize puts in numbers of its own", 2)
    if op.integer("antialias", 0) or op.integer("exclude_outside", 0):
        return No("the Resize chooses its factors anew for each pixel", 2)
    if op.string("keep_aspect_ratio_policy", "stretch") != "stretch" or op.operand(1) is not None:
        return No("the Resize has a region or keeps proportions", 2)
    before, after = op.needed(0).shape, value.shape
    if before is None or after is None or len(before) < 3:
        return No("the Resize is not known to be of an image", 2)
    if not _keeps_channels(op, len(before), rewrite):
        return No("the Resize is not known to keep batch and channels", 2)
    growth = _growth(op, before[2:], after[2:])
    return No("how many pixels the Resize makes is not known", 2) if growth is None else Resizing(op, growth)


def _keeps_channels(op: Op, rank: int, rewrite: Rewriter) -> bool:
    axes = op.integers("axes")
    if axes is not None:
        return all(axis % rank >= 2 for axis in axes)
    scales = op.constant_operand(2)
    if scales is not None and scales.size == rank:
        return bool((scales.array[:2] == 1).all())
    before, after = op.needed(0).shape, op.result.shape
    if op.constant_operand(3) is None or before is None or after is None:
        return False
    return rewrite.same_dims(before[:2], after[:2])


def _growth(op: Op, before: tuple[Dim, ...], after: tuple[Dim, ...]) -> float | None:
    sizes = [dims.product(shape) for shape in (before, after)]
    if isinstance(sizes[0], int) and isinstance(sizes[1], int):
        return sizes[1] / sizes[0] if sizes[0] else None
    scales = op.constant_operand(2)
    return None if scales is None or not scales.size else float(np.prod(scales.array.astype(np.float64)))


def _pointwise_of(op: Op) -> Convolution | No:
    """A 1x1 convolution with a weight at hand."""
    conv = convolution_of(op)
    if isinstance(conv, No):
        return conv
    return conv if conv.is_pointwise else No("it is not pointwise", 2)


@rule("Resize")
def resize_to_same_size(op: Op, rewrite: Rewriter) -> Value | No:
    """Resizing an image to the size it has is the image: every pixel lies on one of its input.

    In exact interpolation the other pixels count 0 times, which would make NaN beside an infinity. The reference copies.
    """
    if op.string("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return No("it resizes a region")
    if op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return No("it keeps proportions")
    scales = op.constant_operand(2)
    if op.operand(2) is not None and (scales is None or not bool((scales.array == 1).all())):
        return No("it does not resize by 1")
    if not rewrite.same_type(op.needed(0), op.result):
        return No("its size is not provably its input's")
    return op.needed(0)


@rule("Resize")
def nearest_of_nearest(op: Op, rewrite: Rewriter) -> Value | No:
    """Pixels repeated m times and then n times are repeated m * n times."""
    inner = op.needed(0).op
    if inner is None or not inner.is_a("Resize") or not op.needed(0).has_one_use:
        return No("its input is no Resize that only it uses")
    first, second = _repeats(inner), _repeats(op)
    if first is None or second is None:
        return No("not both repeat pixels a whole number of times", 2)
    factors = [a * b for a, b in zip(first, second, strict=True)]
    scales = rewrite.constant(Tensor.from_array(np.array(factors, np.float32)))
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return rewrite.op("Resize", [inner.operand(0), None, scales], dict(attributes))


def _repeats(op: Op) -> list[int] | None:
    """How often a Resize repeats the elements of each dim, behind each other; None where it does something else.

    Element i is taken from floor(i / n), and so it is where i + 1/2 is divided, 1/2 subtracted, and the rest rounded.
    """
    places = (op.string("coordinate_transformation_mode", "half_pixel"), op.string("nearest_mode", "round_prefer_floor"))
    rounding = ("round_prefer_floor", "round_prefer_ceil")
    if places != ("asymmetric", "floor") and not (places[0] == "half_pixel" and places[1] in rounding):
        return None
    if op.string("mode", "nearest") != "nearest" or op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    before, after, scales = op.needed(0).shape, op.result.shape, op.constant_operand(2)
    if before is None or after is None or op.integers("axes") is not None:
        return None
    if scales is not None and scales.size == len(before):
        found = [float(s) for s in scales.array]
    elif op.operand(2) is None and op.constant_operand(3) is not None:
        known = [(a, b) for a, b in zip(before, after, strict=True) if isinstance(a, int) and isinstance(b, int) and a]
        found = [b / a for a, b in known]
    else:
        return None
    whole = len(found) == len(before) and all(f >= 1 and f == int(f) for f in found)
    return [int(f) for f in found] if whole else None


@rule("Conv", contract=Contract.REASSOCIATING)
def pointwise_after_enlarging(op: Op, rewrite: Rewriter) -> Value | No:
    """A 1x1 convolution of an enlarged image is the enlarged convolution of the image, bias included."""
    resizing = resizing_of(op.needed(0), rewrite)
    if isinstance(resizing, No):
        return resizing
    conv = _pointwise_of(op)
    if isinstance(conv, No):
        return conv
    if resizing.growth <= 1:
        return No("the Resize makes no more pixels", 2)
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
    # The rules for a Resize are those for one in front of an op, which has to be its only user.
    resizing = resizing_of(op.result, rewrite) if op.result.has_one_use else No("its result has several users", 2)
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
    if _gain(parts, conv.inputs, outputs) <= 0:
        return No("convolving the parts is more work", 2)
    enlarged = [part for part in parts if part.resizing is not None]
    rest = [part for part in parts if part.resizing is None]
    terms = [_term(conv, [part], rewrite, with_bias=not rest and part is enlarged[0]) for part in enlarged]
    # The convolution that is not resized comes last: engines add to it as they compute it.
    terms += [_term(conv, rest, rewrite, with_bias=True)] if rest else []
    return reduce(lambda total, term: rewrite.op("Add", [total, term]), terms)


def _outputs_of_users(value: Value) -> int | None:
    """How many channels the 1x1 convolutions make that use a value; None where something else uses it."""
    total = 0
    for use in value.uses:
        found = convolution_of(use.op) if isinstance(use.op, Op) and use.op.is_a("Conv") and use.index == 0 else None
        if not isinstance(found, Convolution) or not found.is_pointwise:
            return None
        total += found.outputs
    return None if value.is_output else total


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
        found = resizing_of(value, rewrite)
        usable = isinstance(found, Resizing) and found.growth > 1
        parts.append(_Part(value, slice(start, start + width), found if usable else None))
        start += width
    if start != conv.inputs or all(part.resizing is None for part in parts):
        return No("no part is enlarged", 2)
    return parts


def _gain(parts: list[_Part], inputs: int, outputs: int) -> float:
    """How many multiplications less a pixel costs."""
    rest = [part for part in parts if part.resizing is None]
    before, after = outputs * inputs + inputs * _COPY, outputs * _ELEMENTWISE
    for part in parts:
        if part.resizing is not None:
            before += part.width * part.resizing.cost
            after += outputs * (part.width / part.resizing.growth + part.resizing.cost)
        else:
            after += part.width * (outputs + (_COPY if len(rest) > 1 else 0))
    terms = len(parts) - len(rest) + min(len(rest), 1)
    return before - after - (terms - 1) * outputs * _ELEMENTWISE


def _term(conv: Convolution, parts: list[_Part], rewrite: Rewriter, *, with_bias: bool) -> Value:
    """The convolution of some parts, which are resized afterwards where it is one to be resized."""
    weight = np.concatenate([conv.weight.array[:, part.channels] for part in parts], axis=1)
    resizing = parts[0].resizing
    values = [part.value for part in parts] if resizing is None else [resizing.source]
    source = values[0] if len(values) == 1 else rewrite.op("Concat", values, {"axis": 1})
    bias = [conv.op.operand(2)] if with_bias and conv.op.operand(2) is not None else []
    operands = [source, rewrite.constant(Tensor.from_array(weight, conv.weight.dtype)), *bias]
    made = rewrite.op("Conv", operands, dict(conv.op.attributes))
    return made if resizing is None else resizing.again(made, conv.outputs, rewrite)

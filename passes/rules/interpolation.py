"""What a Resize does to an image, and the Resizes that are nothing, each other's sequel, or better done later.

Law: only the sizes of dims are looked at that are proved; batch and channels stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import Dim, Op, Tensor, Value, dims

from ..rewriter import No, Rewriter, Rule, rule
from .affine import behind

_COST = {"nearest": 4.0, "linear": 32.0, "cubic": 2048.0}
"""What an element costs in multiplications of a convolution, measured with ONNX Runtime on two threads."""
_SAME_EVERYWHERE = ("Relu", "LeakyRelu", "Abs", "Neg", "Clip")
"""What is done to one element at a time, and has the same bits wherever it stands."""


@dataclass(frozen=True)
class Resizing:
    """A Resize of all dims but batch and channels, and how many pixels it makes of one: `growth`."""

    op: Op
    growth: float

    @property
    def source(self) -> Value:
        """What is resized."""
        return self.op.needed(0)

    @property
    def cost(self) -> float:
        """What an element of its result costs."""
        return _COST[self.op.string("mode", "nearest")]

    def again(self, value: Value, channels: int, rewrite: Rewriter) -> Value:
        """The same Resize of an image of the same size with so many channels."""
        operands = [value, *self.op.operands[1:]]
        sizes = self.op.constant_operand(3)
        if sizes is not None and self.op.integers("axes") is None and int(sizes.array[1]) != channels:
            array = sizes.array.copy()
            array[1] = channels
            operands[3] = rewrite.constant(Tensor.from_array(array))
        return rewrite.op("Resize", operands, dict(self.op.attributes))


def resizing_of(op: Op | None, rewrite: Rewriter) -> Resizing | No:
    """An op, if it is a Resize that interpolates between pixels of one channel only."""
    if op is None or not op.is_a("Resize"):
        return No("its input is no Resize")
    if op.string("mode", "nearest") not in _COST or op.string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return No("the Resize puts in numbers of its own", 2)
    if op.integer("antialias", 0) or op.integer("exclude_outside", 0):
        return No("the Resize chooses its factors anew for each pixel", 2)
    if op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        return No("the Resize keeps proportions", 2)
    before, after = op.needed(0).shape, op.result.shape
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


@rule("Resize", over=["Resize"])
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


@rule(*_SAME_EVERYWHERE)
def pixelwise_after_repeating(op: Op, rewrite: Rewriter) -> Value | No:
    """What is done to pixels that were repeated is done to fewer before."""
    if not op.needed(0).has_one_use:
        return No("its input has several users")
    resizing = resizing_of(op.needed(0).op, rewrite)
    if isinstance(resizing, No):
        return resizing
    if resizing.op.string("mode", "nearest") != "nearest":
        return No("the Resize computes with its pixels", 2)
    if resizing.growth <= 1 or any(operand is not None and operand.shape != () for operand in op.operands[1:]):
        return No("the Resize makes no more pixels", 2)
    made = rewrite.op(op.name, [resizing.source, *op.operands[1:]], dict(op.attributes))
    return rewrite.op("Resize", [made, *resizing.op.operands[1:]], dict(resizing.op.attributes))


RULES: tuple[Rule, ...] = (
    behind(nearest_of_nearest, "Resize"),
    behind(pixelwise_after_repeating, "Resize"),
)

"""Convolutions that absorb what is more than one step away: affine steps behind moved dims, other convolutions, flat dims.

Law: borders of zeros stay what they were. What absorbs a step right before or behind it stands in `convolutions.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import Op, Tensor, Value

from ..base import Contract
from ..language.functions import is_unpadded
from ..precise import FLOATS, Floats, bias_of, copies_too_much, rounded
from ..rewriter import No, Rewriter, Rule, rule
from . import pads
from .affine import AFFINE, behind, never_infinite, plus, step_of
from .layout import MOVES, Moved, look_through, moves_behind

CONVOLUTIONS = ("Conv", "ConvTranspose")


@dataclass(frozen=True)
class Convolution:
    """A Conv or ConvTranspose with constant weight and bias, and the sizes of its channels."""

    op: Op
    weight: Tensor
    bias: Floats | None
    group: int

    @property
    def rank(self) -> int:
        """The number of dims of its input, its weight and its result."""
        return len(self.weight.shape)

    @property
    def inputs(self) -> int:
        """The channels of its input."""
        return self.weight.shape[0] if self.op.name == "ConvTranspose" else self.weight.shape[1] * self.group

    @property
    def outputs(self) -> int:
        """The channels of its result."""
        return self.weight.shape[1] * self.group if self.op.name == "ConvTranspose" else self.weight.shape[0]

    @property
    def kernel(self) -> tuple[int, ...]:
        """The spatial size of its kernel."""
        return self.weight.shape[2:]

    @property
    def is_pointwise(self) -> bool:
        """Whether each element of the result is a function of one pixel, and each pixel has one."""
        single = all(size == 1 for size in self.kernel) and all(step == 1 for step in self.op.integers("strides") or ())
        return single and self.group == 1 and (self.op.string("auto_pad", "NOTSET") != "NOTSET" or is_unpadded(self.op))


def convolution_of(op: Op) -> Convolution | No:
    """A convolution whose constants are at hand."""
    weight, bias = op.constant_operand(1), op.constant_operand(2)
    if weight is None or weight.dtype not in FLOATS or len(weight.shape) < 3:
        return No("its weight is not constant")
    if op.operand(2) is not None and bias is None:
        return No("its bias is not constant")
    group = op.integer("group", 1)
    if group < 1 or weight.shape[0] % group or not weight.size:
        return No("its groups do not fit its weight")
    return Convolution(op, weight, None if bias is None else bias.array.astype(np.float64), group)


@rule(*AFFINE, contract=Contract.REASSOCIATING)
def affine_before_moves(op: Op, rewrite: Rewriter) -> Value | No:
    """What is done to each channel of a convolution whose dims have been moved is done before, where it absorbs it."""
    moved = _convolution_behind(op)
    if moved is None:
        return No("no operand is a moved convolution that only it uses")
    conv = convolution_of(moved.maker)
    if isinstance(conv, No):
        return conv
    rank = len(moved.axes)
    step = step_of(op, rank, moved.axes.index(1) - rank, conv.outputs)
    if isinstance(step, No):
        return step
    if step.scale is not None and copies_too_much(moved.maker):
        return No("its weight is large and others use it too")
    operands = list(op.operands)
    operands[operands.index(step.operand)] = moved.source
    if not op.is_a("BatchNormalization"):
        operands = [_on_channels(operand, conv, rewrite) for operand in operands]
    return moved.again(rewrite.op(op.name, operands, dict(op.attributes)), rewrite)


def _on_channels(operand: Value | None, conv: Convolution, rewrite: Rewriter) -> Value | None:
    """A constant that varies along channels, shaped to be broadcast to what a convolution makes; other values as they are."""
    constant = None if operand is None else operand.constant
    if constant is None:
        return operand
    shape = () if constant.size == 1 else (constant.size, *[1] * (conv.rank - 2))
    return rewrite.constant(Tensor.from_array(constant.array.reshape(shape), constant.dtype))


def _convolution_behind(op: Op) -> Moved | None:
    """The convolution whose result, moved, is an operand that nothing else uses."""
    for operand in op.operands:
        if operand is not None and operand.has_one_use:
            moved = look_through(operand, CONVOLUTIONS)
            if moved is not None and moved.moves and 1 in moved.axes:
                return moved
    return None


@rule("Conv", contract=Contract.REASSOCIATING)
def convolution_of_convolution(op: Op, rewrite: Rewriter) -> Value | No:
    """Two convolutions with nothing between, one of them 1x1, are one, where that multiplies less and infinities cannot cancel.

    v * (w * x + a) + b = (v * w) * x + (v * a + b). Where x holds an infinity, w * x may hold two of opposite signs.
    """
    maker = op.needed(0).op
    if maker is None or not maker.is_a("Conv") or not op.needed(0).has_one_use:
        return No("its input is no Conv that only it uses")
    first, second = convolution_of(maker), convolution_of(op)
    if isinstance(first, No):
        return first
    if isinstance(second, No):
        return second
    if not (first.group == second.group == 1 and first.outputs == second.inputs):
        return No("they have groups")
    if not never_infinite(maker.needed(0)):
        return No("its input may hold infinities")
    if second.is_pointwise:
        return _pointwise_behind(first, second, rewrite)
    if first.is_pointwise:
        return _pointwise_in_front(first, second, rewrite)
    return No("neither is pointwise")


def _pointwise_behind(first: Convolution, second: Convolution, rewrite: Rewriter) -> Value | No:
    if second.outputs * (first.weight.size // first.outputs) > first.weight.size + second.weight.size:
        return No("one would multiply more than both")
    outer = second.weight.array.astype(np.float64).reshape(second.outputs, -1)
    weight = np.tensordot(outer, first.weight.array.astype(np.float64), axes=(1, 0))
    bias = None if first.bias is None else outer @ first.bias
    operands = _constants(weight, plus(bias, second.bias), first, second.outputs, rewrite)
    if isinstance(operands, No):
        return operands
    return rewrite.op("Conv", [first.op.operand(0), *operands], dict(first.op.attributes))


def _pointwise_in_front(first: Convolution, second: Convolution, rewrite: Rewriter) -> Value | No:
    if first.inputs > first.outputs:
        return No("one would multiply more than both")
    if first.bias is not None and first.bias.any() and not is_unpadded(second.op):
        return No("zeros are put around a bias")
    inner = first.weight.array.astype(np.float64).reshape(first.outputs, first.inputs)
    outer = second.weight.array.astype(np.float64)
    weight = np.moveaxis(np.tensordot(outer, inner, axes=(1, 0)), -1, 1)
    bias = None if first.bias is None else outer.reshape(*outer.shape[:2], -1).sum(axis=2) @ first.bias
    operands = _constants(weight, plus(bias, second.bias), second, second.outputs, rewrite)
    if isinstance(operands, No):
        return operands
    return rewrite.op("Conv", [first.op.operand(0), *operands], dict(second.op.attributes))


@rule("Squeeze", contract=Contract.REASSOCIATING)
def convolution_of_flat_image(op: Op, rewrite: Rewriter) -> Value | No:
    """A convolution along a dim of size 1, which was put in front of it and is taken away behind it, does without that dim."""
    maker, axes = op.needed(0).op, op.constant_operand(1)
    if maker is None or not maker.is_a("Conv") or not op.needed(0).has_one_use or axes is None:
        return No("its input is no Conv that only it uses")
    conv = convolution_of(maker)
    if isinstance(conv, No):
        return conv
    flat = {int(a) % conv.rank for a in axes.to_list()}
    moved = moves_behind(maker.needed(0))
    if moved is None or len(moved.axes) != conv.rank or {i for i, axis in enumerate(moved.axes) if axis is None} != flat:
        return No("no Unsqueeze put in what it takes away")
    if min(flat) < 2 or len(flat) > conv.rank - 3 or any(conv.weight.shape[a] != 1 for a in flat):
        return No("it takes away a dim that the convolution goes along")
    if maker.string("auto_pad", "NOTSET") != "NOTSET":
        return No("it chooses its padding itself")
    places = range(conv.rank - 2)
    gone, attributes = [p + 2 in flat for p in places], dict(maker.attributes)
    pads = maker.integers("pads") or (0,) * (2 * len(gone))
    if any(amount for amount, is_gone in zip(pads, gone * 2, strict=True) if is_gone):
        return No("it pads a dim that is taken away")
    for name in ("kernel_shape", "strides", "dilations"):
        if name in attributes:
            attributes[name] = tuple(v for v, is_gone in zip(maker.integers(name) or (), gone, strict=True) if not is_gone)
    attributes["pads"] = tuple(v for v, is_gone in zip(pads, gone * 2, strict=True) if not is_gone)
    weight = conv.weight.array.reshape([size for index, size in enumerate(conv.weight.shape) if index not in flat])
    order = [axis for axis in moved.axes if axis is not None]
    source = moved.source if order == sorted(order) else rewrite.op("Transpose", [moved.source], {"perm": tuple(order)})
    operands = [source, rewrite.constant(Tensor.from_array(weight, conv.weight.dtype)), *maker.operands[2:]]
    return rewrite.op("Conv", operands, attributes)


def _constants(
    weight: Floats, bias: Floats | None, like: Convolution, outputs: int, rewrite: Rewriter
) -> tuple[Value, ...] | No:
    """A weight, and a bias where there is one, in the dtype of another convolution's."""
    tensor = rounded(weight, like.weight.dtype)
    if isinstance(tensor, No):
        return tensor
    if bias is None:
        return (rewrite.constant(tensor),)
    vector = bias_of(bias, outputs, like.weight.dtype)
    return vector if isinstance(vector, No) else (rewrite.constant(tensor), rewrite.constant(vector))


RULES: tuple[Rule, ...] = (
    behind(affine_before_moves, *MOVES),
    behind(convolution_of_convolution, "Conv"),
    behind(convolution_of_flat_image, "Conv"),
    *pads.RULES,
)

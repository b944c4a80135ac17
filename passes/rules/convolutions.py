"""Convolutions that absorb what stands before and behind them: affine steps per channel, padding, other convolutions.

Law: borders of zeros stay what they were. A factor in front of a convolution may pass a border, because 0 times it is 0; a
term may not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import Op, Tensor, Value

from ..base import Contract
from ..rewriter import No, Rewriter, Rule, rule
from . import pads
from .affine import (
    AFFINE,
    FLOATS,
    Floats,
    behind,
    bias_of,
    copies_too_much,
    never_infinite,
    plus,
    rounded,
    scaled,
    step_of,
    times,
)
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

    def along_outputs(self, numbers: Floats | None) -> Floats | None:
        """Numbers for each channel of the result, shaped to broadcast to the weight."""
        transposed = self.op.name == "ConvTranspose"
        return self._in_groups(numbers) if transposed else self._by_rows(numbers)

    def along_inputs(self, numbers: Floats | None) -> Floats | None:
        """Numbers for each channel of the input, shaped to broadcast to the weight."""
        transposed = self.op.name == "ConvTranspose"
        return self._by_rows(numbers) if transposed else self._in_groups(numbers)

    def _by_rows(self, numbers: Floats | None) -> Floats | None:
        return None if numbers is None else numbers.reshape(-1, *[1] * (self.rank - 1))

    def _in_groups(self, numbers: Floats | None) -> Floats | None:
        """The second dim of the weight counts channels within the group that the first dim belongs to."""
        if numbers is None or numbers.size == 1:
            return numbers
        rows = np.repeat(numbers.reshape(self.group, -1), self.weight.shape[0] // self.group, axis=0)
        return rows.reshape(*rows.shape, *[1] * (self.rank - 2))

    @property
    def kernel(self) -> tuple[int, ...]:
        """The spatial size of its kernel."""
        return self.weight.shape[2:]

    @property
    def is_unpadded(self) -> bool:
        """Whether it reads nothing outside its input."""
        auto = self.op.string("auto_pad", "NOTSET")
        return auto == "VALID" or (auto == "NOTSET" and not any(self.op.integers("pads") or ()))

    @property
    def is_pointwise(self) -> bool:
        """Whether each element of the result is a function of one pixel, and each pixel has one."""
        single = all(size == 1 for size in self.kernel) and all(step == 1 for step in self.op.integers("strides") or ())
        auto = self.op.string("auto_pad", "NOTSET")
        return single and self.group == 1 and (auto != "NOTSET" or not any(self.op.integers("pads") or ()))


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


def rebuilt(conv: Convolution, source: Value | None, weight: Tensor | No, bias: Floats | None, rewrite: Rewriter) -> Value | No:
    """The convolution with another input, weight and bias, or why there is none."""
    if isinstance(weight, No):
        return weight
    operands = [source, conv.op.operand(1) if weight is conv.weight else rewrite.constant(weight)]
    if bias is not None:
        vector = bias_of(bias, conv.outputs, weight.dtype)
        if isinstance(vector, No):
            return vector
        operands.append(rewrite.constant(vector))
    return rewrite.op(conv.op.name, operands, dict(conv.op.attributes))


@rule(*AFFINE, contract=Contract.REASSOCIATING)
def affine_after_convolution(op: Op, rewrite: Rewriter) -> Value | No:
    """s * (conv(x, w) + b) + t = conv(x, s * w) + (s * b + t), with s and t per channel: BatchNorm, Mul, Div, Add, Sub, Neg."""
    moved = _convolution_behind(op)
    if moved is None:
        return No("no operand is a convolution that only it uses")
    conv = convolution_of(moved.maker)
    if isinstance(conv, No):
        return conv
    rank = len(moved.axes) if moved.moves else conv.rank
    axis = moved.axes.index(1) if moved.moves else 1
    step = step_of(op, rank, axis - rank, conv.outputs)
    if isinstance(step, No):
        return step
    if step.scale is not None and copies_too_much(moved.maker):
        return No("its weight is large and others use it too")
    bias = plus(None if conv.bias is None else times(conv.bias, step.scale), step.shift)
    weight = scaled(conv.weight, conv.along_outputs(step.scale))
    made = rebuilt(conv, moved.maker.operand(0), weight, bias, rewrite)
    return made if isinstance(made, No) else moved.again(made, rewrite)


def _convolution_behind(op: Op) -> Moved | None:
    """The convolution that makes an operand, perhaps with its dims moved, and that nothing else uses."""
    for operand in op.operands:
        if operand is not None and operand.has_one_use:
            moved = look_through(operand, CONVOLUTIONS)
            if moved is not None and (not moved.moves or 1 in moved.axes):
                return moved
    return None


@rule(*CONVOLUTIONS, contract=Contract.REASSOCIATING)
def affine_before_convolution(op: Op, rewrite: Rewriter) -> Value | No:
    """conv(s * x + t, w) = conv(x, s * w) + (the sum of w * t); where zeros are put around, t has to be 0."""
    maker = op.needed(0).op
    if maker is None or not maker.is_a(*AFFINE) or not op.needed(0).has_one_use:
        return No("its input is no affine step that only it uses")
    conv = convolution_of(op)
    if isinstance(conv, No):
        return conv
    step = step_of(maker, conv.rank, 1 - conv.rank, conv.inputs)
    if isinstance(step, No):
        return step
    shape = step.operand.shape
    if shape is None or len(shape) != conv.rank or shape[1] != conv.inputs:
        return No("the channels in front of it are not known")
    shift = None if step.shift is None or not step.shift.any() else conv.along_inputs(step.shift)
    if shift is not None and not (op.is_a("Conv") and conv.is_unpadded):
        return No("zeros are put around what is shifted")
    if step.scale is not None and copies_too_much(op):
        return No("its weight is large and others use it too")
    terms = None if shift is None else (conv.weight.array * shift).reshape(conv.outputs, -1).sum(axis=1)
    bias = plus(conv.bias, terms)
    return rebuilt(conv, step.operand, scaled(conv.weight, conv.along_inputs(step.scale)), bias, rewrite)


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
    if first.bias is not None and first.bias.any() and not second.is_unpadded:
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
    behind(affine_after_convolution, *CONVOLUTIONS, *MOVES),
    behind(affine_before_convolution, *AFFINE),
    behind(convolution_of_convolution, "Conv"),
    behind(convolution_of_flat_image, "Conv"),
    *pads.RULES,
)

"""Explicit padding moved into the convolution or pool behind it, where the exporters of mobile networks and Keras leave it.

Law: a border moves only where what the op puts around its input stands for the same: zeros for a convolution and for an
average that counts them, the lowest number for a maximum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import Attribute, Op, Tensor, Value

from ..base import Contract
from ..precise import SMALLEST
from ..rewriter import No, Rewriter, Rule, rule
from .affine import behind
from .layout import MOVES, Moved, look_through


@dataclass(frozen=True)
class Border:
    """What a Pad puts around the spatial dims of its input; `value` is None for zeros. `moved` are the moves behind it."""

    moved: Moved
    begin: tuple[int, ...]
    end: tuple[int, ...]
    value: Tensor | None

    @property
    def is_zero(self) -> bool:
        """Whether it is made of zeros, or of a number below all normal ones, such as the 1e-45 that paddle2onnx writes."""
        if self.value is None or not self.value.dtype.is_float:
            return self.value is None or not self.value.array.any()
        return bool((np.abs(self.value.array.astype(np.float64)) < SMALLEST[self.value.dtype]).all())

    @property
    def is_lowest(self) -> bool:
        """Whether it is made of the number that is never larger than another."""
        if self.value is None:
            return False
        array, dtype = self.value.array, self.value.dtype
        if dtype.is_float:
            return bool(np.isneginf(array).all())
        return dtype.is_integer and dtype.bits >= 8 and bool((array == np.iinfo(dtype.numpy.name).min).all())


def border_of(value: Value) -> Border | No:
    """The border around a value, where a Pad puts one constant around dims that are spatial behind the moves that follow."""
    moved = look_through(value, ("Pad",))
    if moved is None:
        return No("its input is no Pad")
    pad = moved.maker
    shape, amounts, number = pad.needed(0).shape, pad.constant_operand(1), pad.constant_operand(2)
    if shape is None or amounts is None or (pad.operand(3) is not None and pad.constant_operand(3) is None):
        return No("the axes and amounts of the Pad are not known")
    if pad.string("mode", "constant") != "constant" or (pad.operand(2) is not None and (number is None or number.size != 1)):
        return No("it does not pad with a constant")
    axes = pad.constant_operand(3)
    padded = list(range(len(shape))) if axes is None else [int(v) % len(shape) for v in axes.to_list()]
    numbers = [int(v) for v in amounts.to_list()]
    if len(numbers) != 2 * len(padded) or any(v < 0 for v in numbers):
        return No("the Pad crops")
    around = dict(zip(padded, zip(numbers, numbers[len(padded) :], strict=False), strict=True))
    outside = set(range(len(shape))) - set(moved.axes[2:])
    if len(moved.axes) < 3 or any(any(around.get(axis, (0, 0))) for axis in outside):
        return No("the Pad adds to the batch or the channels")
    spatial = [(0, 0) if axis is None else around.get(axis, (0, 0)) for axis in moved.axes[2:]]
    return Border(moved, tuple(b for b, _ in spatial), tuple(e for _, e in spatial), number)


def total_pads(op: Op, border: Border) -> tuple[int, ...] | No:
    """The amounts of the border and the op's own, as its attribute `pads` has them."""
    auto = op.string("auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID"):
        return No("it chooses its padding itself")
    own = (op.integers("pads") if auto == "NOTSET" else None) or (0,) * (2 * len(border.begin))
    if len(own) != 2 * len(border.begin):
        return No("its padding has another rank")
    return tuple(a + b for a, b in zip(own, (*border.begin, *border.end), strict=True))


def pads_itself(op: Op, border: Border, pads: tuple[int, ...], rewrite: Rewriter) -> Value:
    """The op on what the border was put around."""
    attributes: dict[str, Attribute] = {k: v for k, v in op.attributes.items() if k != "auto_pad"}
    if op.is_a("AveragePool"):
        attributes["count_include_pad"] = 1
    source = border.moved.again(border.moved.maker.needed(0), rewrite)
    return rewrite.op(op.name, [source, *op.operands[1:]], {**attributes, "pads": pads})


@rule("Conv", contract=Contract.REASSOCIATING)
def pad_into_conv(op: Op, rewrite: Rewriter) -> Value | No:
    """Conv(Pad(x, zeros)) pads by itself; an explicit zero times a finite weight is the term the convolution leaves out."""
    border = border_of(op.needed(0))
    if isinstance(border, No):
        return border
    if not border.is_zero:
        return No("the border is not zero")
    pads = total_pads(op, border)
    if isinstance(pads, No):
        return pads
    weight = op.constant_operand(1)
    if weight is None or not np.isfinite(weight.array).all():
        return No("its weight is not constant and finite")
    return pads_itself(op, border, pads, rewrite)


@rule("AveragePool", contract=Contract.REASSOCIATING)
def pad_into_average_pool(op: Op, rewrite: Rewriter) -> Value | No:
    """AveragePool(Pad(x, zeros)) divides by the whole window, and so does an AveragePool that counts its own padding."""
    border = border_of(op.needed(0))
    if isinstance(border, No):
        return border
    if not border.is_zero:
        return No("the border is not zero")
    pads = total_pads(op, border)
    if isinstance(pads, No):
        return pads
    if any(op.integers("pads") or ()) and not op.integer("count_include_pad", 0):
        return No("it does not count its own padding")
    if not _fits_windows(op, pads):
        return No("a window may lie in the border or reach beyond it")
    return pads_itself(op, border, pads, rewrite)


@rule("MaxPool", contract=Contract.REASSOCIATING)
def pad_into_max_pool(op: Op, rewrite: Rewriter) -> Value | No:
    """The lowest number around a maximum is what MaxPool puts there itself; zeros would be larger than what is negative.

    Zeros behind a Relu are no exception: a window of NaN and zeros is 0 to an engine whose maximum drops NaN.
    """
    border = border_of(op.needed(0))
    if isinstance(border, No):
        return border
    if not border.is_lowest:
        return No("the border may be larger than an element")
    if len(op.results) > 1:
        return No("the places of the largest are asked for, which count the border")
    pads = total_pads(op, border)
    if isinstance(pads, No):
        return pads
    if not _fits_windows(op, pads):
        return No("a window may lie in the border or reach beyond it")
    return pads_itself(op, border, pads, rewrite)


def _fits_windows(op: Op, pads: tuple[int, ...]) -> bool:
    """Whether every window holds an element that is no padding, and ends where the padding does."""
    kernel = op.integers("kernel_shape") or ()
    dilated = any(step != 1 for step in op.integers("dilations") or ())
    return not dilated and not op.integer("ceil_mode", 0) and all(p < k for p, k in zip(pads, (*kernel, *kernel), strict=True))


@rule("AveragePool", contract=Contract.REASSOCIATING)
def average_of_whole_image(op: Op, rewrite: Rewriter) -> Value | No:
    """An AveragePool whose one window covers the whole image is a GlobalAveragePool."""
    shape, kernel = op.needed(0).shape, op.integers("kernel_shape") or ()
    if shape is None or len(shape) != len(kernel) + 2:
        return No("its rank is not known")
    if op.string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(op.integers("pads") or ()):
        return No("it pads")
    if any(step != 1 for step in op.integers("dilations") or ()):
        return No("it leaves out pixels")
    slack = [None if not isinstance(dim, int) or dim < 1 else size - dim for dim, size in zip(shape[2:], kernel, strict=True)]
    if any(by is None or by < 0 for by in slack):
        return No("its window may be smaller than the image")
    if any(slack) and not op.integer("ceil_mode", 0):
        return No("its window is larger than the image")
    result = op.results[0].shape
    if result is None or any(dim != 1 for dim in result[2:]):
        return No("it has several windows")
    return rewrite.op("GlobalAveragePool", [op.operand(0)])


RULES: tuple[Rule, ...] = (
    behind(pad_into_conv, "Pad", *MOVES),
    behind(pad_into_average_pool, "Pad", *MOVES),
    behind(pad_into_max_pool, "Pad", *MOVES),
    average_of_whole_image,
)

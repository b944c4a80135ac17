"""Quantized graphs: what quantizing gives back, and what needs no dequantizing; nothing here changes a single step.

Quantizing and dequantizing again rounds, so only the other order cancels. QLinearConv and its kin stay what they are: their
kernels requantize with another rounding than the float ops between Q and DQ do, and may differ from those by a step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irc.ir import DType, Graph, Op, Tensor, TensorType, Value, clone_op, constant_op, evaluate_constants

from ..rewriter import No, Rewriter, Rule, rule

_EIGHT_BITS = (DType.I8, DType.U8)
_SMALL_INTEGERS = (DType.I8, DType.U8, DType.I16, DType.U16)
# Ops that copy elements of their first operand and depend on nothing in them; engines have all of them for 8 bits.
# MaxPool would be right, too, but pools integers at half the speed in ONNX Runtime.
_MOVEMENT = (
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Gather", "Expand", "Tile"),
    *("DepthToSpace", "SpaceToDepth"),
)
_LARGEST_CONSTANT = 1 << 26


@dataclass(frozen=True)
class Parameters:
    """The scale and zero point of a QuantizeLinear or DequantizeLinear, the dtype on its quantized side, and its axis."""

    scale: Tensor
    zero: Tensor | None
    dtype: DType
    axis: int

    @property
    def whole(self) -> bool:
        """Whether one scale serves all elements."""
        return self.scale.size == 1

    def same_as(self, other: Parameters) -> bool:
        """Whether both stand for the same numbers; an absent zero point is 0."""
        if self.dtype is not other.dtype or self.scale.shape != other.scale.shape or not self.scale.same_as(other.scale):
            return False
        if not self.whole and self.axis != other.axis:
            return False
        return bool((self.zeros == other.zeros).all())

    @property
    def zeros(self) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
        """The zero points as numbers, one or one for each scale."""
        if self.zero is None:
            return np.zeros(self.scale.shape, np.int64)
        return self.zero.array.astype(np.int64).reshape(self.scale.shape)

    @property
    def limits(self) -> tuple[int, int]:
        """The smallest and the largest number of the quantized dtype."""
        signed = self.dtype.text[0] == "i"
        return (-(2 ** (self.dtype.bits - 1)), 2 ** (self.dtype.bits - 1) - 1) if signed else (0, 2**self.dtype.bits - 1)


def parameters_of(op: Op | None, *names: str) -> Parameters | None:
    """How an op of one of `names` quantizes floats to small integers, or None for other ops and what is not plain."""
    if op is None or op.domain or not op.is_a(*names):
        return None
    scale, zero = op.constant_operand(1), op.constant_operand(2)
    side = op.results[0].type if op.is_a("QuantizeLinear") else op.needed(0).type
    other = op.needed(0).type if op.is_a("QuantizeLinear") else op.results[0].type
    if not isinstance(side, TensorType) or not isinstance(other, TensorType) or side.rank is None:
        return None
    if scale is None or (zero is None and op.operand(2) is not None) or (zero is not None and zero.size != scale.size):
        return None
    if (
        side.dtype not in _SMALL_INTEGERS
        or other.dtype is not DType.F32
        or scale.dtype is not DType.F32
        or len(scale.shape) > 1
    ):
        return None
    if op.integer("block_size", 0) or op.integer("precision", 0) or not _is_ordinary(scale):
        return None
    return Parameters(scale, zero, side.dtype, op.integer("axis", 1) % max(side.rank, 1))


def _is_ordinary(scale: Tensor) -> bool:
    """Whether scales are so far from overflow and underflow that (q * scale) / scale rounds to q."""
    return bool(scale.size) and bool(((scale.array > 2.0**-100) & (scale.array < 2.0**100)).all())


@rule("QuantizeLinear")
def move_quantized(op: Op, rewrite: Rewriter) -> Value | No:
    """What is dequantized, moved and quantized again as it was can be moved as it is."""
    chain: list[Op] = []
    maker = op.needed(0).op
    while maker is not None and maker.is_a(*_MOVEMENT) and _is_alone(maker):
        chain.append(maker)
        maker = maker.needed(0).op
    before = parameters_of(maker, "DequantizeLinear")
    if not chain or maker is None or before is None:
        return No("its input is nothing that is dequantized and only moved, for it alone")
    after = parameters_of(op, "QuantizeLinear")
    if after is None or not before.whole or not before.same_as(after) or before.dtype not in _EIGHT_BITS:
        return No("it does not quantize 8 bits with the one scale they were dequantized with")
    value = maker.needed(0)
    for moved in reversed(chain):
        value = rewrite.op(moved.name, [value, *moved.operands[1:]], dict(moved.attributes))
    return value


def _is_alone(op: Op) -> bool:
    """Whether an op's first result has one use and the others none."""
    return op.results[0].has_one_use and not any(result.uses for result in op.results[1:])


@rule("QuantizeLinear")
def concat_quantized(op: Op, rewrite: Rewriter) -> Value | No:
    """What is dequantized alike, put together and quantized again so can be put together as it is."""
    concat = op.needed(0).op
    if concat is None or not concat.is_a("Concat") or not concat.result.has_one_use:
        return No("its input is no Concat that only it uses")
    after = parameters_of(op, "QuantizeLinear")
    if after is None or not after.whole:
        return No("its scale is not one constant")
    parts: list[Value] = []
    for operand in concat.operands:
        inner = None if operand is None else operand.op
        before = parameters_of(inner, "DequantizeLinear")
        if inner is None or before is None or not before.same_as(after):
            return No("a part is not dequantized with the same scale")
        parts.append(inner.needed(0))
    return rewrite.op("Concat", parts, dict(concat.attributes))


@rule("QuantizeLinear")
def quantize_saturates(op: Op, rewrite: Rewriter) -> Value | No:
    """Quantizing saturates: a Relu or Clip whose bounds no quantized number exceeds changes nothing that is left."""
    inner, after = op.needed(0).op, parameters_of(op, "QuantizeLinear")
    if inner is None or not inner.is_a("Relu", "Clip") or not inner.result.has_one_use:
        return No("its input is no Relu or Clip that only it uses")
    if after is None or not after.whole:
        return No("its scale is not one constant")
    zero, scale = int(after.zeros.reshape(-1)[0]), float(after.scale.array.reshape(-1)[0])
    smallest, largest = ((limit - zero) * scale for limit in after.limits)
    low, high = (0.0, np.inf) if inner.is_a("Relu") else (_bound(inner, 1, -np.inf), _bound(inner, 2, np.inf))
    if low is None or high is None or low > smallest or high < largest:
        return No("a bound is not constant, or some quantized number exceeds it")
    return rewrite.op("QuantizeLinear", [inner.operand(0), *op.operands[1:]], dict(op.attributes))


def _bound(clip: Op, index: int, absent: float) -> float | None:
    if clip.operand(index) is None:
        return absent
    bound = clip.constant_operand(index)
    return None if bound is None or bound.size != 1 else float(bound.array.reshape(-1)[0])


@rule("QuantizeLinear")
def quantize_constant(op: Op, rewrite: Rewriter) -> Value | No:
    """A constant that is quantized is kept quantized; it is a quarter of the size."""
    data, after = op.constant_operand(0), parameters_of(op, "QuantizeLinear")
    if data is None or after is None or data.byte_count > _LARGEST_CONSTANT:
        return No("it quantizes no constant")
    graph = Graph("constant")
    values: dict[Value, Value] = {}
    for operand in op.operands:
        if operand is not None and operand.constant is not None:
            values[operand] = graph.append(constant_op(operand.constant, op.location)).result
    copy = clone_op(op, values)
    graph.append(copy)
    graph.add_output(copy.result, "quantized")
    return rewrite.constant(evaluate_constants(graph)[0])


RULES: tuple[Rule, ...] = (
    move_quantized,
    concat_quantized,
    quantize_saturates,
    quantize_constant,
)

"""Products with integer weights behind a DequantizeLinear: one kernel that reads the integers and never holds the weights.

MatMulNBits of com.microsoft wants the weights by columns, [columns, blocks, bytes of a block], two of 4 bits to a byte, the
lower first. It multiplies in f32 unless it may round data to 8 bits by block (`accuracy_level` 4), which is lossy. Measured on
one thread against MatMul in f32, for weights [768,3072] and [3072,768]:

    rows                             1            8            32
    4 bits in blocks of 32           0.67, 0.52   1.45, 1.30   1.14, 1.15
    the same, data of 8 bits         0.30, 0.18   0.63, 0.52   0.70, 0.70
    4 bits in blocks of 128, same    0.20, 0.12   0.46, 0.41   0.52, 0.48
    8 bits in blocks of 128, same    0.31, 0.17   0.57, 0.42   0.50, 0.47

So losses are taken where they are allowed: beside 4-bit weights they do not show (0.0776 of the result, not 0.0774), beside
8-bit weights the error is 0.009 in place of 0.006. In f32 the kernel has no way for 8 bits but to dequantize all weights in
each call, which takes 10 to 40 times as long. ONNX Runtime itself takes both losses, unasked, where it finds such products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from irc.ir import Attribute, DType, Op, Tensor, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import MICROSOFT, dtype_of, static_dims

Integers: TypeAlias = npt.NDArray[np.integer[Any]]

N_BITS = "com.microsoft::MatMulNBits"
BLOCKS = (16, 32, 64, 128, 256)
"""The numbers of weights in a block that the kernel takes."""
BLOCK_OF_COLUMN = 128
"""Where a whole column has one scale, it is said again for every block of so many."""
ON_INTEGERS = 4
"""The `accuracy_level` of integer arithmetic."""
_SHIFT = {DType.U4: 0, DType.I4: 8, DType.U8: 0, DType.I8: 128}


@dataclass(frozen=True)
class Blocks:
    """Weights [columns, rows] as integers from 0 on, with scales and zero points [columns, blocks] for blocks of `size` rows.

    `scales` are in f16 or f32.
    """

    bits: int
    size: int
    integers: Integers
    scales: Tensor
    zeros: Integers

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero points are what the kernel takes without being told."""
        return bool((self.zeros == 1 << self.bits - 1).all())


@rule("MatMul", "Gemm", contract=Contract.REASSOCIATING, over=("DequantizeLinear",))
def product_of_blocks(op: Op, rewrite: Rewriter) -> Value | No:
    """A product with dequantized weights of 4 bits is one with the integers, and a Gemm's bias is added to it."""
    return _product(op, rewrite, 4, 0)


@rule("MatMul", "Gemm", contract=Contract.LOSSY, over=("DequantizeLinear",))
def product_of_bytes(op: Op, rewrite: Rewriter) -> Value | No:
    """A product with dequantized weights of 8 bits is one with the integers, for data rounded to 8 bits by block."""
    return _product(op, rewrite, 8, ON_INTEGERS)


@rule("Add", contract=Contract.REASSOCIATING, over=("MatMulNBits",))
def bias_of_blocks(op: Op, rewrite: Rewriter) -> Value | No:
    """What is added to each column of a product with integers is its bias."""
    for product, bias in ((op.needed(0), op.needed(1)), (op.needed(1), op.needed(0))):
        made = product.op
        if made is None or made.qualified_name != N_BITS or made.operand(5) is not None or not product.has_one_use:
            continue
        if bias.constant is None or bias.constant.dtype is not DType.F32 or bias.shape != (made.integer("N", 0),):
            return No("what is added is not a constant number for each column")
        return rewrite.op(made.name, [*made.operands[:3], made.operand(3), None, bias], dict(made.attributes), domain=MICROSOFT)
    return No("neither operand is a product with integers that nobody else uses")


@rule(N_BITS, contract=Contract.LOSSY)
def blocks_on_integers(op: Op, rewrite: Rewriter) -> Value | No:
    """A product with integers rounds its data to 8 bits by block and multiplies integers."""
    if op.integer("accuracy_level", 0):
        return No("its arithmetic is decided")
    return rewrite.op(op.name, op.operands, {**op.attributes, "accuracy_level": ON_INTEGERS}, domain=MICROSOFT)


def _product(op: Op, rewrite: Rewriter, bits: int, accuracy: int) -> Value | No:
    """The kernel's form of x times weights of so many bits, and the bias behind it."""
    x = op.needed(0)
    if dtype_of(x) is not DType.F32 or x.shape is None or len(x.shape) < 2:
        return No("its first operand is not known to be of matrices in f32")
    if x.op is not None and x.op.is_a("DequantizeLinear"):
        return No("its data are integers, too, which another kernel multiplies as they are")
    if op.integer("transA", 0) or any(op.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return No("it transposes or scales an operand")
    found = blocks_of(op.needed(1), bits, summed=1 if op.integer("transB", 0) else 0)
    if isinstance(found, No):
        return found
    columns, rows = found.integers.shape
    if static_dims(x, -1) not in (None, (rows,)):
        return No("its operands do not fit")
    scales = rewrite.constant(found.scales)
    if found.scales.dtype is not DType.F32:
        scales = rewrite.op("Cast", [scales], {"to": DType.F32.onnx_code})
    operands = [x, rewrite.constant(_packed_weights(found)), scales]
    if not found.is_symmetric:
        operands.append(rewrite.constant(Tensor.from_array(_packed(found.zeros, bits))))
    attributes: dict[str, Attribute] = {"K": rows, "N": columns, "bits": bits, "block_size": found.size}
    attributes |= {"accuracy_level": accuracy} if accuracy else {}
    product = rewrite.op("MatMulNBits", operands, attributes, domain=MICROSOFT)
    return product if op.operand(2) is None else rewrite.op("Add", [product, op.operand(2)])


def blocks_of(weights: Value, bits: int, *, summed: int) -> Blocks | No:
    """A dequantized matrix of so many bits, summed over axis `summed`, as the kernel takes it."""
    op = weights.op
    integers = op.constant_operand(0) if op is not None and op.is_a("DequantizeLinear") else None
    if op is None or integers is None:
        return No("its second operand is no dequantized constant")
    if integers.dtype not in _SHIFT or integers.dtype.bits != bits or len(integers.shape) != 2 or not integers.size:
        return No(f"its weights are no matrix of {bits} bits")
    if dtype_of(weights) is not DType.F32:
        return No("its weights are not dequantized to f32")
    scales = _stored_scales(op.needed(1))
    zeros = op.constant_operand(2)
    if scales is None or (zeros is None and op.operand(2) is not None):
        return No("its scales or zero points are not constant")
    shift = _SHIFT[integers.dtype]
    offsets = np.zeros(scales.shape, np.int16) if zeros is None else zeros.array.astype(np.int16)
    spread = _by_block(op, scales.array, offsets + shift, summed, integers.shape)
    if isinstance(spread, No):
        return spread
    size, by_block, moved = spread
    by_column = np.moveaxis(integers.array.astype(np.int16) + shift, summed, 1).astype(np.uint8)
    return Blocks(integers.dtype.bits, size, by_column, Tensor.from_array(by_block, scales.dtype), moved.astype(np.uint8))


def _stored_scales(scales: Value) -> Tensor | None:
    """Constant scales in f32, or in f16 behind a Cast."""
    if scales.constant is not None:
        return scales.constant if scales.constant.dtype is DType.F32 else None
    stored = scales.op.constant_operand(0) if scales.op is not None and scales.op.is_a("Cast") else None
    return stored if stored is not None and stored.dtype is DType.F16 and dtype_of(scales) is DType.F32 else None


def _by_block(
    op: Op, scales: npt.NDArray[Any], zeros: Integers, summed: int, shape: tuple[int, ...]
) -> tuple[int, npt.NDArray[Any], Integers] | No:
    """The size of a block, and scales and zero points as [columns, blocks]."""
    rows, columns = shape[summed], shape[1 - summed]
    axis = op.integer("axis", 1) % 2
    size = op.integer("block_size", 0)
    if size:
        if axis != summed or size not in BLOCKS or scales.shape[summed] != -(-rows // size):
            return No(f"blocks of {size} weights, along the axis that they are in, are not what the kernel takes")
        return size, np.moveaxis(scales, summed, 1), np.moveaxis(zeros, summed, 1)
    if scales.size != 1 and (axis == summed or scales.shape != (columns,)):
        return No("its scales are by rows")
    size = min((block for block in BLOCKS if block >= min(rows, BLOCK_OF_COLUMN)), default=BLOCK_OF_COLUMN)
    full = (columns, -(-rows // size))
    return size, np.broadcast_to(scales.reshape(-1, 1), full), np.broadcast_to(zeros.reshape(-1, 1), full)


def _packed_weights(found: Blocks) -> Tensor:
    """The integers as [columns, blocks, bytes]; the last block is filled up."""
    columns, rows = found.integers.shape
    filled = np.pad(found.integers, ((0, 0), (0, -rows % found.size)))
    return Tensor.from_array(_packed(filled, found.bits).reshape(columns, -1, found.size * found.bits // 8))


def _packed(integers: Integers, bits: int) -> Integers:
    """Rows of integers as bytes: those of 4 bits by two, the lower first, an odd one with nothing above it."""
    whole = integers.astype(np.uint8)
    if bits == 8:
        return whole
    even = np.pad(whole, ((0, 0), (0, whole.shape[1] % 2)))
    return even[:, ::2] | even[:, 1::2] << 4


RULES: tuple[Rule, ...] = (product_of_blocks, product_of_bytes, bias_of_blocks, blocks_on_integers)

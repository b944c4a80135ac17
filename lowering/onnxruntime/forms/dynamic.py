"""Products of data that are quantized in each run: one kernel that multiplies integers and says the sums in f32.

ONNX Runtime has MatMulIntegerToFloat of com.microsoft for products of what DynamicQuantizeLinear makes, and joins the two to
DynamicQuantizeMatMul where one product alone reads it; it finds them behind MatMulInteger, Cast and Mul, but not behind pairs
of DequantizeLinear, where it dequantizes the weights in each run and multiplies in f32. Measured on one thread, 128 rows by
[768,768]: 0.42 ms, 1.44 in f32, and 2.95 as pairs.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Tensor, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import MICROSOFT, dtype_of

TO_FLOAT = "com.microsoft::MatMulIntegerToFloat"


@rule("MatMul", "Gemm", contract=Contract.REASSOCIATING, over=("DequantizeLinear",))
def product_of_each_run(op: Op, rewrite: Rewriter) -> Value | No:
    """A product of what was quantized in this run, with constant weights of 8 bits by column, is one of integers."""
    data = _of_each_run(op.needed(0))
    if data is None:
        return No("its data are not quantized in each run")
    if op.integer("transA", 0) or any(op.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return No("it transposes or scales an operand")
    weights = _stored(op.needed(1), by_rows=op.integer("transB", 0) == 1)
    if isinstance(weights, No):
        return weights
    integers, scales, zeros = (None if each is None else rewrite.constant(each) for each in weights)
    found, scale, zero = data.results
    operands = [found, integers, scale, scales, zero, zeros]
    product = rewrite.op("MatMulIntegerToFloat", operands if zeros is not None else operands[:5], domain=MICROSOFT)
    return product if op.operand(2) is None else rewrite.op("Add", [product, op.operand(2)])


@rule("Add", contract=Contract.REASSOCIATING, over=("MatMulIntegerToFloat",))
def bias_of_each_run(op: Op, rewrite: Rewriter) -> Value | No:
    """What is added to each column of such a product is its bias."""
    for product, bias in ((op.needed(0), op.needed(1)), (op.needed(1), op.needed(0))):
        made = product.op
        if made is None or made.qualified_name != TO_FLOAT or made.operand(6) is not None or not product.has_one_use:
            continue
        columns = (made.needed(1).shape or ())[-1:]
        if bias.constant is None or bias.constant.dtype is not DType.F32 or bias.shape != columns:
            return No("what is added is not a constant number for each column")
        operands = [*made.operands[:5], made.operand(5), bias]
        return rewrite.op(made.name, operands, dict(made.attributes), domain=MICROSOFT)
    return No("neither operand is a product of data quantized in each run that nobody else uses")


def _of_each_run(value: Value) -> Op | None:
    """The DynamicQuantizeLinear whose integers, dequantized as it says, are a value."""
    wide = value.op
    maker = wide.needed(0).op if wide is not None and wide.is_a("DequantizeLinear") else None
    if wide is None or maker is None or not maker.is_a("DynamicQuantizeLinear") or dtype_of(value) is not DType.F32:
        return None
    return maker if list(wide.operands) == list(maker.results) else None


def _stored(value: Value, *, by_rows: bool) -> tuple[Tensor, Tensor, Tensor | None] | No:
    """Integers [rows, columns], scales and zero points of a dequantized matrix; `by_rows` it lies transposed."""
    op = value.op
    integers = op.constant_operand(0) if op is not None and op.is_a("DequantizeLinear") else None
    if op is None or integers is None or integers.dtype not in (DType.I8, DType.U8) or len(integers.shape) != 2:
        return No("its second operand is no dequantized constant matrix of 8 bits")
    scales, zeros = op.constant_operand(1), op.constant_operand(2)
    if scales is None or scales.dtype is not DType.F32 or (zeros is None and op.operand(2) is not None):
        return No("its scales or zero points are not constant")
    by_column = scales.shape == (integers.shape[0 if by_rows else 1],) and op.integer("axis", 1) % 2 == (0 if by_rows else 1)
    if op.integer("block_size", 0) or (scales.size != 1 and not by_column):
        return No("its scales are not one for each column")
    shape = () if scales.size == 1 and not by_column else scales.shape
    lying = np.ascontiguousarray(integers.array.T) if by_rows else integers.array
    points = None if zeros is None or not zeros.array.any() else Tensor.from_array(zeros.array.reshape(shape))
    return Tensor.from_array(lying), Tensor.from_array(scales.array.reshape(shape)), points


RULES: tuple[Rule, ...] = (product_of_each_run, bias_of_each_run)

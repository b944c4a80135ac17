"""Matrix products with a bias: Gemm on matrices, MatMul and Add on stacks of them.

ONNX Runtime makes a Gemm between two Reshapes of each MatMul and Add. Measured on one thread (benchmarks/forms.py, f32), that
takes 1.06 ([4096,32] by [32,256]), 1.04 ([3136,96] by [96,384]), 1.01 and 1.00 (128 rows by [768,768] and wider) times as long
as MatMul and Add, which the engine's settings therefore keep; on matrices, Gemm saves a call.
A weight that is a transposed view is read transposed, as it lies: putting it in order would copy it, and ONNX Runtime packs it
anyway (FusedMatMul takes 0.97 to 1.0 times as long as MatMul).
Not worth making: one MatMul for several of one operand (QKV, gate and up), 1.00 to 1.02 with the Split behind it.
"""

from __future__ import annotations

from irc.ir import DType, Op, Tensor, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import dtype_of, static_dims


@rule("Add", contract=Contract.REASSOCIATING)
def matmul_add_as_gemm(op: Op, rewrite: Rewriter) -> Value | No:
    """a b + c of matrices a and b and a row c is a Gemm."""
    for product, bias in ((op.needed(0), op.needed(1)), (op.needed(1), op.needed(0))):
        if product.op is not None and product.op.is_a("MatMul") and product.has_one_use:
            return _gemm(product.op, bias, rewrite)
    return No("neither operand is a MatMul that nobody else uses")


def _gemm(product: Op, bias: Value, rewrite: Rewriter) -> Value | No:
    left, right = product.needed(0), product.needed(1)
    if any(operand.shape is None or len(operand.shape) != 2 for operand in (left, right)):
        return No("the MatMul is not known to be of matrices")
    if any(dtype_of(operand) is not DType.F32 for operand in (left, right, bias)):
        return No("it is not f32")
    columns = static_dims(right, 1)
    if columns is None or bias.shape not in (columns, (1, *columns)):
        return No("the other operand is not a row for each of its rows")
    return rewrite.op("Gemm", [left, right, bias])


SMALLEST_VIEW = 1 << 16
"""Bytes of a weight that are worth not copying."""


@rule("MatMul", contract=Contract.REASSOCIATING)
def matmul_of_transposed_view(op: Op, rewrite: Rewriter) -> Value | No:
    """x @ w, with w a transposed view of a weight, reads the weight transposed; of matrices that is a Gemm's work."""
    if op.needed(0).shape is None or len(op.needed(0).shape or ()) < 3:
        return No("its first operand is not known to be a stack of matrices")
    stored = _as_it_lies(op)
    if isinstance(stored, No):
        return stored
    return rewrite.op("FusedMatMul", [op.needed(0), rewrite.constant(stored)], {"transB": 1}, domain="com.microsoft")


@rule("Gemm", "com.microsoft::FusedGemm", contract=Contract.REASSOCIATING)
def gemm_of_transposed_view(op: Op, rewrite: Rewriter) -> Value | No:
    """A Gemm whose weight is a transposed view reads the weight the other way."""
    stored = _as_it_lies(op)
    if isinstance(stored, No):
        return stored
    attributes = {**op.attributes, "transB": 1 - op.integer("transB", 0)}
    return rewrite.op(op.name, [op.needed(0), rewrite.constant(stored), *op.operands[2:]], attributes, domain=op.domain)


def _as_it_lies(op: Op) -> Tensor | No:
    """The second operand transposed, where that is how its bytes are in order."""
    weight = op.constant_operand(1)
    if weight is None or len(weight.shape) != 2 or weight.dtype is not DType.F32 or weight.byte_count < SMALLEST_VIEW:
        return No("its second operand is no large constant matrix in f32")
    array = weight.array
    if array.flags.c_contiguous or not array.T.flags.c_contiguous:
        return No("its weight is in order")
    return Tensor.from_array(array.T, weight.dtype)


RULES: tuple[Rule, ...] = (matmul_add_as_gemm, matmul_of_transposed_view, gemm_of_transposed_view)

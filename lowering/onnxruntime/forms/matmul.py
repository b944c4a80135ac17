"""Matrix products with a bias: Gemm on matrices, MatMul and Add on stacks of them.

ONNX Runtime makes a Gemm between two Reshapes of each MatMul and Add. Measured on one thread (benchmarks/forms.py, f32), that
takes 1.06 ([4096,32] by [32,256]), 1.04 ([3136,96] by [96,384]), 1.01 and 1.00 (128 rows by [768,768] and wider) times as long
as MatMul and Add, which the engine's settings therefore keep; on matrices, Gemm saves a call.
Not worth making: FusedMatMul, 0.97 to 1.0 times its parts where there is no Transpose to save, which ONNX Runtime finds by
itself; one MatMul for several of one operand (QKV, gate and up), 1.00 to 1.02 with the Split behind it.
"""

from __future__ import annotations

from irc.ir import DType, Op, Value
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


RULES: tuple[Rule, ...] = (matmul_add_as_gemm,)

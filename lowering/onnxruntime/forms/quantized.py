"""Quantized graphs as ONNX Runtime looks for them: it makes integer kernels of what stands between certain pairs.

The IR moves quantized numbers as they are. Behind a Transpose of int8, ONNX Runtime misses the groups around it: with the pairs
put back, micro_kws_qdq runs its pooling and its first product on integers again (0.93 against 1.00 of the untouched file).
A convolution or Gemm is one of integers only where its bias is, too: an int32 in the steps of the sums it is added to.
Without VNNI its kernels saturate sums of u8 by i8 (`irc.ir.with_one_sign` says how): there weights are u8.
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Tensor, Value, unsigned
from irc.passes import Contract, No, Rewriter, Rule, rule, steps_of_sums

from .facts import dtype_of

_PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
_MOVEMENT = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


@rule(*_MOVEMENT, contract=Contract.EXACT)
def pair_around_movement(op: Op, rewrite: Rewriter) -> Value | No:
    """What was just quantized is dequantized, moved, and quantized as before: each number becomes itself again."""
    maker = op.needed(0).op
    if maker is None or not maker.is_a("QuantizeLinear") or not op.needed(0).has_one_use:
        return No("its input is not quantized for it alone")
    if dtype_of(maker.result) not in (DType.I8, DType.U8) or dtype_of(maker.operand(0)) is not DType.F32:
        return No("its input is not 8 bits made of f32")
    scale = maker.needed(1)
    if scale.shape is None or any(size != 1 for size in scale.shape) or maker.operand(2) is None:
        return No("its scale is not one number with a zero point")
    parameters = maker.operands[1:]
    plain = rewrite.op("DequantizeLinear", [maker.result, *parameters])
    moved = rewrite.op(op.name, [plain, *op.operands[1:]], dict(op.attributes))
    return rewrite.op("QuantizeLinear", [moved, *parameters])


@rule("Conv", "Gemm", contract=Contract.REASSOCIATING, over=("DequantizeLinear",))
def bias_in_steps(op: Op, rewrite: Rewriter) -> Value | No:
    """The bias of a product of integers is an integer: rounded to the steps of the sums, which are fine.

    That moves a result by at most half a step, which is the rounding of arithmetic on integers: an engine that adds int32 has
    nothing finer, and ONNX Runtime stores the bias of a quantized convolution so by itself. So the contract is not `lossy`, and
    the check of rewrites allows for the half step (`passes/integer_sums.py`), but for nothing beyond it.
    """
    bias = op.constant_operand(2)
    if bias is None or bias.dtype is not DType.F32 or len(bias.shape) != 1:
        return No("it has no constant bias in f32 for each channel")
    if any(op.attributes.get(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        return No("it scales an operand")
    scales = steps_of_sums(op)
    if scales is None:
        return No("an operand is not dequantized from 8 bits, by one constant or by one for each channel")
    if scales.size not in (1, bias.size) or not (scales > 0).all():
        return No("its channels have other scales")
    with np.errstate(over="ignore"):
        steps = np.rint(bias.array.astype(np.float64) / scales)
    if not (np.abs(steps) < 2**31).all():
        return No("its bias is too large for the steps of the sums")
    stored = rewrite.constant(Tensor.from_array(steps.astype(np.int32)))
    by_channel = {"axis": 0} if scales.size != 1 else {}
    of_bias = Tensor.from_array(scales if scales.size != 1 else scales.reshape(()))
    dequantized = rewrite.op("DequantizeLinear", [stored, rewrite.constant(of_bias)], dict(by_channel))
    return rewrite.op(op.name, [op.operand(0), op.operand(1), dequantized], dict(op.attributes))


@rule("DequantizeLinear", contract=Contract.EXACT)
def weights_of_u8(op: Op, rewrite: Rewriter) -> Value | No:
    """Constant weights of i8 by the zero point z are u8 by z + 128, as kernels without VNNI sum exactly.

    ONNX Runtime makes u8 of quantized data of i8 by itself, so both factors are u8 then.
    """
    integers = op.constant_operand(0)
    if integers is None or integers.dtype is not DType.I8:
        return No("it dequantizes no constant of i8")
    zeros = op.constant_operand(2)
    if zeros is None and (op.operand(2) is not None or op.needed(1).constant is None):
        return No("its scales or zero points are computed")
    if not any(user.is_a(*_PRODUCTS, *_MOVEMENT) for user in op.result.users):
        return No("no product takes it")
    scales = op.needed(1).constant
    if zeros is None and scales is not None:
        zeros = Tensor.from_array(np.zeros(scales.shape, np.int8))
    assert zeros is not None
    operands = [rewrite.constant(unsigned(integers)), op.needed(1), rewrite.constant(unsigned(zeros))]
    return rewrite.op("DequantizeLinear", operands, dict(op.attributes))


WITHOUT_VNNI: tuple[Rule, ...] = (weights_of_u8,)
"""For processors on which sums of u8 by i8 saturate."""

RULES: tuple[Rule, ...] = (pair_around_movement, bias_in_steps, *WITHOUT_VNNI)

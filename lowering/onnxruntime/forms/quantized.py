"""Moved integers between the pairs that ONNX Runtime looks for: it makes integer kernels of what stands between them.

The IR moves quantized numbers as they are. Behind a Transpose of int8, ONNX Runtime misses the groups around it: with the pairs
put back, micro_kws_qdq runs its pooling and its first product on integers again (0.93 against 1.00 of the untouched file).
"""

from __future__ import annotations

from irc.ir import DType, Op, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import dtype_of


@rule("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", contract=Contract.EXACT)
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


RULES: tuple[Rule, ...] = (pair_around_movement,)

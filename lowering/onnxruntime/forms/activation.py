"""Activations without a kernel of their own that another form runs faster.

Measured on 2 threads (benchmarks/forms.py, f32; times against the ops that ONNX defines them by):

    Swish        QuickGelu 0.62 ([1,128,2048], [1,96,112,112]), 0.61 ([1,64,14,14]); Sigmoid and Mul 0.96
    Mish         by one Exp 0.16; Softplus's kernel takes one element at a time
    Gelu         ONNX's and com.microsoft's kernel 0.67; with tanh, ONNX's and FastGelu 0.39; BiasGelu 1.01 of Add, Gelu
    HardSwish    HardSigmoid and Mul, as ONNX defines it, are the fastest; with Clip 1.5

The settings keep ONNX Runtime from making BiasGelu: convnext_tiny took 47.98 ms without it, 48.24 with. In
efficientnet_b0, QuickGelu is also faster than Sigmoid and Mul in the blocked layout of convolutions (6.4 and 7.5 ms).
"""

from __future__ import annotations

import numpy as np

from irc.ir import DType, Op, Tensor, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import MICROSOFT, dtype_of, number

# From here on tanh(softplus(x)) is 1 in f32, and exp(x) squared is far from overflow.
_SATURATED = 20.0


@rule("Swish", contract=Contract.REASSOCIATING)
def swish_as_quick_gelu(op: Op, rewrite: Rewriter) -> Value | No:
    """Swish and QuickGelu are x * sigmoid(alpha * x)."""
    if dtype_of(op.operand(0)) is not DType.F32:
        return No("it is not f32")
    return rewrite.op("QuickGelu", [op.operand(0)], {"alpha": number(op, "alpha", 1.0)}, domain=MICROSOFT)


@rule("Mish", contract=Contract.REASSOCIATING)
def mish_by_one_exp(op: Op, rewrite: Rewriter) -> Value | No:
    """x * tanh(log(1 + e^x)) is x * n / (n + 2) with n = e^x * (e^x + 2); where e^x is large, the fraction is 1."""
    x = op.operand(0)
    if dtype_of(x) is not DType.F32:
        return No("it is not f32")
    two = rewrite.constant(Tensor.from_array(np.float32(2)))
    grown = rewrite.op("Exp", [rewrite.op("Min", [x, rewrite.constant(Tensor.from_array(np.float32(_SATURATED)))])])
    part = rewrite.op("Mul", [grown, rewrite.op("Add", [grown, two])])
    return rewrite.op("Mul", [x, rewrite.op("Div", [part, rewrite.op("Add", [part, two])])])


RULES: tuple[Rule, ...] = (swish_as_quick_gelu, mish_by_one_exp)

"""Activations in Python: LogSoftmax, since its kernel for f64, which the tests of rule files judge by, is wrong about NaN."""

from __future__ import annotations

from irc.ir import DType, Op, Value

from ..canonicalize.casts import dtype_of
from ..rewriter import Contract, No, Rewriter, Rule, rule
from .reductions import reduction_of
from .standardize import made_by


@rule("Sub", contract=Contract.REASSOCIATING)
def log_softmax(op: Op, rewrite: Rewriter) -> Value | No:
    """log(softmax(x)) = d - log(sum(exp(d))) with d = x - max(x), which does not overflow."""
    log = made_by(op.operand(1), op, "Log")
    total = None if log is None else made_by(log.operand(0), op, "ReduceSum")
    exp = None if total is None else made_by(total.operand(0), op, "Exp")
    shifted = op.needed(0)
    if exp is None or exp.operand(0) is not shifted:
        return No("it is no value less the logarithm of the sum of its exponentials")
    difference = made_by(shifted, op, "Sub", uses=2)
    largest = None if difference is None else made_by(difference.operand(1), op, "ReduceMax")
    if difference is None or largest is None or largest.operand(0) is not difference.operand(0):
        return No("the value is not less its maximum")
    first, second = reduction_of(largest), reduction_of(total)
    if (
        first is None
        or second is None
        or first.axes != second.axes
        or len(first.axes) != 1
        or not (first.keeps and second.keeps)
    ):
        return No("maximum and sum are not over one and the same axis")
    if not (first.keeps and second.keeps):
        return No("the reduced dim does not stay as 1")
    if dtype_of(op.result) not in (DType.F16, DType.BF16, DType.F32):
        return No("it is not f16, bf16 or f32")
    return rewrite.op("LogSoftmax", [difference.operand(0)], {"axis": first.axes[0]})


@rule("com.microsoft::Gelu", "com.microsoft::FastGelu", "com.microsoft::QuickGelu", contract=Contract.REASSOCIATING)
def gelu_of_runtime(op: Op, rewrite: Rewriter) -> Value | No:
    """ONNX Runtime's own Gelus, as its optimizer leaves them, are Gelu, Gelu by tanh, and Swish with alpha."""
    if op.operand(1) is not None:
        return No("it adds a bias first")
    if dtype_of(op.needed(0)) not in (DType.F16, DType.F32):
        return No("it is not f16 or f32")
    if op.name == "QuickGelu":
        return rewrite.op("Swish", [op.operand(0)], {"alpha": op.attributes.get("alpha", 1.702)})
    return rewrite.op("Gelu", [op.operand(0)], {"approximate": "tanh" if op.name == "FastGelu" else "none"})


RULES: tuple[Rule, ...] = (log_softmax, gelu_of_runtime)

"""Reductions with kernels slower than their parts: they are written out.

ONNX Runtime's ReduceL1, ReduceL2, ReduceSumSquare and ReduceLogSum took up to 6 times as long as their parts (ReduceL2 over
[1,128,768] 80 us, written out 30; 2 threads), and add up one after the other, which is less exact than ReduceSum.
"""

from __future__ import annotations

from irc.ir import Attribute, Op, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import dtype_of


@rule("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", contract=Contract.REASSOCIATING)
def reduction_from_parts(op: Op, rewrite: Rewriter) -> Value | No:
    """The sum of |x| or x * x, or the logarithm or root of a sum, by the ops that say so."""
    x = op.operand(0)
    kind = dtype_of(x)
    if x is None or kind is None or not kind.is_float:
        return No("it is no float")
    terms = x
    if op.name == "ReduceL1":
        terms = rewrite.op("Abs", [x])
    elif op.name != "ReduceLogSum":
        terms = rewrite.op("Mul", [x, x])
    attributes: dict[str, Attribute] = dict(op.attributes)
    total = rewrite.op("ReduceSum", [terms, *op.operands[1:]], attributes)
    if op.name == "ReduceL2":
        return rewrite.op("Sqrt", [total])
    return rewrite.op("Log", [total]) if op.name == "ReduceLogSum" else total


RULES: tuple[Rule, ...] = (reduction_from_parts,)

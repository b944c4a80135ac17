"""Activations as the epilogue of the convolution or Gemm in front of them.

ONNX Runtime makes the same ops of them when it loads a model (unet, mobilenet_v2, efficientnet_b0 and mlp end up as the
very same graph), and its blocked layout takes either. Said here, the placement and the counts show what will run.
"""

from __future__ import annotations

from irc.ir import Attribute, DType, Op, Value
from irc.passes import Contract, No, Rewriter, Rule, rule

from .facts import MICROSOFT, dtype_of, number


@rule("Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Clip", contract=Contract.EXACT)
def activation_in_convolution(op: Op, rewrite: Rewriter) -> Value | No:
    """A convolution whose only user is an activation applies it to its sums."""
    made = _only_used_maker(op, "Conv")
    if isinstance(made, No):
        return made
    parameters = _parameters(op)
    if isinstance(parameters, No):
        return parameters
    attributes: dict[str, Attribute] = {**made.attributes, "activation": op.name}
    if parameters:
        attributes["activation_params"] = parameters
    return rewrite.op("FusedConv", made.operands, attributes, domain=MICROSOFT)


@rule("Relu", "Sigmoid", "Tanh", "LeakyRelu", contract=Contract.EXACT)
def activation_in_gemm(op: Op, rewrite: Rewriter) -> Value | No:
    """A Gemm whose only user is an activation applies it to its sums."""
    made = _only_used_maker(op, "Gemm")
    if isinstance(made, No):
        return made
    attributes: dict[str, Attribute] = {**made.attributes, "activation": op.name}
    if op.name == "LeakyRelu":
        attributes["activation_alpha"] = number(op, "alpha", 0.01)
    return rewrite.op("FusedGemm", made.operands, attributes, domain=MICROSOFT)


def _only_used_maker(op: Op, name: str) -> Op | No:
    value = op.needed(0)
    if value.op is None or not value.op.is_a(name):
        return No(f"its input is made by no {name}")
    if not value.has_one_use:
        return No(f"the {name} has another user")
    if dtype_of(value) is not DType.F32:
        return No("it is not f32")
    return value.op


def _parameters(op: Op) -> tuple[float, ...] | No:
    """The numbers FusedConv wants for an activation."""
    if op.name == "LeakyRelu":
        return (number(op, "alpha", 0.01),)
    if op.name == "HardSigmoid":
        return (number(op, "alpha", 0.2), number(op, "beta", 0.5))
    if op.name != "Clip":
        return ()
    low, high = op.constant_operand(1), op.constant_operand(2)
    if low is None or high is None:
        return No("a bound of the Clip is not constant")
    return (float(low.array.reshape(-1)[0]), float(high.array.reshape(-1)[0]))


RULES: tuple[Rule, ...] = (activation_in_convolution, activation_in_gemm)

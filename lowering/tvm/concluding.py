"""How pointwise ops are written behind sums, whose rounding is their own: shorter than elsewhere where it makes no odds.

Law: what is not made narrow is written as elsewhere, so results in f32 are the same to the bit. A quotient by a scale may be
off by a bit of its own. Rounding to bf16 is the processor's, if it has that: denormals become zeros, and NaN stays NaN. From
memory, as a model's own Cast of its input, it is exact. A function of which only bf16 or 8 bits are left is one of `coarse`,
where these were asked for: steps that are a model's own get what they would get of the fine one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from irc.ir import Op
from irc.passes.precision import is_lowering

from .coarse import COARSE
from .elements import SINGLE, Element
from .instructions import FEATURES, HALVING, halved
from .narrow import is_narrowing
from .pointwise import Rule
from .scaling import QUANTIZED_SUM, rule_of


def rules_behind_sums(features: Collection[str]) -> Callable[[Op], Rule]:
    """As `rule_of`, for what has the rounding of a sum anyway, on a processor with these features."""
    halves, has_coarse = HALVING.issubset(features), FEATURES.issubset(features)

    def rule(op: Op) -> Rule:
        if is_narrowing(op):
            return QUANTIZED_SUM if op.is_a("QuantizeLinear") else _HALVED if halves else rule_of(op)
        if has_coarse and op.qualified_name in COARSE and is_only_narrowed(op):
            return COARSE[op.qualified_name]
        return rule_of(op)

    return rule


def is_only_narrowed(op: Op) -> bool:
    """Whether the result of an op, or its products with other values, are only made bf16 or bytes, as was asked for."""
    return not op.result.is_output and all(_is_asked(user) or _is_narrowed_product(user) for user in op.result.users)


def _is_narrowed_product(op: Op) -> bool:
    """A product has the relative errors of its factors."""
    return op.is_a("Mul") and not op.result.is_output and all(map(_is_asked, op.result.users))


def _is_asked(op: Op) -> bool:
    return is_narrowing(op) and is_lowering(op)


def _halved(e: Element) -> str:
    return e.writer.at_once("uint16", halved, e.x)


_HALVED = Rule(_halved, SINGLE)

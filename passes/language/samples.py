"""The constants of examples: which operands of a rule must be constant, within which bounds, and numbers for them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from irc.ir import DType, Tensor

from .substitute import walk
from .tree import Call, Number, RuleTree, Unary, ValueName


def constant_names(rule: RuleTree) -> set[str]:
    """The operands that `where constant(...)`, or a function of elements, asks to be constants."""
    found: set[str] = set()
    for condition, _ in rule.conditions:
        negations = [node for node in walk(condition) if isinstance(node, Unary) and node.operator == "not"]
        refused = {inner for negation in negations for inner in walk(negation)}
        for node in walk(condition):
            if node not in refused and isinstance(node, Call) and node.name in ("constant", "all_of", "uniform", "integers"):
                found |= {a.name for a in node.arguments if isinstance(a, ValueName)}
    return found


def bounds_of(rule: RuleTree) -> dict[str, tuple[float, float]]:
    """Between which numbers `all_of(%a, low, high)` asks the elements of constants to be."""
    found: dict[str, tuple[float, float]] = {}
    for node in (node for condition, _ in rule.conditions for node in walk(condition)):
        match node:
            case Call(name="all_of", arguments=(ValueName(name=name), Number(value=low), Number(value=high))):
                found[name] = (low, high)
            case _:
                pass
    return found


def random_tensor(dtype: DType, sizes: Sequence[int], rng: random.Random, bounds: tuple[float, float] | None) -> Tensor:
    """A constant of small numbers: positive floats, or integers from 0 to 2, within `bounds` where there are some."""
    generator = np.random.default_rng(rng.randrange(2**32))
    if dtype.is_float:
        array = np.abs(generator.standard_normal(sizes)) + 0.25  # variances and divisors are positive
    elif dtype is DType.BOOL:
        array = generator.integers(0, 2, sizes)
    else:
        array = generator.integers(0, 3, sizes)
    array = array if bounds is None else np.clip(array, *bounds)
    return Tensor.from_array(np.asarray(array).astype(dtype.numpy), dtype)

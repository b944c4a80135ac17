"""Expressions over numbers, lists, words and dims, as conditions, attributes and `let $s` hold them: compiled once a rule.

A condition about which too little is known is not false but unproven, which blocks a match all the same: `not` makes it
no truer.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np

from irc.ir import Dim, SymbolicDim, Value, dims

from .attributes import as_list
from .functions import FUNCTIONS, Numbers
from .match import Match, Unproven
from .tree import (
    Binary,
    Call,
    Conditional,
    DimName,
    Expression,
    Index,
    Listing,
    Number,
    ScalarName,
    Text,
    Unary,
    ValueName,
)

Scalar: TypeAlias = Callable[[Match], object]
"""What an expression stands for in a match: a number, text, tuple, tensor, dim or Value; or it raises Unproven."""


def _less(a: Dim, b: Dim) -> Dim:
    return dims.add(a, dims.negate(b))


_NUMBERS: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "**": lambda a, b: float(a**b) if isinstance(a, float) or isinstance(b, float) or b < 0 else a**b,
}
_DIMS: dict[str, Callable[[Dim, Dim], Dim]] = {"+": dims.add, "-": _less, "*": dims.multiply, "/": dims.divide}
_ORDER: dict[str, Callable[[float, float], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def compiled(node: Expression) -> Scalar:
    """The function of a match that an expression over scalars stands for."""
    match node:
        case Number(value=value) | Text(value=value):
            return lambda found: value
        case ScalarName(name=name):
            return lambda found: found.scalars.get(name)
        case DimName(name=name):
            return lambda found: found.dims[name]
        case ValueName(name=name):
            return lambda found: found.bound(name)
        case Listing(items=items):
            parts = [compiled(item) for item in items]
            return lambda found: tuple([part(found) for part in parts])
        case Index(sequence=sequence, index=index):
            whole, place = compiled(sequence), compiled(index)
            return lambda found: _element(whole(found), place(found))
        case Call(name=name, arguments=arguments):
            return _call(name, [compiled(argument) for argument in arguments])
        case Unary(operator=sign, operand=operand):
            inner = compiled(operand)
            return (lambda found: not inner(found)) if sign == "not" else (lambda found: _arithmetic("-", 0, inner(found)))
        case Conditional(condition=condition, yes=yes, no=no):
            asked, first, second = compiled(condition), compiled(yes), compiled(no)
            return lambda found: first(found) if asked(found) else second(found)
        case Binary(operator=sign, left=left, right=right):
            return _binary(sign, compiled(left), compiled(right))
        case _:
            raise AssertionError(node)


def _call(name: str, arguments: list[Scalar]) -> Scalar:
    function = FUNCTIONS[name].function

    def call(found: Match) -> object:
        answer = function(found, *[argument(found) for argument in arguments])
        if answer is None:
            raise Unproven(f"`{name}` is not known")
        return answer

    return call


def _binary(sign: str, left: Scalar, right: Scalar) -> Scalar:
    match sign:
        case "and":
            return lambda found: left(found) and right(found)
        case "or":
            return lambda found: _either(left, right, found)
        case "==":
            return lambda found: equal(left(found), right(found), found)
        case "!=":
            return lambda found: different(left(found), right(found))
        case "in":
            return lambda found: _among(left(found), right(found), found)
        case _ if sign in _ORDER:
            return lambda found: _ordered(sign, left(found), right(found))
        case _:
            return lambda found: _arithmetic(sign, left(found), right(found))


def _either(left: Scalar, right: Scalar, found: Match) -> object:
    try:
        first = left(found)
    except Unproven:
        first = None
    if isinstance(first, np.ndarray):
        return cast("Numbers", first)
    return first or right(found)


def _among(item: object, items: object, found: Match) -> bool:
    return any(equal(item, other, found) for other in as_list(items) or ())


def _element(sequence: object, index: object) -> object:
    items = as_list(sequence)
    if items is None or not isinstance(index, int) or not -len(items) <= index < len(items):
        raise Unproven(f"there is no element {index} of {sequence}")
    return items[index]


def _arithmetic(sign: str, left: object, right: object) -> object:
    head, tail = as_list(left), as_list(right)
    if head is not None and tail is not None and sign == "+":
        return (*head, *tail)
    if isinstance(left, SymbolicDim) or isinstance(right, SymbolicDim):
        if not isinstance(left, (int, SymbolicDim)) or not isinstance(right, (int, SymbolicDim)) or sign not in _DIMS:
            raise Unproven(f"`{sign}` is not defined for these dims")
        answer = _DIMS[sign](left, right)
        if answer is None:
            raise Unproven("the size is not known")
        return answer
    if any(isinstance(side, np.ndarray) for side in (left, right)):
        return _elementwise(sign, left, right)
    if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
        raise Unproven(f"`{sign}` is not defined for {left} and {right}")
    if sign == "/" and isinstance(left, int) and isinstance(right, int) and right and left % right == 0:
        return left // right
    try:
        return _NUMBERS[sign](left, right)
    except (ArithmeticError, ValueError):
        raise Unproven(f"{left} {sign} {right} has no value") from None


def _elementwise(sign: str, left: object, right: object) -> Numbers:
    """Numbers one by one, as `numbers(%a)` gives them, or a number with each; they stay finite."""
    if sign not in _DIMS or any(not isinstance(side, (int, float, np.ndarray)) for side in (left, right)):
        raise Unproven(f"`{sign}` is not defined for lists of numbers")
    try:
        with np.errstate(all="ignore"):
            made = _NUMBERS[sign](cast("Any", left), cast("Any", right))
    except ValueError:
        raise Unproven(f"`{sign}` is given lists of different length") from None
    numbers = np.asarray(made, np.float64)
    if not np.isfinite(numbers).all():
        raise Unproven("a number computed from constants is not finite")
    return numbers


def equal(left: object, right: object, found: Match) -> bool:
    """Whether two things are proved equal; named dims are, where the names are."""
    first, second = as_list(left), as_list(right)
    if first is not None and second is not None:
        return len(first) == len(second) and all(equal(a, b, found) for a, b in zip(first, second, strict=True))
    if isinstance(left, SymbolicDim) or isinstance(right, SymbolicDim):
        if left != right:
            return False
        found.rewriter.assume((left,) if isinstance(left, SymbolicDim) else ())
        return True
    if isinstance(left, Value) or isinstance(right, Value):
        return left is right
    if any(isinstance(side, np.ndarray) for side in (left, right)):
        return _equal_numbers(left, right)
    if isinstance(left, float) and isinstance(right, (int, float)):
        return left == right or math.isclose(left, right, rel_tol=1e-7)
    return left == right


def _equal_numbers(left: object, right: object) -> bool:
    """Whether numbers are equal one by one, or all to one."""
    first, second = (np.asarray(side).reshape(-1) for side in (left, right))
    fits = first.size == second.size or 1 in (first.size, second.size)
    return fits and bool((first == second).all())


def different(left: object, right: object) -> bool:
    """Whether two things are proved to differ; dims of other names may still be equal."""
    if isinstance(left, SymbolicDim) or isinstance(right, SymbolicDim):
        gap = dims.add(_dim(left), dims.negate(_dim(right)))
        return isinstance(gap, int) and gap != 0
    if any(isinstance(side, np.ndarray) for side in (left, right)):
        return not _equal_numbers(left, right)
    return left != right


def _dim(thing: object) -> int | SymbolicDim:
    if not isinstance(thing, (int, SymbolicDim)):
        raise Unproven(f"{thing} is no size")
    return thing


def _ordered(sign: str, left: object, right: object) -> bool:
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return _ORDER[sign](left, right)
    raise Unproven(f"{left} {sign} {right} is not known")

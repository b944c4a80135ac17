"""What a traced program takes for granted of its sizes: the guards torch.export left on it, in words.

Law: every condition on a named dim that the caller did not set himself is said, and said once. What holds for all sizes is
no condition.
"""

# pyright: basic, reportMissingImports=false
from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import sympy

Range = tuple[int, int | None]

_SIZE = re.compile(r"L\['leaves'\]\[(\d+)\]\.size\(\)\[(\d+)\]")
_MOST = 8
"""Conditions of a program that are said; the others are counted."""
_LONGEST, _LONGEST_GUARD = 50, 250
"""Characters of a condition that people still read, and of a guard that can become one."""

_WORDS = {ast.LtE: "at most", ast.GtE: "at least", ast.Lt: "less than", ast.Gt: "more than", ast.Eq: "", ast.NotEq: "not"}
_MIRRORED = {ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq}
_BINARY = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Pow: operator.pow}


class Quotient(sympy.Function):
    """`a // b`."""

    @classmethod
    def eval(cls, number: Any, divisor: Any) -> Any:
        """What is known of it without the sizes."""
        if divisor == 1:
            return number
        return number // divisor if number.is_Integer and divisor.is_Integer and divisor != 0 else None

    def _sympystr(self, printer: Any) -> str:
        return f"({' // '.join(_grouped(each, printer) for each in self.args)})"


class Remainder(sympy.Function):
    """`a % b`."""

    @classmethod
    def eval(cls, number: Any, divisor: Any) -> Any:
        """What is known of it without the sizes."""
        if divisor == 1:
            return sympy.Integer(0)
        return number % divisor if number.is_Integer and divisor.is_Integer and divisor != 0 else None

    def _sympystr(self, printer: Any) -> str:
        return f"({' % '.join(_grouped(each, printer) for each in self.args)})"


def condition_notes(
    guards: Iterable[str],
    sizes: Sequence[Sequence[Any]],
    names: Mapping[str, str],
    ranges: Mapping[str, Range],
    asked: Mapping[str, Range],
) -> list[str]:
    """A sentence for each condition.

    `guards` are expressions over `L['leaves'][i].size()[j]`, `sizes` the shapes of the traced inputs, with SymInts, `names`
    what their symbols are called, `ranges` the sizes each name may have, and `asked` those the caller asked for.
    """
    bounds = {name: list(bound) for name, bound in ranges.items()}
    said: list[str] = []
    unsaid = 0
    for guard in guards:
        text = _SIZE.sub(lambda found: f"({_spelled(sizes[int(found[1])][int(found[2])])})", guard)
        try:
            found = (
                list(_conditions(ast.parse(text, mode="eval").body, names, bounds)) if len(text) <= _LONGEST_GUARD else [text]
            )
        except (SyntaxError, ValueError):  # torch writes guards for itself, in words that may be new
            found = [text]
        short = [each for each in found if len(each) <= _LONGEST]
        said.extend(short)
        unsaid += len(found) - len(short)
    said = list(dict.fromkeys([*_bounds_asked_too_wide(bounds, asked), *said]))
    unsaid += len(said[_MOST:])
    notes = [f"the program is only known to work where {each}" for each in said[:_MOST]]
    if unsaid:
        what = "one more condition" if unsaid == 1 else f"{unsaid} more conditions"
        notes.append(f"it was traced under {what} on sizes, too many or too long to print: try it at the sizes you will use")
    return notes


def _bounds_asked_too_wide(bounds: Mapping[str, Sequence[Any]], asked: Mapping[str, Range]) -> Iterator[str]:
    for name, (low, high) in bounds.items():
        least, most = asked.get(name, (0, None))
        words = [f"at least {low}"] if low > least else []
        words += [f"at most {high}"] if high is not None and (most is None or high < most) else []
        if words:
            yield f"{name} is {' and '.join(words)}"


def _spelled(size: Any) -> str:
    return str(size) if isinstance(size, int) else str(size.node.expr)


def _conditions(node: ast.expr, names: Mapping[str, str], bounds: dict[str, list[Any]]) -> Iterator[str]:
    """The conditions of a guard in words; one that only bounds a name goes to `bounds` instead."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        for part in node.values:
            yield from _conditions(part, names, bounds)
        return
    if not isinstance(node, ast.Compare) or not all(type(each) in _WORDS for each in node.ops):
        raise ValueError("this is no comparison of sizes")
    values = [_value(each, names) for each in (node.left, *node.comparators)]
    for kind, left, right in zip(map(type, node.ops), values, values[1:], strict=False):
        if kind in (ast.Eq, ast.NotEq):
            yield from _equality(kind is ast.Eq, left, right)
        elif not _bounded(kind, left, right, bounds):
            if not left.free_symbols:
                kind, left, right = _MIRRORED[kind], right, left
            yield f"{_text(left)} is {_WORDS[kind]} {_text(right)}"


def _equality(equal: bool, left: Any, right: Any) -> Iterator[str]:
    """`left == right` or `left != right`, without the factors both have."""
    difference = sympy.factor(sympy.expand(left - right))
    _, factors = sympy.factor_list(difference)
    # A size of 0 makes an equality hold whatever the other factors are, so a factor that is a size says nothing.
    told = [factor for factor, _ in factors if not (equal and factor.is_Symbol)]
    if not told:
        return
    if len(told) > 1:
        yield f"{_text(sympy.Mul(*told))} is {'' if equal else 'not '}0"
        return
    positive = [term for term in sympy.Add.make_args(told[0]) if not term.could_extract_minus_sign()]
    negative = [-term for term in sympy.Add.make_args(told[0]) if term.could_extract_minus_sign()]
    first, second = sympy.Add(*positive), sympy.Add(*negative)
    if second.free_symbols and not first.free_symbols:
        first, second = second, first
    number, divisor = _multiple(first, second) or _multiple(second, first) or (None, None)
    if divisor is not None:
        if divisor != 1:
            yield f"{_text(number)} is {'a' if equal else 'no'} multiple of {_text(divisor)}"
        return
    yield f"{_text(first)} is {'' if equal else 'not '}{_text(second)}"


def _multiple(one: Any, other: Any) -> tuple[Any, Any] | None:
    """Number and divisor where `one == other` says that the first is a multiple of the second."""
    if isinstance(one, Remainder) and other == 0:
        number, divisor = one.args
        common = sympy.gcd(number, divisor)
        return sympy.cancel(number / common), sympy.cancel(divisor / common)
    for quotient in one.atoms(Quotient):
        number, divisor = quotient.args
        # `divisor * (number // divisor) == number`, which may have been divided by what both sides have in common.
        if sympy.expand(one * number - other * divisor * quotient) == 0:
            common = sympy.gcd(number, divisor)
            return sympy.cancel(number / common), sympy.cancel(divisor / common)
    return None


def _bounded(kind: type[ast.cmpop], left: Any, right: Any, bounds: dict[str, list[Any]]) -> bool:
    """Note a bound on a single name; False for anything else. What is always so is a bound on nothing."""
    if not left.free_symbols:
        kind, left, right = _MIRRORED[kind], right, left
    if right.free_symbols or right in (sympy.oo, -sympy.oo):
        return right in (sympy.oo, -sympy.oo)
    number: int = int(right) + {ast.Gt: 1, ast.Lt: -1}.get(kind, 0)
    is_least = kind in (ast.GtE, ast.Gt)
    if isinstance(left, Quotient) and is_least:
        dividend, divisor = (cast("Any", each) for each in left.args)
        if divisor.is_Integer and divisor > 0:  # the quotient is rounded down
            left, number = dividend, number * int(divisor)
    if not left.free_symbols:
        return True
    if not left.is_Symbol:
        return is_least and number <= 0 and left.is_nonnegative is True
    bound = bounds.setdefault(str(left), [0, None])
    if is_least:
        bound[0] = max(bound[0], number)
    else:
        bound[1] = number if bound[1] is None else min(bound[1], number)
    return True


def _value(node: ast.expr, names: Mapping[str, str]) -> Any:
    """An expression of a guard, over symbols that are called as the dims are."""
    match node:
        case ast.Constant(value=int(value)):
            return sympy.Integer(value)
        case ast.Name(id=symbol):
            name = names.get(symbol, symbol)
            if name.isidentifier():
                return sympy.Symbol(name, integer=True, nonnegative=True)
            return _value(ast.parse(name, mode="eval").body, {})
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, names)
        case ast.BinOp(left=left, op=ast.FloorDiv(), right=right):
            return Quotient(_value(left, names), _value(right, names))
        case ast.BinOp(left=left, op=ast.Mod(), right=right):
            return Remainder(_value(left, names), _value(right, names))
        case ast.BinOp(left=left, op=kind, right=right) if type(kind) in _BINARY:
            return _BINARY[type(kind)](_value(left, names), _value(right, names))
        case ast.Call(func=ast.Name(id="max" | "Max"), args=arguments):
            return sympy.Max(*_without([_value(each, names) for each in arguments], _is_quotient_of))
        case ast.Call(func=ast.Name(id="min" | "Min"), args=arguments):
            return sympy.Min(
                *_without([_value(each, names) for each in arguments], lambda one, other: _is_quotient_of(other, one))
            )
        case ast.Call(func=ast.Name(id="IntInfinity"), args=[]):
            return sympy.oo
        case _:
            raise ValueError(f"{ast.unparse(node)} is no size")


def _without(values: list[Any], is_decided_by: Callable[[Any, Any], bool]) -> list[Any]:
    """The values but for those that another of them makes irrelevant."""
    return [each for each in values if not any(is_decided_by(each, other) for other in values)]


def _is_quotient_of(quotient: Any, number: Any) -> bool:
    """Whether the first is the second divided by some number, and so not larger."""
    return isinstance(quotient, Quotient) and quotient.args[0] == number and number.is_nonnegative is True


def _grouped(value: Any, printer: Any) -> str:
    text = printer.doprint(value)
    return text if value.is_Atom or value.is_Function else f"({text})"


def _text(value: Any) -> str:
    """An expression as people write it."""
    text = str(value).replace("Max(", "max(").replace("Min(", "min(")
    text = re.sub(r"(?<=, )\(([^()]*)\)(?=[,)])", r"\1", text)
    return text[1:-1] if text.startswith("(") and _closing(text) == len(text) - 1 else text


def _closing(text: str) -> int:
    """Where the parenthesis that a text starts with is closed."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return place
    return len(text)

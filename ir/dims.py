"""Symbolic dimensions: integer polynomials over named dims, in one canonical form, so that equal sums compare equal.

A `Dim` is an int, a `SymbolicDim`, or None for a dimension nothing is known of. Arithmetic is exact: what is no
polynomial (a division with remainder, a minimum) becomes an opaque atom such as `div(N,2)`, and what grows beyond
LARGEST_WEIGHT becomes unknown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

_BARE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class Call:
    """An opaque integer function of dims: `div` and `mod` truncate toward zero as ONNX does, `min` and `max` are themselves."""

    function: str
    arguments: tuple[int | SymbolicDim, ...]

    def __str__(self) -> str:
        return f"{self.function}({','.join(map(str, self.arguments))})"


@dataclass(frozen=True, slots=True)
class Name:
    """A dim the model named; it stands for the same non-negative integer wherever it occurs in one run."""

    text: str

    def __str__(self) -> str:
        if _BARE_NAME.match(self.text):
            return self.text
        return json.dumps(self.text)


Atom: TypeAlias = Name | Call
Monomial: TypeAlias = tuple[Atom, ...]


class SymbolicDim:
    """A non-constant polynomial; `terms` maps monomials (atoms sorted by text, repeated for powers) to coefficients."""

    __slots__ = ("_hash", "_text", "terms", "weight")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self.weight = sum(1 + sum(map(_atom_weight, monomial)) for monomial, _ in terms)
        self._hash = hash(terms)
        self._text: str | None = None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, SymbolicDim) and self._hash == other._hash and self.terms == other.terms

    def __str__(self) -> str:
        if self._text is None:
            self._text = _render(self.terms)
        return self._text

    def __repr__(self) -> str:
        return f"SymbolicDim({self})"

    @property
    def plain_name(self) -> str | None:
        """The model's own name when this dim is nothing but a named dim, else None."""
        if len(self.terms) != 1 or self.terms[0][1] != 1 or len(self.terms[0][0]) != 1:
            return None
        atom = self.terms[0][0][0]
        return atom.text if isinstance(atom, Name) else None

    def names(self) -> set[str]:
        """Every named dim this one depends on."""
        found: set[str] = set()
        pending: list[SymbolicDim] = [self]
        while pending:
            for monomial, _ in pending.pop().terms:
                for atom in monomial:
                    if isinstance(atom, Name):
                        found.add(atom.text)
                    else:
                        pending.extend(a for a in atom.arguments if isinstance(a, SymbolicDim))
        return found


LARGEST_WEIGHT = 256
"""A dim with more terms and atoms than this is unknown: a model squaring a size again and again must not fill the memory."""


def _atom_weight(atom: Atom) -> int:
    if isinstance(atom, Name):
        return 1
    return 1 + sum(a.weight for a in atom.arguments if isinstance(a, SymbolicDim))


Dim: TypeAlias = int | SymbolicDim | None
KnownDim: TypeAlias = int | SymbolicDim


def _render(terms: tuple[tuple[Monomial, int], ...]) -> str:
    parts: list[str] = []
    for monomial, coefficient in terms:
        factors = [str(atom) for atom in monomial]
        magnitude = abs(coefficient)
        if magnitude != 1 or not factors:
            factors.insert(0, str(magnitude))
        # Spaces around a minus, because names in the text form may hold one.
        sign = ("" if not parts else " - " if coefficient < 0 else "+") if parts or coefficient > 0 else "-"
        parts.append(sign + "*".join(factors))
    return "".join(parts)


@lru_cache(maxsize=65536)
def named(text: str) -> SymbolicDim:
    """The dim called `text`."""
    return SymbolicDim((((Name(text),), 1),))


def _terms(dim: KnownDim) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(dim, SymbolicDim):
        return dim.terms
    return (((), dim),) if dim else ()


def _bounded(dim: KnownDim) -> Dim:
    return None if isinstance(dim, SymbolicDim) and dim.weight > LARGEST_WEIGHT else dim


def _build(terms: Mapping[Monomial, int]) -> KnownDim:
    kept = {monomial: c for monomial, c in terms.items() if c}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    order = sorted(kept.items(), key=lambda item: (-len(item[0]), [str(a) for a in item[0]]))
    return SymbolicDim(tuple(order))


def add(a: Dim, b: Dim) -> Dim:
    """a + b; unknown when either is."""
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    total = dict(_terms(a))
    for monomial, coefficient in _terms(b):
        total[monomial] = total.get(monomial, 0) + coefficient
    return _bounded(_build(total))


def negate(a: Dim) -> Dim:
    """-a."""
    return multiply(a, -1)


def multiply(a: Dim, b: Dim) -> Dim:
    """a * b; unknown when either is, unless the other is 0."""
    if a == 0 or b == 0:
        return 0
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    left_terms, right_terms = _terms(a), _terms(b)
    if len(left_terms) * len(right_terms) > LARGEST_WEIGHT**2 // 16:
        return None
    total: dict[Monomial, int] = {}
    for left, x in left_terms:
        for right, y in right_terms:
            monomial = tuple(sorted(left + right, key=str))
            total[monomial] = total.get(monomial, 0) + x * y
    return _bounded(_build(total))


def product(dims: Iterable[Dim]) -> Dim:
    """The product of all dims; 1 for none."""
    total: Dim = 1
    for dim in dims:
        total = multiply(total, dim)
    return total


def divide(a: Dim, b: Dim) -> Dim:
    """a / b truncated toward zero, as ONNX's integer Div; unknown when b is 0."""
    if a is None or b is None or b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    exact = exact_quotient(a, b)
    return _call("div", a, b) if exact is None else exact


def exact_quotient(a: KnownDim, b: KnownDim) -> KnownDim | None:
    """The polynomial q with q * b == a where b is a single term, or None when there is none."""
    if a == b:
        return 1
    divisor = _terms(b)
    if len(divisor) != 1:
        return None
    monomial, coefficient = divisor[0]
    result: dict[Monomial, int] = {}
    for left, x in _terms(a):
        if x % coefficient:
            return None
        rest = list(left)
        for atom in monomial:
            if atom not in rest:
                return None
            rest.remove(atom)
        result[tuple(rest)] = x // coefficient
    return _build(result)


def modulo(a: Dim, b: Dim) -> Dim:
    """a mod b with the sign of b, as ONNX's integer Mod."""
    if a is None or b is None or b == 0:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return a % b
    return 0 if exact_quotient(a, b) is not None else _call("mod", a, b)


def minimum(a: Dim, b: Dim) -> Dim:
    """The smaller of the two."""
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    difference = add(a, negate(b))
    if isinstance(difference, int):
        return a if difference <= 0 else b
    return _call("min", a, b)


def is_clipped(a: Dim, b: Dim) -> bool:
    """Whether `a` is the smaller of `b` and a number greater than 1."""
    if not isinstance(a, SymbolicDim) or not isinstance(b, SymbolicDim) or len(a.terms) != 1:
        return False
    (monomial, coefficient), *_ = a.terms
    if coefficient != 1 or len(monomial) != 1 or not isinstance(monomial[0], Call) or monomial[0].function != "min":
        return False
    numbers = [part for part in monomial[0].arguments if isinstance(part, int)]
    return b in monomial[0].arguments and bool(numbers) and all(number > 1 for number in numbers)


def maximum(a: Dim, b: Dim) -> Dim:
    """The larger of the two."""
    if a is None or b is None:
        return None
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    difference = add(a, negate(b))
    if isinstance(difference, int):
        return a if difference >= 0 else b
    return _call("max", a, b)


def _call(function: str, *arguments: KnownDim) -> Dim:
    return _bounded(SymbolicDim((((Call(function, arguments),), 1),)))


def evaluate(dim: Dim, bindings: Mapping[str, int]) -> int | None:
    """The integer a dim is under `bindings` (named dim to value), or None when a name is unbound or nothing is known."""
    if dim is None or isinstance(dim, int):
        return dim
    total = 0
    for monomial, coefficient in dim.terms:
        value = coefficient
        for atom in monomial:
            factor = bindings.get(atom.text) if isinstance(atom, Name) else _evaluate_call(atom, bindings)
            if factor is None:
                return None
            value *= factor
        total += value
    return total


def substitute(dim: Dim, bindings: Mapping[str, int]) -> Dim:
    """The dim with numbers in place of some of its names."""
    if not isinstance(dim, SymbolicDim) or dim.names().isdisjoint(bindings):
        return dim
    total: Dim = 0
    for monomial, coefficient in dim.terms:
        factors: list[Dim] = [coefficient]
        for atom in monomial:
            if isinstance(atom, Name):
                factors.append(bindings.get(atom.text, named(atom.text)))
            else:
                first, second = (substitute(a, bindings) for a in atom.arguments)
                factors.append(FUNCTIONS[atom.function](first, second))
        total = add(total, product(factors))
    return total


def _evaluate_call(call: Call, bindings: Mapping[str, int]) -> int | None:
    arguments = [evaluate(a, bindings) for a in call.arguments]
    if any(a is None for a in arguments):
        return None
    result = FUNCTIONS[call.function](*arguments)
    return result if isinstance(result, int) else None


FUNCTIONS = {"div": divide, "mod": modulo, "min": minimum, "max": maximum}


def text(dim: Dim) -> str:
    """How a dim is written in the IR: `?` when unknown."""
    return "?" if dim is None else str(dim)

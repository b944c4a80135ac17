"""Patterns that look for ops from the root upwards, with full backtracking; what they bind is undone when they fail.

A pattern gets a value and the goals still to be met, and is true only if all of them are: so a commutative op whose
first order fails later on is tried in the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from irc.ir import DType, Op, Tensor, TensorType, Value, schema

if TYPE_CHECKING:
    from .op_pattern import OpPattern

Bound: TypeAlias = Value | tuple[Value | None, ...] | None
Goals: TypeAlias = "tuple[Pattern, Value | None, Goals] | None"

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean"})


class Bindings(Protocol):
    """What patterns bind and ask while they match; `match.Match` is the one there is."""

    values: dict[str, Bound]
    scalars: dict[str, object]
    ops: dict[str, Op]
    matched: dict[Op, bool]
    wide: int
    remark: bool

    def proceed(self, goals: Goals) -> bool:
        """Whether the remaining goals, and then all conditions, are met."""
        ...

    def fail(self, reason: str) -> None:
        """Remember why a pattern failed, if nothing got further."""
        ...


class Pattern(Protocol):
    """A pattern for one value."""

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """Whether `value` and then the goals in `rest` match; bindings stay only then."""
        ...

    def roots(self) -> Iterator[OpPattern]:
        """The ops this pattern may stand for."""
        ...


_DEEPEST = 8


def is_constant(value: Value, depth: int = _DEEPEST) -> bool:
    """Whether constant folding can compute a value, looking `depth` ops back."""
    op = value.op
    if op is None:
        return False
    if op.is_constant:
        return True
    if depth == 0 or op.bodies or not op.operands or not schema.is_deterministic(op):
        return False
    return all(operand is None or is_constant(operand, depth - 1) for operand in op.operands)


@dataclass(frozen=True)
class AnyPattern:
    """`%x`, `%x?` or `_`: any value; where the name is bound already, that very value or an equal small constant.

    `dtypes` and `constant` are what the rule asks of the value in any case, asked before anything else is tried.
    """

    name: str
    optional: bool = False
    dtypes: frozenset[DType] | None = None
    constant: bool = False

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        if value is None and not self.optional:
            found.fail(f"%{self.name} is absent")
            return False
        if value is not None and not self._admits(value, found):
            return False
        if not self.name:
            return found.proceed(rest)
        if self.name in found.values:
            if _same(found.values[self.name], value):
                return found.proceed(rest)
            found.fail(f"%{self.name} is not the same value in both places")
            return False
        found.values[self.name] = value
        if found.proceed(rest):
            return True
        del found.values[self.name]
        return False

    def _admits(self, value: Value, found: Bindings) -> bool:
        kind = value.type
        if self.dtypes is not None and not (isinstance(kind, TensorType) and kind.dtype in self.dtypes):
            if found.remark:
                found.fail(f"%{self.name} is {kind}, which the rule does not admit")
            return False
        if self.constant and not is_constant(value):
            found.fail(f"%{self.name} is not constant")
            return False
        return True

    def roots(self) -> Iterator[OpPattern]:
        """None: it says nothing about the op."""
        return iter(())


@dataclass(frozen=True)
class RestPattern:
    """`%xs...`: all further operands; it is matched by the op pattern it stands in."""

    name: str

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """Never alone."""
        raise AssertionError(self.name)

    def roots(self) -> Iterator[OpPattern]:
        """None."""
        return iter(())


@dataclass(frozen=True)
class NumberPattern:
    """A constant of one element that is `number`, rounded to its dtype, or within a relative tolerance of it."""

    number: int | float
    tolerance: float

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        tensor = None if value is None else value.constant
        if tensor is None or not _is_number(tensor, self.number, self.tolerance):
            if found.remark:
                found.fail(f"{spoken(value)} is not {self.number}")
            return False
        wide = bool(tensor.shape)
        found.wide += wide
        if found.proceed(rest):
            return True
        found.wide -= wide
        return False

    def roots(self) -> Iterator[OpPattern]:
        """None."""
        return iter(())


@dataclass(frozen=True)
class ScalarPattern:
    """`$s` as operand: a float constant of one element, an integer of rank 0, or a list of integers."""

    name: str

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        tensor = None if value is None else value.constant
        number = None if tensor is None else scalar_of(tensor)
        if tensor is None or number is None:
            if found.remark:
                found.fail(f"{spoken(value)} is no constant number for ${self.name}")
            return False
        if self.name in found.scalars:
            return found.scalars[self.name] == number and found.proceed(rest)
        wide = bool(tensor.shape) and not isinstance(number, tuple)
        found.scalars[self.name] = number
        found.wide += wide
        if found.proceed(rest):
            return True
        found.wide -= wide
        del found.scalars[self.name]
        return False

    def roots(self) -> Iterator[OpPattern]:
        """None."""
        return iter(())


@dataclass(frozen=True)
class ListPattern:
    """`[0, 2, 1]` as operand: a constant of exactly these integers; a name in it binds one of them, None admits any."""

    items: tuple[int | str | None, ...]

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        tensor = None if value is None else value.constant
        if tensor is None or not tensor.dtype.is_integer or tensor.shape != (len(self.items),):
            if found.remark:
                found.fail(f"{spoken(value)} is no constant list of {len(self.items)}")
            return False
        added: list[str] = []
        for item, number in zip(self.items, tensor.to_list(), strict=True):
            known = found.scalars.get(item, number) if isinstance(item, str) else number if item is None else item
            if known != number:
                if found.remark:
                    found.fail(f"{spoken(value)} holds {number}, not {known}")
                break
            if isinstance(item, str) and item not in found.scalars:
                found.scalars[item] = int(number)
                added.append(item)
        else:
            if found.proceed(rest):
                return True
        for name in added:
            del found.scalars[name]
        return False

    def roots(self) -> Iterator[OpPattern]:
        """None."""
        return iter(())


@dataclass(frozen=True)
class EitherPattern:
    """`a | b`: the first that leads to a match."""

    items: tuple[Pattern, ...]

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        return any(item.match(value, rest, found) for item in self.items)

    def roots(self) -> Iterator[OpPattern]:
        """Those of all alternatives."""
        for item in self.items:
            yield from item.roots()


@dataclass(frozen=True)
class AliasPattern:
    """`%c.1` where `%c` names an op: that result of it."""

    name: str
    index: int

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        op = None if value is None else value.op
        if value is None or op is None or value.index != self.index:
            found.fail(f"%{self.name}.{self.index} is not result {self.index} of an op")
            return False
        if self.name in found.ops:
            return found.ops[self.name] is op and found.proceed(rest)
        found.ops[self.name] = op
        if found.proceed(rest):
            return True
        del found.ops[self.name]
        return False

    def roots(self) -> Iterator[OpPattern]:
        """None."""
        return iter(())


def scalar_of(tensor: Tensor) -> int | float | tuple[int, ...] | None:
    """What `$s` binds for a constant operand, or None when it is neither a number nor a list of integers."""
    if tensor.dtype.is_integer and len(tensor.shape) == 1:
        return tuple(int(v) for v in tensor.to_list()) if tensor.size <= 64 else None
    if tensor.size != 1 or not (tensor.dtype.is_integer or tensor.dtype.is_float or tensor.dtype is DType.BOOL):
        return None
    return float(tensor.array.reshape(-1)[0]) if tensor.dtype.is_float else int(tensor.array.reshape(-1)[0])


def _is_number(tensor: Tensor, number: float, tolerance: float) -> bool:
    if tensor.size != 1 or not (tensor.dtype.is_integer or tensor.dtype.is_float):
        return False
    if tensor.dtype.is_integer:
        return int(tensor.array.reshape(-1)[0]) == number
    actual = float(tensor.array.reshape(-1)[0])
    if actual == _rounded(number, tensor.dtype) and math.copysign(1.0, actual) == math.copysign(1.0, number):
        return True
    return tolerance > 0 and abs(actual - number) <= tolerance * abs(number)


@lru_cache(maxsize=1024)
def _rounded(number: float, dtype: DType) -> float:
    """The float of a dtype that is nearest to a number; of zeros, either."""
    with np.errstate(all="ignore"):
        return float(np.asarray(number).astype(dtype.numpy))


def _same(known: object, value: Value | None) -> bool:
    if known is value:
        return True
    a = known.constant if isinstance(known, Value) else None
    b = value.constant if value is not None else None
    return a is not None and b is not None and a.byte_count <= 64 and a.same_as(b)


def spoken(value: Value | None) -> str:
    """A value as messages name it."""
    if value is None:
        return "an operand"
    return f"%{value.name}" if value.name else "an operand" if value.op is None else f"the result of {value.op}"

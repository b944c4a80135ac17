"""Patterns that look for ops from the root upwards, with full backtracking; what they bind is undone when they fail.

A pattern gets a value and the goals still to be met, and is true only if all of them are: so a commutative op whose
first order fails later on is tried in the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol, TypeAlias

import numpy as np

from irc.ir import Attribute, DType, EmptyList, Op, Tensor, Value, schema

Goals: TypeAlias = "tuple[Pattern, Value | None, Goals] | None"

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean"})


class Bindings(Protocol):
    """What patterns bind and ask while they match; `match.Match` is the one there is."""

    values: dict[str, Value | tuple[Value | None, ...] | None]
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


@dataclass(frozen=True)
class AnyPattern:
    """`%x`, `%x?` or `_`: any value; where the name is bound already, that very value or an equal small constant."""

    name: str
    optional: bool = False

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        if value is None and not self.optional:
            found.fail(f"%{self.name} is absent")
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
                found.fail(f"{_spoken(value)} is not {self.number}")
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
                found.fail(f"{_spoken(value)} is no constant number for ${self.name}")
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
                found.fail(f"{_spoken(value)} is no constant list of {len(self.items)}")
            return False
        added: list[str] = []
        for item, number in zip(self.items, tensor.to_list(), strict=True):
            known = found.scalars.get(item, number) if isinstance(item, str) else number if item is None else item
            if known != number:
                if found.remark:
                    found.fail(f"{_spoken(value)} holds {number}, not {known}")
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


@dataclass(frozen=True)
class AttributePattern:
    """An attribute, its schema default where absent: equal to `literal`, or bound to `name`, or (both None) anything."""

    attribute: str
    literal: object = None
    name: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class OpPattern:
    """An op of one of `names` with these operands and attributes; attributes not mentioned must be at their defaults.

    `is_open` admits any others; `shared` admits users outside the match; the value must be result `index`.
    """

    domain: str
    names: frozenset[str]
    operands: tuple[Pattern, ...]
    attributes: tuple[AttributePattern, ...] = ()
    is_open: bool = False
    shared: bool = False
    alias: str = ""
    index: int = 0
    mentioned: frozenset[str] = field(default=frozenset())

    def roots(self) -> Iterator[OpPattern]:
        """Itself."""
        yield self

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        op = None if value is None else value.op
        if value is None or op is None:
            if found.remark:
                found.fail(f"{_spoken(value)} is no {self.spoken}")
            return False
        if op.name not in self.names or op.domain != self.domain or op.version is not None or value.index != self.index:
            if found.remark:
                found.fail(f"{_spoken(value)} is made by {op.qualified_name}, not by {self.spoken}")
            return False
        if self.alias and found.ops.get(self.alias, op) is not op:
            found.fail(f"%{self.alias} is not the same op in both places")
            return False
        operands = self._aligned(op)
        if operands is None:
            if found.remark:
                found.fail(f"{op} has {len(op.operands)} operands")
            return False
        return self._bind(op, operands, rest, found)

    @property
    def spoken(self) -> str:
        """For messages."""
        return " or ".join(sorted(self.names))

    def _aligned(self, op: Op) -> Sequence[Value | tuple[Value | None, ...] | None] | None:
        """One operand for each pattern, or None when their numbers do not go together."""
        given, wanted = op.operands, self.operands
        if len(given) == len(wanted) and not (wanted and isinstance(wanted[-1], RestPattern)):
            return given
        if wanted and isinstance(wanted[-1], RestPattern):
            count = len(wanted) - 1
            return None if len(given) < count else (*given[:count], tuple(given[count:]))
        if len(given) > len(wanted):
            return None if any(v is not None for v in given[len(wanted) :]) else given[: len(wanted)]
        return (*given, *[None] * (len(wanted) - len(given)))

    def _bind(self, op: Op, operands: Sequence[object], rest: Goals, found: Bindings) -> bool:
        undo: list[str] = []
        new_alias = bool(self.alias) and self.alias not in found.ops
        outer = found.matched.get(op)
        rest_name = ""
        if self._attributes_match(op, undo, found):
            if new_alias:
                found.ops[self.alias] = op
            found.matched[op] = self.shared or bool(outer)
            patterns = self.operands
            if patterns and isinstance(patterns[-1], RestPattern):
                rest_name = patterns[-1].name
                if rest_name:
                    found.values[rest_name] = operands[-1]  # type: ignore[assignment]  # the tuple `_aligned` put there
                patterns, operands = patterns[:-1], operands[:-1]
            if self._operands_match(patterns, operands, rest, found):
                return True
            if rest_name:
                del found.values[rest_name]
            if outer is None:
                del found.matched[op]
            else:
                found.matched[op] = outer
            if new_alias:
                del found.ops[self.alias]
        for name in undo:
            del found.scalars[name]
        return False

    def _operands_match(self, patterns: tuple[Pattern, ...], operands: Sequence[object], rest: Goals, found: Bindings) -> bool:
        goals = rest
        for pattern, operand in zip(reversed(patterns), reversed(operands), strict=True):
            goals = (pattern, operand, goals)  # type: ignore[assignment]  # tuples were taken off
        if found.proceed(goals):
            return True
        if len(patterns) != 2 or self.domain or not self.names <= COMMUTATIVE:
            return False
        first, second = operands
        return found.proceed((patterns[0], second, (patterns[1], first, rest)))  # type: ignore[arg-type]  # as above

    def _attributes_match(self, op: Op, undo: list[str], found: Bindings) -> bool:
        for wanted in self.attributes:
            actual = attribute_of(op, wanted.attribute)
            if actual is None and not wanted.optional and wanted.name is not None:
                found.fail(f"{op} has no attribute {wanted.attribute}")
                return False
            if wanted.name is None:
                if wanted.literal is not None and not _equal(actual, wanted.literal):
                    if found.remark:
                        found.fail(f"{op} has {wanted.attribute}={actual}, not {wanted.literal}")
                    return False
            elif wanted.name in found.scalars:
                if not _equal(actual, found.scalars[wanted.name]):
                    found.fail(f"{op} has another {wanted.attribute}")
                    return False
            else:
                found.scalars[wanted.name] = actual
                undo.append(wanted.name)
        if self.is_open:
            return True
        for name in op.attributes:
            if name not in self.mentioned and not _is_default(op, name):
                if found.remark:
                    found.fail(f"{op} has {name}={attribute_of(op, name)}")
                return False
        return True


def attribute_of(op: Op, name: str) -> object:
    """An attribute as a plain value (text, number, tuple, tensor), its schema default where absent, else None."""
    value = op.attributes.get(name)
    return plain(value) if value is not None else _default(op.domain, op.name, name)


def plain(value: Attribute | None) -> object:
    """An attribute without ONNX's wrapping."""
    if isinstance(value, EmptyList):
        return ()
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@lru_cache(maxsize=4096)
def _default(domain: str, name: str, attribute: str) -> object:
    version = schema.CANONICAL_OPSET if not domain else schema.NEWEST_KNOWN.get(domain)
    return None if version is None else schema.attribute_default(domain, name, version, attribute)


def _is_default(op: Op, name: str) -> bool:
    default = _default(op.domain, op.name, name)
    return default is not None and _equal(plain(op.attributes[name]), default)


def _equal(actual: object, wanted: object) -> bool:
    """Equality of attributes; floats are stored in single precision."""
    if isinstance(actual, float) and isinstance(wanted, (int, float)):
        return actual == wanted or bool(np.float32(actual) == np.float32(wanted))
    if isinstance(actual, tuple) and isinstance(wanted, tuple):
        return len(actual) == len(wanted) and all(map(_equal, actual, wanted))
    return type(actual) is type(wanted) and bool(actual == wanted)


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
    actual = tensor.array.reshape(-1)[0]
    if tensor.dtype.is_integer:
        return int(actual) == number
    with np.errstate(all="ignore"):
        wanted = np.asarray(number).astype(tensor.dtype.numpy)
    if tolerance:
        return abs(float(actual) - number) <= tolerance * abs(number)
    return float(actual) == float(wanted) and bool(np.signbit(float(actual)) == np.signbit(float(number)))


def _same(known: object, value: Value | None) -> bool:
    if known is value:
        return True
    a = known.constant if isinstance(known, Value) else None
    b = value.constant if value is not None else None
    return a is not None and b is not None and a.byte_count <= 64 and a.same_as(b)


def _spoken(value: Value | None) -> str:
    if value is None:
        return "an operand"
    return f"%{value.name}" if value.name else "an operand" if value.op is None else f"the result of {value.op}"

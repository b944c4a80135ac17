"""The pattern of an op: its name, its operands in either order where it is commutative, its attributes, its results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from irc.ir import Op, Value

from .attributes import attribute_of, equal_attributes, is_default
from .patterns import COMMUTATIVE, Bindings, Goals, Pattern, RestPattern, spoken


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
    mentioned: frozenset[str] = frozenset()

    def roots(self) -> Iterator[OpPattern]:
        """Itself."""
        yield self

    def match(self, value: Value | None, rest: Goals, found: Bindings) -> bool:
        """See Pattern."""
        op = None if value is None else value.op
        if value is None or op is None:
            if found.remark:
                found.fail(f"{spoken(value)} is no {self.spoken}")
            return False
        if op.name not in self.names or op.domain != self.domain or op.version is not None or value.index != self.index:
            if found.remark:
                found.fail(f"{spoken(value)} is made by {op.qualified_name}, not by {self.spoken}")
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

    @cached_property
    def _last(self) -> RestPattern | None:
        """The pattern of all further operands, if it has one."""
        last = self.operands[-1] if self.operands else None
        return last if isinstance(last, RestPattern) else None

    @cached_property
    def _single(self) -> tuple[Pattern, ...]:
        """The patterns that stand for one operand each."""
        return self.operands if self._last is None else self.operands[:-1]

    @cached_property
    def _either_order(self) -> bool:
        return len(self._single) == 2 and not self.domain and self.names <= COMMUTATIVE

    def _aligned(self, op: Op) -> Sequence[Value | None] | None:
        """One operand for each single pattern and then any others, or None when their numbers do not go together."""
        given, wanted = op.operands, len(self._single)
        if len(given) == wanted:
            return given
        if self._last is not None:
            return None if len(given) < wanted else given
        if len(given) > wanted:
            return None if any(v is not None for v in given[wanted:]) else given[:wanted]
        return (*given, *[None] * (wanted - len(given)))

    def _bind(self, op: Op, operands: Sequence[Value | None], rest: Goals, found: Bindings) -> bool:
        undo: list[str] = []
        if self._attributes_match(op, undo, found):
            new_alias = bool(self.alias) and self.alias not in found.ops
            outer = found.matched.get(op)
            rest_name = "" if self._last is None else self._last.name
            if new_alias:
                found.ops[self.alias] = op
            found.matched[op] = self.shared or bool(outer)
            if rest_name:
                found.values[rest_name] = tuple(operands[len(self._single) :])
            if self._operands_match(operands, rest, found):
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

    def _operands_match(self, operands: Sequence[Value | None], rest: Goals, found: Bindings) -> bool:
        patterns, goals = self._single, rest
        for index in range(len(patterns) - 1, -1, -1):
            goals = (patterns[index], operands[index], goals)
        if found.proceed(goals):
            return True
        if not self._either_order:
            return False
        return found.proceed((patterns[0], operands[1], (patterns[1], operands[0], rest)))

    def _attributes_match(self, op: Op, undo: list[str], found: Bindings) -> bool:
        for wanted in self.attributes:
            actual = attribute_of(op, wanted.attribute)
            if actual is None and not wanted.optional and wanted.name is not None:
                if found.remark:
                    found.fail(f"{op} has no attribute {wanted.attribute}")
                return False
            if wanted.name is None:
                if wanted.literal is not None and not equal_attributes(actual, wanted.literal):
                    if found.remark:
                        found.fail(f"{op} has {wanted.attribute}={actual}, not {wanted.literal}")
                    return False
            elif wanted.name in found.scalars:
                if not equal_attributes(actual, found.scalars[wanted.name]):
                    if found.remark:
                        found.fail(f"{op} has another {wanted.attribute}")
                    return False
            else:
                found.scalars[wanted.name] = actual
                undo.append(wanted.name)
        if self.is_open:
            return True
        for name in op.attributes:
            if name not in self.mentioned and not is_default(op, name):
                if found.remark:
                    found.fail(f"{op} has {name}={attribute_of(op, name)}")
                return False
        return True

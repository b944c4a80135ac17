"""The pattern of an op: its name, its operands in either order where it is commutative, its attributes, its results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from irc.ir import Op, Value

from .attributes import attribute_of, equal_attributes, is_default
from .patterns import COMMUTATIVE, Bindings, Bound, Goals, Pattern, RestPattern, spoken


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

    def _aligned(self, op: Op) -> Sequence[Bound] | None:
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

    def _bind(self, op: Op, operands: Sequence[Bound], rest: Goals, found: Bindings) -> bool:
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
                    found.values[rest_name] = operands[-1]
                patterns, operands = patterns[:-1], operands[:-1]
            if self._operands_match(patterns, [v for v in operands if not isinstance(v, tuple)], rest, found):
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

    def _operands_match(
        self, patterns: tuple[Pattern, ...], operands: Sequence[Value | None], rest: Goals, found: Bindings
    ) -> bool:
        goals = rest
        for pattern, operand in zip(reversed(patterns), reversed(operands), strict=True):
            goals = (pattern, operand, goals)
        if found.proceed(goals):
            return True
        if len(patterns) != 2 or self.domain or not self.names <= COMMUTATIVE:
            return False
        first, second = operands
        return found.proceed((patterns[0], second, (patterns[1], first, rest)))

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

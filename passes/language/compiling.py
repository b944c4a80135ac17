"""From a rule's tree to the rule the rewriter drives: its pattern compiled, with what must stand around the root."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from irc.ir import Op, Value

from ..base import Contract
from ..rewriter import Needs, No, Rewriter, Rule
from .building import ARITHMETIC, RightSide
from .checking import check_rule, duplicates
from .errors import Source
from .match import Declared, Demands, Match, admitted
from .op_pattern import AttributePattern, OpPattern
from .patterns import (
    AliasPattern,
    AnyPattern,
    EitherPattern,
    ListPattern,
    NumberPattern,
    Pattern,
    RestPattern,
    ScalarPattern,
)
from .scalars import compiled
from .storing import decoded_rule, encoded, store, stored
from .substitute import walk
from .tree import (
    Alias,
    Alternatives,
    Binary,
    Call,
    Expression,
    Listing,
    Number,
    Operation,
    Result,
    RuleTree,
    ScalarName,
    SetAttribute,
    Shared,
    Text,
    Unary,
    ValueName,
)


def load_rules(path: Path) -> tuple[Rule, ...]:
    """The rules of a file. Raises RuleError for the first mistake in it."""
    return read_rules(path.read_text(encoding="utf-8"), path.name)


def read_rules(text: str, name: str) -> tuple[Rule, ...]:
    """The rules of a text called `name` in messages. Raises RuleError for the first mistake in it."""
    rows = stored(text, name)
    if rows is None:
        from .parser import parse_rules  # lark is needed only where nothing was kept

        source = Source(name, text)
        trees = parse_rules(text, name)
        duplicates(trees, source)
        rows = [_row(tree, source) for tree in trees]
        store(text, name, rows)
    return tuple(_rule(row, name) for row in rows)


def _row(tree: RuleTree, source: Source) -> list[Any]:
    """All of a rule that is needed before it is tried, and its tree, as plain data. Raises RuleError for a mistake in it."""
    check_rule(tree, source)
    roots = list(_Compiler(tree, source).pattern(tree.pattern).roots())
    if not roots or any(root.index for root in roots):
        raise source.error("a rule starts from the first result of an op", tree.pattern.place)
    names = sorted({name for root in roots for name in _qualified(root)})
    needs = {name: [[sorted(wanted) for wanted in row] for row in rows] for name, rows in _needs(roots).items()}
    return [tree.name, names, int(tree.contract), " ".join(tree.doc.split()), tree.sources, needs, encoded(tree)]


def _rule(row: list[Any], file: str) -> Rule:
    name, roots, contract, doc, sources, needs, tree = row
    written = _Written(tree)
    return Rule(
        name,
        tuple(roots),
        Contract(contract),
        _Application(written, file),
        doc=doc,
        sources=tuple(sources),
        written=written,
        needs={root: tuple(tuple(map(frozenset, wanted)) for wanted in rows) for root, rows in needs.items()},
    )


class _Written:
    """The tree of a rule, made when it is first asked for."""

    def __init__(self, row: Any) -> None:
        self._row = row

    @cached_property
    def tree(self) -> RuleTree:
        """The rule as written."""
        return decoded_rule(self._row)

    def __call__(self) -> RuleTree:
        return self.tree


def _qualified(root: OpPattern) -> list[str]:
    return [f"{root.domain}::{name}" if root.domain else name for name in root.names]


def _needs(roots: list[OpPattern]) -> Needs:
    """What the operands of a root must be made by, one row a pattern; a quick test before matching."""
    needs: dict[str, list[tuple[frozenset[str], ...]]] = {}
    for root in roots:
        wanted = tuple(names for names in map(_certain, root.operands) if names)
        for name in _qualified(root):
            needs.setdefault(name, []).append(wanted)
    return {name: tuple(rows) for name, rows in needs.items() if all(rows)}


_CONSTANT = frozenset({"Constant"})


def _certain(pattern: Pattern) -> frozenset[str]:
    """The names one of which the op under `pattern` must have; empty where it may be anything."""
    if isinstance(pattern, OpPattern):
        return pattern.names if not pattern.domain else frozenset()
    if isinstance(pattern, EitherPattern):
        parts = [_certain(item) for item in pattern.items]
        return frozenset[str]().union(*parts) if all(parts) else frozenset()
    return _CONSTANT if isinstance(pattern, (NumberPattern, ScalarPattern, ListPattern)) else frozenset()


@dataclass(frozen=True)
class _Application:
    """The function of a rule; its pattern is compiled when it is first tried, its right side when that first matches."""

    written: _Written
    file: str

    @cached_property
    def tree(self) -> RuleTree:
        """The rule as written."""
        return self.written.tree

    @cached_property
    def pattern(self) -> Pattern:
        """Its pattern, which was checked when it was read."""
        return _Compiler(self.tree, Source(self.file, "")).pattern(self.tree.pattern)

    @cached_property
    def demands(self) -> Demands:
        """What it asks beside its pattern."""
        declared = tuple(Declared.of(declaration) for declaration in self.tree.declarations)
        lets = tuple((let.name[1:], compiled(let.value)) for let in self.tree.lets if let.name[0] == "$")
        return Demands(declared, lets, tuple((compiled(condition), text) for condition, text in self.tree.conditions))

    @cached_property
    def right_side(self) -> RightSide:
        """What it builds."""
        return RightSide.of(self.tree.replacements, self.tree.lets)

    def __call__(self, op: Op, rewrite: Rewriter) -> tuple[Value, ...] | No:
        found = Match(op, rewrite, self.demands)
        if not found.at(self.pattern, op.results[0]):
            return No(found.reason, max(1, found.reached))
        given = len(self.right_side.replacements)
        for index, result in enumerate(op.results[given:], given):
            if result.uses:
                return No(f"its result {index} is used")
        return self.right_side.build(found)


class _Compiler:
    """Turns expressions into patterns."""

    def __init__(self, tree: RuleTree, source: Source) -> None:
        self.source = source
        self.copied = {alias for r in (*tree.replacements, *(let.value for let in tree.lets)) for alias in _copied(r)}
        self.aliases = {node.name for node in walk(tree.pattern) if isinstance(node, Alias)}
        self.dtypes = {name: admitted(given.dtypes) for given in tree.declarations for name in given.names}
        self.constants = {name for condition, _ in tree.conditions for name in _surely_constant(condition)}

    def pattern(self, node: Expression) -> Pattern:
        """The pattern an expression stands for. Raises RuleError for one that is no pattern."""
        match node:
            case ValueName(name=name, suffix="..."):
                return RestPattern(name)
            case ValueName(name=name) if name in self.aliases:
                return AliasPattern(name, 0)
            case ValueName(name=name, suffix=suffix):
                return AnyPattern(name, suffix == "?", self.dtypes.get(name), name in self.constants)
            case Number(value=value, tolerance=tolerance):
                return NumberPattern(value, tolerance)
            case ScalarName(name=name):
                return ScalarPattern(name)
            case Listing(items=items):
                return ListPattern(tuple(self._item(item) for item in items))
            case Alternatives(items=items):
                return EitherPattern(tuple(self.pattern(item) for item in items))
            case Operation():
                return self._operation(node)
            case Binary(operator=sign, left=left, right=right) if sign in ARITHMETIC:
                return OpPattern("", frozenset({ARITHMETIC[sign]}), (self.pattern(left), self.pattern(right)))
            case Unary(operator="-", operand=operand):
                return OpPattern("", frozenset({"Neg"}), (self.pattern(operand),))
            case Alias() | Shared():
                return self._changed(node)
            case Result(pattern=ValueName(name=name), index=index):
                return AliasPattern(name, index)
            case Result(pattern=inner, index=index):
                return self._each(self.pattern(inner), node, index=index)
            case _:
                raise self.source.error("this is no pattern", node.place, "conditions belong after `where`")

    def _changed(self, node: Alias | Shared) -> Pattern:
        inner = self.pattern(node.pattern)
        if isinstance(node, Shared):
            return self._each(inner, node, shared=True)
        return self._each(inner, node, alias=node.name)

    def _each(self, inner: Pattern, node: Expression, **changes: object) -> Pattern:
        if isinstance(inner, EitherPattern):
            return EitherPattern(tuple(self._each(item, node, **changes) for item in inner.items))
        if not isinstance(inner, OpPattern):
            raise self.source.error("this belongs to an op", node.place)
        changed = replace(inner, **changes)  # type: ignore[arg-type]  # fields of OpPattern by name
        return replace(changed, is_open=changed.is_open or changed.alias in self.copied)

    def _operation(self, node: Operation) -> Pattern:
        for operand in node.operands[:-1]:
            if isinstance(operand, ValueName) and operand.suffix == "...":
                raise self.source.error("only the last operand may stand for several", operand.place)
        return OpPattern(
            node.domain,
            frozenset({node.name}),
            tuple(self.pattern(operand) for operand in node.operands),
            tuple(self._attribute(one) for one in node.attributes),
            node.is_open,
            mentioned=frozenset(one.name for one in node.attributes),
        )

    def _attribute(self, one: SetAttribute) -> AttributePattern:
        match one.value:
            case ScalarName(name=name, optional=optional):
                return AttributePattern(one.name, name=name, optional=optional)
            case ValueName(name=""):
                return AttributePattern(one.name, optional=True)
            case Number(value=value) | Text(value=value):
                return AttributePattern(one.name, literal=value)
            case Listing(items=items) if all(isinstance(item, Number) for item in items):
                return AttributePattern(one.name, literal=tuple(item.value for item in items if isinstance(item, Number)))
            case _:
                hint = "bind it to a name, and compare after `where`"
                raise self.source.error("an attribute is compared with a number, word or list", one.place, hint)

    def _item(self, node: Expression) -> int | str | None:
        match node:
            case Number(value=int(value)):
                return value
            case ScalarName(name=name):
                return name
            case ValueName(name=""):
                return None
            case _:
                raise self.source.error("a list in a pattern holds integers and names", node.place)


def _surely_constant(condition: Expression) -> list[str]:
    """The names that `constant(...)` asks about, where the condition holds only if all of them are."""
    match condition:
        case Call(name="constant", arguments=arguments):
            return [argument.name for argument in arguments if isinstance(argument, ValueName)]
        case Binary(operator="and", left=left, right=right):
            return [*_surely_constant(left), *_surely_constant(right)]
        case _:
            return []


def _copied(node: Expression) -> list[str]:
    return [alias for inner in walk(node) if isinstance(inner, Operation) for alias in inner.copies]

"""What can be said of a rule before it runs: every op, attribute, function and name in it exists and is used as it may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from irc.ir import closest, schema, types

from .builders import BUILDERS
from .building import is_scalar
from .errors import RuleError, Source
from .functions import FUNCTIONS, Function
from .match import KINDS
from .substitute import walk
from .tree import Alias, Call, DimName, Expression, Node, Operation, Result, RuleTree, ScalarName, ValueName


@dataclass
class Names:
    """The names a rule binds, without their sigils."""

    values: set[str] = field(default_factory=set[str])
    ops: set[str] = field(default_factory=set[str])
    scalars: set[str] = field(default_factory=set[str])
    dims: set[str] = field(default_factory=set[str])


def check_rule(rule: RuleTree, source: Source) -> None:
    """Raises RuleError for the first mistake in a rule."""
    if not rule.doc:
        raise source.error(f"rule '{rule.name}' has no comment", rule.place, "state its algebra in a comment above it")
    names = Names()
    for node in walk(rule.pattern):
        _check_op(node, source, pattern=True)
        _bind(node, names)
    for declaration in rule.declarations:
        for name in declaration.names:
            if name not in names.values | names.ops:
                raise source.error(f"%{name} is not in the pattern", declaration.place)
        for word in declaration.dtypes:
            if word not in KINDS and word not in types.BY_TEXT:
                hint = closest(word, [*KINDS, *types.BY_TEXT])
                raise source.error(f"there is no type '{word}'", declaration.place, hint)
        names.dims |= {item.name for item in declaration.shape or () if item.name}
    matched = set(names.values)
    for let in rule.lets:
        _check_uses(let.value, names, source)
        if let.name[0] == "$" and not is_scalar(let.value):
            raise source.error(f"{let.name} would be a value; call it %{let.name[1:]}", let.place)
        (names.values if let.name[0] == "%" else names.scalars).add(let.name[1:])
    for condition, text in rule.conditions:
        if not is_scalar(condition):
            raise source.error(f"`{text}` is a value, not a condition", condition.place)
        _check_uses(condition, replace(names, values=matched), source)
    for replacement in rule.replacements:
        _check_uses(replacement, names, source)
    for choice in rule.choices:
        known = {"%": names.values, "$": names.scalars}.get(choice.name[0], names.dims)
        if choice.name.lstrip("%$") not in known:
            raise source.error(f"{choice.name} is not in the rule", choice.place)


def _bind(node: Node, names: Names) -> None:
    if isinstance(node, ValueName) and node.name:
        names.values.add(node.name)
    elif isinstance(node, ScalarName):
        names.scalars.add(node.name)
    elif isinstance(node, Alias):
        names.ops.add(node.name)


def _check_uses(expression: Expression, names: Names, source: Source) -> None:
    """Whether all an expression names is bound, and all it calls exists."""
    for node in walk(expression):
        match node:
            case ValueName(name=name) if name not in names.values | names.ops:
                raise source.error(f"%{name} is not bound by the pattern", node.place, closest(name, sorted(names.values)))
            case ScalarName(name=name) if name not in names.scalars:
                raise source.error(f"${name} is not bound by the pattern", node.place, closest(name, sorted(names.scalars)))
            case DimName(name=name) if name not in names.dims:
                hint = "dims are named by the types after `given`; an op has operands in brackets"
                raise source.error(f"no dim is called {name}", node.place, hint)
            case Call(name=name, arguments=arguments):
                _check_call(node, {**FUNCTIONS, **BUILDERS}.get(name), len(arguments), source)
            case Operation(copies=copies):
                _check_op(node, source, pattern=False)
                for alias in copies:
                    if alias not in names.ops:
                        raise source.error(f"%{alias} is no op of the pattern, so it has no attributes", node.place)
            case Result(pattern=ValueName(name=name)) if name not in names.ops:
                raise source.error(f"%{name} is no op of the pattern, so it has no other results", node.place)
            case _:
                pass


def _check_call(node: Call, function: Function | None, count: int, source: Source) -> None:
    if function is None:
        hint = closest(node.name, [*FUNCTIONS, *BUILDERS]) or f"there are {', '.join([*FUNCTIONS, *BUILDERS])}"
        raise source.error(f"there is no function '{node.name}'", node.place, hint)
    if count < function.least or (function.most is not None and count > function.most):
        wanted = f"{function.least}" if function.least == function.most else f"at least {function.least}"
        raise source.error(f"'{node.name}' is given {count} arguments", node.place, f"it takes {wanted}")


def _check_op(node: Node, source: Source, *, pattern: bool) -> None:
    if not isinstance(node, Operation) or node.domain not in schema.NEWEST_KNOWN:
        return
    version = schema.NEWEST_KNOWN[node.domain] if node.domain else schema.CANONICAL_OPSET
    own = schema.find(node.domain, node.name, version)
    if own is None:
        raise source.error(f"ONNX has no op '{node.name}' at opset {version}", node.place, _near_op(node.name))
    count, variadic = len(node.operands), any(isinstance(n, ValueName) and n.suffix == "..." for n in node.operands)
    if count > own.max_input or (count < own.min_input and not variadic):
        least, most = own.min_input, own.max_input
        wanted = f"{least}" if least == most else f"at least {least}" if most > 100 else f"{least} to {most}"
        raise source.error(f"{node.name} is given {count} operands", node.place, f"it takes {wanted}")
    for attribute in node.attributes:
        if attribute.name not in own.attributes:
            known = sorted(own.attributes)
            hint = closest(attribute.name, known) or (f"it has {', '.join(known)}" if known else "it has none")
            raise source.error(f"{node.name} has no attribute '{attribute.name}'", attribute.place, hint)
        if not pattern and not is_scalar(attribute.value):
            raise source.error(
                f"attribute '{attribute.name}' is a value", attribute.place, "attributes are numbers, words and lists"
            )
    if pattern and node.copies:
        return
    if not pattern and node.is_open:
        raise source.error("`...` says nothing about an op that is made", node.place, "copy attributes with **%name")


def _near_op(name: str) -> str | None:
    return closest(name, sorted({s.name for s in schema.all_schemas() if not s.domain}))


def duplicates(rules: Iterable[RuleTree], source: Source) -> None:
    """Raises RuleError for the first name that is there twice."""
    seen: set[str] = set()
    for rule in rules:
        if rule.name in seen:
            raise source.error(f"rule '{rule.name}' exists already", rule.place, "give it another name")
        seen.add(rule.name)


__all__ = ["RuleError", "check_rule", "duplicates"]

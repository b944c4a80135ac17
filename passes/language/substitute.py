"""Named patterns: a call of one is replaced by its body, with the arguments for its parameters and fresh names for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from .errors import Source
from .tree import Alias, Call, Expression, Node, ScalarName, ValueName


@dataclass(frozen=True)
class Definition:
    """`pattern name(parameters) = body`; parameters carry their sigil."""

    name: str
    parameters: tuple[str, ...]
    body: Expression


def expand(expression: Expression, definitions: Mapping[str, Definition], source: Source) -> Expression:
    """The expression with every call of a named pattern replaced. Raises RuleError for a wrong number of arguments."""
    counter = [0]

    def visit(node: Node) -> Node:
        inner = map_children(node, visit)
        if not isinstance(inner, Call) or inner.name not in definitions:
            return inner
        definition = definitions[inner.name]
        if len(inner.arguments) != len(definition.parameters):
            wanted = f"{definition.name}({', '.join(definition.parameters)})"
            raise source.error(f"'{inner.name}' is given {len(inner.arguments)} operands", inner.place, f"it is {wanted}")
        counter[0] += 1
        return _instantiate(definition, inner.arguments, f"{definition.name}_{counter[0]}_")

    return cast("Expression", visit(expression))


def _instantiate(definition: Definition, arguments: tuple[Expression, ...], prefix: str) -> Node:
    given = dict(zip(definition.parameters, arguments, strict=True))

    def visit(node: Node) -> Node:
        match node:
            case ValueName(name=name) if f"%{name}" in given:
                return given[f"%{name}"]
            case ScalarName(name=name) if f"${name}" in given:
                return given[f"${name}"]
            case ValueName(name=name) if name:
                return replace(node, name=prefix + name)
            case ScalarName(name=name):
                return replace(node, name=prefix + name)
            case Alias(pattern=pattern, name=name):
                argument = given.get(f"%{name}")
                known = argument.name if isinstance(argument, ValueName) else prefix + name
                return replace(node, pattern=cast("Expression", visit(pattern)), name=known)
            case _:
                return map_children(node, visit)

    return visit(definition.body)


def map_children(node: Node, function: Callable[[Node], Node]) -> Node:
    """A copy of `node` with `function` applied to every node directly in it; the node itself where none changes."""
    changes: dict[str, object] = {}
    for one in fields(node):
        value = getattr(node, one.name)
        if isinstance(value, Node):
            new: Any = function(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Node):
            items = cast("tuple[Node, ...]", value)
            new = tuple(function(item) for item in items)
            if all(a is b for a, b in zip(items, new, strict=True)):
                new = items
        else:
            continue
        if new is not value:
            changes[one.name] = new
    return replace(node, **cast("dict[str, Any]", changes)) if changes else node


def children_of(node: Node) -> list[Node]:
    """The nodes directly in `node`."""
    found: list[Node] = []

    def note(child: Node) -> Node:
        found.append(child)
        return child

    map_children(node, note)
    return found


def walk(node: Node) -> list[Node]:
    """The node and all nodes inside it, outer ones first."""
    found: list[Node] = []
    pending = [node]
    while pending:
        current = pending.pop()
        found.append(current)
        pending.extend(reversed(children_of(current)))
    return found


__all__ = ["Definition", "children_of", "expand", "map_children", "walk"]

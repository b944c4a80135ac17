"""The syntax of rules as plain data; every node knows its place in the file, for messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from ..base import Contract


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands in its file, from 1, and how wide it is on its line."""

    line: int
    column: int
    width: int


@dataclass(frozen=True, slots=True)
class Node:
    """A piece of an expression; two nodes are equal when they read the same."""

    place: Place = field(compare=False)


@dataclass(frozen=True, slots=True)
class ValueName(Node):
    """`%x`, `%x?` (may be absent) or `%x...` (all further operands); the name of a wildcard `_` is empty."""

    name: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class ScalarName(Node):
    """`$a`, or `$a?` where an attribute may be absent."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True)
class DimName(Node):
    """A dim bound in the types after `given`."""

    name: str


@dataclass(frozen=True, slots=True)
class Number(Node):
    """A number; as a pattern it admits constants within `tolerance` (relative), by default those that round to it."""

    value: int | float
    tolerance: float = 0.0


@dataclass(frozen=True, slots=True)
class Text(Node):
    """A string, or a bare word such as `f32`."""

    value: str


@dataclass(frozen=True, slots=True)
class Listing(Node):
    """`[a, b]`."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class SetAttribute(Node):
    """`name=expression`."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Operation(Node):
    """An op: in a pattern one to find, on the right one to make.

    `copies` names the matched ops whose attributes are taken over; `is_open` admits attributes that are not mentioned.
    """

    domain: str
    name: str
    operands: tuple[Expression, ...]
    attributes: tuple[SetAttribute, ...] = ()
    copies: tuple[str, ...] = ()
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of `functions.py` or `builders.py`, or a named pattern of the file."""

    name: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """`left operator right`: arithmetic, comparison, `and`, `or`, `in`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """`-operand` or `not operand`."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Conditional(Node):
    """`yes if condition else no`."""

    condition: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True, slots=True)
class Alternatives(Node):
    """`a | b`: the first that leads to a match."""

    items: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Alias(Node):
    """`pattern as %name`: the name stands for the op, and for its first result."""

    pattern: Expression
    name: str


@dataclass(frozen=True, slots=True)
class Result(Node):
    """`pattern.1`: another result than the first."""

    pattern: Expression
    index: int


@dataclass(frozen=True, slots=True)
class Index(Node):
    """`list[i]`."""

    sequence: Expression
    index: Expression


@dataclass(frozen=True, slots=True)
class Shared(Node):
    """`shared pattern`: the op may have users outside the match, and stays for them."""

    pattern: Expression


Expression: TypeAlias = (
    ValueName
    | ScalarName
    | DimName
    | Number
    | Text
    | Listing
    | Operation
    | Call
    | Binary
    | Unary
    | Conditional
    | Alternatives
    | Alias
    | Result
    | Index
    | Shared
)


@dataclass(frozen=True, slots=True)
class ShapeItem:
    """One entry of a shape in `given`: a number, a name, anything (`kind` "any"), or any number of dims ("rest")."""

    kind: str
    name: str = ""
    size: int = 0


@dataclass(frozen=True, slots=True)
class Declaration(Node):
    """`%x %y: f32|f64[N, ...]`."""

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    shape: tuple[ShapeItem, ...] | None


@dataclass(frozen=True, slots=True)
class Let(Node):
    """`let %s = ...` or `let $s = ...`; `name` carries its sigil."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`sample $a in [...]`: what the examples of the rule are made with; `name` carries its sigil, if it has one."""

    name: str
    options: Expression


@dataclass(frozen=True, slots=True)
class RuleTree(Node):
    """One rule as written; `conditions` come with the text they were written as."""

    name: str
    contract: Contract
    doc: str
    sources: tuple[str, ...]
    declarations: tuple[Declaration, ...]
    pattern: Expression
    conditions: tuple[tuple[Expression, str], ...]
    lets: tuple[Let, ...]
    choices: tuple[Choice, ...]
    replacements: tuple[Expression, ...]
    file: str

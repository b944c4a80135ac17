"""The right side of a rule: ordinary ops built in front of the one replaced; constant folding does the arithmetic later.

It is compiled to functions once, because it is built at every match. A number takes its dtype from its place: what the op's
schema fixes there, else that of the operand it shares a type with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from irc.ir import Attribute, DType, SymbolicDim, Tensor, TensorType, Value, schema

from ..rewriter import No
from .attributes import as_list
from .builders import BUILDERS
from .match import Match, Unproven
from .scalars import compiled
from .tree import (
    Binary,
    Call,
    Conditional,
    Expression,
    Let,
    Operation,
    Result,
    Unary,
    ValueName,
)

ARITHMETIC = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div", "**": "Pow", "@": "MatMul"}


def is_scalar(node: Expression) -> bool:
    """Whether an expression stands for a number or list, and no value of the graph."""
    match node:
        case ValueName() | Operation() | Result():
            return False
        case Call(name=name):
            return name not in BUILDERS
        case Binary(left=left, right=right):
            return is_scalar(left) and is_scalar(right)
        case Unary(operand=operand):
            return is_scalar(operand)
        case Conditional(yes=yes, no=no):
            return is_scalar(yes) and is_scalar(no)
        case _:
            return True


Build: TypeAlias = Callable[[Match, DType | None], Value | None]
"""Builds the value an expression stands for in a match; a number becomes a constant of the dtype wanted."""


@dataclass(frozen=True)
class RightSide:
    """The right side of a rule, compiled: what it names with `let %s`, and one value for each result of the root."""

    lets: tuple[tuple[str, Build], ...]
    replacements: tuple[Build, ...]

    @staticmethod
    def of(replacements: Sequence[Expression], lets: Sequence[Let]) -> RightSide:
        """The right side a rule has."""
        named = [(let.name[1:], compiled_value(let.value)) for let in lets if let.name[0] == "%"]
        return RightSide(tuple(named), tuple(compiled_value(node) for node in replacements))

    def build(self, found: Match) -> tuple[Value, ...] | No:
        """The values that replace the root's results, or why they cannot be built."""
        results = found.root.results
        made: list[Value] = []
        try:
            for name, value in self.lets:
                found.values[name] = value(found, None)
            for value, result in zip(self.replacements, results, strict=False):
                kind = result.type
                made.append(_present(value(found, kind.dtype if isinstance(kind, TensorType) else None)))
        except Unproven as unproven:
            return No(str(unproven))
        return (*made, *results[len(made) :])


def compiled_value(node: Expression) -> Build:
    """The function that builds what an expression stands for."""
    if is_scalar(node):
        scalar = compiled(node)
        return lambda found, wanted: _constant(found, scalar(found), wanted)
    match node:
        case ValueName(name=name):
            return lambda found, wanted: found.value(name)
        case Result(pattern=ValueName(name=name), index=index):
            return lambda found, wanted: found.ops[name].results[index]
        case Result(pattern=Operation() as operation, index=index):
            first = _operation(operation)
            return lambda found, wanted: _result(first(found, wanted), index)
        case Conditional(condition=condition, yes=yes, no=no):
            asked, one, other = compiled(condition), compiled_value(yes), compiled_value(no)
            return lambda found, wanted: one(found, wanted) if asked(found) else other(found, wanted)
        case Binary(operator="or", left=left, right=right):
            one, other = compiled_value(left), compiled_value(right)
            return lambda found, wanted: one(found, wanted) or other(found, wanted)
        case Binary(operator=sign, left=left, right=right):
            name, both = ARITHMETIC[sign], _operands((left, right), ("T", "T"), (None, None))
            return lambda found, wanted: found.rewriter.op(name, [_present(value) for value in both(found, wanted)])
        case Unary(operand=operand):
            inner = compiled_value(operand)
            return lambda found, wanted: found.rewriter.op("Neg", [_present(inner(found, wanted))])
        case Operation():
            return _operation(node)
        case Call():
            return _call(node)
        case _:
            raise AssertionError(node)


def _result(first: Value | None, index: int) -> Value:
    assert first is not None
    assert first.op is not None
    return first.op.results[index]


def _call(node: Call) -> Build:
    function = BUILDERS[node.name].function
    arguments = [_argument(argument) for argument in node.arguments]

    def call(found: Match, wanted: DType | None) -> Value:
        made = function(found, *[argument(found, wanted) for argument in arguments])
        assert isinstance(made, Value)
        return made

    return call


def _argument(node: Expression) -> Callable[[Match, DType | None], object]:
    """A builder takes numbers as they are."""
    if not is_scalar(node):
        return compiled_value(node)
    scalar = compiled(node)
    return lambda found, wanted: scalar(found)


def _operation(node: Operation) -> Build:
    operands = _operands(node.operands, *formals(node.domain, node.name, len(node.operands)))
    names = [n.name if isinstance(n, ValueName) else None for n in node.operands]
    several = [names.index(n.name) for n in node.operands if isinstance(n, ValueName) and n.suffix == "..."]
    settings = [(one.name, compiled(one.value)) for one in node.attributes]
    results = _results_needed(node)

    def build(found: Match, wanted: DType | None) -> Value:
        given = operands(found, None)
        for place in several:
            rest = found.values[names[place] or ""]
            assert isinstance(rest, tuple)
            given[place : place + 1] = rest
        while given and given[-1] is None:
            given.pop()
        attributes: dict[str, Attribute] = {}
        for alias in node.copies:
            attributes.update(found.ops[alias].attributes)
        for name, value in settings:
            _set(attributes, name, value(found))
        return found.rewriter.op(node.name, given, attributes, domain=node.domain, results=results)

    return build


def _results_needed(node: Operation) -> int:
    if node.domain:
        return 1
    own = schema.find("", node.name, schema.CANONICAL_OPSET)
    assert own is not None
    return max(1, own.min_output)


def _set(attributes: dict[str, Attribute], name: str, value: object) -> None:
    if value is None:
        attributes.pop(name, None)
        return
    if any(isinstance(v, SymbolicDim) for v in _items(value)):
        raise Unproven(f"{name} would hold a dim that is not known")
    attributes[name] = int(value) if isinstance(value, bool) else value  # type: ignore[assignment]  # plain by now


def _operands(
    nodes: Sequence[Expression], types: Sequence[str], fixed: Sequence[DType | None]
) -> Callable[[Match, DType | None], list[Value | None]]:
    """Values first, because numbers take their dtypes from them; what stands for several operands is left to the caller."""
    own = [i for i, node in enumerate(nodes) if not (isinstance(node, ValueName) and node.suffix == "...")]
    order = sorted(own, key=lambda i: is_scalar(nodes[i]))
    steps = [(i, compiled_value(nodes[i]), types[i], fixed[i]) for i in order]
    numbers_from = sum(not is_scalar(nodes[i]) for i in own)

    def build(found: Match, wanted: DType | None) -> list[Value | None]:
        built: list[Value | None] = [None] * len(nodes)
        known: dict[str, DType] = {}
        for place, (index, make, variable, dtype) in enumerate(steps):
            value = built[index] = make(found, dtype or known.get(variable) or wanted)
            if place < numbers_from and value is not None and isinstance(value.type, TensorType):
                known.setdefault(variable, value.type.dtype)
        return built

    return build


def _constant(found: Match, thing: object, wanted: DType | None) -> Value | None:
    if thing is None or isinstance(thing, Value):
        return thing
    if isinstance(thing, Tensor):
        return found.rewriter.constant(thing)
    items = _items(thing)
    if any(not isinstance(item, (int, float)) for item in items):
        raise Unproven(f"{thing} is not known when compiling")
    dtype = wanted or (DType.I64 if all(isinstance(i, int) for i in items) else None)
    if dtype is None:
        raise Unproven("the dtype of a number is not known")
    with np.errstate(all="ignore"):
        array = np.asarray(thing, np.int64 if dtype.is_integer else np.float64).astype(dtype.numpy)
    return found.rewriter.constant(Tensor.from_array(array, dtype))


def _items(thing: object) -> tuple[object, ...]:
    items = as_list(thing)
    return (thing,) if items is None else items


def _present(value: Value | None) -> Value:
    if value is None:
        raise Unproven("an operand of the right side is absent")
    return value


@lru_cache(maxsize=4096)
def formals(domain: str, name: str, count: int) -> tuple[tuple[str, ...], tuple[DType | None, ...]]:
    """For each of `count` operands: its type variable, and the dtype where the schema leaves no choice."""
    version = schema.NEWEST_KNOWN.get(domain, 1) if domain else schema.CANONICAL_OPSET
    if schema.find(domain, name, version) is None:
        return ("T",) * count, (None,) * count
    rows = schema.formals((domain, name, version))
    types: list[str] = []
    fixed: list[DType | None] = []
    for index in range(count):
        admitted, variable, _ = rows[min(index, len(rows) - 1)]
        types.append(variable or f"#{index}")
        fixed.append(_BY_STRING.get(next(iter(admitted))) if len(admitted) == 1 else _index_dtype(admitted))
    return tuple(types), tuple(fixed)


def _index_dtype(admitted: frozenset[str]) -> DType | None:
    """Operands that are indices admit int32 and int64 only; numbers for them are int64."""
    return DType.I64 if admitted <= _INDEX_STRINGS else None


_INDEX_STRINGS = frozenset({"tensor(int32)", "tensor(int64)"})
_BY_STRING = {schema.type_string(TensorType(d, None)): d for d in DType}

__all__ = ["ARITHMETIC", "RightSide", "formals", "is_scalar"]

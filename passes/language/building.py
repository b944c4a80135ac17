"""The right side of a rule: ordinary ops built in front of the one replaced; constant folding does the arithmetic later.

A number takes its dtype from its place: what the op's schema fixes there, else that of the operand it shares a type with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from irc.ir import Attribute, DType, SymbolicDim, Tensor, TensorType, Value, schema

from ..rewriter import No
from .attributes import as_list
from .builders import BUILDERS
from .match import Match, Unproven
from .scalars import evaluate
from .tree import (
    Binary,
    Call,
    Conditional,
    Expression,
    Let,
    Operation,
    Result,
    SetAttribute,
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


@dataclass
class Builder:
    """Builds the right side of one match."""

    found: Match
    lets: Sequence[Let]

    def build(self, replacements: Sequence[Expression]) -> tuple[Value, ...] | No:
        """The values that replace the root's results, or why they cannot be built."""
        try:
            for let in self.lets:
                if let.name[0] == "%":
                    self.found.values[let.name[1:]] = self.value(let.value, None)
            results = self.found.root.results
            made = [self._needed(node, results[i].type) for i, node in enumerate(replacements[: len(results)])]
        except Unproven as unproven:
            return No(str(unproven))
        return (*made, *results[len(made) :])

    def _needed(self, node: Expression, kind: object) -> Value:
        return _present(self.value(node, kind.dtype if isinstance(kind, TensorType) else None))

    def value(self, node: Expression, wanted: DType | None) -> Value | None:
        """The value an expression stands for; a number becomes a constant of dtype `wanted`."""
        if is_scalar(node):
            return self._constant(evaluate(node, self.found), wanted)
        match node:
            case ValueName(name=name):
                return self.found.value(name)
            case Result(pattern=ValueName(name=name), index=index):
                return self.found.ops[name].results[index]
            case Result(pattern=Operation() as operation, index=index):
                first = self._operation(operation)
                assert first.op is not None
                return first.op.results[index]
            case Conditional(condition=condition, yes=yes, no=no):
                return self.value(yes if evaluate(condition, self.found) else no, wanted)
            case Binary(operator="or", left=left, right=right):
                return self.value(left, wanted) or self.value(right, wanted)
            case Binary(operator=sign, left=left, right=right):
                first, second = self._operands((left, right), ("T", "T"), (None, None), wanted)
                return self.found.rewriter.op(ARITHMETIC[sign], [_present(first), _present(second)])
            case Unary(operand=operand):
                return self.found.rewriter.op("Neg", [_present(self.value(operand, wanted))])
            case Operation():
                return self._operation(node)
            case Call(name=name, arguments=arguments):
                given = [evaluate(a, self.found) if is_scalar(a) else self.value(a, wanted) for a in arguments]
                made = BUILDERS[name].function(self.found, *given)
                assert isinstance(made, Value)
                return made
            case _:
                raise AssertionError(node)

    def _operation(self, node: Operation) -> Value:
        types, fixed = formals(node.domain, node.name, len(node.operands))
        operands = list(self._operands(node.operands, types, fixed, None))
        for name in [n.name for n in node.operands if isinstance(n, ValueName) and n.suffix == "..."]:
            rest = self.found.values[name]
            assert isinstance(rest, tuple)
            place = next(i for i, n in enumerate(node.operands) if isinstance(n, ValueName) and n.name == name)
            operands[place : place + 1] = rest
        while operands and operands[-1] is None:
            operands.pop()
        attributes: dict[str, Attribute] = {}
        for alias in node.copies:
            attributes.update(self.found.ops[alias].attributes)
        for one in node.attributes:
            self._set(attributes, one)
        results = self._results_needed(node)
        return self.found.rewriter.op(node.name, operands, attributes, domain=node.domain, results=results)

    def _results_needed(self, node: Operation) -> int:
        if node.domain:
            return 1
        own = schema.find("", node.name, schema.CANONICAL_OPSET)
        assert own is not None
        return max(1, own.min_output)

    def _set(self, attributes: dict[str, Attribute], one: SetAttribute) -> None:
        value = evaluate(one.value, self.found)
        if value is None:
            attributes.pop(one.name, None)
            return
        if any(isinstance(v, SymbolicDim) for v in _items(value)):
            raise Unproven(f"{one.name} would hold a dim that is not known")
        attributes[one.name] = int(value) if isinstance(value, bool) else value  # type: ignore[assignment]  # plain by now

    def _operands(
        self, nodes: Sequence[Expression], types: Sequence[str], fixed: Sequence[DType | None], wanted: DType | None
    ) -> Sequence[Value | None]:
        """Values first, because numbers take their dtypes from them."""
        built: dict[int, Value | None] = {}
        known: dict[str, DType] = {}
        for index, node in enumerate(nodes):
            if is_scalar(node) or (isinstance(node, ValueName) and node.suffix == "..."):
                continue
            value = built[index] = self.value(node, fixed[index] or known.get(types[index]) or wanted)
            if value is not None and isinstance(value.type, TensorType):
                known.setdefault(types[index], value.type.dtype)
        for index, node in enumerate(nodes):
            if index not in built and is_scalar(node):
                built[index] = self.value(node, fixed[index] or known.get(types[index]) or wanted)
        return [built.get(index) for index in range(len(nodes))]

    def _constant(self, thing: object, wanted: DType | None) -> Value | None:
        if thing is None or isinstance(thing, Value):
            return thing
        if isinstance(thing, Tensor):
            return self.found.rewriter.constant(thing)
        items = _items(thing)
        if any(not isinstance(item, (int, float)) for item in items):
            raise Unproven(f"{thing} is not known when compiling")
        dtype = wanted or (DType.I64 if all(isinstance(i, int) for i in items) else None)
        if dtype is None:
            raise Unproven("the dtype of a number is not known")
        with np.errstate(all="ignore"):
            array = np.asarray(thing, np.int64 if dtype.is_integer else np.float64).astype(dtype.numpy)
        return self.found.rewriter.constant(Tensor.from_array(array, dtype))


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

__all__ = ["ARITHMETIC", "Builder", "formals", "is_scalar"]

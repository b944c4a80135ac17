"""Graphs a rule must match, made from its own text, and near misses it must not.

Every choice comes from one random generator, so that a seed is an example. What chance seldom meets, the rule's `sample`
clauses give. Raises Inapplicable where the choices made do not fit each other; other choices may.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from irc.ir import (
    Attribute,
    Dim,
    DType,
    Graph,
    ModelError,
    Op,
    Tensor,
    TensorType,
    Value,
    at,
    constant_op,
    dims,
    make,
    schema,
)

from ..rewriter import Rule
from .building import ARITHMETIC, formals
from .match import KINDS
from .patterns import COMMUTATIVE
from .samples import bounds_of, constant_names, random_tensor
from .substitute import walk
from .tree import (
    Alias,
    Alternatives,
    Binary,
    Choice,
    Declaration,
    Expression,
    Listing,
    Number,
    Operation,
    Result,
    RuleTree,
    ScalarName,
    SetAttribute,
    ShapeItem,
    Shared,
    Text,
    Unary,
    ValueName,
)

SIZES = (1, 2, 3, 4)
_USUAL = [DType.F32, DType.F64, DType.F16, DType.I64, DType.I32, DType.I8, DType.U8, DType.BOOL]


class Inapplicable(Exception):  # noqa: N818  # not an error: the choices did not fit
    """The choices made for an example do not fit each other."""


@dataclass(frozen=True)
class Example:
    """A graph that the rule should match at its last op; `inner` are ops that nothing outside may use, `literals` constants
    that stand for numbers of the pattern, `sizes` the named dims."""

    graph: Graph
    root: Op
    inner: tuple[Op, ...]
    literals: tuple[Op, ...]
    edges: tuple[tuple[Op, int], ...]
    sizes: dict[str, int]


def make_example(rule: RuleTree, seed: int, *, symbolic: bool = False) -> Example:
    """The example of a seed; with `symbolic` the dims of inputs that the rule names are named. Raises Inapplicable."""
    try:
        return _Maker(rule, random.Random(seed), symbolic).example()
    except ModelError as error:
        raise Inapplicable(str(error)) from error


def example_graphs(rule: Rule, tries: int) -> Iterator[Graph]:
    """The graphs of the first seeds that make sense, for a rule from a rule file; none for one in Python."""
    for seed in range(tries if rule.tree is not None else 0):
        with contextlib.suppress(Inapplicable):
            assert rule.tree is not None
            yield make_example(rule.tree, seed).graph


@dataclass
class _Maker:
    rule: RuleTree
    rng: random.Random
    symbolic: bool
    graph: Graph = field(default_factory=lambda: Graph("example"))
    values: dict[str, Value | None] = field(default_factory=dict[str, Value | None])
    rests: dict[str, list[Value]] = field(default_factory=dict[str, list[Value]])
    scalars: dict[str, object] = field(default_factory=dict[str, object])
    dims: dict[str, int | tuple[int, ...]] = field(default_factory=dict[str, int | tuple[int, ...]])
    ops: dict[str, Op] = field(default_factory=dict[str, Op])
    dtypes: dict[tuple[str, ...], DType] = field(default_factory=dict[tuple[str, ...], DType])
    inner: list[Op] = field(default_factory=list[Op])
    literals: list[Op] = field(default_factory=list[Op])
    made: set[Op] = field(default_factory=set[Op])
    edges: list[tuple[Op, int]] = field(default_factory=list[tuple[Op, int]])

    def __post_init__(self) -> None:
        self.declared = {name: d for d in self.rule.declarations for name in d.names}
        self.aliases = {node.name: node for node in walk(self.rule.pattern) if isinstance(node, Alias)}
        self.constants = constant_names(self.rule)
        self.bounds = bounds_of(self.rule)
        self.absent: dict[str, bool] = {}
        for choice in self.rule.choices:
            self._choose(choice)

    def example(self) -> Example:
        """The whole graph."""
        result = self.value(self.rule.pattern, None)
        assert result is not None
        root = result.op
        assert root is not None
        self.inner = [op for op in self.inner if op is not root]
        for index, value in enumerate(root.results):
            if index < len(self.rule.replacements):
                self.graph.add_output(value, f"y{index}")
        sizes = {name: size for name, size in self.dims.items() if isinstance(size, int)}
        return Example(self.graph, root, tuple(self.inner), tuple(self.literals), tuple(self.edges), sizes)

    def _choose(self, choice: Choice) -> None:
        if not isinstance(choice.options, Listing):
            raise Inapplicable(f"{choice.name} has no list of options")
        option = _literal(self.rng.choice(choice.options.items))
        if choice.name[0] == "$":
            self.scalars[choice.name[1:]] = option
        elif choice.name[0] == "%":
            self.absent[choice.name[1:]] = not option
        else:
            self.dims[choice.name] = option if isinstance(option, tuple) else int(option)  # type: ignore[arg-type, call-overload]  # sizes

    def value(self, node: Expression, wanted: DType | None) -> Value | None:
        """The value an expression of the pattern stands for, made where it is not there yet."""
        match node:
            case ValueName():
                return self._captured(node, wanted)
            case Number(value=number):
                made = self._constant(number, wanted or DType.F32)
                self.literals.append(made)
                return made.result
            case ScalarName(name=name):
                number = self.scalars.setdefault(name, self.rng.choice([0.5, 2.0, 0.125]))
                own = wanted or (DType.F32 if isinstance(number, float) else DType.I64)
                return self._constant(number, own).result
            case Listing(items=items):
                numbers = [self._item(item) for item in items]
                return self._constant(tuple(numbers), DType.I64).result
            case Alternatives(items=items):
                return self.value(self.rng.choice(items), wanted)
            case Shared(pattern=pattern):
                count = len(self.inner)
                made = self.value(pattern, wanted)
                kept = [op for op in self.inner[count:] if made is None or op is not made.op]
                self.inner = [*self.inner[:count], *kept]
                return made
            case Alias(name=name):
                return self._aliased(name, node).results[0]
            case Result(pattern=ValueName(name=name), index=index):
                return self._aliased(name, self.aliases[name]).results[index]
            case Result(pattern=inner, index=index):
                made = self.value(inner, wanted)
                assert made is not None
                assert made.op is not None
                return made.op.results[index]
            case Operation():
                return self._operation(node.domain, node.name, node.operands, node.attributes, wanted, 1).results[0]
            case Binary(operator=sign, left=left, right=right):
                return self._operation("", ARITHMETIC[sign], (left, right), (), wanted, 1).results[0]
            case Unary(operand=operand):
                return self._operation("", "Neg", (operand,), (), wanted, 1).results[0]
            case _:
                raise Inapplicable(f"{type(node).__name__} is no pattern")

    def _aliased(self, name: str, node: Alias) -> Op:
        if name not in self.ops:
            wanted = [n.index for n in walk(self.rule.pattern) if isinstance(n, Result) and _names(n.pattern, name)]
            inner = node.pattern.pattern if isinstance(node.pattern, Shared) else node.pattern
            if isinstance(inner, Operation):
                count = max([0, *wanted]) + 1
                self.ops[name] = self._operation(inner.domain, inner.name, inner.operands, inner.attributes, None, count)
                if isinstance(node.pattern, Shared):
                    self.inner.remove(self.ops[name])
            else:
                made = self.value(inner, None)
                if made is None or made.op is None:
                    raise Inapplicable(f"%{name} is no op")
                self.ops[name] = made.op
        return self.ops[name]

    def _operation(
        self,
        domain: str,
        name: str,
        operands: Sequence[Expression],
        attributes: Sequence[SetAttribute],
        wanted: DType | None,
        results: int,
    ) -> Op:
        types, fixed = formals(domain, name, len(operands))
        built = self._operands(operands, types, fixed, wanted)
        flat: list[Value | None] = []
        for node, value in zip(operands, built, strict=True):
            if isinstance(node, ValueName) and node.suffix == "...":
                flat.extend(self.rests[node.name])
            else:
                flat.append(value)
        if len(flat) == 2 and not domain and name in COMMUTATIVE and self.rng.random() < 0.5:
            flat.reverse()
        while flat and flat[-1] is None:
            flat.pop()
        given: dict[str, Attribute] = {}
        for one in attributes:
            value = self._attribute(domain, name, one)
            if value is not None:
                given[one.name] = value  # type: ignore[assignment]  # plain values are attributes
        least = schema.find(domain, name, schema.CANONICAL_OPSET) if not domain else None
        count = max(results, least.min_output if least is not None else 1)
        made = self.graph.append(
            make(name, flat, at(f"{name}-{self.graph.size}"), attributes=given, results=count, domain=domain)
        )
        self.inner.append(made)
        self.made.add(made)
        for index, operand in enumerate(flat):
            if operand is not None and operand.op in self.made:
                self.edges.append((made, index))
        return made

    def _operands(
        self, nodes: Sequence[Expression], types: Sequence[str], fixed: Sequence[DType | None], wanted: DType | None
    ) -> list[Value | None]:
        built: dict[int, Value | None] = {}
        known: dict[str, DType] = {}
        loose = (Number, ScalarName)
        order = sorted(range(len(nodes)), key=lambda i: (isinstance(nodes[i], loose), not _is_op(nodes[i])))
        for index in order:
            dtype = fixed[index] or known.get(types[index]) or wanted
            built[index] = value = self.value(nodes[index], dtype)
            if value is not None and isinstance(value.type, TensorType):
                known.setdefault(types[index], value.type.dtype)
        return [built[index] for index in range(len(nodes))]

    def _attribute(self, domain: str, name: str, one: SetAttribute) -> object:
        match one.value:
            case ScalarName(name=bound, optional=optional):
                if bound not in self.scalars:
                    default = schema.attribute_default(domain, name, schema.CANONICAL_OPSET, one.name)
                    if default is None and not optional:
                        raise Inapplicable(f"${bound} needs a `sample`")
                    self.scalars[bound] = default
                return self.scalars[bound]
            case ValueName():
                return None
            case _:
                return _literal(one.value)

    def _item(self, node: Expression) -> int:
        match node:
            case Number(value=value):
                return int(value)
            case ScalarName(name=name):
                number = self.scalars.setdefault(name, self.rng.choice(SIZES))
                if not isinstance(number, int):
                    raise Inapplicable(f"${name} is no integer")
                return number
            case _:
                return self.rng.choice(SIZES)

    def _captured(self, node: ValueName, wanted: DType | None) -> Value | None:
        name = node.name or f"_{self.graph.size}_{len(self.graph.inputs)}"
        if node.suffix == "...":
            if name not in self.rests:
                self.rests[name] = [self._fresh(f"{name}{i}", name, wanted) for i in range(self.rng.randint(1, 2))]
            return None
        if name in self.ops:
            return self.ops[name].results[0]
        if name in self.aliases:
            return self._aliased(name, self.aliases[name]).results[0]
        if name not in self.values:
            missing = node.suffix == "?" and self.absent.get(name, self.rng.random() < 0.5)
            self.values[name] = None if missing else self._fresh(name, name, wanted)
        return self.values[name]

    def _fresh(self, name: str, declared: str, wanted: DType | None) -> Value:
        declaration = self.declared.get(declared)
        dtype = self._dtype(declaration, wanted)
        sizes, named = self._shape(declaration)
        if declared in self.constants:
            bounds = self.bounds.get(declared)
            constant = self.graph.append(constant_op(random_tensor(dtype, sizes, self.rng, bounds), at(name), name))
            if bounds is not None and bounds[0] == bounds[1]:
                self.literals.append(constant)
            return constant.result
        shape: tuple[Dim, ...] = tuple(named) if self.symbolic else tuple(sizes)
        return self.graph.add_input(name, TensorType(dtype, shape))

    def _dtype(self, declaration: Declaration | None, wanted: DType | None) -> DType:
        if declaration is None:
            return wanted or next(iter(self.dtypes.values()), DType.F32)
        admitted = [d for d in _USUAL if any(d in KINDS[w] if w in KINDS else d.text == w for w in declaration.dtypes)]
        if wanted is not None and wanted in admitted:
            self.dtypes.setdefault(declaration.dtypes, wanted)
            return wanted
        if not admitted:
            raise Inapplicable(f"no usual dtype is {' or '.join(declaration.dtypes)}")
        if declaration.dtypes not in self.dtypes:
            likely = [d for d in admitted if d in (DType.F32, DType.F64, DType.I64)] or admitted
            self.dtypes[declaration.dtypes] = self.rng.choice([*likely, *admitted])
        return self.dtypes[declaration.dtypes]

    def _shape(self, declaration: Declaration | None) -> tuple[list[int], list[Dim]]:
        if declaration is None or declaration.shape is None:
            size = self.dims.setdefault("...", (2, 3))
            assert isinstance(size, tuple)
            return list(size), list(size)
        sizes: list[int] = []
        named: list[Dim] = []
        for item in declaration.shape:
            got = self._item_sizes(item)
            sizes.extend(got)
            plain = item.kind == "named" and self.dims.get(item.name) not in (None, 1)
            named.extend([dims.named(item.name)] if plain else got)
        return sizes, named

    def _item_sizes(self, item: ShapeItem) -> tuple[int, ...]:
        if item.kind == "fixed":
            return (item.size,)
        if item.kind == "any":
            return (self.rng.choice(SIZES),)
        if item.kind == "named":
            size = self.dims.setdefault(item.name, self.rng.choice(SIZES))
            return size if isinstance(size, tuple) else (size,)
        name = item.name or "..."
        rest = self.dims.setdefault(name, tuple(self.rng.choice(SIZES) for _ in range(self.rng.randint(0, 2))))
        return rest if isinstance(rest, tuple) else (rest,)

    def _constant(self, thing: object, dtype: DType) -> Op:
        with np.errstate(all="ignore"):
            array = np.asarray(thing).astype(dtype.numpy)
        return self.graph.append(constant_op(Tensor.from_array(array, dtype), at(f"constant-{self.graph.size}")))


def _literal(node: Expression) -> object:
    match node:
        case Number(value=value) | Text(value=value):
            return value
        case Listing(items=items):
            return tuple(_literal(item) for item in items)
        case _:
            raise Inapplicable(f"{type(node).__name__} is no literal")


def _names(node: Expression, name: str) -> bool:
    return (isinstance(node, ValueName) and node.name == name) or (isinstance(node, Alias) and node.name == name)


def _is_op(node: Expression) -> bool:
    return not isinstance(node, (ValueName, Listing))


__all__ = ["Example", "example_graphs", "Inapplicable", "make_example"]

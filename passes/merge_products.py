"""Products of one value with several constant matrices (query, key, value; gate and up) become one, split afterwards.

It pays where few rows are multiplied, because there starting a product costs as much as doing it. On ONNX Runtime with two
threads, merged query, key and value take 0.75 of the time for 1 row, 0.93 for 4 and for 32, and 1.05 for 128, because Split
copies; gate and up 1.0 up to 32 rows, and more beyond. So it is done where the number of rows is known and small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from irc.ir import Attribute, Graph, Op, Tensor, Value, constant_op, dims, make, types, via

from .base import Application, Context, Contract, Pass, erase_dead
from .rules.affine import MOST_COMPUTED, bias_of
from .rules.matmuls import Product, product_of


@dataclass(frozen=True)
class Member:
    """One of the products to merge; `last` makes its result: the product itself, or the Add of a constant behind it."""

    product: Product
    last: Op

    @property
    def op(self) -> Op:
        """The MatMul or Gemm."""
        return self.product.op

    @property
    def kind(self) -> tuple[object, ...]:
        """What members of one group have in common besides their first operand."""
        found = self.product
        biased = found.op.name == "Gemm" and found.bias is not None
        return (found.op.name, biased, found.weight.dtype, found.inner, found.alpha)

    def alone(self) -> Member:
        """The product without the Add behind it."""
        return self if self.last is self.op else Member(replace(self.product, bias=None), self.op)


@dataclass(frozen=True)
class MergeProducts(Pass, name="merge-products", contract=Contract.REASSOCIATING):
    """Merge products of one value with several constant matrices where it has at most `most_rows` rows.

    Or where the matrices have at most `smallest` elements together: then starting a product costs most, whatever the rows.
    """

    most_rows: int = 32
    smallest: int = 16384

    def run(self, graph: Graph, context: Context) -> None:
        """Look at the products in order; a body merges its own."""
        for body in [graph, *(body for op in graph.walk() for body in op.bodies)]:
            for op in [op for op in body if op.is_a("MatMul", "Gemm")]:
                if op.graph is not None:
                    group = _group_of(op)
                    size = sum(member.product.weight.size for member in group)
                    if len(group) > 1 and (size <= self.smallest or self._rows(op) is not None):
                        _merge(group, op, context, self.name)

    def _rows(self, op: Op) -> int | None:
        """How many rows are multiplied, if they are known and few."""
        shape = op.needed(0).shape
        rows = None if shape is None or len(shape) < 2 else dims.product(shape[:-1])
        return rows if isinstance(rows, int) and 0 < rows <= self.most_rows else None


def _member(op: Op) -> Member | None:
    """A product that can be merged: by a matrix that nothing else uses, whose bias, if it has one, is constant."""
    if op.operand(1) is None or not op.needed(1).has_one_use or op.integer("transA", 0):
        return None
    found = product_of(op)
    if not isinstance(found, Product) or len(found.weight.shape) != 2:
        return None
    user = op.result.users[0] if op.result.has_one_use and op.result.users else None
    if op.name == "MatMul" and user is not None and user.is_a("Add") and user.graph is op.graph:
        constant = user.constant_operand(1 if user.operands[0] is op.result else 0)
        if constant is not None and constant.shape == (found.columns,):
            bias = constant.array.astype(np.float64)
            return Member(Product(op, found.weight, False, bias, found.rank), user)
    return Member(found, op)


def _group_of(op: Op) -> list[Member]:
    """The products that can be merged with `op`, in the order of the graph; only from the first one on."""
    first = _member(op)
    if first is None:
        return []
    users = dict.fromkeys(user for user in op.needed(0).users if user.is_a(op.name) and user.graph is op.graph)
    members = [member for user in users if user.operands[0] is op.operands[0] and (member := _member(user)) is not None]
    group = [member for member in members if member.kind == first.kind]
    return group if all(member.product.bias is not None for member in group) else [member.alone() for member in group]


def _merge(group: list[Member], place: Op, context: Context, name: str) -> None:
    """One product and a Split in front of `place`, the first member; its parts take the place of each."""
    created = _build(group, place, name)
    if created is None:
        return
    try:
        for member, part in zip(group, created[-1].results, strict=True):
            old = member.last.result
            if context.refuses(Application(name, Contract.REASSOCIATING, member.last, (old,), (part,), tuple(created))):
                continue
            context.take(name)
            part.name, part.type = old.name, types.merge(part.type, old.type)
            old.replace_by(part)
            erase_dead(member.last)
    finally:
        erase_dead(created[-1])


def _build(group: list[Member], place: Op, name: str) -> list[Op] | None:
    products = [member.product for member in group]
    first, dtype = products[0], products[0].weight.dtype
    arrays = [p.weight.array.T if p.transposed else p.weight.array for p in products]
    biases = [bias_of(p.bias, p.columns, dtype) for p in products if p.bias is not None]
    vectors = [bias.array for bias in biases if isinstance(bias, Tensor)]
    if len(vectors) != len(biases):
        return None
    location = via(name, *dict.fromkeys(op.location for member in group for op in (member.op, member.last)))
    if sum(p.weight.byte_count for p in products) > MOST_COMPUTED:
        return None
    created: list[Op] = []

    def new(op: Op) -> Value:
        assert place.graph is not None
        created.append(place.graph.insert(op, place))
        return op.results[0]

    def constant(tensor: Tensor) -> Value:
        return new(constant_op(tensor, location))

    weight = constant(Tensor.from_array(np.concatenate(arrays, axis=1), dtype))
    bias = constant(Tensor.from_array(np.concatenate(vectors), dtype)) if vectors else None
    if first.op.name == "Gemm":
        attributes: dict[str, Attribute] = {"alpha": first.alpha} if first.alpha != 1.0 else {}
        product = new(make("Gemm", [first.source, weight, *([] if bias is None else [bias])], location, attributes=attributes))
    else:
        product = new(make("MatMul", [first.source, weight], location))
        product = product if bias is None else new(make("Add", [product, bias], location))
    sizes = constant(Tensor.integers([p.columns for p in products]))
    new(make("Split", [product, sizes], location, attributes={"axis": -1}, results=len(products)))
    return created

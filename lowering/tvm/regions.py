"""Which ops one kernel computes: a main op with the pointwise ops behind it, or pointwise ops that feed each other.

Law: nothing within a region is used outside but its result, what widens a narrow value, which each reader does for itself, and
what `keeps` says; regions are in an order in which each finds what it takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from irc.ir import DType, Graph, Op, Value

from .expressions import Tree, dtype_of, from_memory, only_user, shape_of
from .narrow import is_narrowing, is_widening, narrow
from .scaling import is_pointwise

MOST_LEAVES = 12
"""Values from memory that a kernel of pointwise ops takes: each is a pointer and a stream."""
NARROW = (DType.BF16, DType.U8, DType.I8)
"""Element types that results may be narrowed to on their way to memory."""
MOST_OPS = 48
"""Pointwise ops in a kernel: more than registers hold, and text that takes long to build."""


@dataclass(frozen=True, slots=True)
class Region:
    """A `main` op with the pointwise ops on its result, or these alone.

    One that `keeps` has what the main op makes for a result, too, and makes it narrow besides.
    """

    main: Op | None
    tree: Tree | None
    keeps: bool = False

    @property
    def op(self) -> Op:
        """The main op, where there is one."""
        assert self.main is not None
        return self.main

    @property
    def result(self) -> Value:
        """What the last op makes."""
        return self.ops[-1].result

    @property
    def ops(self) -> tuple[Op, ...]:
        """All ops, in order."""
        return (*(() if self.main is None else (self.main,)), *(() if self.tree is None else self.tree.ops))


def regions(graph: Graph, with_epilogue: Sequence[str], keeping: Collection[str] = ()) -> list[Region]:
    """The regions of a graph; ops that are called one of `with_epilogue` take the pointwise ops behind them along.

    What those called one of `keeping` make may be read as it is and narrow: both are made then.
    """
    order = {op: number for number, op in enumerate(graph)}
    taken: set[Op] = set()
    found: list[Region] = []
    for op in graph:
        if op.is_constant or is_pointwise(op):
            continue
        chain = _chain(op, taken) if op.qualified_name in with_epilogue else []
        keeps = not chain and op.qualified_name in keeping
        chain = _narrowing(op.results[0]) if keeps else chain
        taken.update(chain)
        found.append(Region(op, tree_of(chain, op.results[0]) if chain else None, bool(chain) and keeps))
    for op in reversed(list(graph)):
        if is_pointwise(op) and op not in taken:
            members = [op] if is_widening(op) else _members(op, taken, order)
            taken.update(members)
            found.append(Region(None, tree_of(members)))
    return sorted(found, key=lambda region: order[region.op if region.keeps else region.ops[-1]])


def tree_of(ops: Sequence[Op], seed: Value | None = None) -> Tree:
    """The ops as a tree, with what they take from elsewhere; what lies narrow is widened by each tree that takes it."""
    widening = [value.op for op in ops for value in op.operands if value is not None and narrow(value) is not None]
    ops = (*dict.fromkeys(op for op in widening if op is not None), *ops)
    made = {op.result for op in ops}
    needed = {value: None for op in ops for value in from_memory(op)}
    return Tree(tuple(ops), tuple(value for value in needed if value not in made and value is not seed), seed)


def _joins(op: Op) -> bool:
    """Whether an op is computed with others: what widens is so with each of its readers, and by itself for all others."""
    return is_pointwise(op) and not is_widening(op)


def _chain(main: Op, taken: set[Op]) -> list[Op]:
    """The pointwise ops that follow one another behind `main`, each the only user of the one before, all of one shape."""
    chain: list[Op] = []
    result = value = main.results[0]
    while (user := only_user(value)) is not None and _joins(user) and user not in taken and len(chain) < MOST_OPS:
        if shape_of(user.result) != shape_of(result):
            break
        if dtype_of(user.result) not in (dtype_of(result), *NARROW):
            break
        if len(tree_of([*chain, user], result).leaves) > MOST_LEAVES:
            break
        chain.append(user)
        value = user.result
    return chain


def _narrowing(value: Value) -> list[Op]:
    """The first op that makes a value narrow, which others read as it is; none where there is no such op."""
    return [op for op in value.users if is_narrowing(op)][:1]


def _members(root: Op, taken: set[Op], order: Mapping[Op, int]) -> list[Op]:
    """The pointwise ops that only `root` and each other need, of its shape, in order."""
    members = {root}
    frontier = [root]
    while frontier:
        for value in frontier.pop().operands:
            producer = None if value is None else value.op
            if producer is None or producer in taken or producer in members or not _joins(producer):
                continue
            inside = value is not None and not value.is_output and all(user in members for user in value.users)
            if not inside or shape_of(producer.result) != shape_of(root.result) or len(members) >= MOST_OPS:
                continue
            if len(tree_of(sorted([*members, producer], key=order.__getitem__)).leaves) > MOST_LEAVES:
                continue
            members.add(producer)
            frontier.append(producer)
    return sorted(members, key=order.__getitem__)

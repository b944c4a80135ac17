"""Which ops around a Transpose are worth running with their dims in another order, as a cheapest cut.

Each op of the region runs as it is or flipped. A value costs a Transpose where what makes it and what uses it differ in that;
a Transpose of the model between the two forms is a place where they differ already. So what costs least is a cut between
the ends that have one form and the ends that have the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from irc.ir import Graph, Op, Value

from ..permutations import Permutation, compose, is_identity, moves_elements, permutation_of, swaps_last
from .cuts import Network
from .flips import Flip, flip_of, size_of

OVERHEAD = 2048
"""What running one more op costs, in elements moved."""
_ENDLESS = 1 << 62


class End(Enum):
    """What is not an op of the region: it has, or wants, the flipped form, or the plain one, or either."""

    FLIPPED = 0
    PLAIN = 1
    EITHER = 2


Side: TypeAlias = "Op | End"


@dataclass
class Region:
    """The values that may be permuted, each with its permutation, and the ops that may be flipped for it."""

    graph: Graph
    forms: dict[Value, Permutation] = field(default_factory=dict[Value, Permutation])
    flips: dict[Op, Flip] = field(default_factory=dict[Op, Flip])
    refused: set[Op] = field(default_factory=set[Op])
    is_whole: bool = True
    """Whether it ends where it must, not where it grew too large."""

    def maker_of(self, value: Value) -> Side:
        """What decides the form a value is made in."""
        op = value.op
        if op is None:
            return End.PLAIN
        if op in self.flips:
            return op if self.flips[op].results[value.index] is not None else End.PLAIN
        if op.is_constant:
            return End.EITHER
        if not op.is_a("Transpose") or op.graph is not self.graph:
            return End.PLAIN
        back = permutation_of(op)
        if back is None:
            return End.PLAIN
        return End.FLIPPED if is_identity(compose(self.forms[value], back)) else End.EITHER

    def users_of(self, value: Value) -> list[Side]:
        """What decides the forms a value is wanted in."""
        sides: dict[Side, None] = {}
        for user, index in value.uses:
            if isinstance(user, Graph):
                sides[End.PLAIN] = None
            elif user in self.flips:
                sides[user if self.flips[user].operands[index] is not None else End.PLAIN] = None
            elif self.turns(user, value):
                if not is_absorbed(user):
                    sides[End.FLIPPED] = None
            elif user.is_a("Transpose") and user.graph is self.graph and not is_absorbed(user):
                sides[End.EITHER] = None
            else:
                sides[End.PLAIN] = None
        return list(sides)

    def turns(self, user: Op, value: Value) -> bool:
        """Whether a user is the Transpose that makes the flipped form of a value."""
        return user.is_a("Transpose") and user.graph is self.graph and permutation_of(user) == self.forms[value]

    def cost_of(self, value: Value) -> int:
        """What a Transpose of the value costs."""
        if value.op is not None and value.op.is_a("Transpose") and is_absorbed(value.op):
            return 0
        return cost_of_moving(value, self.forms[value])


def cost_of_moving(value: Value, permutation: Permutation) -> int:
    """What a Transpose of a value costs."""
    assert value.shape is not None
    if value.constant is not None:
        return 0  # it is folded
    return OVERHEAD + size_of(value.shape) if moves_elements(permutation, value.shape) else OVERHEAD // 8


def cost_of_transposes(ops: Iterable[Op]) -> int:
    """What the transposes among some ops cost."""
    total = 0
    for op in ops:
        permutation = permutation_of(op) if op.is_a("Transpose") and not is_absorbed(op) else None
        total += 0 if permutation is None else cost_of_moving(op.needed(0), permutation)
    return total


def is_absorbed(transpose: Op) -> bool:
    """Whether engines take a Transpose into the products behind it."""
    permutation = permutation_of(transpose)
    if permutation is None or not swaps_last(permutation) or transpose.result.is_output or not transpose.result.uses:
        return False
    return all(user.is_a("MatMul", "Gemm") for user in transpose.result.users)


def explore(graph: Graph, seed: Value, permutation: Permutation, most: int, exact: bool) -> Region:
    """The region of at most about `most` values around one that is to be permuted, the nearest first.

    With `exact`, of ops whose answers keep their bits.
    """
    region = Region(graph, {seed: permutation})
    pending = deque([seed])
    while pending and len(region.forms) < most:
        value = pending.popleft()
        around = [user for user in value.users if user.graph is graph]
        if value.op is not None and value.op.graph is graph and not value.op.is_constant:
            around.insert(0, value.op)
        for op in around:
            if op in region.flips or op in region.refused or op.is_a("Transpose"):
                continue
            flip = flip_of(op, value, region.forms[value])
            found = None if flip is None or (exact and not flip.exact) else _forms_of(op, flip, region)
            if flip is None or found is None:
                region.refused.add(op)
                continue
            region.flips[op] = flip
            for new, form in found.items():
                if new not in region.forms:
                    region.forms[new] = form
                    if new.constant is None:
                        pending.append(new)
    region.is_whole = not pending
    _settle(region)
    return region


def _forms_of(op: Op, flip: Flip, region: Region) -> dict[Value, Permutation] | None:
    """The permutations that a flip wants of the values of its op, or None where they contradict each other or the region."""
    forms: dict[Value, Permutation] = {}
    pairs = [*zip(op.operands, flip.operands, strict=False), *zip(op.results, flip.results, strict=True)]
    for value, form in pairs:
        if value is None or form is None:
            continue
        if value.shape is None or len(value.shape) != len(form):
            if value.constant is None:
                return None
            continue  # a constant of fewer dims is brought to all of them
        if forms.setdefault(value, form) != form or region.forms.get(value, form) != form:
            return None
    return forms


def _settle(region: Region) -> None:
    """Take out the ops that came in before a value of theirs turned out to have another form."""
    for op, flip in list(region.flips.items()):
        if _forms_of(op, flip, region) is None:
            del region.flips[op]


def best_flips(region: Region) -> dict[Op, Flip]:
    """The ops whose flipping makes the region cheapest; none where nothing is gained."""
    if not region.flips:
        return {}
    network = Network()
    source, sink = 0, 1

    def number(side: Side) -> int:
        if isinstance(side, Op):
            return network.node(side)
        if side is End.EITHER:
            return network.fresh()
        return source if side is End.FLIPPED else sink

    for value in region.forms:
        users = region.users_of(value)
        if all(side is End.EITHER for side in users):
            continue
        maker, cost = number(region.maker_of(value)), region.cost_of(value)
        if_plain, if_flipped = network.fresh(), network.fresh()
        network.edge(maker, if_plain, cost)
        network.edge(if_flipped, maker, cost)
        for side in users:
            if side is not End.EITHER:
                network.edge(if_plain, number(side), _ENDLESS)
                network.edge(number(side), if_flipped, _ENDLESS)
    for op, flip in region.flips.items():
        if flip.cost > 0:
            network.edge(number(op), sink, flip.cost)
        elif flip.cost < 0:
            network.edge(source, number(op), -flip.cost)
    side = network.source_side()
    flipped = {op: flip for op, flip in region.flips.items() if network.numbers.get(op) in side}
    return flipped if total_cost(region, flipped) < total_cost(region, ()) else {}


def total_cost(region: Region, flipped: Collection[Op]) -> int:
    """What the transposes of a region cost, and its ops more than before, when these ops are flipped."""

    def is_flipped(side: Side) -> bool:
        return side in flipped if isinstance(side, Op) else side is End.FLIPPED

    total = sum(region.flips[op].cost for op in flipped)
    for value in region.forms:
        wanted = {is_flipped(side) for side in region.users_of(value) if side is not End.EITHER}
        maker = region.maker_of(value)
        made = wanted if maker is End.EITHER and len(wanted) < 2 else {is_flipped(maker)}
        total += region.cost_of(value) * bool(wanted - made)
    return total

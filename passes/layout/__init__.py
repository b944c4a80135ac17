"""Layout: whole regions of ops run with their dims in another order, where that leaves fewer or cheaper transposes.

It comes after the rules, which know many things by the order their dims have when they are exported.

Laws: what transposes cost never rises; an op that may round otherwise in another order is only flipped where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from irc.ir import Graph, Op, Value, dialect, via

from .. import canonicalize
from ..base import Application, Context, Contract, Pass, erase_dead
from ..fold_constants import FoldConstants
from ..rewriter import Rewriter
from ..rules import movement, splits
from .building import Builder
from .permutations import Permutation, inverse, permutation_of
from .regions import Region, best_flips, explore, is_absorbed

MOST_SWEEPS = 8
SUMS = "layout-of-sums"


@dataclass(frozen=True)
class Layout(Pass, name="layout", contract=Contract.EXACT):
    """Run regions of ops with their dims in another order where that leaves fewer transposes."""

    def run(self, graph: Graph, context: Context) -> None:
        """Look around each Transpose of each block, again until nothing is gained anywhere."""
        rewriter = Rewriter(graph, (*canonicalize.RULES, *movement.RULES, *splits.CUTS), context)
        flipped = False
        for block in list(graph.graphs()):
            if block.owner is None or not dialect.is_fused(block.owner):
                flipped = _improve(block, context, rewriter) or flipped
        before = context.total
        # Without flips there is nothing new for the rules; only those that come last have not looked yet.
        rewriter.run(None if flipped else [op for op in graph.walk() if op.is_a("Gather")])
        Rewriter(graph, splits.RULES, context).run([op for op in graph.walk() if op.is_a("Slice")])
        if (flipped or context.total > before) and context.allows(FoldConstants.name, FoldConstants.contract):
            FoldConstants().run(graph, context)

    @classmethod
    def rewrites(cls) -> Iterable[tuple[str, Contract, str]]:
        """Regions whose answers keep their bits, and regions that hold sums, which kernels may add in another order."""
        return (
            (cls.name, Contract.EXACT, "run a region with its dims in another order where that leaves fewer transposes"),
            (SUMS, Contract.REASSOCIATING, "the same for a region with sums or functions that kernels may round otherwise"),
            *((rule.name, rule.contract, rule.doc) for rule in (*splits.CUTS, *splits.RULES)),
        )


def _improve(block: Graph, context: Context, rewriter: Rewriter) -> bool:
    """Flip what is worth it in one block; whether that was anything."""
    exact, improved = not context.allows(SUMS, Contract.REASSOCIATING), False
    for _ in range(MOST_SWEEPS):
        seen: set[tuple[Value, Permutation]] = set()
        flips = 0
        for seed, permutation in _seeds(block):
            if (seed, permutation) not in seen:
                region = explore(block, seed, permutation, exact)
                seen.update(region.forms.items())
                flips += _flip(region, context, rewriter)
        if not flips:
            break
        improved = True
    return improved


def _seeds(block: Graph) -> Iterator[tuple[Value, Permutation]]:
    """What each Transpose takes and makes, with the permutation that would make it needless."""
    for op in [op for op in block if op.is_a("Transpose")]:
        permutation = None if op.graph is None else permutation_of(op)
        if permutation is None or is_absorbed(op):
            continue
        yield op.needed(0), permutation
        if op.graph is not None:
            yield op.result, inverse(permutation)


def _flip(region: Region, context: Context, rewriter: Rewriter) -> bool:
    """Flip the ops of a region that are worth it; whether there were any."""
    flipped = best_flips(region)
    sums = not all(region.flips[op].exact for op in flipped)
    name, contract = (SUMS, Contract.REASSOCIATING) if sums else (Layout.name, Contract.EXACT)
    if not flipped or not context.allows(name, contract):
        return False
    gone = _needless(region, flipped)
    builder = Builder(region, flipped, name, via(name, *(op.location for op in gone or flipped)))
    order = builder.build()
    application = Application(name, contract, order[-1], tuple(builder.old), tuple(builder.new), tuple(builder.created))
    if context.refuses(application):
        _take_back(builder)
        return False
    try:
        context.take(name)
    except BaseException:
        _take_back(builder)
        raise
    rewriter.assume([dim for op in flipped for dim in region.flips[op].relied])
    for old, new in zip(builder.old, builder.new, strict=True):
        old.replace_by(new)
    for op in (*reversed(order), *gone, *reversed(builder.created)):
        erase_dead(op)
    return True


def _take_back(builder: Builder) -> None:
    for op in reversed(builder.created):
        if op.graph is not None:
            op.graph.erase(op)


def _needless(region: Region, flipped: set[Op]) -> list[Op]:
    """The transposes between the two forms that the flipped ops stand beside."""
    found: dict[Op, None] = {}
    for op in flipped:
        for value in (*op.operands, *op.results):
            if value is None or value not in region.forms:
                continue
            if value.op is not None and value.op.is_a("Transpose"):
                found[value.op] = None
            found.update(dict.fromkeys(user for user in value.users if region.turns(user, value)))
    return list(found)


__all__ = ["Layout"]

"""Layout: whole regions of ops run with their dims in another order, where that leaves fewer or cheaper transposes.

It comes after the rules, which know many things by the order their dims have when they are exported.

Laws: what transposes cost never rises; an op that may round otherwise in another order is only flipped where that is allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from irc.ir import Graph, Op, Value, dialect, via

from .. import canonicalize
from ..base import Application, Context, Contract, Pass, erase_dead
from ..fold_constants import FoldConstants
from ..permutations import Permutation, inverse, permutation_of
from ..rewriter import Rewriter
from ..rules import movement, splits
from .building import Builder
from .regions import Region, best_flips, cost_of_transposes, explore, is_absorbed

MOST_SWEEPS = 8
NEAR, FAR = 48, 512
"""How many values a region may have: first few, which is fast where transposes meet soon, then many."""
SUMS = "layout-of-sums"


@dataclass(frozen=True)
class Layout(Pass, name="layout", contract=Contract.EXACT):
    """Run regions of ops with their dims in another order where that leaves fewer transposes.

    `strictest` is the loosest contract that a flip may have.
    """

    strictest: str = Contract.REASSOCIATING.text

    def __post_init__(self) -> None:
        """Raises UsageError for a word that is no contract."""
        Contract.named(self.strictest)

    def run(self, graph: Graph, context: Context) -> None:
        """Look around each Transpose of each block until nothing is gained anywhere."""
        strictest = Contract.named(self.strictest)
        exact = strictest < Contract.REASSOCIATING or not context.allows(SUMS, Contract.REASSOCIATING)
        own = tuple(rule for rule in (*movement.RULES, *splits.CUTS) if rule.contract <= strictest)
        rewriter = Rewriter(graph, (*canonicalize.RULES, *own), context)
        before = context.total
        for most in (NEAR, *(FAR,) * MOST_SWEEPS):
            sweeps = [_improve(block, context, rewriter, most, exact) for block in _blocks(graph)]
            if any(sweep.improved for sweep in sweeps):
                rewriter.run()
            elif most == FAR or all(sweep.is_complete for sweep in sweeps):
                break
        # Where nothing was flipped there is nothing new for the rules; only those that come last have not looked yet.
        rewriter.run([op for op in graph.walk() if op.is_a("Gather")])
        Rewriter(graph, splits.RULES, context).run([op for op in graph.walk() if op.is_a("Slice")])
        if context.total > before and context.allows(FoldConstants.name, FoldConstants.contract):
            FoldConstants().run(graph, context)

    @classmethod
    def rewrites(cls) -> Iterable[tuple[str, Contract, str]]:
        """Regions whose answers keep their bits, and regions that hold sums, which kernels may add in another order."""
        return (
            (cls.name, Contract.EXACT, "run a region with its dims in another order where that leaves fewer transposes"),
            (SUMS, Contract.REASSOCIATING, "the same for a region with sums or functions that kernels may round otherwise"),
            *((rule.name, rule.contract, rule.doc) for rule in (*splits.CUTS, *splits.RULES)),
        )


@dataclass(frozen=True)
class _Sweep:
    """Whether anything was flipped, and whether larger regions would be the same."""

    improved: bool
    is_complete: bool


def _blocks(graph: Graph) -> list[Graph]:
    """The graph and its bodies, but for fused regions."""
    return [block for block in graph.graphs() if block.owner is None or not dialect.is_fused(block.owner)]


def _improve(block: Graph, context: Context, rewriter: Rewriter, most: int, exact: bool) -> _Sweep:
    """Flip what is worth it in one block, with `exact` only what keeps its bits."""
    improved, is_complete = False, True
    seen: set[tuple[Value, Permutation]] = set()
    for seed, permutation in _seeds(block):
        if (seed, permutation) not in seen:
            region = explore(block, seed, permutation, most, exact)
            seen.update(region.forms.items())
            improved = _flip(region, context, rewriter) or improved
            is_complete = is_complete and region.is_whole
    return _Sweep(improved, is_complete)


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
    price = cost_of_transposes(builder.created) + sum(region.flips[op].cost for op in flipped)
    if price >= cost_of_transposes(_dying(builder, order)):
        # Other transposes of the same values count once in the region and stay all the same.
        _take_back(builder)
        return False
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


def _dying(builder: Builder, order: list[Op]) -> list[Op]:
    """The ops that nobody will use: the flipped ones, and transposes that only they, or nobody, used."""
    dying = {*order, *(old.op for old in builder.old if old.op is not None and old.op.is_a("Transpose"))}
    pending = list(dying)
    while pending:
        for value in pending.pop().operands:
            maker = None if value is None else value.op
            if value is None or maker is None or maker in dying or not maker.is_a("Transpose"):
                continue
            if all(isinstance(use.user, Op) and use.user in dying for use in value.uses):
                dying.add(maker)
                pending.append(maker)
    return list(dying)


def _take_back(builder: Builder) -> None:
    for op in reversed(builder.created):
        if op.graph is not None:
            op.graph.erase(op)


def _needless(region: Region, flipped: Collection[Op]) -> list[Op]:
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

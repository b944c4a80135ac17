"""What is made of the results of a row function or an attention before they are stored: the pointwise ops of their region.

Law: an element is made of the result at its place and of what operands have there, wherever their elements lie.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from irc.ir import Op, Value

from .concluding import rules_behind_sums
from .expressions import Tree
from .kernel import Writer
from .lowerer import Lowerer
from .places import Buffer, Place
from .pointwise import Rule
from .regions import Region
from .rows import Behind
from .scaling import rule_of
from .trees import evaluate_tree
from .views import View


@dataclass(frozen=True, slots=True)
class Finish:
    """Where the result of a region goes, what the ops behind its main op read, and where the main op's own result is kept.

    `rule` says how the ops are written.
    """

    region: Region
    target: Place
    operands: Sequence[Place] = ()
    kept: Place | None = None
    rule: Callable[[Op], Rule] = rule_of

    def behind(self, seen: Callable[[View], View]) -> Behind | None:
        """What a kernel does behind its results, whose views are as `seen` has them; None where that is nothing."""
        tree = self.region.tree
        if tree is None:
            return None
        assert tree.seed is not None
        shape, names = self.target.view.shape, (tree.seed, *tree.leaves)

        def body(writer: Writer, given: Sequence[str]) -> str:
            return tree.evaluate(writer, dict(zip(names, given, strict=True)), self.rule)

        operands = [(place.dtype, seen(place.view.broadcast(shape))) for place in self.operands]
        return Behind(self.target.dtype, operands, body, None if self.kept is None else seen(self.kept.view))

    @property
    def beside(self) -> list[Buffer]:
        """The buffer of what is kept."""
        return [] if self.kept is None else [self.kept.buffer]

    @property
    def buffers(self) -> list[Buffer]:
        """The buffers behind those of the main op's operands."""
        return [*(place.buffer for place in self.operands), *self.beside, self.target.buffer]

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops that the kernel computes."""
        return self.region.ops


def finish_of(lowerer: Lowerer, region: Region, like: Place | None = None) -> Finish:
    """Memory for the result of a region, which lies as `like` does if that is given, and what is read on the way."""
    tree, main = region.tree, region.op.results[0]
    operands = [] if tree is None else [lowerer.place(leaf) for leaf in tree.leaves]

    def fresh(result: Value) -> Place:
        return lowerer.fresh(result) if like is None else lowerer.fresh_like(result, [like])

    kept = fresh(main) if region.keeps else None
    target = fresh(main if tree is None else tree.result)
    return Finish(region, target, operands, kept, rules_behind_sums(lowerer.machine.features))


def apart(lowerer: Lowerer, region: Region, lower: Callable[[Lowerer, Region], None]) -> None:
    """The main op in a kernel of its own, then the ops behind it in another."""
    lower(lowerer, Region(region.op, None))
    assert region.tree is not None
    leaves = tuple(dict.fromkeys((region.op.results[0], *region.tree.leaves)))
    evaluate_tree(lowerer, Tree(region.tree.ops, leaves))

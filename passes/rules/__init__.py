"""The catalogue: rewrites by topic, as data in `TOPIC.rules` and, where the language does not reach, in `TOPIC.py`.

To add a rule, write it in the file of its topic, with its algebra in a comment; `docs/rules.md` teaches the language.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from irc.ir import Graph, Op, UsageError, closest

from .. import canonicalize
from ..base import Context, Contract, Pass
from ..fold_constants import FoldConstants
from ..language import load_rules
from ..rewriter import Rewriter, Rule
from . import (
    activations,
    attention,
    convolutions,
    masks,
    matmuls,
    movement,
    normalizations,
    pointwise,
    quantized,
    recurrent,
    reductions,
)


@dataclass(frozen=True)
class Topic:
    """One part of the catalogue: the rules of `NAME.rules`, if there is one, and those written in Python."""

    name: str
    functions: tuple[Rule, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules of the topic, Python's first."""
        return (*self.functions, *_from_file(self.name))


@cache
def _from_file(name: str) -> tuple[Rule, ...]:
    """The rules of a topic's file; a topic of which nothing can be data has none."""
    path = Path(__file__).with_name(f"{name}.rules")
    return load_rules(path) if path.is_file() else ()


TOPICS: tuple[Topic, ...] = (
    Topic("attention", attention.RULES),
    Topic("normalizations", normalizations.RULES),
    Topic("activations", activations.RULES),
    Topic("convolutions", convolutions.RULES),
    Topic("matmuls", matmuls.RULES),
    Topic("resizes", pointwise.RULES),
    Topic("movement", movement.RULES),
    Topic("reductions", reductions.RULES),
    Topic("masks", masks.RULES),
    Topic("recurrent", recurrent.RULES),
    Topic("quantized", quantized.RULES),
)
"""Where two rules fit one op, the one further up is tried first."""


DEEPEST = 4
"""How many ops below its root the constants of a pattern may lie to be noticed when they are folded late."""


@dataclass(frozen=True)
class Rules(Pass, name="rules", contract=Contract.EXACT):
    """Apply the catalogue of rules, with the canonical forms between them.

    `topics` names some of it, `strictest` the loosest contract that its rules may have.
    """

    topics: tuple[str, ...] = ()
    strictest: str = Contract.REASSOCIATING.text

    def __post_init__(self) -> None:
        """Raises UsageError for an unknown topic, and for a word that is no contract."""
        check_topics(self.topics)
        Contract.named(self.strictest)

    def run(self, graph: Graph, context: Context) -> None:
        """Drive the rules over the graph and its bodies.

        What rules compute from constants is folded, and where that makes new constants, rules look again.
        """
        strictest = Contract.named(self.strictest)
        own = tuple(rule for rule in catalogue(self.topics) if rule.contract <= strictest)
        rewriter = Rewriter(graph, (*canonicalize.RULES, *own), context)
        rewriter.run()
        while True:
            known = {op for op in graph.walk() if op.is_constant}
            if context.allows(FoldConstants.name, FoldConstants.contract):
                FoldConstants().run(graph, context)
            fresh = [op for op in graph.walk() if op.is_constant and op not in known]
            if not fresh:
                return
            rewriter.run(_downstream(fresh))

    @classmethod
    def rewrites(cls) -> Iterable[tuple[str, Contract, str]]:
        """The rules of all topics, by name."""
        return tuple((rule.name, rule.contract, rule.doc) for rule in catalogue())


def _downstream(constants: list[Op]) -> list[Op]:
    """The ops whose patterns may hold one of these constants: its users, their users, and so on, nearest first."""
    found: dict[Op, None] = {}
    nearest = constants
    for _ in range(DEEPEST):
        nearest = [user for op in nearest for result in op.results for user in result.users if user not in found]
        found.update(dict.fromkeys(nearest))
    return list(found)


def catalogue(topics: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of the topics named, of all where none is. Raises UsageError for an unknown topic."""
    wanted = list(topics)
    check_topics(wanted)
    return tuple(rule for topic in TOPICS if not wanted or topic.name in wanted for rule in topic.rules)


def check_topics(names: Iterable[str]) -> None:
    """Raises UsageError for a name that is no topic."""
    known = [topic.name for topic in TOPICS]
    for name in names:
        if name not in known:
            raise UsageError(f"there is no topic '{name}'", hint=closest(name, known) or f"topics: {', '.join(known)}")


def catalogue_by_topic() -> dict[str, tuple[Rule, ...]]:
    """All rules under the names of their topics."""
    return {topic.name: topic.rules for topic in TOPICS}


__all__ = ["TOPICS", "Rules", "Topic", "catalogue", "catalogue_by_topic"]

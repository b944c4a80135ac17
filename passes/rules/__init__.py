"""The catalogue: rewrites by topic, as data in `TOPIC.rules` and, where the language does not reach, in `TOPIC.py`.

To add a rule, write it in the file of its topic, with its algebra in a comment; `docs/rules.md` teaches the language.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from irc.ir import Graph, UsageError, closest

from .. import canonicalize
from ..base import Context, Contract, Pass
from ..fold_constants import FoldConstants
from ..language import load_rules
from ..rewriter import Rewriter, Rule
from . import activations, attention, convolutions, masks, matmuls, movement, normalizations, quantized, recurrent, reductions


@dataclass(frozen=True)
class Topic:
    """One part of the catalogue: the rules of `NAME.rules`, and those written in Python."""

    name: str
    functions: tuple[Rule, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules of the topic, Python's first."""
        return (*self.functions, *_from_file(self.name))


@cache
def _from_file(name: str) -> tuple[Rule, ...]:
    return load_rules(Path(__file__).with_name(f"{name}.rules"))


TOPICS: tuple[Topic, ...] = (
    Topic("attention", attention.RULES),
    Topic("normalizations", normalizations.RULES),
    Topic("activations", activations.RULES),
    Topic("convolutions", convolutions.RULES),
    Topic("matmuls", matmuls.RULES),
    Topic("movement", movement.RULES),
    Topic("reductions", reductions.RULES),
    Topic("masks", masks.RULES),
    Topic("recurrent", recurrent.RULES),
    Topic("quantized", quantized.RULES),
)
"""Where two rules fit one op, the one further up is tried first."""


@dataclass(frozen=True)
class Rules(Pass, name="rules", contract=Contract.EXACT):
    """Apply the catalogue of rules, with the canonical forms between them; `topics` names some of it."""

    topics: tuple[str, ...] = ()

    def run(self, graph: Graph, context: Context) -> None:
        """Drive the rules over the graph and its bodies. Raises UsageError for an unknown topic.

        What rules compute from constants is folded, and where that makes new constants, rules look again.
        """
        rewriter = Rewriter(graph, (*canonicalize.RULES, *catalogue(self.topics)), context)
        rewriter.run()
        while True:
            known = {op for op in graph.walk() if op.is_constant}
            if context.allows(FoldConstants.name, FoldConstants.contract):
                FoldConstants().run(graph, context)
            fresh = [op for op in graph.walk() if op.is_constant and op not in known]
            if not fresh:
                return
            rewriter.run(dict.fromkeys(user for op in fresh for user in op.result.users))

    @classmethod
    def rewrites(cls) -> Iterable[tuple[str, Contract, str]]:
        """The rules of all topics, by name."""
        return tuple((rule.name, rule.contract, rule.doc) for rule in catalogue())


def catalogue(topics: Iterable[str] = ()) -> tuple[Rule, ...]:
    """The rules of the topics named, of all where none is. Raises UsageError for an unknown topic."""
    wanted = list(topics)
    known = [topic.name for topic in TOPICS]
    for name in wanted:
        if name not in known:
            raise UsageError(f"there is no topic '{name}'", hint=closest(name, known) or f"topics: {', '.join(known)}")
    return tuple(rule for topic in TOPICS if not wanted or topic.name in wanted for rule in topic.rules)


def catalogue_by_topic() -> dict[str, tuple[Rule, ...]]:
    """All rules under the names of their topics."""
    return {topic.name: topic.rules for topic in TOPICS}


__all__ = ["TOPICS", "Rules", "Topic", "catalogue", "catalogue_by_topic"]

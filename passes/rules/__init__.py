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
from ..language import load_rules
from ..rewriter import Rewriter, Rule


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
    Topic("attention"),
    Topic("normalizations"),
    Topic("activations"),
    Topic("convolutions"),
    Topic("matmuls"),
    Topic("movement"),
    Topic("reductions"),
    Topic("masks"),
    Topic("recurrent"),
    Topic("quantized"),
)
"""Where two rules fit one op, the one further up is tried first."""


@dataclass(frozen=True)
class Rules(Pass, name="rules", contract=Contract.EXACT):
    """Apply the catalogue of rules, with the canonical forms between them; `topics` names some of it."""

    topics: tuple[str, ...] = ()

    def run(self, graph: Graph, context: Context) -> None:
        """Drive the rules over the graph and its bodies. Raises UsageError for an unknown topic."""
        Rewriter(graph, (*canonicalize.RULES, *catalogue(self.topics)), context).run()

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


__all__ = ["TOPICS", "Rules", "Topic", "catalogue"]

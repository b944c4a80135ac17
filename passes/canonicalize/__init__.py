"""Canonical forms: small exact rewrites, a topic a file, driven together until none applies.

To add a rule, write it in the file of its topic and put it in that file's RULES.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from irc.ir import Graph

from ..base import Context, Contract, Pass
from ..rewriter import Rewriter, Rule
from . import casts, concats, control_flow, expands, gathers, identities, pads, reshapes, shapes, slices, transposes

RULES: tuple[Rule, ...] = (
    *shapes.RULES,
    *identities.RULES,
    *casts.RULES,
    *transposes.RULES,
    *reshapes.RULES,
    *expands.RULES,
    *pads.RULES,
    *gathers.RULES,
    *slices.RULES,
    *concats.RULES,
    *control_flow.RULES,
)


@dataclass(frozen=True)
class Canonicalize(Pass, name="canonicalize", contract=Contract.EXACT):
    """Bring ops to their simplest form: identities, casts, data movement, known shapes, decided control flow."""

    def run(self, graph: Graph, context: Context) -> None:
        """Drive all rules over the graph and its bodies."""
        Rewriter(graph, RULES, context).run()

    @classmethod
    def rewrites(cls) -> Iterable[tuple[str, Contract, str]]:
        """The rules, by name."""
        return tuple((rule.name, rule.contract, rule.doc) for rule in RULES)


__all__ = ["RULES", "Canonicalize"]

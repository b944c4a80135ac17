"""Removes what nobody uses; inputs stay, used or not, because they are the model's signature."""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import Graph

from .base import Application, Context, Contract, Pass


@dataclass(frozen=True)
class DeadCode(Pass, name="dead-code", contract=Contract.EXACT):
    """Remove ops whose results nobody uses."""

    def run(self, graph: Graph, context: Context) -> None:
        """Erase from the last op to the first, so that one sweep finds everything."""
        pending = [graph]
        while pending:
            current = pending.pop()
            op = current.last
            while op is not None:
                previous = op.prev
                # Nothing takes the place of what nobody uses, so that a checker has nothing to compare.
                if op.is_dead and not context.refuses(Application(self.name, self.contract, op, (), ())):
                    context.take(self.name)
                    current.erase(op)
                else:
                    pending.extend(op.bodies)
                op = previous

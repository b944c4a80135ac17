"""Runs a pipeline as transactions: after each pass the graph is verified and its signature compared, or the pass never was.

A pass that raises, breaks the IR or changes the signature is rolled back and reported, and the others go on. Rolling back is
replaying: the passes that did well run again on the graph as it was captured, so that a good run pays nothing for it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from irc.ir import Graph, IrcError, Tensor, Type, clone_graph, collector_paused, dialect, verify

from .base import Applied, Checker, Context, Contract, LimitReached, Miss, Pass


@dataclass(frozen=True)
class PassRecord:
    """What one pass did: its time in seconds, its rewrites by name, ops before and after, and why it was rolled back.

    `refused` counts the rewrites that the checker forbade, by name.
    """

    name: str
    text: str
    seconds: float
    rewrites: dict[str, int]
    ops_before: int
    ops_after: int
    failure: str | None = None
    refused: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def changes(self) -> int:
        """All rewrites of this pass."""
        return sum(self.rewrites.values())


class Instrument:
    """Watches a pipeline; each method may be overridden."""

    def started(self, graph: Graph) -> None:
        """Called once before the first pass."""

    def finished_pass(self, graph: Graph, record: PassRecord) -> None:
        """Called after each pass, also one that was rolled back."""

    def heard(self, event: str) -> None:
        """Called while candidates are built and measured at O3, with a short line on how it stands."""


@dataclass
class PassManager:
    """A pipeline with its rules of conduct.

    `disabled` names passes and rewrites not to apply, `rewrite_limit` ends rewriting after so many applications over all
    passes, `strictest` is the loosest contract allowed. `checker` is asked before each rewrite. With `trace`, `applied` lists
    every rewrite in order; with `remark`, `misses` why others did not apply.
    """

    passes: Sequence[Pass]
    instruments: Sequence[Instrument] = ()
    disabled: frozenset[str] = frozenset()
    rewrite_limit: int | None = None
    strictest: Contract = Contract.REASSOCIATING
    checker: Checker | None = None
    remark: bool = False
    trace: bool = False
    applied: list[Applied] = field(default_factory=list[Applied])
    records: list[PassRecord] = field(default_factory=list[PassRecord])
    misses: list[Miss] = field(default_factory=list[Miss])

    def run(self, graph: Graph, again: Callable[[], Graph] | None = None) -> Graph:
        """The optimized graph: `graph` itself, changed, or after a rollback what `again` made and was replayed.

        `again` makes the same graph once more; without it a copy is kept from the start.
        """
        with collector_paused():
            return self._run(graph, again or _copier(graph))

    def _run(self, graph: Graph, again: Callable[[], Graph]) -> Graph:
        for instrument in self.instruments:
            instrument.started(graph)
        if self.checker is not None:
            self.checker.begin(graph)
        spent = 0
        done: list[tuple[Pass, int | None]] = []
        for one in self.passes:
            if one.name in self.disabled or all(contract > self.strictest for _, contract, _ in one.rewrites()):
                continue
            left = None if self.rewrite_limit is None else self.rewrite_limit - spent
            record, stop = self._attempt(one, graph, left)
            if record.failure is not None:
                graph = again()
                if self.checker is not None:
                    self.checker.begin(graph)
                self._replay(graph, done)
            else:
                spent += record.changes
                done.append((one, left))
            self.records.append(record)
            for instrument in self.instruments:
                instrument.finished_pass(graph, record)
            if stop:
                break
        return graph

    def _context(self, limit: int | None) -> Context:
        return Context(limit=limit, disabled=self.disabled, strictest=self.strictest, remark=self.remark, checker=self.checker)

    def _attempt(self, one: Pass, graph: Graph, limit: int | None) -> tuple[PassRecord, bool]:
        context, signature = self._context(limit), _signature(graph)
        context.applied = [] if self.trace else None
        before = self.records[-1].ops_after if self.records else op_count(graph)
        start, failure, stop = time.perf_counter(), None, False
        try:
            one.run(graph, context)
        except LimitReached:
            stop = True
        except Exception as error:  # any defect of a pass must end in a rollback, whatever it raises
            failure = f"{type(error).__name__}: {error}" if not isinstance(error, IrcError) else str(error)
        if failure is None:
            failure = _broken(graph, signature)
        if failure is None and self.checker is not None and context.unasked:
            failure = self.checker.refuse_graph(graph)
        seconds = time.perf_counter() - start
        self.misses.extend(context.misses)
        if failure is not None:  # the broken graph is not worth a look: its op list may have no end
            return PassRecord(one.name, str(one), seconds, {}, before, before, failure), False
        self.applied.extend(context.applied or ())
        after = op_count(graph) if context.total else before
        counts, refused = dict(context.counts), dict(context.refused)
        return PassRecord(one.name, str(one), seconds, counts, before, after, refused=refused), stop

    def _replay(self, graph: Graph, done: list[tuple[Pass, int | None]]) -> None:
        for one, limit in done:
            try:
                one.run(graph, self._context(limit))
            except LimitReached:
                break

    @property
    def failures(self) -> list[PassRecord]:
        """The passes that were rolled back."""
        return [record for record in self.records if record.failure is not None]

    @property
    def totals(self) -> Counter[str]:
        """All rewrites by name."""
        total: Counter[str] = Counter()
        for record in self.records:
            total.update(record.rewrites)
        return total


def _copier(graph: Graph) -> Callable[[], Graph]:
    pristine = clone_graph(graph)
    return lambda: clone_graph(pristine)


Signature = tuple[list[tuple[str, Type, Tensor | None]], list[tuple[str, Type]]]


def _signature(graph: Graph) -> Signature:
    inputs = [(n, v.type, graph.defaults.get(v)) for n, v in zip(graph.input_names, graph.inputs, strict=True)]
    return inputs, list(zip(graph.output_names, graph.output_types, strict=True))


def _broken(graph: Graph, signature: Signature) -> str | None:
    try:
        verify(graph)
    except IrcError as error:
        return f"it broke the IR: {error}"
    return None if _signature(graph) == signature else "it changed the model's signature"


def op_count(graph: Graph) -> int:
    """The ops of a graph and its bodies, constants not counted; a fused region is one op."""
    inside = {id(op.attributes["body"]) for op in graph.walk() if dialect.is_fused(op)}
    return sum(1 for op in graph.walk() if not op.is_constant and id(op.graph) not in inside)

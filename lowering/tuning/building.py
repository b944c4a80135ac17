"""Candidates as files: what they share, the optimized graphs, is made once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from irc.ir import Graph, clone_graph
from irc.passes import Context, Contract, Instrument, PassManager, PassRecord, Registry, op_count
from irc.runtime import Manifest, NodeCount, OptionValue, Program
from irc.runtime import Source as SourceEntry

from ..engine import EngineFiles, Estimated
from ..engines import configured, rest_of
from ..managers import pass_manager
from ..manifests import manifest_of
from ..options import CompileOptions
from ..partitioning import Piece, pieces_of, refusals
from ..plans import lower_pieces
from ..strict import without_fallback
from ..targets import Target
from .candidates import Candidate, usable_engines
from .splits import Split, best_split, pieces_at


@dataclass(frozen=True)
class Built:
    """A candidate's files and what was done on the way to them; times in seconds."""

    candidate: Candidate
    manifest: Manifest
    files: EngineFiles
    graph: Graph
    records: Sequence[PassRecord]
    forms: Mapping[str, int]
    passes_took: float
    lowering_took: float

    @property
    def applied(self) -> frozenset[str]:
        """The names of all rewrites that were made."""
        return frozenset(name for record in self.records for name in record.rewrites) | frozenset(self.forms)

    def to_chunks(self) -> Mapping[str, Sequence[bytes | memoryview]]:
        """The files as an artifact holds them."""
        return self.files.to_runtime().to_chunks()

    def load(self) -> Program:
        """The program, in this process; raises EngineFailure."""
        return Program.from_files(self.manifest, self.files.to_runtime())


class Builder:
    """Builds candidates of one graph, which stays as it is."""

    def __init__(
        self,
        graph: Graph,
        options: CompileOptions,
        target: Target,
        known: Registry,
        instruments: Sequence[Instrument],
        source: SourceEntry | None,
        strictest: Contract = Contract.REASSOCIATING,
    ) -> None:
        """`strictest` is what forms of an engine may change."""
        self._graph = graph
        self._options = options
        self._target = target
        self._known = known
        self._instruments = instruments
        self._source = source
        self._strictest = strictest
        self._before = op_count(graph)
        self._optimized: dict[tuple[str | None, frozenset[str]], tuple[Graph, PassManager, float]] = {}

    @property
    def has_threads(self) -> bool:
        """Whether the user said how many threads to use."""
        return "threads" in self._options.engine_options

    def seconds_to_build(self, candidate: Candidate) -> float:
        """About how long building a candidate takes, where its engine can tell; else 0."""
        engine = candidate.engine
        return engine.seconds_to_lower(self._graph, self._target) if isinstance(engine, Estimated) else 0.0

    def build(self, candidate: Candidate) -> Built:
        """The files of a candidate, by its settings; what its engine does not take is left to others, unless that is refused.

        Raises UnsupportedError where its engine takes too little, and what engines raise.
        """
        settings = {**candidate.setting, **self._options.engine_options}
        candidate = replace(candidate, engine=configured(candidate.engine, settings))
        options = candidate.options(self._options)
        graph, manager, seconds = self._optimize(options)
        begin = time.perf_counter()
        forms = Context(disabled=options.disable, strictest=self._strictest)
        pieces = self._pieces(graph, candidate)
        if len(pieces) > 1:
            files = lower_pieces(graph, pieces, self._target, candidate.level, options.engine_options, forms)
            settings = dict[str, OptionValue]()
        else:
            files = candidate.engine.lower(graph, self._target, candidate.level, forms)
            settings = {**candidate.setting, **files.options, **options.engine_options}
            if options.strict:
                settings = dict(without_fallback(candidate.engine, self._target, settings))
        manifest = manifest_of(graph, options, [piece.engine for piece in pieces], files, manager.records, self._source)
        manifest = replace(manifest, engine_options=settings, nodes=NodeCount(self._before, len(files.op_names)))
        return Built(
            candidate,
            manifest,
            files,
            graph,
            manager.records,
            forms.counts,
            seconds,
            time.perf_counter() - begin,
        )

    def _pieces(self, graph: Graph, candidate: Candidate) -> list[Piece]:
        """Everything in one piece where the candidate's engine takes it; else what others have to run is cut off."""
        engine = candidate.engine
        if candidate.split is not None:
            return pieces_at(graph, candidate.split.ends, candidate.split.engines)
        others = rest_of(engine) if self._options.engine else usable_engines(self._target)
        return pieces_of(graph, engine, () if self._options.strict else others, self._target)

    def split(self, feeds: Mapping[str, Any], folder: Path) -> Split | None:
        """The split of the graph that engines get at O2 that is expected to be faster than any of them by itself.

        Raises EngineFailure and IrcError as engines do.
        """
        if self._options.engine or self._options.strict:
            return None
        graph, _, _ = self._optimize(self._options)
        engines = [e for e in usable_engines(self._target) if not refusals(graph, e, self._target)]
        threads = self._options.engine_options.get("threads")
        return best_split(graph, engines, self._target, feeds, folder, threads if isinstance(threads, int) else None)

    def _optimize(self, options: CompileOptions) -> tuple[Graph, PassManager, float]:
        key = (options.passes, options.disable)
        if key not in self._optimized:
            begin = time.perf_counter()
            manager = pass_manager(options, self._known, () if self._optimized else self._instruments)
            graph = manager.run(clone_graph(self._graph), lambda: clone_graph(self._graph))
            self._optimized[key] = graph, manager, time.perf_counter() - begin
        return self._optimized[key]

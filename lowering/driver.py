"""From a model to a program: captured, specialized, compiled for all calls and for some, by measuring or by rules.

A model has one program for all calls. Beside it there may be one for calls that override a default, and variants for some
sizes, which are compiled after it and stand behind one dispatcher.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from irc.ir import Graph, UnsupportedError, capture, clone_graph, specialize
from irc.passes import Instrument
from irc.runtime import EngineFailure, EngineFiles, Fate, Manifest, Program, Source

from .by_rules import compile_by_rules
from .compiled import Compiled
from .defaults import FROM_LEVEL, for_closed, given_probe, overriding_probe, without_defaults
from .engines import choose_engine, usual_engine
from .job import Job
from .manifests import Model, source_of
from .options import CompileOptions
from .precision.driver import compile_lowered
from .precision.options import check_precision
from .targets import find_target
from .tuning import tune
from .variants import Overriding, Sizes, let_go, rebuilt, resized, split_dims, variant_graphs, with_variants
from .verification import Probe


def compile_model(model: Model, options: CompileOptions, instruments: Sequence[Instrument] = ()) -> Compiled:
    """Compile an ONNX model. Raises IrcError for what is wrong with model or options, EngineFailure when the engine fails."""
    choose_engine(options, find_target(options.target))
    check_precision(options)
    start = time.perf_counter()
    graph = capture(model)
    source, captured = source_of(model), time.perf_counter() - start
    return compile_graph(graph, options, instruments, source=source, captured_in=captured)


def compile_graph(
    graph: Graph,
    options: CompileOptions,
    instruments: Sequence[Instrument] = (),
    *,
    source: Source | None = None,
    captured_in: float = 0.0,
    examples: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile a captured graph, which is changed on the way. Raises as `compile_model` does.

    `examples` are arrays by input name, to check and measure with where the options give no inputs. At O3 candidates are
    measured, which `instruments` hear of; else, and where nothing can be measured, one is compiled by rules.
    """
    check_precision(options)
    target = find_target(options.target)
    dims, variants = split_dims(options.dims)
    job = Job(replace(options, dims=dims), target, instruments, source, captured_in, examples)
    specialize(graph, dims, options.shapes)
    closed = without_defaults(graph, job.options, [name for sizes in variants for name in sizes])
    start = time.perf_counter()
    overriding: Overriding | None = None
    if isinstance(closed, Graph):
        graph, job, overriding = _without_overriding(graph, closed, job)

    def compile(own: Graph, job: Job) -> Compiled:
        return _compile_all_sizes(own, job, variants, overriding)

    spent = captured_in + time.perf_counter() - start  # counts against the budget of O3
    job = replace(job, captured_in=spent)
    as_it_is = options.precision is None and options.compress is None
    compiled = compile(graph, job) if as_it_is else compile_lowered(graph, job, compile)
    compiled = replace(compiled, timing=replace(compiled.timing, capture=captured_in))
    return replace(compiled, notes=[closed, *compiled.notes]) if closed and isinstance(closed, str) else compiled


def _compile_all_sizes(graph: Graph, job: Job, variants: Sequence[Sizes], overriding: Overriding | None) -> Compiled:
    """The program for all sizes, behind those for some."""
    graphs = variant_graphs(graph, variants)
    compiled = _compile_usual(graph, job)
    if not variants and overriding is None:
        return compiled
    return _with_variants(compiled, zip(variants, graphs, strict=True), overriding, job)


def _without_overriding(graph: Graph, closed: Graph, job: Job) -> tuple[Graph, Job, Overriding]:
    """The graph and the job for calls that override no default, and the program for the others, which is compiled here."""
    given = given_probe(graph, job.options, job.examples)
    probe = overriding_probe(graph, given)
    overriding = let_go(_compile_overriding(graph, job, probe))
    options, examples = for_closed(closed, job.options, job.examples, given)
    return closed, replace(job, options=options, examples=examples), overriding


def _compile_overriding(graph: Graph, job: Job, probe: Probe | str) -> Compiled:
    """A graph with its inputs that have defaults, by rules: on the engine asked for where it takes it, else on the usual one.

    Raises UnsupportedError where another engine would be needed, and that is refused.
    """
    options = job.options
    engine, usual = choose_engine(options, job.target), usual_engine(job.target)
    own = replace(options, opt_level=FROM_LEVEL, strict=options.strict and engine is not usual)
    try:
        return compile_by_rules(clone_graph(graph), job.beside(own), probe)
    except (UnsupportedError, EngineFailure) as error:
        reason = _in_a_line(error.message)
        if options.strict and isinstance(error, UnsupportedError):
            hint = "compile without --strict, or without --engine"
            raise UnsupportedError(f"{engine.name} runs no calls that override a default: {reason}", hint=hint) from error
        if options.strict or engine is usual:
            raise
    threads = {name: value for name, value in options.engine_options.items() if name == "threads"}
    own = replace(own, engine=usual.name, engine_options=threads)
    compiled = compile_by_rules(graph, job.beside(own), probe)
    return replace(compiled, notes=[f"it runs on {usual.name}: {reason}", *compiled.notes])


def _in_a_line(message: str) -> str:
    """A message with the first of the lines that it lists."""
    first, *listed = (line.strip() for line in message.strip().splitlines())
    more = f", and {len(listed) - 1} more" if len(listed) > 1 else ""
    return " ".join([first, *listed[:1]]) + more


def _compile_usual(graph: Graph, job: Job) -> Compiled:
    """The program for all sizes: the fastest of those that can be measured where that is asked for, else the one by rules."""
    options, target = job.options, job.target
    if options.opt_level < 3 or not options.tune_budget:
        return compile_by_rules(graph, job)
    runs = choose_engine(options, target).runs(target)
    tuned = tune(graph, job) if runs else runs.reason
    if isinstance(tuned, Compiled):
        return tuned
    compiled = compile_by_rules(graph, job)
    others = [note.removesuffix(f": {tuned}") for note in compiled.notes]  # the reason is said once, and first
    return replace(compiled, notes=[f"nothing was measured: {tuned}", *others])


def _with_variants(
    compiled: Compiled, variants: Iterator[tuple[Sizes, Graph]], overriding: Overriding | None, job: Job
) -> Compiled:
    """The usual program behind one for each of the sizes, and before the one for calls that override a default."""
    options, target = job.options, job.target
    beside = job.beside(replace(options, inputs=None))

    def each() -> Iterator[tuple[Sizes, Compiled]]:
        for sizes, own in variants:
            feeds = resized(own, options, job.examples)
            yield sizes, _compile_like(compiled, own, replace(beside, examples=feeds))

    def load(manifest: Manifest, files: EngineFiles) -> Program:
        runs = choose_engine(options, target).runs(target)
        return Program.from_files(manifest, files) if runs else Program.elsewhere(manifest, files, runs.reason)

    return with_variants(compiled, each(), overriding, load)


def _compile_like(general: Compiled, graph: Graph, job: Job) -> Compiled:
    """A variant: by what won where candidates were measured and where that answers right here too; else by rules."""
    won = next((each.candidate for each in general.decisions if each.fate == Fate.WON.value), None)
    again = None if won is None else rebuilt(won, graph, job)
    return again or compile_by_rules(graph, job)


__all__ = ["compile_graph", "compile_model"]

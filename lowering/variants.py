"""Variants: a model compiled again for sizes that are said ahead, or for defaults that stay, behind one dispatcher.

Law: the program for all calls stays, with its signature, and runs whatever no variant is for; a variant answers as the
reference does at its own sizes before it is let in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import product
from math import prod
from typing import Any, cast

import numpy as np

from irc.ir import Graph, IrcError, UsageError, clone_graph, specialize
from irc.passes import registry
from irc.runtime import PLAN, EngineFiles, Manifest, Program, RunError, read_inputs

from .compiled import Compiled, CompiledVariant, Timing
from .job import Job
from .options import CompileOptions
from .plans import Made, assemble
from .signatures import input_entries
from .tuning.building import Builder
from .tuning.candidates import named
from .verification import check, probe_of

MOST_VARIANTS = 16

Sizes = Mapping[str, int]
Feeds = Mapping[str, Any]


def split_dims(dims: Mapping[str, int | tuple[int, ...]]) -> tuple[dict[str, int], list[Sizes]]:
    """The dims that have one size, and the sizes of each variant: every combination where several dims have several.

    Raises UsageError for more than MOST_VARIANTS.
    """
    fixed = {name: given for name, given in dims.items() if isinstance(given, int)}
    several = {name: tuple(dict.fromkeys(given)) for name, given in dims.items() if not isinstance(given, int)}
    count = prod(len(sizes) for sizes in several.values())
    if several and count > MOST_VARIANTS:
        hint = f"give fewer sizes, {MOST_VARIANTS} at most; what has no variant is run by the program for all sizes"
        raise UsageError(f"the sizes of {', '.join(several)} make {count} variants", hint=hint)
    return fixed, [dict(zip(several, sizes, strict=True)) for sizes in product(*several.values())] if several else []


def variant_graphs(graph: Graph, variants: Sequence[Sizes]) -> list[Graph]:
    """A copy of the graph for each variant; constants are shared. Raises UsageError as `specialize` does."""
    graphs = [clone_graph(graph) for _ in variants]
    for own, sizes in zip(graphs, variants, strict=True):
        specialize(own, sizes, {})
    return graphs


@dataclass(frozen=True)
class Overriding:
    """The program for calls that override defaults, its engine let go: what was made, and what is told of it."""

    compiled: Compiled
    made: Made


def let_go(compiled: Compiled) -> Overriding:
    """A compiled program for calls that override defaults; it is closed here."""
    return Overriding(compiled, _closed(compiled.program, {}))


def with_variants(
    usual: Compiled,
    variants: Iterable[tuple[Sizes, Compiled]],
    overriding: Overriding | None,
    load: Callable[[Manifest, EngineFiles], Program],
) -> Compiled:
    """A program behind its variants, which are taken one after the other; `load` makes the whole of its files.

    Each is closed before the next one is compiled, so that no two engines are open at a time. Where there is a program for
    calls that override defaults, the usual one is a variant too, and the signature is that of the other.
    """
    first = _closed(usual.program, {})
    made: list[Made] = []
    compiled = usual
    for sizes, each in variants:
        made.append(_closed(each.program, sizes))
        compiled = _and(compiled, each, CompiledVariant(sizes, each.program.manifest.placement, each.agreement))
    last, manifest = first, first.manifest
    if overriding is not None:
        made.append(first)
        last, whole = overriding.made, overriding.made.manifest
        manifest = replace(manifest, inputs=whole.inputs, outputs=whole.outputs, dims_must_agree=whole.dims_must_agree)
        compiled = _and_overriding(compiled, overriding)
    start = time.perf_counter()
    versions = {name: version for part in (last, *made, first) for name, version in part.manifest.versions.items()}
    manifest = replace(manifest, engine=PLAN, engine_options={}, versions=versions)
    program = load(manifest, assemble(last, made))
    timing = replace(compiled.timing, load=compiled.timing.load + time.perf_counter() - start)
    return replace(compiled, program=program, timing=timing)


def _closed(program: Program, sizes: Sizes) -> Made:
    made = Made(program.manifest, program.files, sizes)
    program.close()
    return made


def _and(whole: Compiled, other: Compiled, own: CompiledVariant) -> Compiled:
    """What is told of a compilation, with what is told of one more variant."""
    seconds = zip(astuple(whole.timing), astuple(other.timing), strict=True)
    return replace(
        whole,
        timing=Timing(*(a + b for a, b in seconds)),
        notes=[*whole.notes, *_more_notes(whole, other, own.name)],
        undone=[*whole.undone, *other.undone],
        unchecked=whole.unchecked + other.unchecked,
        checked=whole.checked + other.checked,
        variants=[*whole.variants, own],
    )


def _and_overriding(whole: Compiled, overriding: Overriding) -> Compiled:
    """What is told of a compilation, with what was made for calls that override defaults, whose engine does not start yet."""
    other, timing = overriding.compiled, whole.timing
    own = CompiledVariant({}, overriding.made.manifest.placement, other.agreement)
    both = _and(whole, other, own)
    return replace(both, timing=replace(both.timing, load=timing.load), variants=whole.variants, overriding=own)


def _more_notes(whole: Compiled, other: Compiled, when: str) -> list[str]:
    failures = [f"pass '{record.text}' was rolled back and left out: {record.failure}" for record in other.failures]
    return [f"{when}: {each}" for each in (*other.notes, *failures) if each not in whole.notes]


def rebuilt(winner: str, graph: Graph, job: Job) -> Compiled | None:
    """A graph compiled as the candidate that won for another, checked; None where that cannot be or answers otherwise."""
    options, target = job.options, job.target
    candidate = named(winner, options, target)
    probe = probe_of(graph, options.inputs, job.examples)
    if candidate is None or isinstance(probe, str):
        return None
    try:
        builder = Builder(graph, options, target, registry(options.load), (), job.source, job.strictest)
        built = builder.build(candidate)
        start = time.perf_counter()
        program = built.load()
    except (IrcError, RunError):  # what is wrong is said where it is compiled by rules
        return None
    agreement = check(program, graph, probe)
    if not agreement.agrees:
        program.close()
        return None
    timing = Timing(0.0, built.passes_took, built.lowering_took, time.perf_counter() - start)
    return Compiled(program, built.graph, built.records, timing, agreement, forms=built.forms)


def resized(graph: Graph, options: CompileOptions, examples: Feeds | None) -> Feeds | None:
    """The inputs given to check with, cut off or repeated to the sizes of a variant; None where inputs are made up."""
    entries = input_entries(graph)
    given = examples if options.inputs is None else read_inputs(entries, options.inputs)
    if given is None:
        return None
    feeds: dict[str, Any] = dict(given)
    for entry in entries:
        array = feeds.get(entry.name)
        if not isinstance(array, np.ndarray) or entry.shape is None or array.ndim != len(entry.shape):
            continue
        for axis, size in enumerate(entry.shape):
            have = cast("int", feeds[entry.name].shape[axis])
            if isinstance(size, int) and size != have:
                if have == 0:
                    return None
                feeds[entry.name] = feeds[entry.name].take(np.arange(size) % have, axis)
    return feeds

"""`irc inspect`: what a model is, as a summary, as text, or as a page to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .lowered import PIECE_COLUMNS, Piece, lowered_graph, option_text, packed_weights, piece_rows, read_lowered
from .memory import (
    PEAK_COLUMNS,
    STEP_COLUMNS,
    Memory,
    headline,
    peak_rows,
    place_notes,
    plan_text,
    print_memory,
    read_memory,
    step_rows,
)
from .output import Json, check_file, print_json, print_table, replacing, size, write_whole
from .precision import precision_json, print_precision
from .reporting import DECISION_COLUMNS, decision_rows, decisions_json, print_decisions

if TYPE_CHECKING:
    from irc.ir import Graph, Op, TensorType
    from irc.runtime import Decision, PrecisionReport, SignatureEntry

IrFlag = Annotated[bool, typer.Option("--ir", help="Print the text form; large weights are elided to their hash.")]
HtmlFlag = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page that shows the graph.")]
WeightsFlag = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="With --ir, write the elided weights as .safetensors.")
]
MemoryFlag = Annotated[
    bool, typer.Option("--memory", help="Show what lies in memory at each step, and what at the peak; engine tvm.")
]
PlanFlag = Annotated[bool, typer.Option("--plan", help="Print the calls of kernels and the places of values; engine tvm.")]


def inspect_command(
    model: flags.AnyModelArgument,
    ir: IrFlag = False,
    html: HtmlFlag = None,
    weights: WeightsFlag = None,
    memory: MemoryFlag = False,
    plan: PlanFlag = False,
    trust_pickle: flags.TrustFlag = False,
    as_json: flags.JsonFlag = False,
) -> None:
    """Show a model or an artifact: signature, ops, weights, dims; its IR with --ir; its graph with --html."""
    from irc.ir import Tensor, UsageError
    from irc.ir.text import print_graph, save_weights

    if weights is not None and not ir:
        raise UsageError("--weights writes what --ir leaves out, but --ir is not given", hint="add --ir")
    for path, flag in ((html, "--html"), (weights, "--weights")):
        if path is not None:
            check_file(path, flag, model)
    subject = open_subject(model, trust_pickle)
    if memory or plan:
        _check_planned(model, subject, "--memory" if memory else "--plan")
    graph, facts = subject.graph, subject.facts
    elided: dict[str, Tensor] = {}
    notes = place_notes({op: piece.name for op, piece in subject.home.items()}, subject.memories) if ir else {}
    text = print_graph(graph, weights=elided, notes=notes) if ir else None
    if weights is not None:
        with replacing(weights) as temporary:
            save_weights(elided, temporary)
    if html is not None:
        write_whole(html, _page(subject, model.name).encode())
    if as_json:
        written: dict[str, Json] = {} if html is None else {"html": str(html)}
        if memory or plan:
            written["memory"] = [each.to_json() for each in subject.memories]
        print_json({**_summary(subject), **written, **({} if text is None else {"ir": text})})
    elif text is not None:
        print(text, end="")
    elif html is not None:
        print(f"{html}: {facts['ops']} ops")
    elif memory or plan:
        if memory:
            print_memory(subject.memories)
        for line in (line for each in subject.memories if plan for line in plan_text(each)):
            print(line)
    else:
        _print(model, subject)


def _check_planned(model: Path, subject: Subject, flag: str) -> None:
    """Refuse what carries no plan. Raises UnsupportedError."""
    from irc.ir import UnsupportedError

    if not subject.memories:
        hint = f"`irc compile {model} --engine tvm` makes one" if not subject.pieces else "compile it with --engine tvm"
        raise UnsupportedError(f"{flag} shows the plan of an artifact of the engine tvm, and '{model}' has none", hint=hint)


OPTION_COLUMNS = ("option of an engine", "value", "pieces")


def _option_rows(subject: Subject) -> list[tuple[str, str, str]]:
    """What the engines are told, empty values left out; a row for all pieces that are told the same."""
    pieces: dict[tuple[str, str], list[str]] = {}
    for piece in subject.pieces:
        for name, value in sorted(piece.options.items()):
            if text := option_text(value):
                pieces.setdefault((name, text), []).append(piece.name or "all")
    count = len(subject.pieces)
    return [(*option, "all" if len(names) == count else ", ".join(names)) for option, names in pieces.items()]


def _page(subject: Subject, title: str) -> str:
    from ..html import Placing, Table, render_html

    tables: list[Table] = []
    if subject.pieces:
        tables.append(Table("Placement", PIECE_COLUMNS, piece_rows(subject.pieces)))
    if subject.decisions:
        tables.append(Table("Decisions", DECISION_COLUMNS, decision_rows(subject.decisions)))
    if options := _option_rows(subject):
        tables.append(Table("Options", OPTION_COLUMNS, options))
    for each in subject.memories:
        tables.append(Table(f"Memory: {headline(each)}", PEAK_COLUMNS, peak_rows(each)))
        tables.append(Table(f"Memory, step by step {each.piece}".rstrip(), STEP_COLUMNS, step_rows(each)))
    engines = {op: piece.engine for op, piece in subject.home.items()}
    names = {op: piece.name for op, piece in subject.home.items()}
    return render_html(subject.graph, title=title, facts=subject.facts, placing=Placing(engines, names, tables))


def _print(model: Path, subject: Subject) -> None:
    graph, facts = subject.graph, subject.facts
    print(f"{model}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
    print_table(
        None,
        ("input", "type", ""),
        [(name, kind, "has a default" if default else "") for name, kind, default in _inputs(subject)],
    )
    print()
    print_table(None, ("output", "type"), list(zip(graph.output_names, graph.output_types, strict=True)))
    print()
    print_table(None, ("op", "count"), _histogram(graph).most_common())
    if len(subject.pieces) > 1:
        print()
        print_table(None, PIECE_COLUMNS, piece_rows(subject.pieces))
    if options := _option_rows(subject):
        print()
        print_table(None, OPTION_COLUMNS, options)
    if subject.decisions:
        print()
        print_decisions(subject.decisions)
    if subject.precision is not None:
        print()
        print_precision(subject.precision)


@dataclass(frozen=True)
class Subject:
    """What is shown: a graph and facts about it; of an artifact its inputs, pieces, those of each op, and what was measured.

    `counts` are the facts that are numbers, as numbers: ops, parameters, and the bytes of weights.
    `memories` are what its pieces that are kernels of our own have in memory, `precision` what became of the one asked for.
    """

    graph: Graph
    facts: dict[str, str]
    counts: dict[str, int]
    pieces: tuple[Piece, ...] = ()
    home: Mapping[Op, Piece] = field(default_factory=dict["Op", Piece])
    decisions: tuple[Decision, ...] = ()
    inputs: tuple[SignatureEntry, ...] = ()
    memories: tuple[Memory, ...] = ()
    precision: PrecisionReport | None = None


def open_subject(model: Path, trust_pickle: bool) -> Subject:
    """A model, or what an artifact's engines run."""
    from irc.runtime import open_artifact

    from .kinds import is_artifact
    from .models import open_model

    if not is_artifact(model):
        graph = open_model(model, trust_pickle).graph()
        counts = _counts(graph)
        return Subject(graph, _facts(graph, counts), counts)
    artifact = open_artifact(model)
    lowered, manifest = read_lowered(artifact), artifact.manifest
    engines = " + ".join(dict.fromkeys(piece.engine for piece in lowered.pieces if not piece.overriding))
    counts = _counts(lowered.graph, packed_weights(lowered.graph, manifest.inputs))
    own_facts = {"target": manifest.target, "level": f"O{manifest.opt_level}", "engine": engines}
    facts = {**own_facts, **_facts(lowered.graph, counts)}
    memories = tuple(read_memory(artifact))
    own = manifest.decisions, manifest.inputs, memories, manifest.precision
    return Subject(lowered.graph, facts, counts, lowered.pieces, lowered.home, *own)


def _counts(graph: Graph, packed: Sequence[TensorType] = ()) -> dict[str, int]:
    constants = {id(op.value): op.value for op in graph.walk() if op.is_constant}
    packed_sizes = [prod(dim for dim in each.shape or () if isinstance(dim, int)) for each in packed]
    packed_bytes = sum(each.dtype.byte_count(count) for each, count in zip(packed, packed_sizes, strict=True))
    return {
        "ops": sum(_histogram(graph).values()),
        "parameters": sum(t.size for t in constants.values()) + sum(packed_sizes),
        "weights": sum(t.byte_count for t in constants.values()) + packed_bytes,
    }


def _facts(graph: Graph, counts: Mapping[str, int]) -> dict[str, str]:
    facts = {"ops": str(counts["ops"]), "parameters": f"{counts['parameters']:,}", "weights": size(counts["weights"])}
    domains = ", ".join(f"{domain} {version}" for domain, version in sorted(graph.opsets.items()))
    return {**facts, "domains": domains} if domains else facts


def _inputs(subject: Subject) -> list[tuple[str, str, bool]]:
    """Name and type of each input, and whether it has a default: of an artifact also those that are constants in its graph."""
    graph = subject.graph
    own = {n: (n, str(v.type), v in graph.defaults) for n, v in zip(graph.input_names, graph.inputs, strict=True)}
    known = {each.name: (each.name, str(each).partition(": ")[2], True) for each in subject.inputs if each.optional}
    names = [each.name for each in subject.inputs] or graph.input_names
    return [own.get(name) or known[name] for name in names]


def _histogram(graph: Graph) -> Counter[str]:
    return Counter(op.qualified_name for op in graph.walk() if not op.is_constant)


def _summary(subject: Subject) -> dict[str, Json]:
    graph, facts = subject.graph, subject.facts
    summary: dict[str, Json] = {
        "facts": {**dict[str, Json](facts), **dict[str, Json](subject.counts)},
        "inputs": [{"name": name, "type": kind, "has_default": default} for name, kind, default in _inputs(subject)],
        "outputs": [{"name": n, "type": str(t)} for n, t in zip(graph.output_names, graph.output_types, strict=True)],
        "ops": dict[str, Json](_histogram(graph)),
        "metadata": dict[str, Json](graph.metadata),
    }
    if not subject.pieces:
        return summary
    placement: list[Json] = [piece.to_json() for piece in subject.pieces]
    options: list[Json] = [{"option": o, "value": v, "pieces": p} for o, v, p in _option_rows(subject)]
    measured: dict[str, Json] = {"decisions": decisions_json(subject.decisions), "precision": precision_json(subject.precision)}
    return {**summary, "placement": placement, "options": options, **measured}


__all__ = ["Subject", "inspect_command", "lowered_graph", "open_subject"]

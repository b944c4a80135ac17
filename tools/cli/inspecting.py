"""`irc inspect`: what a model is, as a summary, as text, or as a page to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .compiling import DECISION_COLUMNS, decision_rows, decisions_json, print_decisions
from .lowered import PIECE_COLUMNS, Piece, lowered_graph, piece_rows, read_lowered
from .output import Json, check_file, print_json, print_table, replacing, size, write_whole

if TYPE_CHECKING:
    from irc.ir import Graph, Op
    from irc.runtime import Decision

IrFlag = Annotated[bool, typer.Option("--ir", help="Print the text form; large weights are elided to their hash.")]
HtmlFlag = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page that shows the graph.")]
WeightsFlag = Annotated[
    Path | None, typer.Option("--weights", metavar="FILE", help="With --ir, write the elided weights as .safetensors.")
]


def inspect_command(
    model: flags.AnyModelArgument,
    ir: IrFlag = False,
    html: HtmlFlag = None,
    weights: WeightsFlag = None,
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
    graph, facts = subject.graph, subject.facts
    elided: dict[str, Tensor] = {}
    text = print_graph(graph, weights=elided) if ir else None
    if weights is not None:
        with replacing(weights) as temporary:
            save_weights(elided, temporary)
    if html is not None:
        write_whole(html, _page(subject, model.name).encode())
    if as_json:
        written: dict[str, Json] = {} if html is None else {"html": str(html)}
        print_json({**_summary(subject), **written, **({} if text is None else {"ir": text})})
    elif text is not None:
        print(text, end="")
    elif html is not None:
        print(f"{html}: {facts['ops']} ops")
    else:
        _print(model, subject)


def _page(subject: Subject, title: str) -> str:
    from ..html import Placing, Table, render_html

    tables: list[Table] = []
    if subject.pieces:
        tables.append(Table("Placement", PIECE_COLUMNS, piece_rows(subject.pieces)))
    if subject.decisions:
        tables.append(Table("Decisions", DECISION_COLUMNS, decision_rows(subject.decisions)))
    engines = {op: piece.engine for op, piece in subject.home.items()}
    names = {op: piece.name for op, piece in subject.home.items()}
    return render_html(subject.graph, title=title, facts=subject.facts, placing=Placing(engines, names, tables))


def _print(model: Path, subject: Subject) -> None:
    graph, facts = subject.graph, subject.facts
    print(f"{model}: " + ", ".join(f"{name} {value}" for name, value in facts.items()))
    print_table(
        None,
        ("input", "type", ""),
        [
            (n, v.type, "has a default" if v in graph.defaults else "")
            for n, v in zip(graph.input_names, graph.inputs, strict=True)
        ],
    )
    print()
    print_table(None, ("output", "type"), list(zip(graph.output_names, graph.output_types, strict=True)))
    print()
    print_table(None, ("op", "count"), _histogram(graph).most_common())
    if len(subject.pieces) > 1:
        print()
        print_table(None, PIECE_COLUMNS, piece_rows(subject.pieces))
    if subject.decisions:
        print()
        print_decisions(subject.decisions)


@dataclass(frozen=True)
class Subject:
    """What is shown: a graph and facts about it; of an artifact its pieces, those of each op, and what was measured."""

    graph: Graph
    facts: dict[str, str]
    pieces: tuple[Piece, ...] = ()
    home: Mapping[Op, Piece] = field(default_factory=dict["Op", Piece])
    decisions: tuple[Decision, ...] = ()


def open_subject(model: Path, trust_pickle: bool) -> Subject:
    """A model, or what an artifact's engines run."""
    from irc.runtime import open_artifact

    from .kinds import is_artifact
    from .models import open_model

    if not is_artifact(model):
        graph = open_model(model, trust_pickle).graph()
        return Subject(graph, _facts(graph))
    artifact = open_artifact(model)
    lowered, manifest = read_lowered(artifact), artifact.manifest
    engines = " + ".join(dict.fromkeys(piece.engine for piece in lowered.pieces))
    facts = {"target": manifest.target, "level": f"O{manifest.opt_level}", "engine": engines, **_facts(lowered.graph)}
    return Subject(lowered.graph, facts, lowered.pieces, lowered.home, manifest.decisions)


def _facts(graph: Graph) -> dict[str, str]:
    constants = {id(op.value): op.value for op in graph.walk() if op.is_constant}
    facts = {
        "ops": str(sum(_histogram(graph).values())),
        "parameters": f"{sum(t.size for t in constants.values()):,}",
        "weights": size(sum(t.byte_count for t in constants.values())),
    }
    domains = ", ".join(f"{domain} {version}" for domain, version in sorted(graph.opsets.items()))
    return {**facts, "domains": domains} if domains else facts


def _histogram(graph: Graph) -> Counter[str]:
    return Counter(op.qualified_name for op in graph.walk() if not op.is_constant)


def _summary(subject: Subject) -> dict[str, Json]:
    graph, facts = subject.graph, subject.facts
    summary: dict[str, Json] = {
        "facts": dict[str, Json](facts),
        "inputs": [
            {"name": n, "type": str(v.type), "has_default": v in graph.defaults}
            for n, v in zip(graph.input_names, graph.inputs, strict=True)
        ],
        "outputs": [{"name": n, "type": str(t)} for n, t in zip(graph.output_names, graph.output_types, strict=True)],
        "ops": dict[str, Json](_histogram(graph)),
        "metadata": dict[str, Json](graph.metadata),
    }
    if not subject.pieces:
        return summary
    placement: list[Json] = [piece.to_json() for piece in subject.pieces]
    return {**summary, "placement": placement, "decisions": decisions_json(subject.decisions)}


__all__ = ["Subject", "inspect_command", "lowered_graph", "open_subject"]

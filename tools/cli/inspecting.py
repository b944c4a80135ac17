"""`irc inspect`: what a model is, as a summary, as text, or as a page to look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .output import Json, check_file, print_json, print_table, replacing, size, write_whole

if TYPE_CHECKING:
    from irc.ir import Graph
    from irc.runtime import Artifact

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
    graph, facts = open_graph(model, trust_pickle)
    elided: dict[str, Tensor] = {}
    text = print_graph(graph, weights=elided) if ir else None
    if weights is not None:
        with replacing(weights) as temporary:
            save_weights(elided, temporary)
    if html is not None:
        from ..html import render_html

        write_whole(html, render_html(graph, title=model.name, facts=facts).encode())
    if as_json:
        written: dict[str, Json] = {} if html is None else {"html": str(html)}
        print_json({**_summary(graph, facts), **written, **({} if text is None else {"ir": text})})
    elif text is not None:
        print(text, end="")
    elif html is not None:
        print(f"{html}: {facts['ops']} ops")
    else:
        _print(model, graph, facts)


def _print(model: Path, graph: Graph, facts: dict[str, str]) -> None:
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


def open_graph(model: Path, trust_pickle: bool) -> tuple[Graph, dict[str, str]]:
    """The graph of a model or of what an artifact's engine runs, and facts about it."""
    from irc.runtime import open_artifact

    from .kinds import is_artifact
    from .models import open_model

    facts: dict[str, str] = {}
    if not is_artifact(model):
        graph = open_model(model, trust_pickle).graph()
    else:
        artifact = open_artifact(model)
        graph = lowered_graph(artifact)
        manifest = artifact.manifest
        facts = {"target": manifest.target, "level": f"O{manifest.opt_level}", "engine": manifest.engine}
    constants = {id(op.value): op.value for op in graph.walk() if op.is_constant}
    facts["ops"] = str(sum(_histogram(graph).values()))
    facts["parameters"] = f"{sum(t.size for t in constants.values()):,}"
    facts["weights"] = size(sum(t.byte_count for t in constants.values()))
    domains = ", ".join(f"{domain} {version}" for domain, version in sorted(graph.opsets.items()))
    if domains:
        facts["domains"] = domains
    return graph, facts


def lowered_graph(artifact: Artifact) -> Graph:
    """The graph that an artifact's engine runs; its weights stay in the artifact's mapping."""
    import onnx

    from irc.ir.capture import import_model, load_onnx
    from irc.runtime import WEIGHTS_FILE, read_weights

    weights = read_weights(artifact.read(WEIGHTS_FILE)) if WEIGHTS_FILE in artifact.names else {}
    source = load_onnx(onnx.ModelProto.FromString(bytes(artifact.read("model.onnx"))))
    return import_model(source.with_data({name: view.data for name, view in weights.items()}))


def _histogram(graph: Graph) -> Counter[str]:
    return Counter(op.qualified_name for op in graph.walk() if not op.is_constant)


def _summary(graph: Graph, facts: dict[str, str]) -> dict[str, Json]:
    return {
        "facts": dict[str, Json](facts),
        "inputs": [
            {"name": n, "type": str(v.type), "has_default": v in graph.defaults}
            for n, v in zip(graph.input_names, graph.inputs, strict=True)
        ],
        "outputs": [{"name": n, "type": str(t)} for n, t in zip(graph.output_names, graph.output_types, strict=True)],
        "ops": dict[str, Json](_histogram(graph)),
        "metadata": dict[str, Json](graph.metadata),
    }

"""`irc inspect`: what a model is, as a summary, as text, or as a page to look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import flags
from .output import Json, print_json, print_table, size

if TYPE_CHECKING:
    from irc.ir import Graph

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
    as_json: flags.JsonFlag = False,
) -> None:
    """Show a model or an artifact: signature, ops, weights, dims; its IR with --ir; its graph with --html."""
    from irc.ir import Tensor
    from irc.ir.text import print_graph, save_weights

    graph, facts = open_graph(model)
    if html is not None:
        from irc.tools.html import render_html

        html.write_text(render_html(graph, title=model.name, facts=facts), encoding="utf-8")
        print(f"{html}: {facts['ops']} ops")
        return
    if ir:
        elided: dict[str, Tensor] = {}
        print(print_graph(graph, weights=elided), end="")
        if weights is not None:
            save_weights(elided, weights)
        return
    if as_json:
        print_json(_summary(graph, facts))
        return
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


def open_graph(model: Path) -> tuple[Graph, dict[str, str]]:
    """The graph of an ONNX model or of what an artifact's engine runs, and facts about it."""
    from irc.ir import UsageError, capture
    from irc.runtime import open_artifact

    facts: dict[str, str] = {}
    if model.suffix == ".onnx":
        graph = capture(model)
    else:
        if not model.exists():
            raise UsageError(f"there is no file '{model}'", hint="give an .onnx model or an .irc artifact")
        artifact = open_artifact(model)
        graph = capture(lowered_model(artifact))
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


def lowered_model(artifact: object) -> bytes:
    """The ONNX model inside an artifact with its weights put back."""
    import onnx

    from irc.ir.types import BY_TEXT
    from irc.runtime import Artifact, EngineFiles

    assert isinstance(artifact, Artifact)
    files = EngineFiles.from_artifact(artifact)
    model = onnx.ModelProto.FromString(files.read("model.onnx"))
    for initializer in model.graph.initializer:
        view = files.weights.get(initializer.name)
        if view is not None:
            initializer.ClearField("external_data")
            initializer.ClearField("data_location")
            initializer.data_type = BY_TEXT[view.dtype].onnx_code
            initializer.raw_data = bytes(view.data)
    return model.SerializeToString()


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

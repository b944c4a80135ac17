"""What an artifact runs, to look at: its pieces, the graph of them all, and which piece each op is in.

Law: what is shown was read from the artifact alone; of an engine whose files nobody else can read, a piece is one op.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from .output import Json, size

if TYPE_CHECKING:
    from irc.ir import Graph, Op, TensorType
    from irc.runtime import Artifact, EngineFiles, OptionValue, SignatureEntry, Step, Variant

MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Piece:
    """A part of a program: its engine with its options, how many ops it has, its signature.

    `variant` are the sizes of dims that it is for; `overriding` is whether it is for calls that override a default.
    """

    name: str
    engine: str
    ops: int
    takes: tuple[SignatureEntry, ...]
    makes: tuple[SignatureEntry, ...]
    variant: Mapping[str, int] = field(default_factory=dict[str, int])
    overriding: bool = False
    options: Mapping[str, OptionValue] = field(default_factory=dict[str, "OptionValue"])

    def to_json(self) -> Json:
        """As JSON; a value of open size has no bytes."""

        def values(entries: Iterable[SignatureEntry]) -> list[Json]:
            return [{"name": each.name, "type": str(each).partition(": ")[2], "bytes": bytes_of(each)} for each in entries]

        takes, makes = values(self.takes), values(self.makes)
        dims: dict[str, Json] = dict(self.variant)
        return {
            "piece": self.name,
            "engine": self.engine,
            "ops": self.ops,
            "variant": dims,
            "overriding": self.overriding,
            "takes": takes,
            "makes": makes,
        }


@dataclass(frozen=True)
class Lowered:
    """The graph that runs, of several variants the usual one; the pieces of all; of each op the piece it is in."""

    graph: Graph
    pieces: tuple[Piece, ...]
    home: Mapping[Op, Piece]


def read_lowered(artifact: Artifact) -> Lowered:
    """What an artifact runs; its weights stay in the artifact's mapping. Raises ArtifactError for a damaged one."""
    from irc.runtime import PLAN, PLAN_FILE, EngineFiles, Plan

    files, manifest = EngineFiles.from_artifact(artifact), artifact.manifest
    if manifest.engine != PLAN:
        graph = _graph_of(files, manifest.engine, manifest.inputs, manifest.outputs)
        options = manifest.engine_options
        piece = Piece("", manifest.engine, _count(graph), manifest.inputs, manifest.outputs, options=options)
        return Lowered(graph, (piece,), dict.fromkeys(graph.walk(), piece))
    plan = Plan.from_bytes(files.read(PLAN_FILE))
    usual, last = plan.usual, plan.variants[-1]
    pieces: list[Piece] = []
    parts: list[tuple[Piece, Graph]] = []
    for variant in plan.variants:
        own = [_part(step, files, variant, variant is last is not usual) for step in variant.steps]
        pieces.extend(piece for piece, _ in own)
        parts = own if variant is usual else parts
    if len(parts) == 1:
        ((piece, graph),) = parts
        return Lowered(graph, tuple(pieces), dict.fromkeys(graph.walk(), piece))
    taken = [e.name for e in manifest.inputs if e.name not in usual.absent]
    graph, home = _joined(parts, taken, [e.name for e in manifest.outputs])
    return Lowered(graph, tuple(pieces), home)


def lowered_graph(artifact: Artifact) -> Graph:
    """The graph that an artifact's engines run; its weights stay in the artifact's mapping."""
    return read_lowered(artifact).graph


def packed_weights(graph: Graph, inputs: Iterable[SignatureEntry]) -> list[TensorType]:
    """The types of the weights that an engine keeps in a form of its own: inputs of what was lowered that nobody feeds."""
    from irc.ir import TensorType

    fed = {each.name for each in inputs}
    types = [value.type for name, value in zip(graph.input_names, graph.inputs, strict=True) if name not in fed]
    return [each for each in types if isinstance(each, TensorType)]


def _part(step: Step, files: EngineFiles, variant: Variant, overriding: bool) -> tuple[Piece, Graph]:
    from irc.runtime import ArtifactError

    if step.part not in files.parts:
        raise ArtifactError(f"the artifact has no folder {step.part}, which its plan needs")
    graph = _graph_of(files.parts[step.part], step.engine, step.inputs, step.outputs)
    signature = step.inputs, step.outputs
    return Piece(step.part, step.engine, _count(graph), *signature, variant.dims, overriding, step.options), graph


def _count(graph: Graph) -> int:
    return sum(not op.is_constant for op in graph.walk())


def _graph_of(
    files: EngineFiles, engine: str, inputs: tuple[SignatureEntry, ...], outputs: tuple[SignatureEntry, ...]
) -> Graph:
    """The graph that was lowered to these files; of an engine that keeps none, an op that stands for all of it."""
    from irc.runtime import OPS_FILE

    name = next((each for each in (MODEL_FILE, OPS_FILE) if each in files.files), None)
    if name is None:
        return _opaque(engine, inputs, outputs)
    import onnx

    from irc.ir.capture import import_model, load_onnx

    model = onnx.ModelProto.FromString(files.read(name))
    known = {weight: view.data for weight, view in files.weights.items()}
    known.update(_elsewhere(model, files))
    return import_model(load_onnx(model).with_data(known))


def _elsewhere(model: object, files: EngineFiles) -> dict[str, memoryview]:
    """The bytes of weights that lie in other files of the engine than the one for weights."""
    import onnx

    assert isinstance(model, onnx.ModelProto)
    found: dict[str, memoryview] = {}
    for tensor in model.graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        name, begin, length = place.get("location", ""), place.get("offset", ""), place.get("length", "")
        if name in files.files and begin.isdecimal() and length.isdecimal():
            found[tensor.name] = memoryview(files.view(name))[int(begin) : int(begin) + int(length)]
    return found


def _opaque(engine: str, inputs: tuple[SignatureEntry, ...], outputs: tuple[SignatureEntry, ...]) -> Graph:
    from irc.ir import Graph, Op, UnknownType, at

    graph = Graph(engine)
    fed = [graph.add_input(each.name, UnknownType()) for each in inputs]
    op = graph.append(Op("program", fed, {}, [UnknownType()] * len(outputs), at(engine), domain=engine))
    for entry, value in zip(outputs, op.results, strict=True):
        graph.add_output(value, entry.name)
    return graph


def _joined(parts: list[tuple[Piece, Graph]], inputs: list[str], outputs: list[str]) -> tuple[Graph, dict[Op, Piece]]:
    """The graphs of parts as one, values that have one name being one value."""
    from irc.ir import Graph, UnknownType, Value, clone_op

    whole = Graph(parts[0][1].name)
    types = {n: v.type for _, each in reversed(parts) for n, v in zip(each.input_names, each.inputs, strict=True)}
    values = {name: whole.add_input(name, types.get(name, UnknownType())) for name in inputs}
    home: dict[Op, Piece] = {}
    for piece, each in parts:
        kept = [n for n in each.input_names if n not in values]  # weights that the engine has in a form of its own
        values.update((n, whole.add_input(n, types[n])) for n in kept)
        whole.opsets.update(each.opsets)
        whole.metadata.update(each.metadata)
        mapping: dict[Value, Value] = {v: values[n] for n, v in zip(each.input_names, each.inputs, strict=True)}
        for op in each:
            copy = whole.append(clone_op(op, mapping))
            home[copy] = piece
            home.update((inner, piece) for body in copy.bodies for inner in body.walk())
        values.update((n, mapping.get(v, v)) for n, v in zip(each.output_names, each.outputs, strict=True))
    for name in outputs:
        whole.add_output(values[name], name)
    return whole, home


def bytes_of(entry: SignatureEntry) -> int | None:
    """How many bytes a value has, where its shape says."""
    from irc.ir import DType

    dims = [dim for dim in entry.shape or () if isinstance(dim, int)]
    if entry.kind != "tensor" or entry.shape is None or len(dims) < len(entry.shape) or entry.dtype == "str":
        return None
    return next(each for each in DType if each.text == entry.dtype).byte_count(prod(dims))


def option_text(value: OptionValue) -> str:
    """The value of an option of an engine, as `--engine-option` takes it where it can be given there."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ":".join(value)
    return str(value) if isinstance(value, (str, int, float)) else " ".join(f"{k}={v}" for k, v in value.items())


PIECE_COLUMNS = ("piece", "engine", "ops", "takes", "makes")


def piece_rows(pieces: Iterable[Piece]) -> list[tuple[str, ...]]:
    """A row for each piece; its name says for which calls it is, where that is not all. Inputs with defaults are counted."""

    def values(entries: Iterable[SignatureEntry]) -> str:
        listed = list(entries)
        more = sum(each.optional for each in listed)
        counted = [f"{more} with defaults"] if more else []
        return ", ".join([*(_value(each) for each in listed if not each.optional), *counted]) or "–"

    return [
        (
            (piece.name or "all")
            + "".join(f", {name}={count}" for name, count in piece.variant.items())
            + (", overriding a default" if piece.overriding else ""),
            piece.engine,
            str(piece.ops),
            values(piece.takes),
            values(piece.makes),
        )
        for piece in pieces
    ]


def _value(entry: SignatureEntry) -> str:
    count = bytes_of(entry)
    return str(entry) + ("" if count is None else f" ({size(count)})")

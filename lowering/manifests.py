"""What an artifact says of how it was made: the model, the options, the passes, and where the ops went."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import onnx

from irc.ir import Graph
from irc.ir.capture import file_digest
from irc.passes import PassRecord
from irc.runtime import PLAN, Manifest
from irc.runtime import PassRecord as PassEntry
from irc.runtime import Source as SourceEntry

from .engine import Engine, EngineFiles
from .options import CompileOptions
from .plans import placement
from .signatures import input_entries, output_entries

Model: TypeAlias = "str | os.PathLike[str] | bytes | onnx.ModelProto"


def manifest_of(
    graph: Graph,
    options: CompileOptions,
    engines: Sequence[Engine],
    files: EngineFiles,
    records: Sequence[PassRecord],
    source: SourceEntry | None,
) -> Manifest:
    """The manifest of a graph lowered to `files` by the engines of its pieces, before settings are chosen."""
    return Manifest(
        engine=engines[0].name if len(engines) == 1 else PLAN,
        engine_options=options.engine_options,
        inputs=input_entries(graph),
        outputs=output_entries(graph),
        dims_must_agree=tuple(sorted(graph.assumed_dims)),
        target=_named(options.target),
        opt_level=options.opt_level,
        source=source,
        versions={"irc": irc_version(), **{e.name: e.version for e in engines}, "onnx": onnx.__version__},
        # Times differ from run to run and an artifact must not, so they stay out of it.
        passes=tuple(PassEntry(_remarked(r), None, r.changes) for r in records),
        placement=placement(files, [engine.name for engine in engines]),
    )


def _named(target: str) -> str:
    """A target as the manifest names it: of a file, its name, because where it lay says nothing of the program."""
    return Path(target).name if target.endswith(".toml") else target


def _remarked(record: PassRecord) -> str:
    """A pass as the manifest names it, with what was not done of it."""
    if record.failure is not None:
        return f"{record.text} (rolled back)"
    return f"{record.text} (undone: {', '.join(sorted(record.refused))})" if record.refused else record.text


def source_of(model: Model) -> SourceEntry:
    """The name and the SHA-256 of an ONNX model; of one in memory, of its bytes as protobuf writes them in order."""
    if isinstance(model, onnx.ModelProto):
        return SourceEntry("model", hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())
    if isinstance(model, bytes):
        return SourceEntry("model", hashlib.sha256(model).hexdigest())
    path = Path(model)
    return SourceEntry(path.name, file_digest(path))


def irc_version() -> str:
    """The installed version of irc, or `source`."""
    from importlib import metadata

    try:
        return metadata.version("irc-compiler")
    except metadata.PackageNotFoundError:
        return "source"

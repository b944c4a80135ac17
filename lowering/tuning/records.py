"""What a search found, kept in the cache under all that it depends on; what cannot be used is measured again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from irc.ir import Graph, emit
from irc.ir.capture import file_digest
from irc.runtime import (
    ArtifactError,
    Decision,
    OptionValue,
    options_from_json,
    options_to_json,
    parse_object,
    read_entry,
    write_entry,
)

from ..engines import ENGINES
from ..manifests import irc_version
from ..options import CompileOptions
from ..targets import Target


@dataclass(frozen=True)
class Record:
    """The candidate that won, by name and by the setting that says how its kernels are made, and what became of all."""

    winner: str
    decisions: Sequence[Decision]
    setting: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])


def key_of(graph: Graph, options: CompileOptions, target: Target, feeds: Mapping[str, Any]) -> str:
    """The name of the entry for a search: the same for the same ops, options, shapes of what is fed, machine and versions.

    Of large weights only types and shapes count: what they hold makes no kernel faster. The target says what the machine is.
    """
    emitted = emit(graph)
    digest = hashlib.sha256(emitted.graph.SerializeToString(deterministic=True))
    for initializer in emitted.initializers:
        digest.update(initializer.SerializeToString(deterministic=True))
    versions = [irc_version(), *(f"{engine.name} {engine.version}" for engine in ENGINES)]
    fed = sorted((name, str(np.asarray(value).dtype), np.shape(value)) for name, value in feeds.items())
    loaded = [file_digest(Path(path)) for path in options.load]
    asked = (options.engine, options.passes, sorted(options.disable), options.rewrite_limit, options.tune_budget)
    settings = sorted((name, repr(value)) for name, value in options.engine_options.items())
    digest.update(repr((versions, fed, loaded, asked, settings, repr(replace(target, limits=None)))).encode())
    return f"tuning-{digest.hexdigest()[:32]}.json"


def recall(key: str) -> tuple[Record | None, str]:
    """What is kept under `key`, and a note on what is wrong with it."""
    entry = read_entry(key)
    if entry.content is None:
        return None, entry.note
    try:
        fields = parse_object(entry.content, key)
        decisions = fields.objects("decisions", Decision.from_json)
        record = Record(fields.text("winner"), decisions, options_from_json(fields, "setting"))
        fields.finish()
    except ArtifactError as error:
        return None, f"what was measured before was ignored: {error}"
    return record, ""


def keep(key: str, record: Record) -> str:
    """Keep a record; why it could not be kept, or an empty string."""
    decisions = [each.to_json() for each in record.decisions]
    text = {"winner": record.winner, "decisions": decisions, "setting": options_to_json(record.setting)}
    return write_entry(key, json.dumps(text).encode())

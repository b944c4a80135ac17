"""What an artifact says of itself: `from_json(to_json(manifest))` is the manifest, and nothing unknown gets in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, Literal, TypeAlias, get_args

from .dtypes import ELEMENT_TYPES
from .errors import ArtifactError
from .precision import PrecisionReport
from .strict_json import Fields, Json, canonical, parse_object

SCHEMA = 1
"""The version of the format that this release reads and writes."""

Kind: TypeAlias = Literal["tensor", "sequence", "optional", "map"]
OptionValue: TypeAlias = "str | int | float | bool | tuple[str, ...] | Mapping[str, str]"
"""What an engine option can be; each engine reads its own into a dataclass."""


@dataclass(frozen=True, slots=True)
class SignatureEntry:
    """One input or output.

    `dtype` is an element type's text (`f32`); `shape` has an int for a fixed dim, a text for a symbolic one (`N`,
    `2*N`), None for an unknown one, and is None itself when the rank is unknown. For a sequence, an optional and a map
    they speak of the elements, and a map's `key` is the element type of its keys. An `optional` input may be left
    out: the model has a default for it.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    kind: Kind = "tensor"
    optional: bool = False
    key: str | None = None

    def __str__(self) -> str:
        dims = "*" if self.shape is None else ",".join("?" if dim is None else str(dim) for dim in self.shape)
        tensor = f"{self.dtype}[{dims}]"
        wrapped = {"tensor": tensor, "sequence": f"seq<{tensor}>", "optional": f"opt<{tensor}>"}
        return f"{self.name}: {wrapped.get(self.kind, f'map<{self.key},{tensor}>')}"

    def to_json(self) -> Json:
        """The entry as JSON; what is at its default is left out."""
        value: dict[str, Json] = {"name": self.name, "dtype": self.dtype, "kind": self.kind}
        value["shape"] = None if self.shape is None else list(self.shape)
        if self.optional:
            value["optional"] = True
        if self.key is not None:
            value["key"] = self.key
        return value

    @staticmethod
    def from_json(fields: Fields) -> SignatureEntry:
        """The entry; raises ArtifactError where it is none."""
        name, dtype, kind, shape = fields.text("name"), fields.text("dtype"), fields.text("kind"), fields.value("shape")
        if dtype not in ELEMENT_TYPES:
            raise fields.refuse(f"{dtype} is no element type")
        if kind not in get_args(Kind):
            raise fields.refuse(f"{kind} is no kind of value")
        dims: tuple[int | str | None, ...] | None = None
        if shape is not None:
            if not isinstance(shape, list) or len(shape) > 64:
                raise fields.refuse("shape should be null or a list of at most 64 dims")
            dims = tuple(_dim(fields, dim) for dim in shape)
        return SignatureEntry(name, dtype, dims, kind, fields.flag("optional"), fields.optional_text("key"))  # type: ignore[arg-type]


def _dim(fields: Fields, value: Json) -> int | str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise fields.refuse(f"{value} is no dim")


@dataclass(frozen=True, slots=True)
class Source:
    """The model an artifact was compiled from: its name, and the SHA-256 of its bytes in hexadecimal."""

    name: str
    sha256: str

    def to_json(self) -> Json:
        """As JSON."""
        return {"name": self.name, "sha256": self.sha256}

    @staticmethod
    def from_json(fields: Fields) -> Source:
        """From JSON; raises ArtifactError where it is none."""
        return Source(fields.text("name"), _digest(fields))


@dataclass(frozen=True, slots=True)
class PassRecord:
    """A pass that ran: how long in seconds (None where that was not kept) and how many changes it made."""

    name: str
    seconds: float | None
    changes: int

    def to_json(self) -> Json:
        """As JSON."""
        return {"name": self.name, "seconds": self.seconds, "changes": self.changes}

    @staticmethod
    def from_json(fields: Fields) -> PassRecord:
        """From JSON; raises ArtifactError where it is none."""
        return PassRecord(fields.text("name"), fields.optional_number("seconds"), fields.natural("changes"))


@dataclass(frozen=True, slots=True)
class Placement:
    """How many ops an engine took."""

    engine: str
    ops: int

    def to_json(self) -> Json:
        """As JSON."""
        return {"engine": self.engine, "ops": self.ops}

    @staticmethod
    def from_json(fields: Fields) -> Placement:
        """From JSON; raises ArtifactError where it is none."""
        return Placement(fields.text("engine"), fields.natural("ops"))


@dataclass(frozen=True, slots=True)
class Decision:
    """A candidate that was considered when the program was compiled, and what became of it.

    `milliseconds` is the median of a run on the machine that compiled, of a kernel what a run spends in it; `error` the
    relative L2 distance of its worst output from the reference; None where it did not come to that. `fate` is what became of
    it, `why` says more.
    """

    candidate: str
    milliseconds: float | None
    error: float | None
    fate: str
    why: str = ""

    def to_json(self) -> Json:
        """As JSON; an infinite error is None, and `why` tells."""
        finite = self.error if self.error is not None and isfinite(self.error) else None
        times: dict[str, Json] = {"milliseconds": self.milliseconds, "error": finite}
        return {"candidate": self.candidate, **times, "fate": self.fate, "why": self.why}

    @staticmethod
    def from_json(fields: Fields) -> Decision:
        """From JSON; raises ArtifactError where it is none."""
        times = fields.optional_number("milliseconds"), fields.optional_number("error")
        return Decision(fields.text("candidate"), *times, fields.text("fate"), fields.text("why"))


@dataclass(frozen=True, slots=True)
class NodeCount:
    """The number of nodes before and after the passes."""

    before: int
    after: int

    def to_json(self) -> Json:
        """As JSON."""
        return {"before": self.before, "after": self.after}

    @staticmethod
    def from_json(fields: Fields) -> NodeCount:
        """From JSON; raises ArtifactError where it is none."""
        return NodeCount(fields.natural("before"), fields.natural("after"))


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of the artifact: the SHA-256 of its bytes in hexadecimal, and how many there are."""

    sha256: str
    bytes: int

    def to_json(self) -> Json:
        """As JSON."""
        return {"sha256": self.sha256, "bytes": self.bytes}

    @staticmethod
    def from_json(fields: Fields) -> FileRecord:
        """From JSON; raises ArtifactError where it is none."""
        return FileRecord(_digest(fields), fields.natural("bytes"))


def _digest(fields: Fields) -> str:
    digest = fields.text("sha256")
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise fields.refuse("sha256 should be 64 hexadecimal digits")
    return digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything an artifact knows about itself besides its files.

    `engine` names the executor; `engine_options` are read by that executor. `dims_must_agree` names the symbolic dims
    that have to have one value wherever they occur among the inputs. `precision` is there where one was asked for. `files` is
    filled by whoever writes the artifact.
    """

    engine: str
    inputs: tuple[SignatureEntry, ...]
    outputs: tuple[SignatureEntry, ...]
    engine_options: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])
    dims_must_agree: tuple[str, ...] = ()
    target: str = "cpu"
    opt_level: int = 0
    source: Source | None = None
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    passes: tuple[PassRecord, ...] = ()
    placement: tuple[Placement, ...] = ()
    nodes: NodeCount | None = None
    decisions: tuple[Decision, ...] = ()
    precision: PrecisionReport | None = None
    files: Mapping[str, FileRecord] = field(default_factory=dict[str, FileRecord])

    NAME: ClassVar[str] = "manifest.json"

    def to_json(self) -> Json:
        """The manifest as JSON."""
        lowered: dict[str, Json] = {} if self.precision is None else {"precision": self.precision.to_json()}
        return {
            "schema": SCHEMA,
            "engine": self.engine,
            "engine_options": options_to_json(self.engine_options),
            "inputs": [each.to_json() for each in self.inputs],
            "outputs": [each.to_json() for each in self.outputs],
            "dims_must_agree": list(self.dims_must_agree),
            "target": self.target,
            "opt_level": self.opt_level,
            "source": self.source.to_json() if self.source else None,
            "versions": dict(self.versions),
            "passes": [each.to_json() for each in self.passes],
            "placement": [each.to_json() for each in self.placement],
            "nodes": self.nodes.to_json() if self.nodes else None,
            "decisions": [each.to_json() for each in self.decisions],
            **lowered,
            "files": {name: record.to_json() for name, record in self.files.items()},
        }

    def to_bytes(self) -> bytes:
        """The manifest as the bytes of `manifest.json`; equal manifests have equal bytes."""
        return canonical(self.to_json())

    @staticmethod
    def from_bytes(data: bytes, location: str) -> Manifest:
        """The manifest in the bytes of `manifest.json`; raises ArtifactError, naming `location`, where it is none."""
        fields = parse_object(data, f"{location}: {Manifest.NAME}")
        schema = fields.natural("schema")
        if schema != SCHEMA:
            raise ArtifactError(
                f"the artifact has schema version {schema}, but this release reads version {SCHEMA}",
                location=location,
                hint="compile the model again, or use the release that wrote it",
            )
        return Manifest._from_fields(fields)

    @staticmethod
    def _from_fields(fields: Fields) -> Manifest:
        manifest = Manifest(
            engine=fields.text("engine"),
            engine_options=options_from_json(fields, "engine_options"),
            inputs=fields.objects("inputs", SignatureEntry.from_json),
            outputs=fields.objects("outputs", SignatureEntry.from_json),
            dims_must_agree=fields.texts("dims_must_agree"),
            target=fields.text("target"),
            opt_level=fields.natural("opt_level"),
            source=fields.optional_object("source", Source.from_json),
            versions=_texts(fields, "versions", fields.values("versions")),
            passes=fields.objects("passes", PassRecord.from_json),
            placement=fields.objects("placement", Placement.from_json),
            nodes=fields.optional_object("nodes", NodeCount.from_json),
            decisions=fields.objects("decisions", Decision.from_json),
            precision=fields.optional_object("precision", PrecisionReport.from_json),
            files=fields.table("files", FileRecord.from_json),
        )
        fields.finish()
        for what, entries in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
            if len({each.name for each in entries}) != len(entries):
                raise fields.refuse(f"two {what} have one name")
        return manifest


def options_to_json(options: Mapping[str, OptionValue]) -> Json:
    """Options of an engine as JSON."""
    return {name: _option_to_json(value) for name, value in options.items()}


def options_from_json(fields: Fields, name: str) -> dict[str, OptionValue]:
    """The options of an engine that stand under `name`; raises ArtifactError where they are none."""
    return {key: _option_from_json(fields, f"{name}.{key}", value) for key, value in fields.values(name).items()}


def _option_to_json(value: OptionValue) -> Json:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _option_from_json(fields: Fields, name: str, value: Json) -> OptionValue:
    if isinstance(value, dict):
        return _texts(fields, name, value)
    if isinstance(value, list):
        return tuple(_text(fields, name, item) for item in value)
    if value is None:
        raise fields.refuse(f"{name} should have a value")
    return value


def _texts(fields: Fields, name: str, values: Mapping[str, Json]) -> dict[str, str]:
    return {key: _text(fields, name, value) for key, value in values.items()}


def _text(fields: Fields, name: str, value: Json) -> str:
    if not isinstance(value, str):
        raise fields.refuse(f"{name} should hold strings")
    return value

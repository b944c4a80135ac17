"""The opsets a model and its functions are written in, and whether they are ones we can take."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from .. import schema
from ..diagnostics import ModelError, UnsupportedError
from .names import utf8


def domain_of(domain: str) -> str:
    """The domain, with ONNX's own always called by its short name, the empty one."""
    return "" if domain == "ai.onnx" else utf8(domain)


def opsets_of(imports: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    """The version imported of each domain."""
    versions: dict[str, int] = {}
    for entry in imports:
        domain = domain_of(entry.domain)
        versions[domain] = max(entry.version, versions.get(domain, 0))
    return versions


def _changed_since(node: onnx.NodeProto, version: int) -> bool:
    """Whether an op of an opset before the oldest we raise from had another form there."""
    if domain_of(node.domain):
        return False
    then, oldest = schema.find("", node.op_type, version), schema.find("", node.op_type, schema.OLDEST_OPSET)
    return then is None or oldest is None or then.since_version != oldest.since_version


def check_versions(model: onnx.ModelProto, opsets: dict[str, int]) -> None:
    """Refuse a model of versions we do not know; a model that needs no opset of ONNX's own gets the canonical one."""
    if model.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"the model has IR version {model.ir_version}; up to {onnx.IR_VERSION} is known",
            hint="export it for an older one",
        )
    _check_opsets(opsets, model.graph.node, "the model")
    opsets.setdefault("", schema.CANONICAL_OPSET)


def _check_opsets(opsets: dict[str, int], nodes: Sequence[onnx.NodeProto], who: str) -> None:
    for domain, newest in schema.NEWEST_KNOWN.items():
        version, shown = opsets.get(domain), domain or "ai.onnx"
        if version is None:
            if any(domain_of(node.domain) == domain for node in nodes):
                hint = f"add an opset_import for {domain or 'the default domain'}"
                raise ModelError(f"{who} uses ops of {shown} but imports no opset of it", hint=hint)
        elif version > newest:
            reason = f"{who} needs opset {version} of {shown}; up to {newest} is known"
            raise UnsupportedError(reason, hint="export it for an older opset")
        elif version < 1 and domain:
            raise ModelError(f"{who} imports opset {version} of {shown}, which does not exist")
    version = opsets.get("", schema.OLDEST_OPSET)
    if version < schema.OLDEST_OPSET and any(_changed_since(node, version) for node in nodes):
        reason = f"{who} is written in opset {version}; from {schema.OLDEST_OPSET} on is taken"
        raise UnsupportedError(reason, hint="export it again with a newer opset")


def check_function(function: onnx.FunctionProto, model_opsets: dict[str, int]) -> None:
    """Refuse a function whose inputs share a name, or whose opsets we do not know."""
    where = f"function '{function.name}'"
    if len(set(function.input)) != len(function.input):
        raise ModelError("it has two inputs of one name", location=where)
    _check_opsets({**model_opsets, **opsets_of(function.opset_import)}, function.node, where)

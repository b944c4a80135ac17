"""The `irc` domain: the ops ONNX lacks, each with what it is, what it makes and what must hold of it.

`irc::fused` is a region of ops that an engine runs as one kernel. Its body sees nothing but its own inputs, which are the
operands in order, and returns its results, each made by an op of the body; so a region means what its ops mean, one after
the other, and can be taken apart at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .diagnostics import ModelError
from .graph import Graph, Op, Value
from .location import Location
from .types import Type, UnknownType

DOMAIN = "irc"
KINDS = ("elementwise", "reduction", "contraction")
"""What a region is built around: only elementwise ops, one reduction, or one contraction (MatMul, Gemm, Conv)."""


@dataclass(frozen=True)
class Definition:
    """An op of the domain: the types of its results, and why an op of this name is malformed (an empty text when it is not)."""

    infer: Callable[[Op], tuple[Type, ...]]
    fault: Callable[[Op], str]


def is_fused(op: Op) -> bool:
    """Whether an op is a fused region."""
    return op.domain == DOMAIN and op.name == "fused"


def body_of(op: Op) -> Graph:
    """The body of a fused region."""
    body = op.attributes.get("body")
    if not isinstance(body, Graph):
        raise ModelError("irc::fused has no body", location=str(op.location))
    return body


def fused(body: Graph, operands: Sequence[Value], kind: str, location: Location) -> Op:
    """A region of `body`, whose inputs stand for `operands`; not yet in any graph."""
    return Op("fused", operands, {"kind": kind, "body": body}, [v.type for v in body.outputs], location, domain=DOMAIN)


def _fused_types(op: Op) -> tuple[Type, ...]:
    return tuple(value.type for value in body_of(op).outputs)


def _fused_fault(op: Op) -> str:
    body = op.attributes.get("body")
    if not isinstance(body, Graph):
        return "has no body"
    if op.attributes.get("kind") not in KINDS:
        return f"is of no kind ({', '.join(KINDS)})"
    if len(body.inputs) != len(op.operands) or len(body.outputs) != len(op.results):
        return "has a body with another number of inputs or outputs"
    if any(operand is None for operand in op.operands) or body.defaults:
        return "has an absent operand"
    if body.captures():
        return "has a body that uses values from outside"
    if any(value.op is None or value.op.graph is not body for value in body.outputs):
        return "returns a value that no op of its body makes"
    if len(set(body.outputs)) != len(body.outputs):
        return "returns one value twice"
    if any(inner.bodies for inner in body):
        return "has an op with a body in it"
    for operand, inside in zip(op.operands, body.inputs, strict=True):
        if operand is not None and not isinstance(operand.type, UnknownType) and operand.type != inside.type:
            return f"takes {operand.type} for {inside.type}"
    return ""


DIALECT: Mapping[str, Definition] = {"fused": Definition(_fused_types, _fused_fault)}


def definition(op: Op) -> Definition | None:
    """The definition of an op of the domain, or None for any other op."""
    return DIALECT.get(op.name) if op.domain == DOMAIN else None

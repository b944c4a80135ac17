"""What ONNX says of an op, asked of `onnx.defs`: nothing about a standard op is typed in here again.

The canonical opset is the newest that every engine takes whole: ONNX Runtime 1.31 reads opset 26, but from 25 on it no longer
expands ops that ONNX defines as functions (Swish). An op that only a newer opset defines carries its version.
"""

# pyright: basic
from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import onnx
import onnx.defs
from onnx.defs import OpSchema

from .graph import Op
from .types import DType, MapType, OptionalType, SequenceType, SparseType, TensorType, Type

CANONICAL_OPSET = 24
OLDEST_OPSET = 7
IR_VERSION = 12

ML_DOMAIN = "ai.onnx.ml"
NEWEST_KNOWN = {"": onnx.defs.onnx_opset_version(), ML_DOMAIN: onnx.defs.onnx_ml_opset_version()}

_VERSIONS = range(2**31)  # what the library behind `onnx.defs` can be asked for
_SAFE = OpSchema.NodeDeterminism.Deterministic


@cache
def find(domain: str, name: str, version: int) -> OpSchema | None:
    """The schema in force at `version` of `domain`, or None for an op ONNX does not know."""
    if version not in _VERSIONS:
        return None
    try:
        schema = onnx.defs.get_schema(name, version, domain)
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema


def all_schemas() -> list[OpSchema]:
    """Every schema `onnx.defs` has, all versions of all domains."""
    return list(onnx.defs.get_all_schemas_with_history())


def of(op: Op, opsets: dict[str, int] | None = None) -> OpSchema | None:
    """The schema of an op, or None for a custom one; `opsets` are the outermost graph's."""
    if op.domain == "":
        return find("", op.name, op.version or CANONICAL_OPSET)
    if op.domain not in NEWEST_KNOWN:
        return None
    return find(op.domain, op.name, (opsets or {}).get(op.domain, NEWEST_KNOWN[op.domain]))


@cache
def attribute_default(domain: str, name: str, version: int, attribute: str) -> Any:
    """The default ONNX gives an attribute, as a Python value, or None when it has none."""
    schema = find(domain, name, version)
    if schema is None or attribute not in schema.attributes:
        return None
    default = schema.attributes[attribute].default_value
    if default.type == onnx.AttributeProto.UNDEFINED:
        return None
    value = onnx.helper.get_attribute_value(default)
    return value.decode() if isinstance(value, bytes) else tuple(value) if isinstance(value, list) else value


def is_deterministic(op: Op) -> bool:
    """Whether equal operands always give equal results, so that the op may be folded or shared.

    An op that owns bodies is deterministic when all in them is; an op without a schema is not known to be.
    """
    schema = of(op)
    if op.bodies:
        return (schema is not None or op.domain == "irc") and all(
            is_deterministic(inner) for body in op.bodies for inner in body.walk() if not inner.bodies
        )
    if schema is None:
        return False
    if op.name == "Dropout":
        training = op.operand(2)
        return training is None or (training.constant is not None and not training.constant.array.any())
    determinism = schema.node_determinism  # type: ignore[attr-defined]  # newer than onnx's stubs
    return determinism == _SAFE or op.name in _DETERMINISTIC_AFTER_ALL


# ONNX leaves the determinism of these unknown only because they are defined as functions; none draws random numbers.
_DETERMINISTIC_AFTER_ALL = frozenset({"AffineGrid"})


@cache
def formals(op_schema_key: tuple[str, str, int]) -> tuple[tuple[frozenset[str], str, bool], ...]:
    """For each formal operand of (domain, name, version): the types it admits, its type variable, whether it is variadic."""
    op_schema = find(*op_schema_key)
    assert op_schema is not None
    variadic = OpSchema.FormalParameterOption.Variadic
    return tuple((frozenset(p.types), p.type_str if p.is_homogeneous else "", p.option == variadic) for p in op_schema.inputs)


@lru_cache(maxsize=65536)
def type_string(kind: Type) -> str:
    """How ONNX's type constraints spell a type, such as `seq(tensor(float))`; empty for an unknown one."""
    if isinstance(kind, TensorType):
        return f"tensor({_dtype_string(kind.dtype)})"
    if isinstance(kind, SparseType):
        return f"sparse_tensor({_dtype_string(kind.dtype)})"
    if isinstance(kind, MapType):
        return f"map({_dtype_string(kind.key)}, {type_string(kind.value)})"
    if isinstance(kind, (SequenceType, OptionalType)):
        inner = type_string(kind.element)
        return inner and f"{'seq' if isinstance(kind, SequenceType) else 'optional'}({inner})"
    return ""


def _dtype_string(dtype: DType) -> str:
    return onnx.TensorProto.DataType.Name(dtype.onnx_code).lower()


@lru_cache(maxsize=65536)
def type_mismatch(key: tuple[str, str, int], operand_types: tuple[str, ...]) -> str | None:
    """Why operands of these type strings are not admitted by the schema (domain, name, version), or None when they are."""
    admitted = formals(key)
    bound: dict[str, str] = {}
    for index, text in enumerate(operand_types):
        if not text:
            continue
        if index >= len(admitted) and not (admitted and admitted[-1][2]):
            return f"it takes at most {len(admitted)} operands, not {len(operand_types)}"
        types, variable, _ = admitted[min(index, len(admitted) - 1)]
        if text not in types:
            return f"operand {index} is {text}, which it does not take"
        if variable and bound.setdefault(variable, text) != text:
            return f"operand {index} is {text} where {bound[variable]} is needed"
    return None


def fits_canonical(op: Op, version: int) -> bool:
    """Whether an op written for a newer opset says nothing the canonical opset cannot say."""
    newer = find("", op.name, version)
    if newer is None or newer.since_version <= CANONICAL_OPSET:
        return True  # the same op, or unknown there as here: opaque
    return find("", op.name, CANONICAL_OPSET) is not None and _fits(op, newer, CANONICAL_OPSET)


def fits(op: Op, version: int) -> bool:
    """Whether an op of ONNX's own domain, as it stands, is also an op of another opset and means the same there.

    Compares form, not meaning: right between opsets that only added attributes, operands and types.
    """
    own = of(op)
    return find("", op.name, version) is None if own is None else _fits(op, own, version)


def _fits(op: Op, own: OpSchema, version: int) -> bool:
    other = find("", op.name, version)
    if other is None:
        return False
    if own.since_version == other.since_version:
        return True
    if any(name not in other.attributes for name in op.attributes) or len(op.operands) > other.max_input:
        return False
    if len(op.results) > other.max_output:
        return False
    defaults = {name for name in own.attributes if name not in op.attributes and name in other.attributes}
    if any(own.attributes[n].default_value != other.attributes[n].default_value for n in defaults):
        return False
    types = tuple("" if v is None else type_string(v.type) for v in op.operands)
    return type_mismatch(("", op.name, version), types) is None


def needs_result(op: Op, index: int) -> bool:
    """Whether result `index` must have a name in an ONNX file even when nobody uses it.

    Engines crash on an unnamed part of a Split; only results that the schema calls optional may be left out.
    """
    if index == 0:
        return True
    own = of(op)
    if own is None:
        return bool(op.results[index].name)
    return own.outputs[min(index, len(own.outputs) - 1)].option != OpSchema.FormalParameterOption.Optional

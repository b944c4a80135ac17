"""Types of results: ONNX's own inference a node at a time, refined by shape arithmetic, with control flow done here.

`refresh(op)` sets the types and contents of an op's results from its operands, and never widens what is known.
"""

from __future__ import annotations

from functools import lru_cache

import onnx
from onnx import shape_inference

from . import dialect, proto, schema, shapes
from .diagnostics import ModelError
from .dims import SymbolicDim
from .graph import Graph, Op, Value, bodies_of
from .on_bytes import OnBytes, on_bytes, plain_of
from .operators import Attribute, EmptyList
from .tensors import SparseTensor, Tensor
from .types import (
    UNKNOWN,
    DType,
    OptionalType,
    SequenceType,
    TensorType,
    Type,
    UnknownType,
    join,
    merge,
)

_CACHE_LIMIT = 100_000
_SIZES = range(2**63)
_cache: dict[object, tuple[Type, ...]] = {}


def refresh(op: Op, declared: tuple[Type, ...] | None = None) -> None:
    """Infer the results of `op`; `declared` types are believed only where inference knows nothing.

    Raises ModelError when the op's operands contradict its schema.
    """
    inferred = infer(op)
    for index, result in enumerate(op.results):
        kind = inferred[index] if index < len(inferred) else UNKNOWN
        if declared is not None:
            kind = merge(kind, declared[index])
        result.type = kind
    if op.results:
        op.results[0].content = shapes.infer_content(op)


def infer(op: Op) -> tuple[Type, ...]:
    """The types of all results of an op, as far as its operands tell."""
    if op.is_constant:
        return (op.value.type,)
    own = dialect.definition(op)
    if own is not None:
        return own.infer(op)
    kind = on_bytes(op)
    if kind is not None:
        return _types_on_bytes(op, kind)
    if op.bodies:
        rule = _CONTROL_FLOW.get(op.name) if not op.domain else None
        return rule(op) if rule else (UNKNOWN,) * len(op.results)
    key = _cache_key(op)
    known = _cache.get(key) if key is not None else None
    if known is None:
        known = _infer_by_schema(op)
        if key is not None:
            if len(_cache) > _CACHE_LIMIT:
                _cache.clear()
            _cache[key] = known
    return known


def _types_on_bytes(op: Op, kind: OnBytes) -> tuple[Type, ...]:
    """That of the plain op with the dtype of the data, or f32 where the result has no steps."""
    plain = plain_of(op, kind)
    made = UNKNOWN if plain is None else infer(plain)[0]
    data = op.needed(kind.data[0]).type
    if not isinstance(made, TensorType) or not isinstance(data, TensorType):
        return (UNKNOWN,) * len(op.results)
    return (TensorType(made.dtype if op.operand(kind.result) is None else data.dtype, made.shape),)


def _cache_key(op: Op) -> object | None:
    for value in op.attributes.values():
        if isinstance(value, (Tensor, SparseTensor)):
            return None
    operands = tuple([None if v is None else _known_of(op, v) for v in op.operands])
    opsets = _opsets(op) if op.domain else None
    return (
        op.domain,
        op.name,
        op.version,
        len(op.results),
        tuple(op.attributes.items()),
        operands,
        tuple(sorted(opsets.items())) if opsets else None,
    )


def _known_of(op: Op, value: Value) -> tuple[object, ...]:
    """What inference knows of an operand; a tensor's type as a plain tuple, which hashes faster."""
    kind, content = value.type, _relevant_content(op, value)
    return (kind.dtype, kind.shape, content) if isinstance(kind, TensorType) else (kind, content)


def _relevant_content(op: Op, value: Value) -> object:
    content = shapes.content_of(value)
    if content is None and op.name == "Resize" and value.constant is not None:
        return value.constant.fingerprint()
    return content


def _opsets(op: Op) -> dict[str, int]:
    return op.graph.outermost.opsets if op.graph is not None else {}


def _infer_by_schema(op: Op) -> tuple[Type, ...]:
    op_schema = schema.of(op, _opsets(op))
    if op_schema is None:
        return (UNKNOWN,) * len(op.results)
    types = _ask_onnx(op, op_schema)
    shape = shapes.infer_shape(op) if types else None
    if shape is not None and isinstance(types[0], TensorType):
        # A size no tensor can have is the op's own failure when it runs; no type holds it.
        shape = tuple(None if isinstance(d, int) and d not in _SIZES else d for d in shape)
        refined = merge(TensorType(types[0].dtype, shape), types[0])
        types = (refined, *types[1:])
    return types


def _ask_onnx(op: Op, op_schema: onnx.defs.OpSchema) -> tuple[Type, ...]:
    node = onnx.NodeProto(op_type=op.name, domain=op.domain)
    symbols: dict[str, SymbolicDim] = {}
    input_types: dict[str, onnx.TypeProto] = {}
    input_data: dict[str, onnx.TensorProto] = {}
    for index, operand in enumerate(op.operands):
        if operand is None:
            node.input.append("")
            continue
        name = str(index)
        node.input.append(name)
        if isinstance(operand.type, UnknownType):
            # ONNX's inference dereferences what is not there; with an unknown operand there is nothing to ask.
            return _same_as_result_of_schema(op)
        input_types[name] = type_message(operand.type)
        _note_symbols(operand.type, symbols)
        tensor = _data_for_inference(op, operand)
        if tensor is not None:
            input_data[name] = proto.tensor_message(tensor)
    node.output.extend(f"r{i}" for i in range(len(op.results)))
    node.attribute.extend(proto.attribute_message(name, value) for name, value in op.attributes.items())
    try:
        answer = shape_inference.infer_node_outputs(op_schema, node, input_types, input_data, opset_imports=_imports(op))
    except (shape_inference.InferenceError, onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        if _is_only_missing_knowledge(str(error)):
            return (UNKNOWN,) * len(op.results)
        raise ModelError(
            f"{op.qualified_name} does not accept its operands {_operand_text(op)}: {_first_line(str(error))}",
            location=str(op.location),
            hint="the model is inconsistent here; check it with the tool that exported it",
        ) from error
    try:
        return tuple(
            proto.type_from_message(answer[f"r{i}"], symbols) if f"r{i}" in answer else UNKNOWN for i in range(len(op.results))
        )
    except ModelError as error:
        message = f"{op.qualified_name} has a result no tensor can be: {error.message}"
        raise ModelError(message, location=str(op.location)) from None


def _imports(op: Op) -> list[onnx.OperatorSetIdProto]:
    versions = {"": op.version or schema.CANONICAL_OPSET, **_opsets(op)}
    return [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]


def _is_only_missing_knowledge(message: str) -> bool:
    # Functions whose body cannot be inferred without values, and ops whose inference is not written: no fault of the model.
    return "No Op registered" in message or "does not have" in message or "not implemented" in message.lower()


def _operand_text(op: Op) -> str:
    return ", ".join("_" if v is None else str(v.type) for v in op.operands)


def _first_line(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"


def _data_for_inference(op: Op, operand: Value) -> Tensor | None:
    tensor = operand.constant
    if tensor is not None:
        numeric = tensor.dtype.is_integer or (op.name in ("Resize", "Range", "OneHot") and tensor.dtype is not DType.STR)
        return tensor if tensor.byte_count <= 4096 and numeric else None
    content = operand.content
    kind = operand.type
    if content is None or not isinstance(kind, TensorType) or kind.dtype not in (DType.I64, DType.I32):
        return None
    numbers = [d for d in content if isinstance(d, int)]
    if len(numbers) != len(content):
        return None
    import numpy as np

    shape = () if kind.rank == 0 else (len(numbers),)
    return Tensor.from_array(np.array(numbers, dtype=kind.dtype.numpy).reshape(shape))


def _same_as_result_of_schema(op: Op) -> tuple[Type, ...]:
    return (UNKNOWN,) * len(op.results)


@lru_cache(maxsize=16384)
def type_message(kind: Type) -> onnx.TypeProto:
    """The ONNX message of a type, with derived dims spelled so that `proto.type_from_message` finds them again."""
    return proto.type_message(kind, spell=str)


def _note_symbols(kind: Type, symbols: dict[str, SymbolicDim]) -> None:
    while isinstance(kind, (SequenceType, OptionalType)):
        kind = kind.element
    if isinstance(kind, TensorType) and kind.shape is not None:
        for dim in kind.shape:
            if isinstance(dim, SymbolicDim):
                symbols[str(dim)] = dim


def _if_types(op: Op) -> tuple[Type, ...]:
    branches = [attribute for attribute in op.attributes.values() if isinstance(attribute, Graph)]
    if len(branches) != 2 or any(len(b.outputs) != len(op.results) for b in branches):
        raise ModelError("If has branches that return different numbers of values", location=str(op.location))
    return tuple(join(a.type, b.type) for a, b in zip(branches[0].outputs, branches[1].outputs, strict=True))


def _loop_types(op: Op) -> tuple[Type, ...]:
    body = op.attributes.get("body")
    carried = op.operands[2:]
    if not isinstance(body, Graph) or len(body.outputs) != 1 + len(op.results) or len(carried) > len(op.results):
        raise ModelError("Loop's body does not return a condition and one value per result", location=str(op.location))
    types: list[Type] = []
    for index, output in enumerate(body.outputs[1:]):
        initial = carried[index] if index < len(carried) else None
        if initial is not None:
            types.append(join(initial.type, output.type))
        else:
            types.append(_stacked(output.type, 0, None))
    return tuple(types)


def _scan_types(op: Op) -> tuple[Type, ...]:
    body = op.attributes.get("body")
    scanned = op.integer("num_scan_inputs", 0)
    states = len(op.operands) - scanned
    if not isinstance(body, Graph) or len(body.outputs) != len(op.results) or not 0 <= states < len(op.operands):
        raise ModelError("Scan's body does not return one value per result", location=str(op.location))
    if states > len(op.results):
        raise ModelError("Scan has more states than results", location=str(op.location))
    length = op.operands[-1].shape if op.operands and op.operands[-1] is not None else None
    input_axes = op.integers("scan_input_axes") or (0,) * scanned
    steps = length[input_axes[-1]] if length and -len(length) <= input_axes[-1] < len(length) else None
    output_axes = op.integers("scan_output_axes") or (0,) * (len(op.results) - states)
    if len(input_axes) != scanned or len(output_axes) != len(op.results) - states:
        raise ModelError("Scan does not have one axis per scanned value", location=str(op.location))
    types: list[Type] = []
    for index, output in enumerate(body.outputs):
        if index < states:
            initial = op.operands[index]
            types.append(join(initial.type, output.type) if initial is not None else output.type)
        else:
            types.append(_stacked(output.type, output_axes[index - states], steps))
    return tuple(types)


def _stacked(element: Type, axis: int, length: object) -> Type:
    if not isinstance(element, TensorType) or element.shape is None:
        return element
    position = axis if axis >= 0 else axis + len(element.shape) + 1
    if not 0 <= position <= len(element.shape):
        return TensorType(element.dtype, None)
    dim = length if isinstance(length, (int, SymbolicDim)) else None
    return TensorType(element.dtype, (*element.shape[:position], dim, *element.shape[position:]))


_CONTROL_FLOW = {"If": _if_types, "Loop": _loop_types, "Scan": _scan_types}


def make(
    name: str,
    operands: list[Value | None] | tuple[Value | None, ...],
    location: object,
    *,
    attributes: dict[str, Attribute] | None = None,
    results: int = 1,
    domain: str = "",
    version: int | None = None,
) -> Op:
    """A new op with inferred result types, not yet in any graph."""
    from .location import Location

    assert isinstance(location, Location)
    op = Op(name, operands, attributes or {}, (UNKNOWN,) * results, location, domain=domain, version=version)
    try:
        refresh(op)
    except ModelError:
        op.drop_operands()  # an op that never was must not be left among its operands' users
        raise
    return op


__all__ = ["EmptyList", "bodies_of", "infer", "make", "refresh"]

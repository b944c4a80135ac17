"""The laws of the IR, checked: structure and uses for a whole graph, the schema for an op."""

# pyright: basic
from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from onnx.defs import OpSchema

from . import dialect, schema
from .diagnostics import ModelError, VerifyError, closest
from .graph import Graph, Op, Use, Value
from .location import Location
from .operators import Attribute, EmptyList
from .tensors import SparseTensor, Tensor
from .types import MapType, OptionalType, SequenceType, SparseType, TensorType, UnknownType


def check_op(op: Op, opsets: dict[str, int]) -> None:
    """Check an op against its schema: operand and result counts, attributes, operand types.

    Raises ModelError with the op's location; says nothing about ops without a schema.
    """
    own = dialect.definition(op)
    fault = "" if own is None else own.fault(op)
    if fault:
        raise ModelError(f"{op.qualified_name} {fault}", location=str(op.location))
    op_schema = schema.of(op, opsets)
    if op_schema is not None:
        check_form(op_schema, op.qualified_name, op.operands, op.attributes, len(op.results), op.location)


def check_form(
    op_schema: OpSchema,
    name: str,
    operands: Sequence[Value | None],
    attributes: Mapping[str, Attribute],
    results: int,
    where: Location,
) -> None:
    """Check what is to be an op against a schema. Raises ModelError with its location."""
    required, known = _attributes(op_schema.domain, op_schema.name, op_schema.since_version)
    count = len(operands)
    if not op_schema.min_input <= count <= op_schema.max_input:
        wanted = _range(op_schema.min_input, op_schema.max_input)
        raise ModelError(f"{name} takes {wanted} operands, not {count}", location=str(where))
    if not op_schema.min_output <= results <= op_schema.max_output:
        wanted = _range(op_schema.min_output, op_schema.max_output)
        raise ModelError(f"{name} makes {wanted} results, not {results}", location=str(where))
    for key, value in attributes.items():
        kind = known.get(key)
        if kind is None:
            hint = closest(key, sorted(known))
            raise ModelError(f"{name} has no attribute '{key}'", location=str(where), hint=hint)
        if not _is_a(value, kind):
            raise ModelError(f"{name} has an attribute '{key}' that is no {kind}", location=str(where))
    for key in required:
        if key not in attributes:
            raise ModelError(f"{name} lacks its attribute '{key}'", location=str(where))
    for index in range(min(op_schema.min_input, count)):
        formal = op_schema.inputs[min(index, len(op_schema.inputs) - 1)]
        if operands[index] is None and formal.option == OpSchema.FormalParameterOption.Single:
            raise ModelError(f"{name} lacks operand {index} ({formal.name})", location=str(where))
    types = tuple("" if v is None else schema.type_string(v.type) for v in operands)
    mismatch = schema.type_mismatch((op_schema.domain, op_schema.name, op_schema.since_version), types)
    if mismatch is not None:
        raise ModelError(f"{name} is mistyped: {mismatch}", location=str(where))


# What an attribute of each kind is in the IR; a list is a tuple, or an EmptyList that says of what.
_KINDS: dict[str, tuple[type, ...]] = {
    "float": (float,),
    "int": (int,),
    "string": (str, bytes),
    "tensor": (Tensor,),
    "graph": (Graph,),
    "sparse_tensor": (SparseTensor,),
    "type_proto": (TensorType, SparseType, SequenceType, OptionalType, MapType, UnknownType),
}


def _is_a(value: Attribute, kind: str) -> bool:
    if not kind.startswith("list of "):
        return isinstance(value, _KINDS[kind])
    element = kind.removeprefix("list of ")
    if isinstance(value, EmptyList):
        return value.kind == element + "s" or (value.kind, element) == ("types", "type_proto")
    return isinstance(value, tuple) and isinstance(value[0], _KINDS[element])


@cache
def _attributes(domain: str, name: str, version: int) -> tuple[tuple[str, ...], dict[str, str]]:
    """The attributes an op must have, and the kind of every one it may have."""
    op_schema = schema.find(domain, name, version)
    assert op_schema is not None
    required = tuple(a.name for a in op_schema.attributes.values() if a.required)
    # onnx's stubs do not know that its enumerations have names
    kinds = {a.name: a.type.name.lower() for a in op_schema.attributes.values()}  # type: ignore[attr-defined]
    return required, {k: f"list of {v[:-1]}" if v.endswith("s") else v for k, v in kinds.items()}


def _range(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"at least {low}" if high > 10**6 else f"{low} to {high}"


def verify(graph: Graph, *, types: bool = True) -> None:
    """Check every law of the IR on a graph and its bodies. Raises VerifyError naming the op and the law broken."""
    opsets = graph.opsets
    visible: set[Value] = set()
    _check_signature(graph)
    # An explicit stack of (graph, next op, what the graph defines, what becomes visible now): an op's results are
    # visible only after its bodies are done.
    visible.update(graph.inputs)
    stack: list[tuple[Graph, Op | None, set[Value], list[Value]]] = [(graph, graph.first, set(graph.inputs), [])]
    while stack:
        current, op, own, defined = stack.pop()
        visible.update(defined)
        own.update(defined)
        if op is None:
            _check_inputs(current)
            _check_outputs(current, visible)
            visible -= own
            continue
        if op.graph is not current or (op.next is not None and op.next.prev is not op):
            raise VerifyError("the op list is broken", location=str(op.location))
        _check_operands(op, visible)
        if types:
            _check_schema(op, opsets)
        stack.append((current, op.next, own, op.results))
        for body in op.bodies:
            if body.owner is not op:
                raise VerifyError("it holds a body that belongs to another op", location=str(op.location))
            stack.append((body, body.first, set(body.inputs), body.inputs))


def _check_signature(graph: Graph) -> None:
    if len(graph.inputs) != len(graph.input_names) or not len(graph.outputs) == len(graph.output_names) == len(
        graph.output_types
    ):
        raise VerifyError("the signature has lost a name or a type", location=f"graph '{graph.name}'")
    if len(set(graph.input_names)) != len(graph.input_names) or len(set(graph.output_names)) != len(graph.output_names):
        raise VerifyError("two inputs or two outputs have one name", location=f"graph '{graph.name}'")


def _check_operands(op: Op, visible: set[Value]) -> None:
    if not op.location.name:
        raise VerifyError(f"{op.qualified_name} has no location")
    for index, operand in enumerate(op.operands):
        if operand is None:
            continue
        if operand not in visible:
            raise VerifyError(
                f"{op.qualified_name} uses %{operand.name or index} before it is defined", location=str(op.location)
            )
        if Use(op, index) not in operand.uses:
            raise VerifyError(f"{op.qualified_name} is no known user of its operand {index}", location=str(op.location))
    for result in op.results:
        if result.op is not op:
            raise VerifyError(f"a result of {op.qualified_name} belongs to another op", location=str(op.location))
        wrong = _wrong_use(result)
        if wrong:
            raise VerifyError(f"a use of {op.qualified_name}'s result is {wrong}", location=str(op.location))


def _check_inputs(graph: Graph) -> None:
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        wrong = _wrong_use(value)
        if wrong:
            raise VerifyError(f"a use of input '{name}' is {wrong}", location=f"graph '{graph.name}'")


def _wrong_use(value: Value) -> str | None:
    """What is wrong with a use the value knows of, or None."""
    for user, index in value.uses:
        slots = user.outputs if isinstance(user, Graph) else user.operands
        if index >= len(slots) or slots[index] is not value:
            return "stale"
        if isinstance(user, Op) and user.graph is None:
            return "by an op in no graph"
    return None


def _check_schema(op: Op, opsets: dict[str, int]) -> None:
    if op.is_constant:
        if op.results[0].type != op.value.type:
            raise VerifyError(f"a constant of {op.value.type} is typed {op.results[0].type}", location=str(op.location))
        return
    # What a schema says of an op depends on this much only, and a model has few different forms among many ops.
    form = (
        (op.domain, op.name, op.version, opsets.get(op.domain), len(op.results)),
        tuple((name, _shape_of(value)) for name, value in op.attributes.items()),
        tuple(None if v is None else v.type.dtype if isinstance(v.type, TensorType) else v.type for v in op.operands),
    )
    if form in _good_forms and not op.bodies:
        return
    try:
        check_op(op, opsets)
    except ModelError as error:
        raise VerifyError(error.message, location=error.location) from None
    if len(_good_forms) > _MOST_FORMS:
        _good_forms.clear()
    _good_forms.add(form)


_MOST_FORMS = 100_000
_good_forms: set[object] = set()


def _shape_of(value: Attribute) -> object:
    """The kind of an attribute, as far as a schema looks at it."""
    if isinstance(value, EmptyList):
        return value
    return (tuple, type(value[0])) if isinstance(value, tuple) else type(value)


def _check_outputs(graph: Graph, visible: set[Value]) -> None:
    for index, output in enumerate(graph.outputs):
        if output not in visible:
            raise VerifyError(f"output '{graph.output_names[index]}' is not defined", location=f"graph '{graph.name}'")
        if Use(graph, index) not in output.uses:
            raise VerifyError(
                f"output '{graph.output_names[index]}' is no known use of its value", location=f"graph '{graph.name}'"
            )

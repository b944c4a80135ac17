"""The laws of the IR, checked: structure and uses for a whole graph, the schema for an op."""

from __future__ import annotations

from functools import lru_cache

from onnx.defs import OpSchema

from . import schema
from .diagnostics import ModelError, VerifyError, closest
from .graph import Graph, Op, Use, Value


def check_op(op: Op, opsets: dict[str, int]) -> None:
    """Check an op against its schema: operand and result counts, attributes, operand types.

    Raises ModelError with the op's location; says nothing about ops without a schema.
    """
    op_schema = schema.of(op, opsets)
    if op_schema is None:
        return
    where = str(op.location)
    required, known = _attributes(op_schema.domain, op_schema.name, op_schema.since_version)
    count = len(op.operands)
    if not op_schema.min_input <= count <= op_schema.max_input:
        raise ModelError(f"{op.qualified_name} takes {_range(op_schema.min_input, op_schema.max_input)} operands, not {count}", location=where)
    if len(op.results) > op_schema.max_output or (len(op.results) < op_schema.min_output):
        raise ModelError(
            f"{op.qualified_name} makes {_range(op_schema.min_output, op_schema.max_output)} results, not {len(op.results)}", location=where
        )
    for name in op.attributes:
        if name not in known:
            raise ModelError(f"{op.qualified_name} has no attribute '{name}'", location=where, hint=closest(name, sorted(known)))
    for name in required:
        if name not in op.attributes:
            raise ModelError(f"{op.qualified_name} lacks its attribute '{name}'", location=where)
    for index in range(min(op_schema.min_input, count)):
        option = op_schema.inputs[min(index, len(op_schema.inputs) - 1)].option
        if op.operands[index] is None and option == OpSchema.FormalParameterOption.Single:
            raise ModelError(f"{op.qualified_name} lacks operand {index} ({op_schema.inputs[index].name})", location=where)
    types = tuple("" if v is None else schema.type_string(v.type) for v in op.operands)
    mismatch = schema.type_mismatch((op_schema.domain, op_schema.name, op_schema.since_version), types)
    if mismatch is not None:
        raise ModelError(f"{op.qualified_name} is mistyped: {mismatch}", location=where)


@lru_cache(maxsize=None)
def _attributes(domain: str, name: str, version: int) -> tuple[tuple[str, ...], frozenset[str]]:
    op_schema = schema.find(domain, name, version)
    assert op_schema is not None
    required = tuple(a.name for a in op_schema.attributes.values() if a.required)
    return required, frozenset(op_schema.attributes)


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
    if len(graph.inputs) != len(graph.input_names) or not len(graph.outputs) == len(graph.output_names) == len(graph.output_types):
        raise VerifyError("the signature has lost a name or a type", location=f"graph '{graph.name}'")
    if len(set(graph.input_names)) != len(graph.input_names) or len(set(graph.output_names)) != len(graph.output_names):
        raise VerifyError("two inputs or two outputs have one name", location=f"graph '{graph.name}'")


def _check_operands(op: Op, visible: set[Value]) -> None:
    if not str(op.location):
        raise VerifyError(f"{op.qualified_name} has no location")
    for index, operand in enumerate(op.operands):
        if operand is None:
            continue
        if operand not in visible:
            raise VerifyError(f"{op.qualified_name} uses %{operand.name or index} before it is defined", location=str(op.location))
        if Use(op, index) not in operand.uses:
            raise VerifyError(f"{op.qualified_name} is no known user of its operand {index}", location=str(op.location))
    for result in op.results:
        if result.op is not op:
            raise VerifyError(f"a result of {op.qualified_name} belongs to another op", location=str(op.location))
        for user, index in result.uses:
            slots = user.outputs if isinstance(user, Graph) else user.operands
            if index >= len(slots) or slots[index] is not result:
                raise VerifyError(f"a use of {op.qualified_name}'s result is stale", location=str(op.location))


def _check_schema(op: Op, opsets: dict[str, int]) -> None:
    try:
        check_op(op, opsets)
    except ModelError as error:
        raise VerifyError(error.message, location=error.location) from None
    if op.is_constant and op.results[0].type != op.value.type:
        raise VerifyError(f"a constant of {op.value.type} is typed {op.results[0].type}", location=str(op.location))


def _check_outputs(graph: Graph, visible: set[Value]) -> None:
    for index, output in enumerate(graph.outputs):
        if output not in visible:
            raise VerifyError(f"output '{graph.output_names[index]}' is not defined", location=f"graph '{graph.name}'")
        if Use(graph, index) not in output.uses:
            raise VerifyError(f"output '{graph.output_names[index]}' is no known use of its value", location=f"graph '{graph.name}'")

"""Copies of graphs and ops: new ops and values, the same constants."""

from __future__ import annotations

from .graph import Graph, Op, Value, constant_op
from .infer import refresh
from .location import at
from .operators import Attribute


def clone_graph(graph: Graph) -> Graph:
    """An independent copy of a graph with all bodies; constant tensors are shared."""
    return _clone_into(graph, {})


def clone_closed(graph: Graph) -> Graph:
    """A copy in which the default of each input that has one is a constant, and no input any more.

    All types are inferred again, from those of the defaults. Raises ModelError where a default contradicts an op that takes it.
    """
    copy, mapping = Graph(graph.name), dict[Value, Value]()
    for value, name in zip(graph.inputs, graph.input_names, strict=True):
        default = graph.defaults.get(value)
        if default is None:
            mapping[value] = copy.add_input(name, value.type)
            mapping[value].name, mapping[value].content = value.name, value.content
        elif value.uses:
            mapping[value] = copy.append(constant_op(default, at(name), name)).result
    _fill(copy, graph, mapping)
    for op in copy.walk():
        refresh(op, tuple(result.type for result in op.results))
    return copy


def clone_op(op: Op, mapping: dict[Value, Value]) -> Op:
    """A copy of an op, in no graph yet; `mapping` replaces its operands where it knows them, and learns its results."""
    attributes = (
        {name: _clone_attribute(value, mapping) for name, value in op.attributes.items()} if op.bodies else op.attributes
    )
    operands = [None if v is None else mapping.get(v, v) for v in op.operands]
    copy = Op(op.name, operands, attributes, [r.type for r in op.results], op.location, domain=op.domain, version=op.version)
    for old, new in zip(op.results, copy.results, strict=True):
        new.name, new.content = old.name, old.content
        mapping[old] = new
    return copy


def _clone_into(graph: Graph, mapping: dict[Value, Value]) -> Graph:
    copy = Graph(graph.name)
    for value, name in zip(graph.inputs, graph.input_names, strict=True):
        mapping[value] = copy.add_input(name, value.type, graph.defaults.get(value))
        mapping[value].name, mapping[value].content = value.name, value.content
    _fill(copy, graph, mapping)
    return copy


def _fill(copy: Graph, graph: Graph, mapping: dict[Value, Value]) -> None:
    """Everything of a graph but its inputs."""
    copy.opsets, copy.metadata = dict(graph.opsets), dict(graph.metadata)
    copy.assumed_dims = set(graph.assumed_dims)
    for op in graph:
        copy.append(clone_op(op, mapping))
    for value, name, kind in zip(graph.outputs, graph.output_names, graph.output_types, strict=True):
        copy.add_output(mapping.get(value, value), name, kind)


def _clone_attribute(value: Attribute, mapping: dict[Value, Value]) -> Attribute:
    if isinstance(value, Graph):
        return _clone_into(value, mapping)
    if isinstance(value, tuple):
        return tuple(_clone_into(item, mapping) if isinstance(item, Graph) else item for item in value)
    return value

"""One op as a graph of its own, for an engine to be asked whether it takes that."""

from __future__ import annotations

from irc.ir import Graph, Op, Value, at, constant_op

LARGEST_PARAMETER = 1024
"""Bytes of a constant that an op may need to know, such as axes; larger ones are data, and become inputs."""


def alone(op: Op) -> Graph:
    """A graph with nothing but `op`, whose operands are its inputs; small constants stay."""
    graph = Graph("trial")
    if op.graph is not None:
        graph.opsets = dict(op.graph.outermost.opsets)
    operands = [None if value is None else _stand_in(graph, f"x{index}", value) for index, value in enumerate(op.operands)]
    types = [result.type for result in op.results]
    copy = graph.append(Op(op.name, operands, op.attributes, types, at("trial"), domain=op.domain, version=op.version))
    for index, result in enumerate(copy.results):
        graph.add_output(result, f"y{index}")
    return graph


def _stand_in(graph: Graph, name: str, value: Value) -> Value:
    constant = value.constant
    if constant is not None and constant.byte_count <= LARGEST_PARAMETER:
        return graph.append(constant_op(constant, at("trial"), name)).result
    return graph.add_input(name, value.type)

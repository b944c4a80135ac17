# pyright: basic
"""A region of a graph as an ONNX model of its own, under names that say nothing: equal regions have equal bytes.

Law: what TVM has to know to import an op is in the model; weights are inputs, so that layers that differ in them alone have one
kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto

from irc.ir import Graph, Op, Tensor, Value, clone_op, constant_op, make, to_model

from ..expressions import dtype_of, shape_of
from .expanding import EXPANDED, Expanding

MOST_INLINE = 64
"""Elements of an integer constant that is part of a model, such as a shape, axes or pads."""

READ_WHEN_IMPORTED = ("Resize", "Upsample", "Pad", "Clip")
"""Ops whose constants of floats, too, TVM reads when it imports them; all but the first operand."""


@dataclass(frozen=True)
class RegionModel:
    """The bytes of a model, and the values of the graph that are its inputs and outputs."""

    content: bytes
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


def region_model(ops: Sequence[Op]) -> RegionModel:
    """The model of ops in order; its outputs are what is used outside."""
    members = set(ops)
    graph, mapping = Graph("region"), dict[Value, Value]()
    inputs: list[Value] = []
    for op in ops:
        for index, value in enumerate(op.operands):
            if value is None or value in mapping or value.op in members:
                continue
            tensor = value.constant
            if tensor is not None and _is_inline(op, index, tensor):
                assert value.op is not None
                graph.append(clone_op(value.op, mapping))
            else:
                mapping[value] = graph.add_input(f"x{len(inputs)}", value.type)
                inputs.append(value)
        if op.is_a("Gather") and op.constant_operand(1) is None:
            _guard(graph, op, mapping)
        if op.qualified_name in EXPANDED:
            operands = tuple(None if value is None else mapping[value] for value in op.operands)
            mapping[op.result] = EXPANDED[op.qualified_name](Expanding(graph, op, operands))
        else:
            graph.append(clone_op(op, mapping))
    results = [result for op in ops for result in op.results]
    outputs = [each for each in results if each.is_output or any(user not in members for user in each.users)]
    for number, value in enumerate(outputs):
        graph.add_output(mapping[value], f"y{number}")
    return RegionModel(_plain(to_model(graph)), tuple(inputs), tuple(outputs))


def _guard(graph: Graph, op: Op, mapping: dict[Value, Value]) -> None:
    """Bring the indices of a Gather into the range of its axis: a kernel cannot complain, and must read nothing else."""
    size = shape_of(op.needed(0))[op.integer("axis", 0)]
    indices = op.needed(1)
    bounds = (np.array(bound, dtype_of(indices).numpy) for bound in (-size, size - 1))
    limits = [graph.append(constant_op(Tensor.from_array(bound), op.location)).result for bound in bounds]
    mapping[indices] = graph.append(make("Clip", [mapping[indices], *limits], op.location)).result


def _is_inline(op: Op, index: int, tensor: Tensor) -> bool:
    if tensor.size == 1 or (
        tensor.array.dtype.kind in "iu" and tensor.size <= MOST_INLINE and tensor.array.dtype.itemsize == 8
    ):
        return True
    return index > 0 and op.is_a(*READ_WHEN_IMPORTED)


def _plain(model: ModelProto) -> bytes:
    """The bytes of a model without the names and the origins of its ops."""
    graph = model.graph
    kept = {each.name for each in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}

    def name(old: str) -> str:
        return old if old in kept else names.setdefault(old, f"v{len(names)}")

    for tensor in graph.initializer:
        tensor.name = name(tensor.name)
        tensor.doc_string = ""
    for node in graph.node:
        node.input[:] = [name(each) for each in node.input]
        node.output[:] = [name(each) for each in node.output]
        node.name = node.doc_string = ""
        del node.metadata_props[:]
    graph.name = "region"
    del graph.value_info[:]
    del model.metadata_props[:]
    return model.SerializeToString(deterministic=True)


__all__ = ["RegionModel", "region_model"]

# pyright: basic
"""Whether ONNX Runtime runs an op for which it has no kernel but ONNX a definition by other ops: it is asked to.

The definition depends on opset, types and attributes, and the ops in it need kernels in their turn, so no table tells.
"""

from __future__ import annotations

from functools import lru_cache

from irc.ir import Graph, Op, UnknownType, Value, at, constant_op, emit, schema

# A definition may read parameters, such as axes; larger constants are data.
_LARGEST_PARAMETER = 1024


def is_expanded(op: Op, opset: int) -> bool:
    """Whether ONNX Runtime makes a session of a model of that opset with this op alone; where types are unknown, yes."""
    if any(value is not None and isinstance(value.type, UnknownType) for value in (*op.operands, *op.results)):
        return True
    graph = Graph("trial")
    operands = [None if value is None else _stand_in(graph, f"x{index}", value) for index, value in enumerate(op.operands)]
    types = [result.type for result in op.results]
    alone = graph.append(Op(op.name, operands, op.attributes, types, at("trial"), domain=op.domain, version=op.version))
    for index, result in enumerate(alone.results):
        graph.add_output(result, f"y{index}")
    model = emit(graph, opset=None if opset == schema.CANONICAL_OPSET else opset).complete()
    return _is_built(model.SerializeToString(deterministic=True))


def _stand_in(graph: Graph, name: str, value: Value) -> Value:
    constant = value.constant
    if constant is not None and constant.byte_count <= _LARGEST_PARAMETER:
        return graph.append(constant_op(constant, at("trial"), name)).result
    return graph.add_input(name, value.type)


@lru_cache(maxsize=4096)
def _is_built(model: bytes) -> bool:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    try:
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # ONNX Runtime's exceptions have no common base but Exception
        return False
    return True

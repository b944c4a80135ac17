# pyright: basic
"""Whether ONNX Runtime runs an op for which it has no kernel but ONNX a definition by other ops: it is asked to.

The definition depends on opset, types and attributes, and the ops in it need kernels in their turn, so no table tells.
"""

from __future__ import annotations

from functools import lru_cache

from irc.ir import Op, UnknownType, emit, schema

from ..alone import alone


def is_expanded(op: Op, opset: int) -> bool:
    """Whether ONNX Runtime makes a session of a model of that opset with this op alone; where types are unknown, yes."""
    if any(value is not None and isinstance(value.type, UnknownType) for value in (*op.operands, *op.results)):
        return True
    model = emit(alone(op), opset=None if opset == schema.CANONICAL_OPSET else opset).complete()
    return _is_built(model.SerializeToString(deterministic=True))


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

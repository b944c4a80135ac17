"""What a graph means: ONNX Runtime with every optimization off. Constant folding asks here, so it cannot disagree."""

# pyright: basic
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .diagnostics import EvaluationError
from .emit import emit
from .graph import Graph
from .tensors import Array, Tensor
from .types import DType, TensorType, Type


def evaluate(graph: Graph, feeds: Mapping[str, Array] | None = None) -> list[Any]:
    """The outputs of a graph on `feeds` (input name to array), in signature order.

    Raises EvaluationError with the engine's reason when the reference cannot run the graph.
    """
    import onnxruntime as ort

    ort.set_default_logger_severity(4)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    emitted = emit(graph)
    names = list(emitted.weights)
    options.add_external_initializers(names, [_ort_value(ort, emitted.weights[n]) for n in names])
    model = emitted.refer(lambda name: (f"{name}.bin", 0, emitted.weights[name].byte_count))
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return list(session.run(None, dict(feeds or {})))
    except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
        raise EvaluationError(f"the reference cannot evaluate this: {reason(error)}") from error


def evaluate_constants(graph: Graph) -> list[Tensor]:
    """The outputs of a graph without inputs, as constants of the outputs' own types.

    Raises EvaluationError where `evaluate` does, and for outputs that are no tensors ONNX Runtime can hand to NumPy.
    """
    results = evaluate(graph)
    return [_as_tensor(result, output.type) for result, output in zip(results, graph.outputs, strict=True)]


def _as_tensor(result: Any, kind: Type) -> Tensor:
    if not isinstance(result, np.ndarray) or not isinstance(kind, TensorType):
        raise EvaluationError(f"a result is {type(result).__name__} and not a tensor")
    if kind.dtype.bits < 8 and kind.dtype is not DType.STR:
        raise EvaluationError(f"a result is {kind.dtype.text}, which cannot be read back")
    if kind.dtype is not DType.STR and result.dtype != kind.dtype.numpy:
        if result.dtype.itemsize * 8 != kind.dtype.bits:
            raise EvaluationError(f"a result is {result.dtype} and not {kind.dtype.text}")
        result = result.view(kind.dtype.numpy)
    return Tensor.from_array(result, None if kind.dtype is DType.STR else kind.dtype)


def _ort_value(ort: Any, tensor: Tensor) -> Any:
    assert not isinstance(tensor.data, tuple)
    raw = np.frombuffer(tensor.data, dtype=np.uint8)
    if tensor.dtype.bits < 8 or tensor.dtype.numpy.kind == "V" or tensor.dtype.text[:2] in ("bf", "f8"):
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(raw, tensor.dtype.onnx_code)
    return ort.OrtValue.ortvalue_from_numpy(raw.view(tensor.dtype.numpy).reshape(tensor.shape))


def reason(error: Exception) -> str:
    """An engine's message cut to its first sentence, without its status prefix."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.split(" : ", 2)[-1] if text.startswith("[ONNXRuntimeError]") else text


__all__: Sequence[str] = ["evaluate", "evaluate_constants", "reason"]

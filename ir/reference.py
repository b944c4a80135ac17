"""What a graph means: ONNX Runtime with every optimization off. Constant folding asks here, so it cannot disagree."""

# pyright: basic
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto

from . import schema
from .diagnostics import EvaluationError
from .emit import emit
from .graph import Graph
from .one_sign import with_one_sign
from .tensors import Array, Tensor
from .types import DType, TensorType, Type

OLDER_OPSET = 21

# What NumPy has no type of its own for stays in the model.
_KEPT_INLINE = frozenset(d for d in DType if d.numpy.kind not in "fiub" or d.bits < 8 or d.text[:2] in ("bf", "f8"))


class Evaluator:
    """A graph ready to be evaluated on one feed after another. Making one raises EvaluationError with the engine's reason."""

    def __init__(self, graph: Graph, opset: int | None = None, threads: int = 1) -> None:
        import onnxruntime as ort

        ort.set_default_logger_severity(4)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # whoever reads the results works meanwhile
        options.enable_cpu_mem_arena = False  # what is let go goes back to the system at once
        options.add_session_config_entry("session.disable_prepacking", "1")  # one or two runs do not pay for copied weights
        newer = [] if opset is None else _newer(graph, opset)
        emitted = emit(with_one_sign(graph), opset=None if newer else opset, keep_inline=_KEPT_INLINE)
        # The session may use them where they lie: they live as long as it does, also what was put in order just for it.
        self._weights = {name: _ort_value(ort, tensor) for name, tensor in emitted.weights.items()}
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        for name, value in self._weights.items():
            options.add_initializer(name, value)  # or it would copy them; with no optimization none is replaced
        model = emitted.refer(lambda name: (f"{name}.bin", 0, emitted.weights[name].byte_count))
        if newer:
            model = _written_out(model, newer, opset)
        try:
            self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise _failure(error) from error

    def run(self, feeds: Mapping[str, Array]) -> list[Any]:
        """The outputs on `feeds` (input name to array), in signature order. Raises EvaluationError where an op fails."""
        try:
            return list(self._session.run(None, dict(feeds)))
        except Exception as error:  # ONNX Runtime's exceptions have no common base but Exception
            raise _failure(error) from error


def _failure(error: Exception) -> EvaluationError:
    return EvaluationError(f"the reference cannot evaluate this: {reason(error)}")


def evaluate(graph: Graph, feeds: Mapping[str, Array] | None = None) -> list[Any]:
    """The outputs of a graph on `feeds` (input name to array), in signature order.

    Raises EvaluationError with the engine's reason when the reference cannot run the graph.
    """
    try:
        return Evaluator(graph).run(feeds or {})
    except EvaluationError:
        if not _fits_older(graph):
            raise
    return Evaluator(graph, OLDER_OPSET).run(feeds or {})


def evaluator_of(graph: Graph, threads: int = 1) -> Evaluator:
    """A graph ready to be evaluated, with the kernels of an older opset where it needs them. Raises EvaluationError."""
    try:
        return Evaluator(graph, threads=threads)
    except EvaluationError:
        if not _fits_older(graph):
            raise
    return Evaluator(graph, OLDER_OPSET, threads)


def _fits_older(graph: Graph) -> bool:
    """Some kernels end before the canonical opset (Random*, RoiAlign); a graph that fits an older one runs there.

    So does one whose newer ops ONNX defines by older ones, such as Swish.
    """
    schemas = (schema.find("", name, schema.CANONICAL_OPSET) for name in _newer(graph, OLDER_OPSET))
    return all(one is not None and one.has_function for one in schemas)  # type: ignore[reportAttributeAccessIssue]  # onnx's stub lacks it


def _newer(graph: Graph, opset: int) -> list[str]:
    """The names of ops that are not in an older opset as they stand."""
    return sorted({op.name for op in graph.walk() if not op.domain and not schema.fits(op, opset)})


def _written_out(model: ModelProto, newer: list[str], opset: int | None) -> ModelProto:
    """A model in an older opset, in which newer ops are the functions that ONNX defines them by."""
    from onnx.inliner import inline_selected_functions

    _say_defaults(model.graph, newer)  # a body refers to attributes by name, and the inliner knows no defaults
    older = inline_selected_functions(model, [("", name) for name in newer], inline_schema_functions=True)
    next(each for each in older.opset_import if not each.domain).version = opset or OLDER_OPSET
    return older


def _say_defaults(graph: GraphProto, names: Sequence[str]) -> None:
    """Give nodes of some ops, in bodies as well, the attributes that they leave to their defaults."""
    for node in graph.node:
        for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
            _say_defaults(body, names)
        own = schema.find("", node.op_type, schema.CANONICAL_OPSET) if node.op_type in names and not node.domain else None
        said = {attribute.name for attribute in node.attribute}
        for name, attribute in ({} if own is None else own.attributes).items():
            if name not in said and attribute.default_value.name:
                node.attribute.append(attribute.default_value)


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
    assert isinstance(tensor.data, memoryview)
    return ort.OrtValue.ortvalue_from_numpy(np.frombuffer(tensor.data, tensor.dtype.numpy).reshape(tensor.shape))


def reason(error: Exception) -> str:
    """An engine's message cut to its first sentence, without its status prefix."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.split(" : ", 2)[-1] if text.startswith("[ONNXRuntimeError]") else text


__all__: Sequence[str] = ["Evaluator", "evaluate", "evaluate_constants", "evaluator_of", "reason"]

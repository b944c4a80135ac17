"""Which ops OpenVINO computes as ONNX means them: types first, then what is known to differ, then its own reader is asked.

OpenVINO's CPU plugin computes integers in 32 bits and f64 in f32 without saying so, and some of its ops mean something
else at the edges; what is refused here has been seen to give other answers (tests/lowering/test_openvino.py). One liberty it
has throughout: NaN does not pass through its Relu, Clip, Max, Min, HardSigmoid, Exp, Softmax and ReduceMax as it does in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from irc.ir import DType, Op, TensorType, UnknownType, Value, emit

from ..alone import alone
from ..opening import is_opened, why_not_opened, why_not_plain

TAKEN = frozenset({DType.F32, DType.F16, DType.I64, DType.I32, DType.I8, DType.U8, DType.BOOL})
"""Element types that it computes in, or, for 64-bit integers, that the rules below keep within 32 bits."""

Reason = Callable[[Op], str]


def _always(reason: str) -> Reason:
    return lambda op: reason


def _when(reason: str, condition: Callable[[Op], bool]) -> Reason:
    return lambda op: reason if condition(op) else ""


def _set(name: str, *usual: object) -> Callable[[Op], bool]:
    return lambda op: op.attributes.get(name, usual[0]) not in usual


def _is_cast_to_bool(op: Op) -> bool:
    kind = op.result.type
    return isinstance(kind, TensorType) and kind.dtype is DType.BOOL


def _resizes_otherwise(op: Op) -> bool:
    odd = _set("antialias", 0), _set("exclude_outside", 0), _set("keep_aspect_ratio_policy", "stretch")
    return any(is_odd(op) for is_odd in odd)


def _is_half_power(op: Op) -> bool:
    exponent = op.constant_operand(1)
    return exponent is None or bool((exponent.array == 0.5).any())


DIFFERENT: Mapping[str, Reason] = {
    "AveragePool": _when("it counts other elements where the last window is cut off", _set("ceil_mode", 0)),
    "Cast": _when("what it casts to bool is rounded first", _is_cast_to_bool),
    "CastLike": _when("what it casts to bool is rounded first", _is_cast_to_bool),
    "com.microsoft::DynamicQuantizeMatMul": _always("it does not round the data"),
    "DynamicQuantizeLinear": _always("it rounds halves otherwise"),
    "IsInf": _always("it does not keep Inf and NaN apart everywhere"),
    "IsNaN": _always("it does not keep NaN everywhere"),
    "LSTM": _when("it has no peepholes", lambda op: op.operand(7) is not None),
    "MaxPool": _when("it makes a window of what is past the end", _set("ceil_mode", 0)),
    "NonMaxSuppression": _always("it suppresses boxes that overlap by just the threshold"),
    "Pow": _when("its square root of -Inf is NaN", _is_half_power),
    "Resize": _when("it knows neither antialiasing nor aspect ratios as ONNX has them", _resizes_otherwise),
    "Tile": _when("it makes a wrong result of repeats that are computed", lambda op: op.constant_operand(1) is None),
    "TopK": _always("it orders equal elements otherwise"),
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial", "Dropout"),
        _always("random numbers are left to ONNX Runtime"),
    ),
}
"""Ops that it computes otherwise than ONNX means them, and when."""

_ARITHMETIC = frozenset(
    {"Add", "Sub", "Mul", "Div", "Mod", "Pow", "Neg", "Abs", "Sum", "CumSum", "ReduceSum", "ReduceProd", "ReduceSumSquare"}
    | {"ReduceMean", "MatMul", "Gemm", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "Einsum"}
)


def why_not(op: Op) -> str:
    """Why OpenVINO is not given `op`, as a clause; empty when it is."""
    if op.bodies:
        return "ops with bodies are left to ONNX Runtime"
    if is_opened(op):
        return why_not_opened(op) or why_not_plain(op, why_not)
    for value in (*op.operands, *op.results):
        reason = "" if value is None or _is_exempt(op, value) else _why_not_type(value)
        if reason:
            return reason
    different = DIFFERENT.get(op.qualified_name)
    if different is not None and (reason := different(op)):
        return reason
    if op.name in _ARITHMETIC and _is_wide(op.results[0]):
        return "it computes integers in 32 bits"
    return _why_not_read(op)


def _is_exempt(op: Op, value: Value) -> bool:
    """Whether the type of an operand does not matter: an empty tensor that says that it is not there, as the roi of a Resize.

    Or a constant of 4 bits that is dequantized, which it knows.
    """
    kind = value.type
    if op.is_a("DequantizeLinear") and value.constant is not None and value.constant.dtype in (DType.U4, DType.I4):
        return True
    return op.name == "Resize" and value is not op.operand(0) and isinstance(kind, TensorType) and kind.shape == (0,)


def _why_not_type(value: Value) -> str:
    kind = value.type
    if isinstance(kind, UnknownType):
        return "it needs to know types"
    if not isinstance(kind, TensorType):
        return f"it has no {kind}"
    if kind.shape is None:
        return "it needs to know ranks"
    if 0 in kind.shape:
        return "it does not run on what is empty"
    return "" if kind.dtype in TAKEN else f"it does not compute in {kind.dtype.text}"


def _is_wide(result: Value) -> bool:
    """Whether a result is of 64-bit integers that are no sizes of dims."""
    kind = result.type
    return isinstance(kind, TensorType) and kind.dtype is DType.I64 and result.content is None


def _why_not_read(op: Op) -> str:
    return _reading_fails(emit(alone(op)).complete().SerializeToString(deterministic=True))


@lru_cache(maxsize=4096)
def _reading_fails(model: bytes) -> str:
    openvino: Any = import_module("openvino")
    try:
        openvino.Core().read_model(model)
    except Exception as error:  # OpenVINO's exceptions have no common base but Exception
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        telling = [line for line in lines if not line.startswith(("Exception from", "Check '", "FrontEnd API", "Error"))]
        return f"it cannot read it: {(telling or lines)[0][:200]}"
    return ""

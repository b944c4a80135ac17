# pyright: basic
"""Whether a rewrite kept the meaning: bit for bit where its contract is exact, else against the same graph in float64.

In float64 the two sides of a reassociating rewrite must agree to 1e-9; in their own dtype the new side may be no further from
the float64 truth than the rounding of a few more operations explains. NaN and infinities stay where they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from irc.ir import DType, EvaluationError, Graph, IrcError, Op, Tensor, TensorType, Value, constant_op, evaluate, infer, verify
from irc.passes import Contract

from .meaning import same_bits

ROUNDING = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
NARROW = {DType.F16, DType.BF16, DType.F32}
GROWTH = 64  # operations whose roundings may add up


def widened(graph: Graph) -> Graph:
    """The graph with float64 in the place of every narrower float type."""
    wide = Graph(graph.name)
    values: dict[Value, Value] = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        values[value] = wide.add_input(name, _wide_type(value.type))
    for op in graph:
        assert not op.bodies, "examples have no bodies"
        if op.is_constant:
            made = constant_op(_wide_tensor(op.value), op.location, op.result.name)
        else:
            operands = [None if v is None else values[v] for v in op.operands]
            made = Op(op.name, operands, _wide_attributes(op), [r.type for r in op.results], op.location, domain=op.domain)
            infer.refresh(made)
        wide.append(made)
        values.update(zip(op.results, made.results, strict=True))
    for name, value in zip(graph.output_names, graph.outputs, strict=True):
        wide.add_output(values[value], name)
    verify(wide)
    return wide


def _wide_type(kind: Any) -> Any:
    return TensorType(DType.F64, kind.shape) if isinstance(kind, TensorType) and kind.dtype in NARROW else kind


def _wide_tensor(tensor: Tensor) -> Tensor:
    return Tensor.from_array(tensor.array.astype(np.float64), DType.F64) if tensor.dtype in NARROW else tensor


def _wide_attributes(op: Op) -> dict[str, Any]:
    attributes = dict(op.attributes)
    if op.is_a("LayerNormalization", "RMSNormalization", "GroupNormalization"):
        attributes["stash_type"] = DType.F64.onnx_code
    for name, value in attributes.items():
        if isinstance(value, Tensor):
            attributes[name] = _wide_tensor(value)
        if name in ("to", "dtype", "output_dtype") and value in {d.onnx_code for d in NARROW}:
            attributes[name] = DType.F64.onnx_code
    return attributes


def wide_feeds(feeds: dict[str, Any]) -> dict[str, Any]:
    """Feeds for the widened graph."""
    return {k: v.astype(np.float64) if v.dtype.name in ROUNDING else v for k, v in feeds.items()}


def narrowest(graph: Graph) -> float:
    """The rounding of the narrowest float type in a graph."""
    found = [ROUNDING.get(r.type.dtype.numpy.name, 0.0) for op in graph for r in op.results if isinstance(r.type, TensorType)]
    return max(found, default=0.0)


def judge(before: Graph, after: Graph, feeds: dict[str, Any], contract: Contract, slack: float = 1e-9) -> str:
    """What is wrong with `after`, or an empty string. Raises EvaluationError where `before` itself has no answer.

    `slack` is how far the two may be apart in float64: more than its own rounding where constants were folded before.
    """
    wanted = evaluate(before, feeds)
    try:
        got = evaluate(after, feeds)
    except EvaluationError as error:
        return f"it fails: {error}"
    pairs = list(zip(wanted, got, strict=True))
    if any(op.is_a("Where") for op in before):
        # ONNX Runtime's Where keeps the sign of a zero of its last operand only, so there the sign is nobody's.
        pairs = [(_unsigned_zeros(a), _unsigned_zeros(b)) for a, b in pairs]
    if all(same_bits(a, b) for a, b in pairs):
        return ""
    if contract is Contract.EXACT:
        return f"{wanted} became {got}"
    if any(a.dtype != b.dtype or a.shape != b.shape for a, b in pairs):
        return f"{[(a.dtype, a.shape) for a, _ in pairs]} became {[(b.dtype, b.shape) for _, b in pairs]}"
    truth = _wide_answers(before, feeds) or wanted  # without kernels for float64 the answers themselves are compared
    other = (None if truth is wanted else _wide_answers(after, feeds)) or truth
    for (a, b), t, o in zip(pairs, truth, other, strict=True):
        complaint = _too_far(a, b, np.asarray(t), np.asarray(o), slack)
        if complaint:
            return complaint
    return ""


def _unsigned_zeros(array: Any) -> Any:
    return np.where(array == 0, np.zeros_like(array), array) if array.dtype.name in ROUNDING else array


def _wide_answers(graph: Graph, feeds: dict[str, Any]) -> list[Any] | None:
    """The answers of the widened graph, or None where an op has no kernel for float64."""
    try:
        return evaluate(widened(graph), wide_feeds(feeds))
    except (EvaluationError, IrcError):
        return None


def _too_far(a: Any, b: Any, truth: Any, other: Any, slack: float) -> str:
    if a.dtype.name not in ROUNDING:
        return "" if np.array_equal(a, b) else f"{a} became {b}"
    for old, new, words in ((truth, other, "in float64 "), (a, b, "")):
        finite = np.isfinite(old.astype(np.float64))
        x, y = (np.where(finite, 0, v.astype(np.float64)) for v in (old, new))
        if not np.array_equal(x, y, equal_nan=True):
            return f"{words}infinities or NaN differ: {old} became {new}"
    finite = np.isfinite(truth.astype(np.float64)) & np.isfinite(a.astype(np.float64))
    t, o, x, y = (np.where(finite, v.astype(np.float64), 0) for v in (truth, other, a, b))
    norm = float(np.linalg.norm(t)) or 1.0
    if np.linalg.norm(t - o) > slack * norm:
        return f"in float64 it is off by {np.linalg.norm(t - o) / norm:.1e}: {truth} became {other}"
    own, new = float(np.linalg.norm(t - x)), float(np.linalg.norm(t - y))
    # Kernels of Sigmoid, Exp or Log are accurate in absolute terms around 1, and denormals hold few digits.
    allowed = 8 * own + GROWTH * ROUNDING[a.dtype.name] * max(norm, 1.0)
    return "" if new <= allowed else f"it is off by {new / norm:.1e}, where it was by {own / norm:.1e}: {a} became {b}"

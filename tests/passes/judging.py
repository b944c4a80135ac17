# pyright: basic
"""Whether a rewrite kept the meaning: bit for bit where its contract is exact, else against the same graph in float64.

In float64 the two sides of a reassociating rewrite must agree to 1e-9. In their own dtype the new side may be no further from
the float64 truth than a few times the old one, or than rounding explains: what comes of rounding inputs and every
intermediate value to that dtype, in float64 otherwise. NaN and infinities stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from irc.ir import (
    DType,
    EvaluationError,
    Graph,
    IrcError,
    Op,
    Tensor,
    TensorType,
    Value,
    clone_graph,
    constant_op,
    evaluate,
    infer,
    verify,
)
from irc.passes import Contract
from irc.passes.checking.pinning import pin

from .meaning import same_bits

ROUNDING = {"float16": 2**-10, "bfloat16": 2**-7, "float32": 2**-23, "float64": 2**-52}
NARROW = {DType.F16, DType.BF16, DType.F32}
SAME = 1e-9
"""Relative L2 distance in float64 between two ways to say the same."""
SAME_NUMBERS_IN_F32 = 1e-7
"""The same where ONNX itself defines an op by numbers of f32 in every dtype, as it does Gelu by tanh."""
SUBNORMAL = {"float16": 2**-24, "bfloat16": 2**-133, "float32": 2**-149, "float64": 2**-1074}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FREE_SIGNS = _words(
    "Max Min Clip Relu ReduceMax ReduceMin LayerNormalization GroupNormalization InstanceNormalization MatMul Gemm Einsum "
    "Conv ConvTranspose Sum Mean CumSum ReduceSum ReduceMean AveragePool GlobalAveragePool"
)
"""Ops whose kernels give a zero either sign: the larger of 0.0 and -0.0, and sums, which may start from 0.0."""
GROWTH = 8.0
"""How many times the error that is there anyway another order of operations may have."""

Settle = Callable[[Graph, Value, Value], Value]
"""What to use in a widened graph for the value made in the place of an old one."""


def widened(graph: Graph, output: int, numbers: Sequence[float] = (), settle: Settle = lambda wide, old, made: made) -> Graph:
    """What makes an output, with float64 in the place of every narrower float type.

    Constants that are rounded `numbers` become these.
    """
    wide = Graph(graph.name)
    values: dict[Value, Value] = {}
    for name, value in zip(graph.input_names, graph.inputs, strict=True):
        values[value] = wide.add_input(name, _wide_type(value.type))
    for op in _makers(graph, output):
        assert not op.bodies, "examples have no bodies"
        if op.is_constant:
            made = wide.append(constant_op(_exactly(op.value, numbers), op.location, op.result.name))
            values[op.result] = made.result
            continue
        operands = [None if v is None else values[v] for v in op.operands]
        made = Op(op.name, operands, _wide_attributes(op), [r.type for r in op.results], op.location, domain=op.domain)
        infer.refresh(made)
        wide.append(made)
        values.update((old, settle(wide, old, new)) for old, new in zip(op.results, made.results, strict=True))
    wide.add_output(values[graph.outputs[output]], graph.output_names[output])
    verify(wide)
    return wide


def _makers(graph: Graph, output: int) -> list[Op]:
    """The ops that an output depends on, in order."""
    live, found = {graph.outputs[output]}, list[Op]()
    for op in reversed(list(graph)):
        if not live.isdisjoint(op.results):
            found.append(op)
            live.update(v for v in op.operands if v is not None)
    return found[::-1]


def rounding(unit: float) -> Settle:
    """How values are settled where each is rounded as its old dtype would have held it, but never more coarsely than `unit`."""
    coarsest = next(dtype for dtype in (*NARROW, DType.F64) if ROUNDING[dtype.numpy.name] == unit)

    def rounded(wide: Graph, old: Value, made: Value) -> Value:
        if not isinstance(old.type, TensorType) or not old.type.dtype.is_float or made.op is None:
            return made
        own = old.type.dtype if ROUNDING[old.type.dtype.numpy.name] <= unit else coarsest
        op = made.op

        def put(name: str, *operands: Value, **attributes: int) -> Value:
            return wide.append(infer.make(name, operands, op.location, attributes=dict(attributes))).result

        if op.is_a("Sigmoid", "Swish"):  # whose kernel is accurate in terms of 1, not of its result: at -12 it is off by 1e-3
            step = wide.append(constant_op(Tensor.from_array(np.array(ROUNDING[own.numpy.name])), op.location)).result
            made = put("Add", made, step if op.is_a("Sigmoid") else put("Mul", op.needed(0), step))
        for dtype in (own, DType.F64) if own in NARROW else ():
            made = put("Cast", made, to=dtype.onnx_code)
        return made

    return rounded


def _exactly(tensor: Tensor, numbers: Sequence[float]) -> Tensor:
    for number in numbers:
        if tensor.dtype in NARROW and tensor.array.size == 1 and tensor.array.reshape(-1)[0] == tensor.array.dtype.type(number):
            return Tensor.from_array(np.full(tensor.shape, number), DType.F64)
    return _wide_tensor(tensor)


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


def narrowest(graph: Graph) -> float:
    """The rounding of the narrowest float type in a graph."""
    kinds = [v.type for v in graph.inputs] + [r.type for op in graph for r in op.results]
    found = [ROUNDING.get(kind.dtype.numpy.name, 0.0) for kind in kinds if isinstance(kind, TensorType)]
    return max(found, default=0.0) or ROUNDING["float64"]


def wide_feeds(feeds: dict[str, Any]) -> dict[str, Any]:
    """Feeds for the widened graph."""
    return {k: v.astype(np.float64) if v.dtype.name in ROUNDING else v for k, v in feeds.items()}


def judge(
    before: Graph,
    after: Graph,
    feeds: dict[str, Any],
    contract: Contract,
    numbers: Sequence[float] = (),
    *,
    roundings: float = 0.0,
) -> str:
    """What is wrong with `after`, or an empty string. Raises EvaluationError where `before` itself has no answer.

    `numbers` are those that a rule's pattern has, which both sides have rounded. In float64 the sides may be apart by what
    rounding does to `before`, so many times: none where nothing was folded before.
    """
    wanted = evaluate(before, feeds)
    try:
        got = evaluate(after, feeds)
    except EvaluationError as error:
        return f"it fails: {error}"
    if _all_same(wanted, got):
        return ""
    wanted, got = (_pinned(graph, feeds) for graph in (before, after))
    if _all_same(wanted, got):
        return ""
    if contract is Contract.EXACT:
        return f"{wanted} became {got}"
    if any(a.dtype != b.dtype or a.shape != b.shape for a, b in zip(wanted, got, strict=True)):
        return f"{[(a.dtype, a.shape) for a in wanted]} became {[(b.dtype, b.shape) for b in got]}"
    return _Comparison(before, after, feeds, numbers, roundings).complaint(wanted, got)


def _all_same(first: Any, second: Any) -> bool:
    return all(same_bits(a, b) for a, b in zip(first, second, strict=True))


def _pinned(graph: Graph, feeds: dict[str, Any]) -> list[Any]:
    """The answers where the reference leaves nothing open: signs of zeros behind a Where, roundings of halves."""
    copy = clone_graph(graph)
    pin(copy)
    return evaluate(copy, feeds)


class _Comparison:
    """Both sides in their own dtype and in float64, and what rounding alone comes to."""

    def __init__(self, before: Graph, after: Graph, feeds: dict[str, Any], numbers: Sequence[float], roundings: float) -> None:
        self._sides = before, after
        self._feeds, self._numbers, self._roundings = feeds, numbers, roundings
        by_tanh = any(op.is_a("Gelu") and op.attributes.get("approximate") == "tanh" for graph in self._sides for op in graph)
        self._unit = narrowest(before)
        self._free_signs = any(op.name in FREE_SIGNS for graph in self._sides for op in graph)
        self._same = SAME_NUMBERS_IN_F32 if by_tanh else SAME

    def complaint(self, wanted: list[Any], got: list[Any]) -> str:
        """What is wrong with `got`, or an empty string."""
        for index, (a, b) in enumerate(zip(wanted, got, strict=True)):
            if same_bits(a, b):
                continue
            wrong = self._too_far(index, a, b) if a.dtype.name in ROUNDING else f"{a} became {b}"
            if wrong:
                return wrong
        return ""

    def _too_far(self, index: int, a: Any, b: Any) -> str:
        truth, other = (self._wide(side, index) for side in self._sides)
        if truth is None:
            truth = other = a  # without kernels for float64 the answers themselves are compared
        elif other is None:
            other = truth
        for old, new, words in ((truth, other, "in float64 "), (a, b, "")):
            finite = np.isfinite(old.astype(np.float64))
            x, y = (np.where(finite, 0, v.astype(np.float64)) for v in (old, new))
            if not np.array_equal(x, y, equal_nan=True):
                return f"{words}infinities or NaN differ: {old} became {new}"
        if not self._free_signs and (_signs(a, b) & _signs(truth, other)).any():
            return f"signs of zeros differ: {a} became {b}"
        finite = np.isfinite(truth.astype(np.float64)) & np.isfinite(a.astype(np.float64))
        t, o, x, y = (np.where(finite, v.astype(np.float64), 0) for v in (truth, other, a, b))
        norm = float(np.linalg.norm(t)) or 1.0
        apart = float(np.linalg.norm(t - o))
        if apart > self._same * norm and apart > self._roundings * self._rounding_of(index, self._sides[0], t):
            return f"in float64 it is off by {apart / norm:.1e}: {truth} became {other}"
        own, new = float(np.linalg.norm(t - x)), float(np.linalg.norm(t - y))
        least = SUBNORMAL[a.dtype.name] * a.size**0.5
        allowed = GROWTH * (own + ROUNDING[a.dtype.name] * norm + least)
        if new > allowed:
            allowed += GROWTH * max(self._rounding_of(index, side, t) for side in self._sides)
        return "" if new <= allowed else f"it is off by {new / norm:.1e}, where it was by {own / norm:.1e}: {a} became {b}"

    def _wide(self, graph: Graph, index: int) -> Any | None:
        """An answer of the widened graph, or None where an op has no kernel for float64."""
        try:
            return evaluate(widened(graph, index, self._numbers), wide_feeds(self._feeds))[0]
        except (EvaluationError, IrcError):
            return None

    def _rounding_of(self, index: int, graph: Graph, truth: Any) -> float:
        """How far rounding alone takes a side from the truth."""
        try:
            answer = evaluate(widened(graph, index, settle=rounding(self._unit)), wide_feeds(nudged(self._feeds)))[0]
        except (EvaluationError, IrcError):
            return 0.0
        gap = truth - answer
        return float(np.linalg.norm(gap[np.isfinite(gap)]))


def _signs(first: Any, second: Any) -> Any:
    """Where one is 0.0 and the other -0.0."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    return (x == 0) & (y == 0) & (np.signbit(x) != np.signbit(y))


def nudged(feeds: dict[str, Any]) -> dict[str, Any]:
    """Feeds with every float moved by up to its last bit."""
    rng = np.random.default_rng(0)
    moved = dict[str, Any]()
    for name, array in feeds.items():
        step = ROUNDING.get(array.dtype.name, 0.0)
        factors = rng.uniform(1 - step, 1 + step, array.shape)
        moved[name] = np.asarray(array.astype(np.float64) * factors) if step else array
    return moved

"""What an op costs by its types alone: floating-point operations and bytes moved, one row of FLOPS an op class.

These are estimates to rank ops by, in no unit of time: a multiply-add counts two, a row gives what its formula needs, and an
op without one counts an operation an element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from . import dims
from .graph import Op, Value
from .types import DType, TensorType

FLOPS_PER_BYTE = 5
"""Operations that take as long as moving a byte, on a usual CPU core within a factor of a few."""

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """Operations, and bytes read and written."""

    flops: int
    bytes: int

    @property
    def weight(self) -> int:
        """What to rank by: an op takes as long as its arithmetic or its traffic, whichever is longer."""
        return max(self.flops, FLOPS_PER_BYTE * self.bytes)


def cost_of(op: Op, sizes: Sizes | None = None) -> Cost:
    """The cost of an op itself, without the bodies it owns; named dims have the sizes given, unknown ones are 1."""
    known = sizes or {}
    if op.is_constant or op.name in _FREE:
        return Cost(0, 0)
    row = FLOPS.get(op.name)
    flops = _elements(op.results[0], known) if row is None else row(op, known)
    return Cost(flops, _traffic(op, known))


_FREE = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Size"})
"""Ops that engines carry out by writing down another shape."""


def _shape(value: Value | None, sizes: Sizes) -> tuple[int, ...]:
    found = (dims.evaluate(dim, _complete(dim, sizes)) for dim in (value.shape or () if value is not None else ()))
    return tuple(1 if size is None else max(size, 0) for size in found)


def _complete(dim: dims.Dim, sizes: Sizes) -> Sizes:
    return {name: sizes.get(name, 1) for name in dim.names()} if isinstance(dim, dims.SymbolicDim) else sizes


def _elements(value: Value | None, sizes: Sizes) -> int:
    return prod(_shape(value, sizes)) if value is not None else 0


def _bytes(value: Value | None, sizes: Sizes) -> int:
    kind = value.type if value is not None else None
    if not isinstance(kind, TensorType) or kind.dtype is DType.STR:
        return 0
    return kind.dtype.byte_count(_elements(value, sizes))


def _traffic(op: Op, sizes: Sizes) -> int:
    written = sum(_bytes(result, sizes) for result in op.results if result.uses)
    if op.name in ("Gather", "GatherND", "GatherElements", "Slice"):  # they read of their data what they write
        return 2 * written + sum(_bytes(v, sizes) for v in op.operands[1:])
    return written + sum(_bytes(v, sizes) for v in op.operands)


Row = Callable[[Op, Sizes], int]


def _matmul(first: int, second: int) -> Row:
    """2 M N K, with the operands at these places; their other dims are in the result already."""

    def flops(op: Op, sizes: Sizes) -> int:
        left, right = _shape(op.operand(first), sizes), _shape(op.operand(second), sizes)
        return 2 * _elements(op.results[0], sizes) * (left[-1] if left else right[0] if right else 1)

    return flops


def _gemm(op: Op, sizes: Sizes) -> int:
    left = _shape(op.operand(0), sizes)
    inner = left[0 if op.integer("transA", 0) else 1] if len(left) == 2 else 1
    return 2 * _elements(op.results[0], sizes) * inner


def _convolution(weight: int) -> Row:
    """2 multiply-adds an element of the result and a weight of its filter, with the weight at this place."""
    return lambda op, sizes: 2 * _elements(op.results[0], sizes) * prod(_shape(op.operand(weight), sizes)[1:])


def _transposed_convolution(op: Op, sizes: Sizes) -> int:
    return 2 * _elements(op.operand(0), sizes) * prod(_shape(op.operand(1), sizes)[1:])


def _attention(op: Op, sizes: Sizes) -> int:
    """Q K^T and its product with V; the heads are a dim of Q of their own or part of its last one."""
    keys = _shape(op.operand(1), sizes)
    past = _shape(op.operand(4), sizes)
    length = (keys[-2] if len(keys) >= 2 else 1) + (past[-2] if len(past) >= 2 else 0)
    return 4 * _elements(op.operand(0), sizes) * length


def _recurrent(op: Op, sizes: Sizes) -> int:
    """Both weights meet every step of every sequence; X is [steps, batch, inputs]."""
    steps = prod(_shape(op.operand(0), sizes)[:2])
    return 2 * steps * (_elements(op.operand(1), sizes) + _elements(op.operand(2), sizes))


def _pooling(op: Op, sizes: Sizes) -> int:
    return _elements(op.results[0], sizes) * prod(op.integers("kernel_shape") or (1,))


def _einsum(op: Op, sizes: Sizes) -> int:
    """A multiply-add for each combination of all indices."""
    terms = op.string("equation", "").split("->")[0].replace(" ", "").split(",")
    extents: dict[str, int] = {}
    for term, operand in zip(terms, op.operands, strict=False):
        extents.update(zip(reversed(term.replace("...", "")), reversed(_shape(operand, sizes)), strict=False))
    return 2 * prod(extents.values())


def _per_input(factor: int) -> Row:
    """So many operations an element of the first operand."""
    return lambda op, sizes: factor * _elements(op.operand(0), sizes)


def _per_result(factor: int) -> Row:
    """So many operations an element of the result."""
    return lambda op, sizes: factor * _elements(op.results[0], sizes)


def _rows(row: Row, names: str) -> dict[str, Row]:
    return dict.fromkeys(names.split(), row)


FLOPS: dict[str, Row] = {
    "MatMul": _matmul(0, 1),
    "MatMulInteger": _matmul(0, 1),
    "QLinearMatMul": _matmul(0, 3),
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "DeformConv": _convolution(1),
    "ConvTranspose": _transposed_convolution,
    "Attention": _attention,
    **_rows(_recurrent, "LSTM GRU RNN"),
    **_rows(_pooling, "MaxPool AveragePool LpPool"),
    **_rows(_per_input(1), "GlobalAveragePool GlobalMaxPool GlobalLpPool ArgMax ArgMin CumSum TopK"),
    **_rows(_per_input(1), "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1"),
    **_rows(_per_input(2), "ReduceL2 ReduceSumSquare ReduceLogSum BatchNormalization"),
    **_rows(_per_input(8), "ReduceLogSumExp Softmax LogSoftmax RotaryEmbedding"),
    **_rows(_per_input(8), "LayerNormalization RMSNormalization GroupNormalization InstanceNormalization LpNormalization"),
    **_rows(_per_result(8), "Exp Log Erf Tanh Sigmoid Gelu Softplus Mish Swish Elu Selu Celu Pow Sin Cos Tan HardSwish"),
    **_rows(_per_result(0), "Transpose Concat Split Slice Gather GatherND GatherElements Expand Tile Pad ConstantOfShape"),
    **_rows(_per_result(0), "DepthToSpace SpaceToDepth Compress NonZero ScatterND ScatterElements If Loop Scan Range"),
}

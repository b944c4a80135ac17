"""How large values can be: intervals of masks, and scores of self-attention that are finite where the answer is not NaN anyway.

Law: a bound is proved or None. Bounds are of the mathematics, not of the last bit; what relies on them is `reassociating`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from irc.ir import Dim, DType, Op, Tensor, TensorType, Value, dims

from .magnitudes import glance, magnitude

_DEEPEST = 24
_MOST_LEVELS = 8
_MOVEMENTS = frozenset(
    {"Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand", "Slice", "Identity", "Flatten", "Tile", "Gather"}
)


@dataclass(frozen=True)
class Interval:
    """All elements lie in [low, high], or may be NaN where `nan` says so; infinite ends are elements that may occur."""

    low: float = -math.inf
    high: float = math.inf
    nan: bool = True

    @property
    def is_finite(self) -> bool:
        """Whether no element can be infinite or NaN."""
        return not self.nan and self.size < math.inf

    @property
    def size(self) -> float:
        """The largest absolute value there can be."""
        return max(-self.low, self.high)


_ANYTHING = Interval()


def interval(value: Value, depth: int = _DEEPEST, seen: dict[Value, Interval] | None = None) -> Interval:
    """What the elements of a value can be, as far as its makers tell; `seen` keeps what was found on the way."""
    seen = {} if seen is None else seen
    if value not in seen:
        seen[value] = _of_type(value, depth, seen)
    return seen[value]


def _of_type(value: Value, depth: int, seen: dict[Value, Interval]) -> Interval:
    op = value.op
    kind = value.type
    if not isinstance(kind, TensorType):
        return _ANYTHING
    if kind.dtype is DType.BOOL:
        return Interval(0.0, 1.0, False)
    found = _interval_of(op, depth - 1, seen) if op is not None and depth and not op.domain else _ANYTHING
    if kind.dtype.is_integer and kind.dtype.bits >= 8:
        signed = kind.dtype.text[0] == "i"
        whole = Interval(-(2.0 ** (kind.dtype.bits - 1)) if signed else 0.0, 2.0 ** (kind.dtype.bits - signed), False)
        return found if not found.nan and whole.low <= found.low and found.high <= whole.high else whole
    largest = largest_finite(kind.dtype)
    if largest is None:
        return _ANYTHING
    low = -math.inf if found.low < -largest else found.low
    return Interval(low, math.inf if found.high > largest else found.high, found.nan)


_LARGEST = {
    DType.F16: 65504.0,
    DType.BF16: 2.0**128 - 2.0**120,
    DType.F32: 2.0**128 - 2.0**104,
    DType.F64: math.ldexp(1 - 2**-53, 1024),
}


def largest_finite(dtype: DType) -> float | None:
    """The largest finite number of a float dtype of the attention ops."""
    return _LARGEST.get(dtype)


def _interval_of(op: Op, depth: int, seen: dict[Value, Interval]) -> Interval:
    if op.is_constant:
        return _interval_of_tensor(op.value)
    if op.name in _MOVEMENTS or op.name == "Cast":
        return interval(op.needed(0), depth, seen)
    if op.name == "Trilu":
        return _hull([interval(op.needed(0), depth, seen), Interval(0.0, 0.0, False)])
    if op.name == "Neg":
        inner = interval(op.needed(0), depth, seen)
        return Interval(-inner.high, -inner.low, inner.nan)
    if op.name in ("Where", "Concat"):
        return _hull([interval(v, depth, seen) for v in op.operands[op.name == "Where" :] if v is not None])
    if op.name in ("Cos", "Sin"):
        return Interval(-1.0, 1.0, not interval(op.needed(0), depth, seen).is_finite)
    if op.name in ("Tanh", "Sigmoid"):
        return Interval(-1.0, 1.0, interval(op.needed(0), depth, seen).nan)
    if op.name in ("Add", "Sub", "Mul", "MatMul"):
        summed = (op.needed(0).shape or (None,))[-1] if op.name == "MatMul" else 1
        first, second = interval(op.needed(0), depth, seen), interval(op.needed(1), depth, seen)
        return _combined(op.name, first, second, summed) if isinstance(summed, int) else _ANYTHING
    return _ANYTHING


def _hull(parts: list[Interval]) -> Interval:
    return Interval(min(p.low for p in parts), max(p.high for p in parts), any(p.nan for p in parts)) if parts else _ANYTHING


def _combined(name: str, a: Interval, b: Interval, summed: int) -> Interval:
    if not (a.size < math.inf and b.size < math.inf):
        return _ANYTHING
    nan = a.nan or b.nan
    if name in ("Mul", "MatMul"):
        ends = [summed * x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        return Interval(min(ends), max(ends), nan)
    if name == "Sub":
        return Interval(a.low - b.high, a.high - b.low, nan)
    return Interval(a.low + b.low, a.high + b.high, nan)


@lru_cache(maxsize=4)
def _interval_of_tensor(tensor: Tensor) -> Interval:
    if not tensor.size or not (tensor.dtype.is_float or tensor.dtype.is_integer):
        return _ANYTHING
    low, high = float(tensor.array.min()), float(tensor.array.max())
    return _ANYTHING if math.isnan(low) or math.isnan(high) else Interval(low, high, False)


def levels(
    value: Value, depth: int = _DEEPEST, seen: dict[Value, frozenset[float] | None] | None = None
) -> frozenset[float] | None:
    """All numbers that the elements of a value can be, where they are few; `seen` keeps what was found on the way."""
    seen = {} if seen is None else seen
    if value not in seen:
        seen[value] = _levels(value, depth, seen)
    return seen[value]


def _levels(value: Value, depth: int, seen: dict[Value, frozenset[float] | None]) -> frozenset[float] | None:
    op = value.op
    kind = value.type
    if isinstance(kind, TensorType) and kind.dtype is DType.BOOL:
        return frozenset({0.0, 1.0})
    if op is None or not depth or op.domain:
        return None
    if op.is_constant:
        return levels_of(op.value) if op.value.size else None
    if op.name in ("Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand", "Slice", "Cast", "Identity"):
        return levels(op.needed(0), depth - 1, seen)
    if op.name not in ("Where", "Add", "Sub", "Mul"):
        return None
    first, second = (levels(v, depth - 1, seen) for v in op.operands[-2:] if v is not None)
    if first is None or second is None or not isinstance(kind, TensorType) or not kind.dtype.is_float:
        return None
    return first | second if op.name == "Where" else _paired(op.name, first, second, kind.dtype)


def _paired(name: str, first: frozenset[float], second: frozenset[float], dtype: DType) -> frozenset[float] | None:
    ufunc = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}[name]
    own = dtype.numpy
    with np.errstate(all="ignore"):
        found = {float(ufunc(np.asarray(a, own), np.asarray(b, own))) for a in first for b in second}
    return frozenset(found) if len(found) <= _MOST_LEVELS and not any(math.isnan(n) for n in found) else None


@lru_cache(maxsize=4)
def levels_of(tensor: Tensor) -> frozenset[float] | None:
    """All numbers in a constant, where they are few and none is NaN."""
    if not (tensor.dtype.is_float or tensor.dtype.is_integer or tensor.dtype is DType.BOOL):
        return None
    flat = tensor.array.reshape(-1)
    found = {float(v) for v in flat[:64]}
    if len(found) > _MOST_LEVELS or any(math.isnan(n) for n in found):
        return None
    found = {float(v) for v in np.unique(flat)}
    return frozenset(found) if len(found) <= _MOST_LEVELS and not any(math.isnan(n) for n in found) else None


@dataclass(frozen=True)
class _Rows:
    """A value of rank 4 whose element (b, h, s, d) comes from row (b, s) of `source`, scaled and shifted by constants.

    Where the row holds a NaN, all its elements are NaN; else none is larger than `limit`.
    """

    source: Value
    length: float
    weight: Tensor
    shift: float

    def limit(self, largest: Callable[[Tensor], float]) -> float:
        """The largest absolute value, given that of the weight; infinite or NaN where there is none.

        No row or column of n elements is longer than sqrt(n) max |w|.
        """
        return self.length * math.sqrt(max(self.weight.shape)) * largest(self.weight) + self.shift


@dataclass(frozen=True)
class ScoreBound:
    """How large the scores of self-attention can get: at most `factor` times what `query` and `key` can."""

    query: _Rows
    key: _Rows
    factor: float

    def is_below(self, limit: float) -> bool:
        """Whether all absolute scores are proved to be less than `limit`: at a glance, or else looking closer."""
        # Not so for NaN, too.
        return any(self.factor * self.query.limit(by) * self.key.limit(by) < limit for by in (glance, magnitude))


def score_bound(query: Value, key: Value, value: Value, scale: float) -> ScoreBound | None:
    """A bound of |scale * query @ keyᵀ| in self-attention, where its answer is not NaN whatever the scores are.

    query (B, H, S, D), key and value (B, H', S, ...) must be linear in the rows of one normalized value. A row of that is
    bounded, or it holds a NaN (of an infinity or a NaN, or of an overflow further up). Then so does the row of `value`, in
    every element, and so does every answer for this b: weights cannot hide it, since 0 * NaN is NaN. None: it is not proved.
    """
    found = [_rows(v) for v in (query, key, value)]
    q, k, v = found
    if q is None or k is None or v is None or not (q.source is k.source is v.source):
        return None
    rows = [(x.shape or ())[0:4:2] for x in (query, key, value)]
    if any(one != rows[0] or None in one for one in rows):
        return None
    size = (query.shape or (None,))[-1]
    kind = query.type
    if not isinstance(size, int) or not isinstance(kind, TensorType):
        return None
    largest, bound = largest_finite(kind.dtype), ScoreBound(q, k, size * abs(scale))
    # Products are finite before they are scaled, too.
    finite = largest is not None and bound.is_below(largest / 4 * min(1.0, abs(scale)))
    return bound if finite else None


def _rows(value: Value) -> _Rows | None:
    """Walk back over heads, biases, scales and rotations to the matrix product, and bound that."""
    if value.shape is None or len(value.shape) != 4:
        return None
    roles: tuple[str, ...] = ("b", "h", "s", "d")
    gain, shift = 1.0, 0.0
    for _ in range(_DEEPEST):
        op = value.op
        if op is None or op.domain:
            return None
        if op.name in ("MatMul", "Gemm"):
            return _product(op, roles, gain, shift)
        if op.name == "RotaryEmbedding":
            value, gain = op.needed(0), gain * _table_limit(op)
            continue
        if op.name in ("Add", "Mul", "Div"):
            step = _elementwise(op)
            if step is None:
                return None
            value, factor, offset = step
            shift, gain = shift + gain * offset, gain * factor
            continue
        before = _moved(op, roles)
        if before is None:
            return None
        value, roles = op.needed(0), before
    return None


def _table_limit(op: Op) -> float:
    found = [interval(op.needed(i)) for i in (1, 2)]
    return 2.0 * max(one.size for one in found) if all(one.is_finite for one in found) else math.inf


def _elementwise(op: Op) -> tuple[Value, float, float] | None:
    """The operand that is no constant, and by how much the other one multiplies and shifts it."""
    for index in (1, 0) if op.name != "Div" else (1,):
        tensor, other = op.constant_operand(index), op.needed(1 - index)
        if tensor is None or (other.shape != op.result.shape):
            continue
        found = _interval_of_tensor(tensor)
        if not found.is_finite:
            return None
        if op.name == "Add":
            return other, 1.0, found.size
        if op.name == "Div":
            return (other, 1.0 / abs(found.low), 0.0) if found.low == found.high != 0 else None
        return other, found.size, 0.0
    return None


def _moved(op: Op, roles: tuple[str, ...]) -> tuple[str, ...] | None:
    """The roles of the dims of a movement's operand: `b`, `s` and then `r` count rows, all others are features of a row."""
    source = op.needed(0).shape
    if source is None:
        return None
    rank = len(source)
    if op.name == "Transpose":
        permutation = op.integers("perm")
        if permutation is None or "r" in roles:
            return None
        before = dict(zip(permutation, roles, strict=True))
        return tuple(before[axis] for axis in range(rank))
    if op.name in ("Split", "Slice"):
        return roles if roles[_cut_axis(op, rank)] not in ("b", "s", "r") else None
    if op.name == "Gather" and rank == len(roles) + 1:
        axis = op.integer("axis", 0) % rank
        return (*roles[:axis], "d", *roles[axis:])
    if op.name == "Squeeze" and rank == len(roles) + 1:
        axes = op.constant_operand(1)
        axis = int(axes.array.reshape(-1)[0]) % rank if axes is not None and axes.size == 1 else None
        return None if axis is None else (*roles[:axis], "d", *roles[axis:])
    if op.name == "Unsqueeze" and rank == 3 and (op.result.shape or ())[1:2] == (1,) and roles[1] == "h":
        return (roles[0], *roles[2:])
    if op.name == "Reshape":
        return _reshaped(roles, op.result.shape or (), source)
    return None


def _cut_axis(op: Op, rank: int) -> int:
    """The axis that a Split or Slice cuts; the first, which counts rows, where it is not one axis."""
    if op.name == "Split":
        return op.integer("axis", 0) % rank
    axes = op.constant_operand(3)
    return int(axes.array.reshape(-1)[0]) % rank if axes is not None and axes.size == 1 else 0


def _reshaped(roles: tuple[str, ...], shape: tuple[Dim, ...], source: tuple[Dim, ...]) -> tuple[str, ...] | None:
    """Rows in front and the features of one behind: they stay so where both shapes have as many features in a row."""
    kept = [(role, size) for role, size in zip(roles, shape, strict=True) if size != 1 or role in ("b", "s", "r")]
    rows = [role for role, _ in kept if role in ("b", "s", "r")]
    if [role for role, _ in kept[: len(rows)]] != rows or ("r" not in rows and rows != ["b", "s"]):
        return None
    count = dims.product(size for _, size in kept[len(rows) :])
    if not isinstance(count, int) or source[-1] != count:
        return None
    return (*["r"] * (len(source) - 1), "d")


def _product(op: Op, roles: tuple[str, ...], gain: float, shift: float) -> _Rows | None:
    """Σ x_i w_ij is at most |x| |w_j| (Cauchy and Schwarz)."""
    weight = op.constant_operand(1)
    if weight is None or len(weight.shape) != 2 or not weight.dtype.is_float:
        return None
    if roles != ("b", "s", "d") and {*roles[:-1]} != {"r"}:
        return None
    if op.name == "Gemm" and (op.integer("transA", 0) or any(op.attributes.get(a, 1.0) != 1.0 for a in ("alpha", "beta"))):
        return None
    row = _bounded_row(op.needed(0), _DEEPEST)
    if row is None:
        return None
    source, length = row
    bias = op.operand(2) if op.name == "Gemm" else None
    added = 0.0 if bias is None else interval(bias).size
    return _Rows(source, length * gain, weight, shift + gain * added)


def _bounded_row(value: Value, depth: int) -> tuple[Value, float] | None:
    """The value normalized per row behind views of it, and how long (in L2) a row without NaN can be."""
    gain, shift, start = 1.0, 0.0, value
    for _ in range(depth):
        op = value.op
        step = _elementwise(op) if op is not None and op.is_a("Mul", "Add") else None
        if step is not None:
            value, gain, shift = step[0], gain * step[1], shift + gain * step[2]
        elif op is not None and op.is_a("Reshape") and (op.needed(0).shape or (0,))[-1:] == (value.shape or (1,))[-1:]:
            value = op.needed(0)
            start = value if gain == 1.0 and not shift else start
        else:
            break
    length = _normalized_length(value)
    size = (value.shape or (None,))[-1]
    if length is None or not isinstance(size, int):
        return None
    return start, length * gain + math.sqrt(size) * shift


def _normalized_length(value: Value) -> float | None:
    """How long a row of a layer or RMS normalization can be."""
    op = value.op
    if op is None or not op.is_a("LayerNormalization", "RMSNormalization") or value.index:
        return None
    size = None if value.shape is None else value.shape[-1]
    if not isinstance(size, int) or op.integer("axis", -1) not in (-1, len(value.shape or ()) - 1):
        return None
    limits = [0.0, 0.0]
    for index in (1, 2):
        if index >= len(op.operands) or op.operand(index) is None:
            continue
        found = interval(op.needed(index), 1)
        if not found.is_finite:
            return None
        limits[index - 1] = found.size
    # A normalized row has length sqrt(n); its bias adds at most sqrt(n) times the largest entry.
    return math.sqrt(size) * (limits[0] + limits[1])


__all__ = ["Interval", "ScoreBound", "interval", "largest_finite", "levels", "levels_of", "score_bound"]

"""Where precision can be chosen: the contractions of a graph in f32, and which of them are alike.

Law: sites are found in the order of the ops, so a graph and its copy have the same ones at the same indices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

from irc.ir import DType, Graph, Op, TensorType, Value, dims

from ..base import Context

LOWERED_BY = frozenset({"narrow", "quantize"})
"""What the locations of ops say that round values to lower the precision of a model."""
CONTRACTIONS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
MOVING = frozenset(
    {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "DepthToSpace", "SpaceToDepth", "MaxPool"}
)
"""Ops whose result has no other numbers, and the same extremes, as their first operand."""


class Form(Enum):
    """The precision of a contraction; the value is the word for it."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"
    INT8 = "int8"  # data in steps that were calibrated, weights in steps by channel
    DYNAMIC_INT8 = "dynamic-int8"  # data in steps of a range that each run finds, weights in steps by channel
    INT8_WEIGHTS = "int8-weights"  # data stay f32
    INT4_WEIGHTS = "int4-weights"


@dataclass(frozen=True, eq=False)
class Site:
    """A contraction of f32 tensors: `data` times `weights`, which may be computed, too.

    `channel_axis` is the axis of constant weights with the output's channels, None where weights are computed; `summed_axis`
    is the (first) axis of the weights that is summed over, `data_axis` that of the data.
    """

    op: Op
    data: Value
    weights: Value
    channel_axis: int | None
    summed_axis: int
    data_axis: int

    @property
    def is_weighted(self) -> bool:
        """Whether its weights are a constant."""
        return self.weights.constant is not None

    def __repr__(self) -> str:
        return f"Site({self.op})"


def sites(graph: Graph) -> list[Site]:
    """The sites of a graph and of the bodies in it, in order."""
    return [site for op in graph.walk() if (site := site_of(op)) is not None]


def taken(graph: Graph, context: Context, rewrite: str, why_not: Callable[[Site], str]) -> Iterator[Site]:
    """The sites that `why_not` has nothing against, each counted as one `rewrite`; of the others its reason is told.

    Raises LimitReached where no rewrite is left: those before it are taken all the same.
    """
    for site in sites(graph):
        reason = why_not(site)
        if reason:
            context.miss(rewrite, site.op, reason)
            continue
        context.take(rewrite)
        yield site


def site_of(op: Op) -> Site | None:
    """An op as a site, None for one that is none: another op, other types than f32, or operands of unknown rank."""
    if not op.is_a(*CONTRACTIONS):
        return None
    data, weights = op.needed(0), op.needed(1)
    ranks = _rank_in_f32(data), _rank_in_f32(weights)
    if None in ranks:
        return None
    axes = _axes(op, *(rank or 0 for rank in ranks))
    if axes is None:
        return None
    channel, summed, of_data = axes
    return Site(op, data, weights, None if weights.constant is None else channel, summed, of_data)


def _rank_in_f32(value: Value) -> int | None:
    kind = value.type
    return kind.rank if isinstance(kind, TensorType) and kind.dtype is DType.F32 else None


def _axes(op: Op, of_data: int, of_weights: int) -> tuple[int, int, int] | None:
    """The channels' axis of the weights, the summed axis of the weights, and that of the data."""
    match op.name:
        case "MatMul":
            return (of_weights - 1, of_weights - 2, of_data - 1) if min(of_data, of_weights) >= 2 else None
        case "Gemm":
            turned = op.integer("transB", 0)
            return (0 if turned else 1, 1 if turned else 0, 0 if op.integer("transA", 0) else 1)
        case "Conv":
            return 0, 1, 1
        case _:
            return 1, 0, 1


def source_of(value: Value) -> Value:
    """What `value` was moved from: the value that is quantized in its place."""
    while value.op is not None and value.op.is_a(*MOVING) and value is value.op.results[0] and not value.op.domain:
        value = value.op.needed(0)
    return value


def is_in_steps(value: Value) -> bool:
    """Whether a value was dequantized, and at most moved since."""
    maker = source_of(value).op
    return maker is not None and maker.is_a("DequantizeLinear")


def is_narrow_weight(op: Op) -> bool:
    """Whether an op widens a constant in bf16 or f16 to f32 for a contraction, which may read it as it is stored.

    Or for the scales of a DequantizeLinear.
    """
    stored = op.constant_operand(0) if op.is_a("Cast") else None
    if stored is None or stored.dtype not in (DType.BF16, DType.F16):
        return False
    return any(isinstance(user, Op) and _reads_stored(user, index) for user, index in op.result.uses)


def _reads_stored(user: Op, index: int) -> bool:
    return index == 1 if user.is_a("DequantizeLinear") else index < 2 and site_of(user) is not None


def pattern(site: Site) -> str:
    """What sites have in common that take the same time and mean about the same: one decision is made for all of them.

    The op with its shapes, for people, and a digest of its attributes, of what makes its data and of what uses its result.
    """
    op = site.op
    attributes = repr(sorted((name, repr(value)) for name, value in op.attributes.items()))
    around = repr((_maker(site.data), _maker(site.weights), _readers(op.results[0]), len(op.operands)))
    digest = hashlib.sha256(f"{attributes} {around}".encode()).hexdigest()[:6]
    return f"{op.name} {_shape(site.data)} x {_shape(site.weights)} #{digest}"


def patterns(found: Iterable[Site]) -> dict[str, list[Site]]:
    """Sites by their pattern, in the order of the first of each."""
    groups: dict[str, list[Site]] = {}
    for site in found:
        groups.setdefault(pattern(site), []).append(site)
    return groups


def _shape(value: Value) -> str:
    return f"[{','.join(map(dims.text, value.shape or ()))}]"


def _maker(value: Value) -> str:
    if value.constant is not None:
        return "constant"
    return "input" if value.op is None else value.op.qualified_name


def _readers(value: Value) -> list[str]:
    kinds = {user.qualified_name for user in value.users}
    return sorted(kinds | {"output"} if value.is_output else kinds)


def is_lowering(op: Op) -> bool:
    """Whether an op is there to lower the precision of a model, rather than being one of its own."""
    return not LOWERED_BY.isdisjoint(op.location.flatten()[1])

"""Narrow floats: operands of contractions are rounded to bf16 or f16, and nothing else is; products and sums stay f32.

A narrowed value is `Cast(Cast(x, to=bf16), to=f32)`, one pair for all its readers, so that an engine may keep it in memory in
the narrow form only; constants are narrow behind one Cast. Pointwise readers take the narrowed value, too, because else both
forms would be kept; norms, softmax and reductions keep reading f32, and attention but for engines that multiply faster in bf16
(`narrow_attention`). So do the pointwise readers of what a norm made: it is what a transformer adds to from layer to layer, and
rounding it in each would double the error of bert_base.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from irc.ir import DType, Graph, Op, Tensor, TensorType, UsageError, Value, constant_op, make, via

from ..base import Context, Contract, Pass, erase_dead
from ..fusion import ELEMENTWISE
from .sites import CONTRACTIONS, Site, is_in_steps, sites

NARROW = {"bf16": DType.BF16, "f16": DType.F16}
SMALLEST_NORMAL = {DType.BF16: 2.0**-126, DType.F16: 2.0**-14}
"""Below which numbers have fewer digits, the fewer the smaller they are."""
NORMS = frozenset({"LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization"})
FOLLOWING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Split", "Slice", "RotaryEmbedding", *NORMS})
"""What may stand between a contraction and the attention that reads it: moving, rotating, a norm of queries or keys."""


def narrow(graph: Graph, chosen: Iterable[Site], dtype: DType) -> None:
    """Narrow both operands of the `chosen` sites of `graph` to `dtype`, bf16 or f16.

    Whether a constant fits into `dtype` is for the caller to ask (`why_not_narrow`); what overflows becomes infinite.
    """
    narrowing = _Narrowing(dtype)
    for site in chosen:
        narrowing.site(site)


def narrow_attention(graph: Graph, chosen: Iterable[Site]) -> None:
    """Let attention read queries, keys and values in bf16 where each comes from a contraction that is `chosen`.

    Its products are contractions, too, and what they read was made of rounded operands; its softmax stays f32.
    """
    lowered = {site.op for site in chosen}
    narrowing = _Narrowing(DType.BF16)
    for op in [op for op in graph.walk() if op.is_a("Attention")]:
        operands = [op.needed(index) for index in range(3)]
        kinds = [value.type for value in operands]
        if not all(isinstance(kind, TensorType) and kind.dtype is DType.F32 for kind in kinds):
            continue
        if all(contraction_behind(value) in lowered for value in operands):
            narrowing.operands(op, range(3))


def contraction_behind(value: Value) -> Op | None:
    """The contraction that a value comes from, through pointwise ops, their first operand, and FOLLOWING; None for no such."""
    op = value.op
    while op is not None and not op.is_a(*CONTRACTIONS):
        follows = (op.is_a(*FOLLOWING) and not op.domain) or is_pointwise(op)
        op = op.needed(0).op if follows else None
    return op


def why_not_narrow(site: Site, dtype: DType) -> str:
    """Why a site is not to be narrowed, as a clause; empty where nothing speaks against it.

    One of its constants overflows, or has only numbers that are subnormal there and lose digits; or an operand is quantized
    already: engines read the integers, and would not behind casts.
    """
    if is_in_steps(site.data) or is_in_steps(site.weights):
        return "an operand is in steps already"
    for value in (site.data, site.weights):
        tensor = value.constant
        if tensor is not None and _overflows(tensor, dtype):
            return f"a constant is too large for {dtype.text}"
        if tensor is not None and 0 < _largest(tensor) < SMALLEST_NORMAL[dtype]:
            return f"a constant is too small for {dtype.text}"
    return ""


def _overflows(tensor: Tensor, dtype: DType) -> bool:
    with np.errstate(over="ignore"):
        return not np.isfinite(np.float32(_largest(tensor)).astype(dtype.numpy).astype(np.float32))


def _largest(tensor: Tensor) -> float:
    return float(np.abs(tensor.array).max(initial=0.0, where=np.isfinite(tensor.array)))


def is_narrow(value: Value, dtype: DType) -> bool:
    """Whether a value was widened from `dtype`."""
    maker = value.op
    inner = maker.needed(0).type if maker is not None and maker.is_a("Cast") else None
    return isinstance(inner, TensorType) and inner.dtype is dtype


class _Narrowing:
    """Narrowed values by the values they stand for."""

    def __init__(self, dtype: DType) -> None:
        self._dtype = dtype
        self._known: dict[Value, Value] = {}

    def site(self, site: Site) -> None:
        """Let a site read narrowed operands."""
        self.operands(site.op, range(2))

    def operands(self, op: Op, indices: Iterable[int]) -> None:
        """Let an op read some of its operands narrowed."""
        for index in indices:
            operand = op.needed(index)
            if is_narrow(operand, self._dtype):
                continue
            op.set_operand(index, self._narrowed(operand, op))
            if operand.constant is not None and operand.op is not None:
                erase_dead(operand.op)

    def _narrowed(self, value: Value, reader: Op) -> Value:
        known = self._known.get(value)
        if known is None:
            known = self._constant(value.constant, value) if value.constant is not None else self._computed(value, reader)
        self._known[value] = known
        return known

    def _constant(self, tensor: Tensor, value: Value) -> Value:
        op = value.op
        assert op is not None
        assert op.graph is not None
        location = via("narrow", op.location)
        with np.errstate(over="ignore"):
            small = constant_op(Tensor.from_array(tensor.array.astype(self._dtype.numpy), self._dtype), location, value.name)
        op.graph.insert(small, op)
        wide = make("Cast", [small.result], location, attributes={"to": DType.F32.onnx_code})
        return op.graph.insert(wide, op).result

    def _computed(self, value: Value, reader: Op) -> Value:
        location = via("narrow", reader.location)
        is_norm = value.op is not None and value.op.name in NORMS and not value.op.domain
        pointwise = [use for use in value.uses if not is_norm and isinstance(use.user, Op) and is_pointwise(use.user)]
        small = make("Cast", [value], location, attributes={"to": self._dtype.onnx_code})
        wide = make("Cast", [small.result], location, attributes={"to": DType.F32.onnx_code})
        put_after(value, small, wide)
        for user, index in pointwise:
            assert isinstance(user, Op)
            user.set_operand(index, wide.result)
        return wide.result


def put_after(value: Value, *ops: Op) -> None:
    """Put ops, in order, right behind what makes a value; behind nothing where it is an input."""
    graph = value.graph if value.op is None else value.op.graph
    assert graph is not None
    before = graph.first if value.op is None else value.op.next
    for op in ops:
        if before is None:
            graph.append(op)
        else:
            graph.insert(op, before)


def is_pointwise(op: Op) -> bool:
    """Whether each element of an op's result is a number in f32 made of one element of each operand."""
    kind = op.results[0].type
    own = op.name in ELEMENTWISE and not op.domain and op.version is None and op.name != "Cast"
    return own and isinstance(kind, TensorType) and kind.dtype is DType.F32


@dataclass(frozen=True)
class Narrow(Pass, name="narrow", contract=Contract.LOSSY):
    """Round the operands of contractions to `dtype`, bf16 or f16, where their constants fit."""

    dtype: str = "bf16"

    def __post_init__(self) -> None:
        """Raises UsageError for a dtype that nothing is narrowed to."""
        if self.dtype not in NARROW:
            raise UsageError(f"pass 'narrow' has no dtype '{self.dtype}'", hint="it narrows to bf16 or f16")

    def run(self, graph: Graph, context: Context) -> None:
        """Narrow each site; one rewrite each."""
        dtype = NARROW[self.dtype]
        narrowing = _Narrowing(dtype)
        for site in sites(graph):
            if is_narrow(site.data, dtype) and is_narrow(site.weights, dtype):
                continue
            reason = why_not_narrow(site, dtype)
            if reason:
                context.miss(self.name, site.op, reason)
                continue
            context.take(self.name)
            narrowing.site(site)

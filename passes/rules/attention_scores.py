"""The way back from a Softmax over scores to the product of query and key: scales, masks, softcap and casts on it.

Law: what is walked over is used nowhere else, so that it dies with the match.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from irc.ir import Dim, DType, Op, Tensor, TensorType, Value

from ..rewriter import Rewriter
from .attention_bounds import interval
from .attention_masks import Choice, Term, is_zero

_STEPS = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Cast", "MatMul", "Transpose", "Reshape"})
_DEEPEST = 12
_MOST_MOVES = 2


@dataclass(frozen=True)
class Scores:
    """scale * first @ second, through `softcap` where it is not 0, plus `terms`, chosen from by `choice`.

    `first` is the query and `second` the transposed key; `flipped`, `first` is the key and `second` the transposed query.
    `gains` multiply the rows of the query. `split` says into which (batch, heads) the first dim of a product of rank 3 is cut.
    """

    product: Op
    first: Value
    second: Value
    flipped: bool = False
    gains: list[Value] = field(default_factory=list[Value])
    scale: float = 1.0
    softcap: float = 0.0
    terms: list[Term] = field(default_factory=list[Term])
    choice: Choice | None = None
    dtype: DType = DType.F32
    split: tuple[Dim, ...] = ()


def scores_of(value: Value, depth: int = _DEEPEST) -> Scores | None:
    """How `value` is made of a product of two values, if it is scores of attention."""
    op = value.op
    if op is None or not depth or op.domain or op.name not in _STEPS or not value.has_one_use or value.is_output:
        return None
    if op.name == "MatMul":
        return _product(op)
    if op.name == "Where":
        return _chosen(op, depth)
    if op.name == "Transpose":
        return _flipped(op, depth)
    if op.name == "Reshape":
        return _regrouped(op, depth)
    if op.name == "Cast":
        inner = scores_of(op.needed(0), depth - 1)
        widened = inner is not None and dtype_of(value) in (DType.F32, DType.F64)
        return replace(inner, dtype=dtype_of(value)) if inner is not None and widened else None
    if op.name == "Mul":
        capped = _softcapped(op, depth)
        if capped is not None:
            return capped
    if op.name in ("Mul", "Div"):
        return _scaled(op, depth)
    return _shifted(op, depth)


def _product(op: Op) -> Scores | None:
    kind = dtype_of(op.result)
    return None if kind is None else Scores(op, op.needed(0), op.needed(1), dtype=kind)


def _flipped(op: Op, depth: int) -> Scores | None:
    """(k qᵀ)ᵀ, scaled or not."""
    rank = len(op.result.shape or ())
    if rank < 2 or op.integers("perm") != (*range(rank - 2), rank - 1, rank - 2):
        return None
    inner = scores_of(op.needed(0), depth - 1)
    if inner is None or inner.flipped or inner.terms or inner.gains or inner.softcap or inner.choice is not None:
        return None
    return replace(inner, flipped=True)


def _regrouped(op: Op, depth: int) -> Scores | None:
    """Scores of (B * H, Sq, Sk) as (B, H, Sq, Sk), or back, with masks added in either form."""
    before, after = op.needed(0).shape, op.result.shape
    if before is None or after is None or before[-2:] != after[-2:] or None in (*before, *after[-2:]):
        return None
    if {len(before), len(after)} != {3, 4}:
        return None
    inner = scores_of(op.needed(0), depth - 1)
    if inner is None or inner.gains or inner.flipped or inner.choice is not None:
        return None
    split = after[:2] if len(after) == 4 else before[:2]
    if len(after) == 3:
        return replace(inner, split=split) if inner.split in ((), split) else None
    own = [len(term.value.shape or ()) == 3 and (term.value.shape or (1,))[0] != 1 for term in inner.terms]
    terms = [replace(term, split=split if regroup else ()) for term, regroup in zip(inner.terms, own, strict=True)]
    return replace(inner, split=split, terms=terms) if not inner.split else None


def without_scale(value: Value, rewrite: Rewriter) -> tuple[Value, float]:
    """A value without the constant numbers it is multiplied with or divided by, also behind reshapes and transposes."""
    moves: list[Op] = []
    behind: list[Op] = []
    scale, bare, current = 1.0, value, value
    while len(current.uses) <= 1 and current.op is not None:
        op = current.op
        step = _by_number(op) if op.is_a("Mul", "Div") else _unshifted(op)
        if step is not None:
            bare = current = step[0]
            scale *= step[1]
            behind = list(moves)
        elif op.is_a("Reshape", "Transpose") and len(moves) < _MOST_MOVES:
            moves.append(op)
            current = op.needed(0)
        else:
            break
    for move in reversed(behind):
        bare = rewrite.op(move.name, [bare, *move.operands[1:]], dict(move.attributes))
    return bare, scale


def _unshifted(op: Op) -> tuple[Value, float] | None:
    """x of x + 0: the sign of a zero, which is all that changes, makes no other score."""
    for index in (1, 0) if op.is_a("Add") else ():
        other = op.needed(1 - index)
        if is_zero(op.needed(index)) and other.shape is not None and other.shape == op.result.shape:
            return other, 1.0
    return None


def _by_number(op: Op) -> tuple[Value, float] | None:
    """The operand of a Mul or Div that is no number, and what the op multiplies it with; the number stretches nothing."""
    for index in (0, 1) if op.name == "Mul" else (1,):
        number, other = number_in(op.constant_operand(index)), op.needed(1 - index)
        if number is None or other.shape is None or op.result.shape != other.shape:
            continue
        if op.name == "Div":
            return (other, 1.0 / number) if number else None
        return other, number
    return None


def number_in(tensor: Tensor | None) -> float | None:
    """The number in a float constant of one element."""
    if tensor is None or tensor.size != 1 or not tensor.dtype.is_float:
        return None
    return float(tensor.array.reshape(-1)[0])


def _scaled(op: Op, depth: int) -> Scores | None:
    step = _by_number(op)
    if step is None and op.name == "Mul":
        return _gained(op, depth)
    inner = None if step is None else scores_of(step[0], depth - 1)
    if inner is None or step is None or inner.softcap or (inner.choice is not None and step[1] <= 0):
        return None
    factor = step[1]
    terms = [replace(term, factor=term.factor * factor) for term in inner.terms]
    choice = None if inner.choice is None else replace(inner.choice, fill=inner.choice.fill * factor)
    return replace(inner, scale=inner.scale * factor, terms=terms, choice=choice)


def _gained(op: Op, depth: int) -> Scores | None:
    """Scores times constants that differ from head to head only: those may multiply the query as well."""
    for index in (0, 1):
        side, gain = op.needed(index), op.needed(1 - index)
        tensor, shape = gain.constant, gain.shape
        if tensor is None or shape is None or side.shape != op.result.shape or shape[-2:] != (1, 1):
            continue
        inner = scores_of(side, depth - 1)
        if inner is None or inner.terms or inner.softcap or inner.choice is not None or inner.flipped:
            return None
        found = interval(gain)
        return replace(inner, gains=[*inner.gains, gain]) if found.is_finite and found.low > 0 else None
    return None


def _softcapped(op: Op, depth: int) -> Scores | None:
    """c * tanh(s / c)."""
    step = _by_number(op)
    tanh = None if step is None else step[0].op
    if step is None or tanh is None or not tanh.is_a("Tanh") or not tanh.result.has_one_use:
        return None
    inner = scores_of(tanh.needed(0), depth - 1)
    if inner is None or inner.softcap or inner.terms or inner.choice is not None or step[1] <= 0:
        return None
    return replace(inner, scale=inner.scale * step[1], softcap=step[1])


def _shifted(op: Op, depth: int) -> Scores | None:
    for index in (0, 1) if op.name == "Add" else (0,):
        side, other = op.needed(index), op.needed(1 - index)
        if side.shape is None or side.shape != op.result.shape:
            continue
        inner = scores_of(side, depth - 1)
        if inner is not None and is_zero(other):
            return inner
        if inner is not None and inner.choice is None:
            return replace(inner, terms=[*inner.terms, Term(other, 1.0 if op.name == "Add" else -1.0)])
    return None


def _chosen(op: Op, depth: int) -> Scores | None:
    for index in (1, 2):
        side, fill = op.needed(index), number_in(op.constant_operand(3 - index))
        if fill is None or side.shape is None or side.shape != op.result.shape:
            continue
        inner = scores_of(side, depth - 1)
        if inner is not None and inner.choice is None:
            return replace(inner, choice=Choice(op.needed(0), index == 1, fill))
    return None


def dtype_of(value: Value) -> DType | None:
    """The dtype of a tensor value."""
    return value.type.dtype if isinstance(value.type, TensorType) else None


__all__ = ["Scores", "dtype_of", "number_in", "scores_of", "without_scale"]

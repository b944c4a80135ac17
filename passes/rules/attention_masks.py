"""Masks of attention scores: which are causal, which hide whole rows, and how to hand them to the Attention op.

Law: Softmax of a row of -inf is NaN, and Attention answers 0 where its mask hides a row; ONNX Runtime counts the lowest float
as hidden too, where Softmax answers the mean. A mask that might hide a row gets a form that means the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from irc.ir import Dim, DType, Op, Tensor, TensorType, Value, shapes

from ..rewriter import No, Rewriter
from .attention_bounds import ScoreBound, interval, largest_finite, levels, levels_of
from .sizes import size_of

_DEEPEST = 16
_UNDERFLOWS = 800.0
"""exp(-800) is 0 in every float type, whatever else is in the row."""


@dataclass(frozen=True)
class Term:
    """What is added to the scores: `value` times `factor`, its first dim cut into `split` where that is not empty."""

    value: Value
    factor: float = 1.0
    split: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class Choice:
    """Scores stay where `condition` is `kept`, and are `fill` elsewhere."""

    condition: Value
    kept: bool
    fill: float


@dataclass(frozen=True)
class Mask:
    """What the Attention op is given: its mask operand and its attribute."""

    value: Value | None = None
    is_causal: bool = False


@dataclass(frozen=True)
class Setting:
    """What is known of scores: dtype, dims (B, H, Sq, Sk) or (B, Sq, Sk), whether NaN weights become 0.

    `bound` finds out how large they get, or None; it reads whole weights, so it is asked only where that decides.
    """

    dtype: DType
    dims: tuple[Dim, ...]
    query: Value
    guarded: bool
    bound: Callable[[], ScoreBound | None]

    @cached_property
    def scores(self) -> ScoreBound | None:
        """How large scores can get, where that is proved."""
        return self.bound()

    @property
    def lowest(self) -> float:
        """The lowest finite score."""
        return -(largest_finite(self.dtype) or math.inf)

    @property
    def lifted(self) -> float:
        """The float after the lowest one."""
        bits = {DType.F16: 11, DType.BF16: 8, DType.F32: 24}.get(self.dtype, 53)
        return self.lowest * (1.0 - 2.0 ** (1 - bits))


def masked(terms: list[Term], choice: Choice | None, setting: Setting, rewrite: Rewriter) -> Mask | No:
    """One mask for all that was added to the scores and chosen from them, or why there is none."""
    others = [t for t in terms if not is_zero(t.value)]
    if choice is not None:
        if setting.scores is None:
            return No("a NaN score where its mask hides it is dropped, and Attention would keep it", 4)
        if any(interval(t.value).nan for t in others):
            return No("what its mask hides may be NaN", 4)
        if is_causal(choice.condition) is choice.kept and _may_be_infinite(choice.fill, others, setting):
            return _added(others, setting, rewrite, True)
        return _chosen(choice, others, setting, rewrite)
    for term in others:
        rest = [t for t in others if t is not term]
        fill = causal_fill(term.value)
        if fill is not None and _may_be_infinite(fill * term.factor, rest, setting):
            return _added(rest, setting, rewrite, True)
    return _added(others, setting, rewrite, False)


def _may_be_infinite(fill: float, rest: list[Term], setting: Setting) -> bool:
    """Whether a causal mask of `fill` weighs hidden keys with 0, as one of -inf does, beside the other terms."""
    spread = 0.0
    for term in rest:
        found = interval(term.value)
        if not found.is_finite:
            return False
        spread += abs(term.factor) * found.size
    if fill == -math.inf:
        return spread < -setting.lowest / 2
    return setting.scores is not None and setting.scores.is_below((-fill - _UNDERFLOWS) / 2.0 - spread)


def _chosen(choice: Choice, others: list[Term], setting: Setting, rewrite: Rewriter) -> Mask | No:
    """Where(c, scores, fill) with scores in bounds is scores + Where(c, 0, fill), where fill absorbs any score."""
    hides = choice.fill == -math.inf or (choice.fill <= -1e30 and setting.dtype is not DType.F16 and _is_small(setting.scores))
    if not hides:
        return No("what its mask puts in place of scores does not hide them", 4)
    if choice.kept and not others and choice.fill == -math.inf and (setting.guarded or _has_visible(choice.condition)):
        return _fitted(choice.condition, setting, rewrite, False)
    fill = choice.fill if choice.fill == -math.inf else max(choice.fill, setting.lifted)
    sides = [_number(0.0, setting.dtype, rewrite), _number(fill, setting.dtype, rewrite)]
    value = rewrite.op("Where", [choice.condition, *(sides if choice.kept else reversed(sides))])
    return _added([*others, Term(value)], setting, rewrite, False)


def _is_small(scores: ScoreBound | None) -> bool:
    """Whether scores vanish beside a number that hides them."""
    return scores is not None and scores.is_below(1e13)


def _has_visible(condition: Value) -> bool:
    """Whether a constant condition is true somewhere in every row."""
    tensor = condition.constant
    return tensor is not None and tensor.size > 0 and bool(tensor.array.any(axis=-1).all())


def _added(terms: list[Term], setting: Setting, rewrite: Rewriter, causal: bool) -> Mask | No:
    if not terms:
        return Mask(None, causal)
    total: Value | None = None
    for term in terms:
        kind = term.value.type
        if not isinstance(kind, TensorType) or kind.dtype is not setting.dtype:
            return No("its mask has another dtype", 4)
        value = term.value
        if term.factor != 1.0:
            value = rewrite.op("Mul", [value, _number(term.factor, setting.dtype, rewrite)])
        total = value if total is None else rewrite.op("Add", [total, value])
    assert total is not None
    if len(terms) > 1 or terms[0].factor != 1.0 or causal_fill(total) is None:
        shown = _shown_rows(terms, total, setting, rewrite)
        if isinstance(shown, No):
            return shown
        total = shown
    return _fitted(total, setting, rewrite, causal)


def _shown_rows(terms: list[Term], total: Value, setting: Setting, rewrite: Rewriter) -> Value | No:
    """A mask that means in Attention what `total` means in Softmax, also for rows that it hides.

    -inf, NaN and inf make a row NaN: so does adding 0 times its largest element. The lowest float must not count as hidden.
    """
    if len(terms) == 1 and total.constant is not None and not _hides_a_row(total.constant, setting.lowest):
        return total if not setting.guarded or not interval(total).nan else No("its mask may be NaN", 4)
    found, known = interval(total), levels(total)
    if setting.guarded and (found.nan or found.high == math.inf):
        return No("its mask may be NaN, which the guard behind the Softmax makes 0", 4)
    if found.low > setting.lowest:
        return total
    lowered = known is None or setting.lowest in known
    infinite = not setting.guarded and found.low == -math.inf and (known is None or -math.inf in known)
    value = _lifted(total, setting, rewrite) if lowered else total
    if infinite:
        axis = rewrite.constant(Tensor.integers([-1]))
        largest = rewrite.op("ReduceMax", [total, axis], {"keepdims": 1})
        value = rewrite.op("Add", [value, rewrite.op("Mul", [largest, _number(0.0, setting.dtype, rewrite)])])
    return value


def _lifted(mask: Value, setting: Setting, rewrite: Rewriter) -> Value:
    """The mask with the lowest float raised by one step; everything else moves by a rounding at most."""
    op = mask.op
    if op is not None and op.is_a("Where"):
        sides = [op.constant_operand(1), op.constant_operand(2)]
        if all(side is not None and side.size == 1 for side in sides):
            numbers = [float(side.array.reshape(-1)[0]) for side in sides if side is not None]
            raised = [_number(max(n, setting.lifted) if n != -math.inf else n, setting.dtype, rewrite) for n in numbers]
            return rewrite.op("Where", [op.operand(0), *raised])
    return rewrite.op("Mul", [mask, _number(setting.lifted / setting.lowest, setting.dtype, rewrite)])


@lru_cache(maxsize=4)
def _hides_a_row(mask: Tensor, lowest: float) -> bool:
    """Whether every key of some row is hidden."""
    return mask.size == 0 or bool((mask.array <= lowest).all(axis=-1).any())


def _fitted(mask: Value, setting: Setting, rewrite: Rewriter, causal: bool) -> Mask | No:
    """The mask with rows for all queries: the schema lets them broadcast, the reference's kernel does not."""
    shape = mask.shape
    if shape is None or not shape or len(shape) > len(setting.dims):
        return No("its mask is not proved to fit the scores", 4)
    wanted = setting.dims[len(setting.dims) - len(shape) :]
    for index, (own, size) in enumerate(zip(shape, wanted, strict=True)):
        last = index == len(shape) - 1
        if not rewrite.same_dims((own,), (size,)) and (own != 1 or last):
            return No("its mask is not proved to fit the scores", 4)
    if len(shape) == 1 or shape[-2:-1] == (1,) != wanted[-2:-1]:
        mask = rewrite.op("Expand", [mask, _row_count(setting, rewrite)])
    return Mask(mask, causal)


def _row_count(setting: Setting, rewrite: Rewriter) -> Value:
    """[Sq, 1] as a value."""
    count = setting.dims[-2]
    if isinstance(count, int):
        return rewrite.constant(Tensor.integers([count, 1]))
    queries = size_of(setting.query, len(setting.query.shape or ()) - 2, rewrite)
    return rewrite.op("Concat", [queries, rewrite.constant(Tensor.integers([1]))], {"axis": 0})


def _number(number: float, dtype: DType, rewrite: Rewriter) -> Value:
    return rewrite.constant(Tensor.from_array(np.asarray(number).astype(dtype.numpy), dtype))


def is_zero(value: Value) -> bool:
    """Whether a value is a constant of zeros."""
    op, tensor = value.op, value.constant
    if op is not None and op.is_a("Where") and _uniform(op.needed(0)) == 1.0:
        tensor = op.constant_operand(1)
    return tensor is not None and tensor.size > 0 and not tensor.array.any()


def causal_fill(value: Value, depth: int = _DEEPEST) -> float | None:
    """The number right of the diagonal of a mask that is 0 on it and left of it, in its last two dims; None for others."""
    op = value.op
    if op is None or not depth:
        return None
    if op.is_constant:
        return _causal_fill_of(op.value)
    if op.name in ("Unsqueeze", "Reshape", "Expand") and _keeps_last_two(op):
        return causal_fill(op.needed(0), depth - 1)
    if op.name == "Where":
        side = is_causal(op.needed(0))
        sides = [_uniform(op.needed(1)), _uniform(op.needed(2))]
        visible, hidden = sides if side else reversed(sides)
        return hidden if side is not None and visible == 0.0 else None
    if op.name == "Trilu" and op.integer("upper", 1) == 1 and _diagonal(op) == 1:
        return _uniform(op.needed(0))
    return None


@lru_cache(maxsize=4)
def _causal_fill_of(tensor: Tensor) -> float | None:
    if len(tensor.shape) < 2 or not tensor.dtype.is_float or not tensor.size:
        return None
    array = tensor.array.reshape(-1, *tensor.shape[-2:])
    hidden = np.triu(np.ones(tensor.shape[-2:], np.bool_), 1)
    if not hidden.any() or not array[0][hidden].size:
        return None
    fill = float(array[0][hidden][0])
    same = bool((array[:, hidden] == fill).all()) and not array[:, ~hidden].any()
    return fill if same and fill < 0 else None


def is_causal(value: Value, depth: int = _DEEPEST) -> bool | None:
    """True for a condition that holds where key <= query only, False where key > query only; None for others."""
    op = value.op
    if op is None or not depth:
        return None
    if op.is_constant:
        return _causal_truth_of(op.value)
    if op.name == "Not":
        inner = is_causal(op.needed(0), depth - 1)
        return None if inner is None else not inner
    if op.name in ("Unsqueeze", "Reshape", "Expand") and _keeps_last_two(op):
        return is_causal(op.needed(0), depth - 1)
    if op.name == "Cast":
        return _triangle(op.needed(0), depth)
    if op.name == "Trilu":
        return _triangle(value, depth)
    if op.name == "Equal":
        for index in (0, 1):
            truth, number = _triangle(op.needed(index), depth), _uniform(op.needed(1 - index))
            if truth is not None and number in (0.0, 1.0):
                return truth is (number == 1.0)
        return None
    sides = tuple(_position(op.needed(i)) for i in (0, 1)) if op.name in _COMPARED else ()
    return _COMPARED[op.name].get(sides) if sides else None


_COMPARED: dict[str, dict[tuple[str | None, ...], bool]] = {
    "LessOrEqual": {("key", "query"): True},
    "GreaterOrEqual": {("query", "key"): True},
    "Less": {("query", "key"): False},
    "Greater": {("key", "query"): False},
}


def _triangle(value: Value, depth: int) -> bool | None:
    """True for ones on and left of the diagonal and zeros elsewhere, False for ones right of it."""
    op = value.op
    if op is None or not op.is_a("Trilu") or _uniform(op.needed(0)) != 1.0:
        return None
    upper, diagonal = op.integer("upper", 1), _diagonal(op)
    return True if not upper and diagonal == 0 else False if upper and diagonal == 1 else None


def _diagonal(op: Op) -> int | None:
    if op.operand(1) is None:
        return 0
    found = _uniform(op.needed(1))
    return None if found is None else int(found)


@lru_cache(maxsize=4)
def _causal_truth_of(tensor: Tensor) -> bool | None:
    if len(tensor.shape) < 2 or tensor.dtype is not DType.BOOL or not tensor.size:
        return None
    wanted = np.tril(np.ones(tensor.shape[-2:], np.bool_))
    if wanted.all():
        return None
    return True if bool((tensor.array == wanted).all()) else False if bool((tensor.array != wanted).all()) else None


def _position(value: Value) -> str | None:
    """`key` for 0, 1, 2, ... along the last dim, `query` along the one before; all others of size 1."""
    shape = value.shape
    op: Op | None = value.op
    while op is not None and op.is_a("Unsqueeze", "Reshape", "Cast", "Squeeze"):
        op = op.needed(0).op
    if shape is None or op is None or not _counts_up(op):
        return None
    long = [i - len(shape) for i, size in enumerate(shape) if size != 1]
    return {-1: "key", -2: "query"}.get(long[0]) if len(long) == 1 else None


def _counts_up(op: Op) -> bool:
    if op.is_a("Range"):
        return _uniform(op.needed(0)) == 0.0 and _uniform(op.needed(2)) == 1.0
    if not op.is_constant or not op.value.dtype.is_integer:
        return False
    flat = op.value.array.reshape(-1)
    return bool((flat == np.arange(flat.size)).all())


def _keeps_last_two(op: Op) -> bool:
    before, after = op.needed(0).shape, op.result.shape
    return before is not None and after is not None and len(before) >= 2 and None not in before and before[-2:] == after[-2:]


def _uniform(value: Value, depth: int = _DEEPEST) -> float | None:
    """The one number that all elements are, also of what is expanded from it."""
    op = value.op
    if op is None or not depth:
        return None
    if op.is_a("Expand", "Reshape", "Unsqueeze", "Cast"):
        return _uniform(op.needed(0), depth - 1)
    if op.is_a("ConstantOfShape"):
        filler = op.attributes.get("value")
        return float(filler.array.reshape(-1)[0]) if isinstance(filler, Tensor) else 0.0
    content = shapes.content_of(value)
    if content is not None and len(content) == 1 and isinstance(content[0], int):
        return float(content[0])
    found = levels_of(op.value) if op.is_constant and op.value.size else None
    return next(iter(found)) if found is not None and len(found) == 1 else None


__all__ = ["Choice", "Mask", "Setting", "Term", "causal_fill", "is_causal", "is_zero", "masked"]

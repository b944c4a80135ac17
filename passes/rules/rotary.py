"""Rotary embeddings written out, as ONNX's RotaryEmbedding op.

A rotation turns pairs (a, b) of a row to (a cos - b sin, b cos + a sin). The pairs are x[i], x[i + n/2] (halves) or
x[2i], x[2i + 1] (interleaved); the tables of the op have one entry a pair. (Su et al., RoFormer, https://arxiv.org/abs/2104.09864)
Law: tables that hold each entry twice must be proved to do so.
"""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import Attribute, DType, Op, Tensor, Value

from ..base import Contract
from ..rewriter import No, Rewriter, Rule, rule
from .attention_scores import dtype_of
from .rotary_tables import HALVES, PAIRS, WHOLE, caches

_DTYPES = (DType.F32, DType.F16, DType.BF16)


@dataclass(frozen=True)
class _Part:
    """Elements start, start + step, ... of the last dim of `source`, without its end."""

    source: Value
    start: int
    stop: int
    step: int


@rule("Add", "Sub", contract=Contract.REASSOCIATING)
def rotary_embedding(op: Op, rewrite: Rewriter) -> Value | No:
    """x cos + rotate(x) sin, where rotate swaps the members of each pair and negates the first, is RotaryEmbedding."""
    left, right = _product(op.needed(0)), _product(op.needed(1))
    if left is None or right is None:
        return No("its operands are no products")
    sides = (left, right)
    for turned in (1, 0) if op.is_a("Add") else (1,):
        for index in (0, 1):
            rotated, sine = sides[turned][index], sides[turned][1 - index]
            found = _rotated(rotated)
            if found is None:
                continue
            part, paired = found
            plain = sides[1 - turned]
            same = [_is_that(value, part) for value in plain]
            if True not in same:
                return No("what is rotated is not what the cosine multiplies", 3)
            x, cosine = plain if same[0] else (plain[1], plain[0])
            return _embedded(x, (cosine, sine), paired, op.is_a("Sub"), rewrite)
    return No("neither side is rotated", 2)


def _product(value: Value) -> tuple[Value, Value] | None:
    op = value.op
    if op is None or not op.is_a("Mul") or not value.has_one_use:
        return None
    return op.needed(0), op.needed(1)


def _rotated(value: Value) -> tuple[_Part, str] | None:
    """x of (-second, first), joined by halves or by pairs."""
    joined = _joined(value.op) if value.op is not None and value.has_one_use else None
    if joined is None:
        return None
    first, second, paired = joined
    negated = first.op
    if negated is None or not negated.is_a("Neg") or not first.has_one_use:
        return None
    parts = _members(negated.needed(0), second, paired)
    return None if parts is None else (parts, paired)


def _joined(op: Op) -> tuple[Value, Value, str] | None:
    """The two values whose elements the result of `op` has as halves or as pairs of its last dim."""
    shape = op.result.shape if len(op.results) == 1 else None
    if shape is None:
        return None
    if op.is_a("Concat"):
        fits = len(op.operands) == 2 and op.integer("axis", 0) in (-1, len(shape) - 1)
        return (op.needed(0), op.needed(1), HALVES) if fits else None
    stacked = op.needed(0) if op.is_a("Reshape") else None
    maker, wide = (None, None) if stacked is None else (stacked.op, stacked.shape)
    if stacked is None or maker is None or not maker.is_a("Concat") or wide is None or not stacked.has_one_use:
        return None
    if len(wide) != len(shape) + 1 or wide[-1] != 2 or wide[:-2] != shape[:-1] or None in wide[:-2]:
        return None
    if maker.integer("axis", 0) not in (-1, len(wide) - 1) or len(maker.operands) != 2:
        return None
    first, second = (_without_last_one(maker.needed(i)) for i in (0, 1))
    return None if first is None or second is None else (first, second, PAIRS)


def _without_last_one(value: Value) -> Value | None:
    """x of Unsqueeze(x, -1), or the value itself where it was computed with that dim; None where its last size is not 1."""
    op, shape = value.op, value.shape
    if op is None or shape is None or shape[-1] != 1 or None in shape or not value.has_one_use:
        return None
    return op.needed(0) if op.is_a("Unsqueeze", "Reshape") and op.needed(0).shape == shape[:-1] else value


def _members(second: Value, first: Value, paired: str) -> _Part | None:
    """The part of a value whose pairs have `first` and `second` as their members."""
    a, b = _part(first), _part(second)
    if a is None or b is None or a.source is not b.source:
        return None
    if paired == HALVES:
        fits = a.step == b.step == 1 and a.stop == b.start and a.stop - a.start == b.stop - b.start
        return _Part(a.source, a.start, b.stop, 1) if fits else None
    size = b.stop - a.start
    fits = a.step == b.step == 2 and b.start == a.start + 1 and size % 2 == 0 and a.stop in (b.stop - 1, b.stop)
    return _Part(a.source, a.start, b.stop, 1) if fits else None


def _is_that(value: Value, part: _Part) -> bool:
    """Whether a value is the part of its source."""
    whole = value is part.source and (part.start, part.stop) == (0, (value.shape or (None,))[-1])
    return whole or _part(value) == part


def _taken(part: _Part, rewrite: Rewriter) -> Value:
    """The part as a value."""
    shape = part.source.shape or ()
    if (part.start, part.stop) == (0, shape[-1] if shape else None):
        return part.source
    numbers = [rewrite.constant(Tensor.integers([n])) for n in (part.start, part.stop, len(shape) - 1)]
    return rewrite.op("Slice", [part.source, *numbers])


def _part(value: Value) -> _Part | None:
    """The part of a last dim that a Slice, a Split, or a Gather out of pairs takes."""
    op = value.op
    if op is None:
        return None
    source = op.needed(0) if op.operands and op.operand(0) is not None else None
    shape = None if source is None else source.shape
    if source is None or shape is None or not isinstance(shape[-1], int):
        return None
    if op.is_a("Split"):
        return _split(op, value, source, shape[-1])
    if op.is_a("Gather", "Squeeze", "Reshape"):
        return _member(op, value)
    if not op.is_a("Slice"):
        return None
    pairs = _member_slice(op, source)
    if pairs is not None:
        return pairs
    numbers = [_number(op.operand(i)) for i in (1, 2, 3)]
    start, stop, axis = numbers
    step = 1 if op.operand(4) is None else _number(op.operand(4))
    if start is None or stop is None or axis not in (-1, len(shape) - 1) or step is None or step < 1:
        return None
    size = shape[-1]
    ends = [min(max(n + size if n < 0 else n, 0), size) for n in (start, stop)]
    return _Part(source, ends[0], ends[1], step)


def _split(op: Op, value: Value, source: Value, size: int) -> _Part | None:
    rank = len(source.shape or ())
    if op.integer("axis", 0) not in (-1, rank - 1):
        return None
    start = 0
    for result in op.results:
        width = (result.shape or (None,))[-1]
        if not isinstance(width, int):
            return None
        if result is value:
            return _Part(source, start, start + width, 1)
        start += width
    return None


def _member(op: Op, value: Value) -> _Part | None:
    """Entry 0 or 1 of the last dim of Reshape(x, (..., n / 2, 2)): every other element of x."""
    pairs: Value = op.needed(0)
    index: int | None = None
    if op.is_a("Gather") and op.integer("axis", 0) in (-1, len(pairs.shape or ()) - 1):
        index = _number(op.operand(1))
    elif op.is_a("Squeeze", "Reshape") and (pairs.shape or ()) == (*(value.shape or ()), 1):
        cut = _part(pairs)
        if cut is not None and cut.stop == cut.start + 1 and (pairs.op is not None and pairs.op.is_a("Slice", "Split")):
            pairs, index = cut.source, cut.start
    maker, wide = pairs.op, pairs.shape
    if index not in (0, 1) or maker is None or not maker.is_a("Reshape") or wide is None or wide[-1] != 2:
        return None
    source = maker.needed(0)
    shape = source.shape
    if shape is None or shape[:-1] != wide[:-2] or None in shape or not isinstance(shape[-1], int):
        return None
    return _Part(source, index, shape[-1], 2)


def _member_slice(op: Op, pairs: Value) -> _Part | None:
    """The same for a Slice that keeps the last dim."""
    maker, wide = pairs.op, pairs.shape or ()
    ends = [_number(op.operand(i)) for i in (1, 2, 3)]
    if maker is None or not maker.is_a("Reshape") or wide[-1:] != (2,) or op.operand(4) is not None:
        return None
    source = maker.needed(0)
    shape = source.shape
    if ends not in ([0, 1, -1], [1, 2, -1], [0, 1, len(wide) - 1], [1, 2, len(wide) - 1]) or shape is None:
        return None
    size = shape[-1] if shape else None
    if shape[:-1] != wide[:-2] or None in shape or not isinstance(size, int) or ends[0] is None:
        return None
    return _Part(source, ends[0], size, 2)


def _number(value: Value | None) -> int | None:
    tensor = None if value is None else value.constant
    return int(tensor.array.reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _embedded(
    x: Value, tables: tuple[Value, Value], paired: str, backwards: bool, rewrite: Rewriter, doubled: str | None = None
) -> Value | No:
    """RotaryEmbedding of x by tables of which each entry is there twice in the way `doubled` says."""
    dtype, shape = dtype_of(x), x.shape
    if dtype not in _DTYPES or any(dtype_of(table) is not dtype for table in tables):
        return No("its dtype is none the op takes", 3)
    if shape is None or len(shape) not in (3, 4) or not isinstance(shape[-1], int):
        return No("its rank is not 3 or 4", 3)
    found = caches(x, tables, paired if doubled is None else doubled, rewrite)
    if isinstance(found, No):
        return found
    cosine, sine, heads_last = found
    if backwards:
        sine = rewrite.op("Neg", [sine])
    attributes: dict[str, Attribute] = {"interleaved": 1} if paired == PAIRS else {}
    if len(shape) == 3:
        return rewrite.op("RotaryEmbedding", [x, cosine, sine], {**attributes, "num_heads": 1})
    if not heads_last:
        return rewrite.op("RotaryEmbedding", [x, cosine, sine], attributes)
    heads = shape[2]
    if not isinstance(heads, int):
        return No("the number of its heads is not known", 3)
    rows = rewrite.op("Reshape", [x, rewrite.constant(Tensor.integers([0, 0, heads * shape[-1]]))])
    turned = rewrite.op("RotaryEmbedding", [rows, cosine, sine], {**attributes, "num_heads": heads})
    return rewrite.op("Reshape", [turned, rewrite.constant(Tensor.integers([0, 0, heads, shape[-1]]))])


@rule("Concat", "Reshape", contract=Contract.REASSOCIATING)
def rotary_of_members(op: Op, rewrite: Rewriter) -> Value | No:
    """(a cos - b sin, b cos + a sin), computed apart and joined by halves or by pairs, is RotaryEmbedding."""
    joined = _joined(op)
    if joined is None:
        return No("it joins no two parts")
    real, imaginary, paired = joined
    minus, plus = real.op, imaginary.op
    if minus is None or plus is None or not minus.is_a("Sub") or not plus.is_a("Add"):
        return No("its parts are no difference and sum", 2)
    if not real.has_one_use or not imaginary.has_one_use:
        return No("its parts are used elsewhere too", 2)
    products = [_product(v) for v in (minus.needed(0), minus.needed(1), plus.needed(0), plus.needed(1))]
    if any(product is None for product in products):
        return No("its parts are no sums of products", 3)
    for a, cosine in _orders(products[0]):
        for b, sine in _orders(products[1]):
            part = _members(b, a, paired)
            sums = {frozenset(p) for p in products[2:] if p is not None}
            if part is not None and sums == {frozenset((b, cosine)), frozenset((a, sine))}:
                x = _taken(part, rewrite)
                if len(real.shape or ()) > len(x.shape or ()):
                    last = rewrite.constant(Tensor.integers([-1]))
                    cosine, sine = (
                        rewrite.op("Squeeze", [t, last]) if (t.shape or ())[-1:] == (1,) else t for t in (cosine, sine)
                    )
                return _embedded(x, (cosine, sine), paired, False, rewrite, WHOLE)
    return No("its parts are no members of a rotation", 4)


def _orders(product: tuple[Value, Value] | None) -> tuple[tuple[Value, Value], ...]:
    return () if product is None else (product, (product[1], product[0]))


@rule("Concat")
def rotary_of_a_part(op: Op, rewrite: Rewriter) -> Value | No:
    """RotaryEmbedding of the first entries of each row, joined with the others as they are, turns only so many."""
    shape = op.result.shape
    if shape is None or len(op.operands) != 2 or op.integer("axis", 0) not in (-1, len(shape) - 1):
        return No("it joins no two parts of rows")
    back, turned = op.needed(0).op, op.needed(0).op
    heads_last = turned is not None and turned.is_a("Reshape") and len(shape) == 4
    if turned is not None and heads_last and op.needed(0).has_one_use:
        turned = turned.needed(0).op
    if turned is None or back is None or not turned.is_a("RotaryEmbedding") or not turned.result.has_one_use:
        return No("its first part is no rotation")
    x, rows = turned.needed(0), turned.needed(0).op
    if heads_last:
        if rows is None or not rows.is_a("Reshape") or rows.needed(0).shape != op.needed(0).shape or None in shape:
            return No("its first part is no rotation of rows of heads", 2)
        x = rows.needed(0)
    part, rest = _part(x), _part(op.needed(1))
    if part is None or rest is None or part.source is not rest.source or turned.integer("rotary_embedding_dim", 0):
        return No("its parts are not of one value", 2)
    if part.step != 1 or rest.step != 1 or part.stop != rest.start:
        return No("its parts do not lie side by side", 2)
    source = _taken(_Part(part.source, part.start, rest.stop, 1), rewrite)
    if len(shape) == 3 and turned.integer("num_heads", 0) != 1:
        return No("its rows have several heads", 2)
    attributes: dict[str, Attribute] = {**turned.attributes, "rotary_embedding_dim": part.stop - part.start}
    if not heads_last:
        return rewrite.op("RotaryEmbedding", [source, *turned.operands[1:]], attributes)
    heads, width = shape[-2:]
    if not isinstance(heads, int) or not isinstance(width, int):
        return No("its heads or their width are not known", 2)
    flat = rewrite.op("Reshape", [source, rewrite.constant(Tensor.integers([0, 0, heads * width]))])
    answer = rewrite.op("RotaryEmbedding", [flat, *turned.operands[1:]], attributes)
    return rewrite.op("Reshape", [answer, rewrite.constant(Tensor.integers([0, 0, heads, width]))])


@rule("Transpose", over=["Reshape"])
def rotary_behind_transpose(op: Op, rewrite: Rewriter) -> Value | No:
    """Heads (B, S, H, D) turned as rows (B, S, H * D) and then put first may be put first and turned then."""
    back = op.needed(0).op
    if op.integers("perm") != (0, 2, 1, 3) or back is None or not back.is_a("Reshape") or not op.needed(0).has_one_use:
        return No("it puts no reshaped heads first")
    turned = back.needed(0).op
    if turned is None or not turned.is_a("RotaryEmbedding") or not turned.result.has_one_use:
        return No("they are not turned", 2)
    rows, shape = turned.needed(0).op, op.needed(0).shape
    if rows is None or not rows.is_a("Reshape") or not rewrite.same_dims(rows.needed(0).shape, shape):
        return No("its rows are no heads side by side", 3)
    if shape is None or turned.integer("num_heads", 0) != shape[2]:
        return No("it has another number of heads", 3)
    first = rewrite.op("Transpose", [rows.operand(0)], {"perm": (0, 2, 1, 3)})
    attributes: dict[str, Attribute] = {name: value for name, value in turned.attributes.items() if name != "num_heads"}
    return rewrite.op("RotaryEmbedding", [first, *turned.operands[1:]], attributes)


RULES: tuple[Rule, ...] = (rotary_embedding, rotary_of_members, rotary_of_a_part, rotary_behind_transpose)

__all__ = ["RULES"]

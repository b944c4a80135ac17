"""Along which axis what is computed has entries: rules for ops that make new elements.

Law: a rule is right for any number of entries and whatever the values are. Operands that are not among the entries are the same
for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from irc.ir import shapes

from .entries import Entries, Found


def elementwise(e: Entries) -> Found:
    """Operands of one shape, or that are stretched to it: entries meet where they lie on the same axis of the result."""
    return aligned(e, range(len(e.op.operands)), len(e.made))


def aligned(e: Entries, indices: Sequence[int], rank: int) -> Found:
    """The axis of a result of so many axes, which those of operands are the last of."""
    found = {rank - len(e.shape(i)) + axis for i in indices if (axis := e.axis(i)) is not None}
    rows = {e.rows(i) for i in indices if e.axis(i) is not None}
    if len(found) != 1 or len(rows) != 1:
        return f"its operands have {e.name} on several axes" if found else f"no operand has {e.name}"
    (place,) = found
    for index in indices:
        own = place - rank + len(e.shape(index))
        if e.op.operand(index) is not None and e.axis(index) is None and own >= 0 and e.shape(index)[own] != 1:
            return f"operand {index} has a size of its own where others have {e.name}"
    return place


def as_first(e: Entries) -> Found:
    """What is done to the first operand, element by element, or of whose others nothing but the type counts."""
    axis = e.axis(0)
    return e.only(0) or (f"no operand has {e.name}" if axis is None else axis)


def like(e: Entries) -> Found:
    """The first operand as it is; of the second the type is taken."""
    axis = e.axis(0)
    return axis if axis is not None else f"only the operand that says a type has {e.name}"


def along_first(e: Entries) -> Found:
    """Images [entries, channels, ...], each treated by itself with what is shared."""
    if e.axis(0) != 0:
        return f"{e.name} is not on its first axis"
    return e.only(0) or 0


def along_both(e: Entries) -> Found:
    """Images [entries, ...], each with an operand of its own."""
    return 0 if e.axis(0) == e.axis(1) == 0 and not e.only(0, 1) else f"not all of its operands have {e.name} first"


def max_pool(e: Entries) -> Found:
    """As other windows on images; which element was the largest is counted through all entries."""
    if len(e.op.results) > 1 and e.op.results[1].uses:
        return "it returns where the largest are among all entries"
    return along_first(e)


def batch_normalization(e: Entries) -> Found:
    """The means are given; in training they would be those of all entries."""
    return e.mixes("it averages") if e.op.integer("training_mode", 0) else along_first(e)


def dropout(e: Entries) -> Found:
    """Nothing is dropped unless it is trained."""
    training = e.op.operand(2)
    if training is not None and shapes.scalar_of(training) != 0:
        return "it may draw random numbers"
    return as_first(e)


def scaled(e: Entries) -> Found:
    """QuantizeLinear and its inverse: the scale is one number, or one a row of another axis."""
    axis, rank = e.axis(0), len(e.shape(0))
    if axis is None or e.only(0):
        return e.only(0)
    if e.op.integer("block_size", 0) or len(e.shape(1)) > 1:
        return "its scale has a shape of its own"
    along = e.op.integer("axis", 1)
    if len(e.shape(1)) == 1 and e.shape(1)[0] != 1 and along % max(rank, 1) == axis:
        return e.mixes("its scale differs")
    return axis


def matmul(e: Entries) -> Found:
    """Rows of the left operand, columns of the right one, or matrices of which each is a factor."""
    left, right = e.axis(0), e.axis(1)
    ranks = len(e.shape(0)), len(e.shape(1))
    if min(ranks) == 1:
        return left if left is not None and left < ranks[0] - 1 and right is None else e.mixes("it sums")
    rank = max(ranks)
    if right is None and left == ranks[0] - 2:
        return rank - 2
    if left is None and right == ranks[1] - 1:
        return rank - 1
    if (left is not None and left >= ranks[0] - 2) or (right is not None and right >= ranks[1] - 2):
        return e.mixes("it multiplies or sums")
    return aligned(e, (0, 1), rank)


def matmul_of_integers(e: Entries) -> Found:
    """Rows or matrices of the left operand, with a right one and zero points that are shared."""
    right, zero = (3, 2) if e.op.is_a("QLinearMatMul") else (1, 2)
    axis, alone = e.axis(0), e.only(0)
    if axis is None or alone or axis == len(e.shape(0)) - 1 or len(e.shape(right)) != 2 or len(e.shape(zero)) > 0:
        return alone or e.mixes("it sums")
    return axis


def einsum(e: Entries) -> Found:
    """Entries stay apart along a letter of all operands that have them, of no other, and of the result."""
    terms, arrow, made = e.op.string("equation", "").replace(" ", "").partition("->")
    letters = terms.split(",")
    if not arrow or "." in terms or len(letters) != len(e.op.operands):
        return "its equation does not name every axis"
    found = {letters[i][axis] for i in range(len(letters)) if (axis := e.axis(i)) is not None}
    if len(found) != 1 or len({e.rows(i) for i in range(len(letters)) if e.axis(i) is not None}) != 1:
        return f"its operands have {e.name} on several axes"
    (letter,) = found
    shared = any(letter in term for i, term in enumerate(letters) if e.axis(i) is None)
    if shared or any(term.count(letter) > 1 for term in letters) or made.count(letter) != 1:
        return e.mixes("it multiplies or sums")
    return made.index(letter)


def gemm(e: Entries) -> Found:
    """Rows of the left operand, with rows or the same row added to each."""
    rows = 1 if e.op.integer("transA", 0) else 0
    if e.axis(0) != rows:
        return e.mixes("it sums") if e.axis(1) is None else f"{e.name} is in its right operand"
    if e.axis(1) is not None:
        return f"{e.name} is in both operands"
    added = e.shape(2)
    if e.axis(2) is not None:
        fits = len(added) == 2 and e.axis(2) == 0 and e.rows(2) == e.rows(0)
        return 0 if fits else f"what is added has {e.name} on another axis"
    return 0 if len(added) < 2 or added[0] == 1 else f"what is added has a row for each of {e.name}"


def softmax(e: Entries) -> Found:
    """Along another axis."""
    axis, rank = e.axis(0), len(e.shape(0))
    if axis is None or axis == e.op.integer("axis", -1) % rank:
        return e.mixes("it normalizes")
    return e.only(0) or axis


def normalization(e: Entries) -> Found:
    """LayerNormalization and its like, over the last axes."""
    axis, rank = e.axis(0), len(e.shape(0))
    if axis is None or axis >= e.op.integer("axis", -1) % rank:
        return e.mixes("it normalizes")
    for index in (1, 2):
        own = axis - rank + len(e.shape(index))
        if own >= 0 and e.op.operand(index) is not None and e.shape(index)[own] != 1:
            return f"operand {index} has a size of its own where the first has {e.name}"
    return e.only(0) or axis


def reduction(e: Entries) -> Found:
    """Over other axes."""
    axis, rank = e.axis(0), len(e.shape(0))
    given = e.op.operand(1)
    axes = shapes.content_of(given)
    if axis is None or (given is not None and (axes is None or None in axes)):
        return "its axes are computed"
    if not axes and e.op.integer("noop_with_empty_axes", 0):
        return axis
    return without(e, axis, [each % rank for each in axes or range(rank) if isinstance(each, int)])


def argument(e: Entries) -> Found:
    """Over another axis."""
    axis = e.axis(0)
    assert axis is not None, "it has one operand"
    return without(e, axis, [e.op.integer("axis", 0) % len(e.shape(0))])


def without(e: Entries, axis: int, reduced: Sequence[int]) -> Found:
    """The axis where others go away, or become 1."""
    if axis in reduced:
        return e.mixes("it reduces")
    return axis if e.op.integer("keepdims", 1) else axis - sum(each < axis for each in reduced)


def cumulative(e: Entries) -> Found:
    """Along another axis."""
    axis, along = e.axis(0), shapes.scalar_of(e.op.operand(1))
    if axis is None or not isinstance(along, int) or along % len(e.shape(0)) == axis:
        return e.mixes("it sums up")
    return e.only(0) or axis


def top(e: Entries) -> Found:
    """Along another axis."""
    axis = e.axis(0)
    if axis is None or e.op.integer("axis", -1) % len(e.shape(0)) == axis:
        return e.mixes("it sorts")
    return e.only(0) or axis


def attention(e: Entries) -> Found:
    """Queries, keys, values and what is behind them in a cache have entries first; a mask has them there, or is shared."""
    wanted = [0, 1, 2, *(index for index in (4, 5, 6) if e.op.operand(index) is not None)]
    if any(e.axis(index) != 0 for index in wanted):
        return f"not all of its operands have {e.name} first"
    mask = e.shape(3)
    if e.axis(3) is not None:
        return 0 if (e.axis(3), len(mask)) == (0, 4) else f"its mask has {e.name} on another axis"
    return 0 if len(mask) < 4 or mask[0] == 1 else f"its mask has a size of its own where others have {e.name}"


def rotary(e: Entries) -> Found:
    """Tables are shared, with positions of each entry or none; without positions they may be of each entry."""
    if e.axis(0) != 0:
        return f"{e.name} is not on its first axis"
    if e.op.operand(3) is not None:
        return 0 if e.axis(3) == 0 and not e.only(0, 3) else f"its positions have no {e.name}"
    tables = [e.axis(1), e.axis(2)]
    same = tables == [0, 0] or (tables == [None, None] and all(e.shape(i)[:1] == (1,) for i in (1, 2)))
    return 0 if same else f"its tables have no {e.name}"


def recurrent(e: Entries) -> Found:
    """LSTM, GRU and RNN: X[time, entries, size], what is behind it [directions, entries, size], or with entries first."""
    first = e.op.integer("layout", 0) == 1
    place = 0 if first else 1
    wanted = {0: place, 4: 0, 5: place, 6: place}
    for index, value in enumerate(e.op.operands):
        if value is not None and e.axis(index) != wanted.get(index):
            return f"operand {index} has {e.name} on another axis, or not at all"
    return (0, 0, 0) if first else (2, 1, 1)

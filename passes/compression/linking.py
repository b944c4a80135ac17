"""Which slots an op ties together: one row of ROWS an op that computes; those that only move elements are in `moving.py`.

A row tells of every axis it understands; whatever no row tells of stays whole, so that an unknown op stops pruning there.
Law: with all constants of a class set to zero the answers do not depend on the class, and taking it away changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from irc.ir import Graph, Op, Value

from ..base import operands_of
from ..fusion import ELEMENTWISE
from .moving import MOVES
from .slots import Place, Slots, Ties

Row = Callable[[Op, Ties], None]


def linked(graph: Graph) -> Slots:
    """The slots of a graph's values with all their ties; inputs and outputs stay, and what bodies use."""
    slots = Slots()
    fixed = constants_and_what_they_make(graph)
    for value in (*graph.inputs, *graph.outputs):
        slots.keep_value(value)
    for op in graph:
        if op.is_constant:
            continue
        ties = Ties(slots, op, set())
        row = ROWS.get(op.name) if not op.domain and op.version is None and not op.bodies else None
        if row is not None:
            row(op, ties)
            if op.name in _SUMMING and not any(v is not None and v in fixed for v in op.operands[:2]):
                _keep_summed(op, ties)
        ties.keep_untold((*operands_of(op), *op.results))
    return slots


def constants_and_what_they_make(graph: Graph) -> set[Value]:
    """The values that are the same whatever is fed."""
    found: set[Value] = set()
    for op in graph:
        if op.is_constant or (op.operands and not op.bodies and all(v is None or v in found for v in op.operands)):
            found.update(op.results)
    return found


_SUMMING = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose"})


def _keep_summed(op: Op, ties: Ties) -> None:
    """Of two computed factors neither is known to be zero in a class, so nothing may be left out of their sum."""
    for value, axis in zip(op.operands[:2], summed_axes(op), strict=True):
        if value is not None and value.shape is not None and axis is not None:
            ties.keep((value, axis))


def summed_axes(op: Op) -> tuple[int | None, int | None]:
    """The axes of the two factors that a contraction sums over; None where a rank is not known."""
    first, second = op.needed(0).shape, op.needed(1).shape
    if first is None or second is None:
        return None, None
    if op.name == "Gemm":
        return (0 if op.integer("transA", 0) else 1), (1 if op.integer("transB", 0) else 0)
    if op.name == "MatMul":
        return len(first) - 1, max(len(second) - 2, 0)
    return 1, (1 if op.name == "Conv" else 0)


def place(value: Value | None, axis: int) -> Place | None:
    """An axis of a value, or None where there is none or its rank is not known; a negative axis counts from the last."""
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    axis += rank if axis < 0 else 0
    return (value, axis) if 0 <= axis < rank else None


def pointwise(op: Op, ties: Ties) -> None:
    """Axes are aligned from the last one on; an axis of size 1 is repeated and says nothing."""
    for result in op.results:
        for operand in op.operands:
            if operand is None or operand.shape is None or result.shape is None:
                continue
            shift = len(result.shape) - len(operand.shape)
            for axis, size in enumerate(operand.shape):
                if shift + axis >= 0 and size != 1:
                    ties.same((operand, axis), (result, shift + axis))


def _matmul(op: Op, ties: Ties) -> None:
    a, b, result = op.needed(0), op.needed(1), op.result
    if a.shape is None or b.shape is None or result.shape is None or min(len(a.shape), len(b.shape)) < 2:
        return
    ties.same(place(a, -1), place(b, -2))
    ties.same(place(a, -2), place(result, -2))
    ties.same(place(b, -1), place(result, -1))
    for operand in (a, b):
        shift = len(result.shape) - len(operand.shape or ())
        for axis, size in enumerate((operand.shape or ())[:-2]):
            if size != 1:
                ties.same((operand, axis), (result, axis + shift))


def _gemm(op: Op, ties: Ties) -> None:
    a, b, bias, result = op.needed(0), op.needed(1), op.operand(2), op.result
    of_a, of_b = summed_axes(op)
    if of_a is None or of_b is None or result.shape is None:
        return
    ties.same((a, of_a), (b, of_b))
    ties.same((a, 1 - of_a), (result, 0))
    ties.same((b, 1 - of_b), (result, 1))
    for axis, size in enumerate((bias.shape if bias is not None else None) or ()):
        if bias is not None and bias.shape is not None and size != 1:
            ties.same((bias, axis), (result, 2 - len(bias.shape) + axis))


def _conv(op: Op, ties: Ties) -> None:
    """The weight is [out, in / groups, ...]."""
    _convolution(op, ties, 1)


def _transposed_conv(op: Op, ties: Ties) -> None:
    """The weight is [in, out / groups, ...]."""
    _convolution(op, ties, 0)


def _convolution(op: Op, ties: Ties, summed: int) -> None:
    """A weight whose axis `summed` has the channels of the data; of several groups each is taken away whole or not at all."""
    data, weight, bias, result = op.needed(0), op.needed(1), op.operand(2), op.result
    groups = op.integer("group", 1)
    ties.same(place(data, 0), place(result, 0))
    if groups == 1:
        ties.same(place(data, 1), place(weight, summed))
        ties.same(place(weight, 1 - summed), place(result, 1))
        ties.same(place(bias, 0), place(result, 1))
    else:
        ties.blocks(place(data, 1), place(weight, 0), place(bias, 0), place(result, 1), count=groups)


def _batch_normalization(op: Op, ties: Ties) -> None:
    if op.integer("training_mode", 0) or len(op.results) != 1:
        return
    data, result = op.needed(0), op.result
    for axis in range(len(data.shape or ())):
        ties.same((data, axis), place(result, axis))
    for parameter in op.operands[1:]:
        ties.same(place(parameter, 0), place(result, 1))


def _instance_normalization(op: Op, ties: Ties) -> None:
    """Mean and variance are those of one channel of one sample, so the other channels have no say in it."""
    for axis in (0, 1):
        ties.same(place(op.needed(0), axis), place(op.result, axis))
    for parameter in op.operands[1:]:
        ties.same(place(parameter, 0), place(op.result, 1))


def _group_normalization(op: Op, ties: Ties) -> None:
    data, scale, bias, result = op.needed(0), op.operand(1), op.operand(2), op.result
    ties.same(place(data, 0), place(result, 0))
    ties.blocks(place(data, 1), place(scale, 0), place(bias, 0), place(result, 1), count=op.integer("num_groups", 1))


def _pool(op: Op, ties: Ties) -> None:
    if any(result.uses for result in op.results[1:]):
        return  # indices count elements of all channels
    for axis in (0, 1):
        ties.same(place(op.needed(0), axis), place(op.results[0], axis))


def _along_all_but(first: int, last: int | None, op: Op, ties: Ties) -> None:
    """Index by index along the axes outside `first` to `last` (included), which the op mixes."""
    data, result = op.needed(0), op.results[0]
    rank = len(data.shape or ())
    low, high = first + (rank if first < 0 else 0), rank - 1 if last is None else last + (rank if last < 0 else 0)
    for axis in range(rank):
        if not low <= axis <= high:
            ties.same((data, axis), place(result, axis))


def _softmax(op: Op, ties: Ties) -> None:
    axis = op.integer("axis", -1)
    _along_all_but(axis, axis, op, ties)


def _normalized_to_the_end(op: Op, ties: Ties) -> None:
    _along_all_but(op.integer("axis", -1), None, op, ties)


def _local_normalization(op: Op, ties: Ties) -> None:
    _along_all_but(1, 1, op, ties)


def _reduction(op: Op, ties: Ties) -> None:
    """Axes that stay are told of; what is taken from the others would change the sum, the mean or its count."""
    data, result, axes = op.needed(0), op.result, op.constant_operand(1)
    if data.shape is None or result.shape is None or axes is None or not axes.size:
        return
    rank = len(data.shape)
    gone = {int(axis) % rank for axis in axes.to_list()}
    staying = [axis for axis in range(rank) if axis not in gone]
    for position, axis in enumerate(staying):
        ties.same((data, axis), place(result, axis if op.integer("keepdims", 1) else position))


def _attention(op: Op, ties: Ties) -> None:
    """Heads have nothing to do with each other but where they share keys; they lie along axis 1, or in blocks of axis 2."""
    inputs = op.operands[:3]
    ranks = {len(v.shape) for v in inputs if v is not None and v.shape is not None}
    counts = head_counts(op)
    if len(ranks) != 1 or counts is None or counts[0] % counts[1] or any(v is not None for v in op.operands[4:]):
        return
    if any(other.uses for other in op.results[1:]):
        return
    axis = 1 if ranks == {4} else 2
    mask = place(op.operand(3), -3)
    per_head = mask if mask is not None and ties.slots.of(*mask).size else None
    ties.blocks(*(place(v, axis) for v in (*inputs, op.results[0])), per_head, count=counts[1])


def head_counts(op: Op) -> tuple[int, int] | None:
    """How many heads of queries and of keys an Attention has; None where that is not known, or said twice."""
    shapes = [v.shape for v in op.operands[:3] if v is not None and v.shape is not None]
    given = {"q_num_heads", "kv_num_heads"} & op.attributes.keys()
    if len(shapes) == 3 and all(len(shape) == 3 for shape in shapes) and len(given) == 2:
        return op.integer("q_num_heads", 1), op.integer("kv_num_heads", 1)
    if len(shapes) == 3 and all(len(shape) == 4 for shape in shapes) and not given and shapes[1][1] == shapes[2][1]:
        queries, keys = shapes[0][1], shapes[1][1]
        return (queries, keys) if isinstance(queries, int) and isinstance(keys, int) and keys > 0 else None
    return None


def _rotary(op: Op, ties: Ties) -> None:
    """Each head is turned by itself, and all by the same angles."""
    data, result, heads = op.needed(0), op.result, op.integer("num_heads", 0)
    ties.same(place(data, 0), place(result, 0))
    if len(data.shape or ()) == 4:
        ties.same((data, 1), place(result, 1))
    elif heads > 1:
        ties.blocks((data, 2), place(result, 2), count=heads)


def _quantized(op: Op, ties: Ties) -> None:
    """One scale for all is pointwise; one for each channel goes with its channel; blocks stay."""
    data, result = op.needed(0), op.result
    if op.integer("block_size", 0):
        return
    for axis in range(len(data.shape or ())):
        ties.same((data, axis), place(result, axis))
    for parameter in op.operands[1:]:
        if parameter is not None and len(parameter.shape or ()) == 1:
            ties.same((parameter, 0), place(result, op.integer("axis", 1)))


def _names(row: Row, text: str) -> dict[str, Row]:
    return dict.fromkeys(text.split(), row)


ROWS: Mapping[str, Row] = {
    **dict.fromkeys(ELEMENTWISE, pointwise),
    **_names(pointwise, "Dropout Identity"),
    **MOVES,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _transposed_conv,
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "GroupNormalization": _group_normalization,
    **_names(_pool, "MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool"),
    **_names(_softmax, "Softmax LogSoftmax LpNormalization Hardmax"),
    **_names(_normalized_to_the_end, "LayerNormalization RMSNormalization"),
    "LRN": _local_normalization,
    **_names(_reduction, "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceSumSquare"),
    **_names(_reduction, "ReduceLogSum ReduceLogSumExp"),
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
    **_names(_quantized, "QuantizeLinear DequantizeLinear"),
}
"""What is known of each op, by its name."""

"""What an op becomes when what it takes and makes has its dims in another order.

Law: the flipped op computes the very elements the op computes, each from the same elements; what may sum them in another
order says so by `exact`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from irc.ir import Attribute, Dim, Op, Tensor, Value

from ..exactness import CORRECTLY_ROUNDED
from ..fusion import ELEMENTWISE
from ..permutations import Permutation, extended, is_identity, permuted, without
from .grouping import flip_of_groups


@dataclass(frozen=True)
class Flip:
    """An op in its other form: for each operand and result the permutation its flipped form has, None where it stays.

    `attributes` and `constants` (operands that are constants, by index) replace those of the op, `swapped` exchanges its
    first two operands. `cost` is what running it costs more than before, in elements
    moved; `relied` are dims whose names it takes for equal.
    """

    operands: tuple[Permutation | None, ...]
    results: tuple[Permutation | None, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    constants: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    exact: bool = True
    swapped: bool = False
    cost: int = 0
    relied: tuple[Dim, ...] = ()


FlipFunction = Callable[[Op, Value, Permutation], "Flip | None"]


def flip_of(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    """How `op` runs when `value`, one of its operands or results, is permuted; None where it cannot."""
    if op.domain or op.version is not None:
        return None
    function = _FLIPS.get(op.name)
    flip = None if function is None else function(op, value, permutation)
    if flip is None:
        return None
    results = tuple(None if p is None or is_identity(p) else p for p in flip.results)
    operands = tuple(None if p is None or is_identity(p) else p for p in flip.operands)
    return replace(flip, operands=operands, results=results)


def size_of(shape: Sequence[Dim] | None) -> int:
    """About how many elements there are; dims not known count little."""
    total = 1
    for dim in shape or ():
        total *= dim if isinstance(dim, int) else 8
    return total


def _rank(value: Value) -> int | None:
    return None if value.shape is None else len(value.shape)


def _plain(op: Op, operand: Permutation, result: Permutation | None, **changes: object) -> Flip:
    """A flip of the first operand and all results."""
    operands = (operand, *(None for _ in op.operands[1:]))
    return Flip(operands, (result,) * len(op.results), **changes)  # type: ignore[arg-type]  # fields of Flip by name


def _elementwise(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank = len(permutation)
    if _rank(op.result) != rank or _rank(value) != rank:
        return None
    operands: list[Permutation | None] = []
    for operand in op.operands:
        own = None if operand is None else operand.shape
        if operand is None or (own is not None and len(own) <= rank and all(d == 1 for d in own)):
            operands.append(None)
        elif own is not None and (len(own) == rank or (len(own) < rank and operand.constant is not None)):
            operands.append(permutation)
        else:
            return None
    return Flip(tuple(operands), (permutation,), exact=op.name in CORRECTLY_ROUNDED)


def _clip(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    return _plain(op, permutation, permutation) if value in (op.operand(0), op.result) else None


def _axis(op: Op, permutation: Permutation, default: int) -> dict[str, Attribute]:
    """The axis attribute where the dim it names has gone."""
    return {"axis": permutation.index(op.integer("axis", default) % len(permutation))}


def _concat(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    operands = (permutation,) * len(op.operands)
    return Flip(operands, (permutation,), _axis(op, permutation, 0))


def _along_axis(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    if value is not op.operand(0) and value not in op.results:
        return None
    default = {"Split": 0}.get(op.name, -1)
    exact = op.name == "Split"
    attributes, cost = _axis(op, permutation, default), 0
    if not exact:
        # Kernels normalize rows; other axes they bring to the end and back.
        last, elements = len(permutation) - 1, 4 * size_of(op.result.shape)
        was, now = op.integer("axis", default) % len(permutation) == last, attributes["axis"] == last
        cost = elements * (was - now)
    return _plain(op, permutation, permutation, attributes=attributes, exact=exact, cost=cost)


def _slice(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    axes = _axes_operand(op, 3, len(permutation))
    starts = None if op.operand(1) is None else op.needed(1).shape
    if axes is None and op.operand(3) is None and starts is not None and isinstance(starts[0], int):
        axes = list(range(starts[0]))
    if axes is None or value not in (op.operand(0), op.result):
        return None
    moved = Tensor.integers([permutation.index(axis) for axis in axes])
    operands = [permutation, *(None for _ in range(max(3, len(op.operands) - 1)))]
    return Flip(tuple(operands), (permutation,), constants={3: moved})


def _pad(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    if value not in (op.operand(0), op.result):
        return None
    if op.operand(3) is not None:
        axes = _axes_operand(op, 3, len(permutation))
        moved = None if axes is None else Tensor.integers([permutation.index(axis) for axis in axes])
        return None if moved is None else _plain(op, permutation, permutation, constants={3: moved})
    pads, rank = op.constant_operand(1), len(permutation)
    if pads is None or pads.size != 2 * rank:
        return None
    amounts = [int(v) for v in pads.to_list()]
    both = [*permuted(amounts[:rank], permutation), *permuted(amounts[rank:], permutation)]
    return _plain(op, permutation, permutation, constants={1: Tensor.integers(both)})


def _axes_operand(op: Op, index: int, rank: int) -> list[int] | None:
    axes = op.constant_operand(index)
    return None if axes is None else [int(axis) % rank for axis in axes.to_list()]


def _reduce(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank = _rank(op.needed(0))
    if rank is None or (op.operand(1) is None and op.integer("noop_with_empty_axes", 0)):
        return None
    axes = list(range(rank)) if op.operand(1) is None else _axes_operand(op, 1, rank)
    if not axes:
        return None
    keeps = op.integer("keepdims", 1) == 1
    before, after = _around(op, value, permutation, axes, keeps)
    moved = sorted(before.index(axis) for axis in axes)
    constants = {} if op.operand(1) is None else {1: Tensor.integers(moved)}
    return _plain(op, before, after, constants=constants, exact=False)


def _around(op: Op, value: Value, permutation: Permutation, axes: list[int], keeps: bool) -> tuple[Permutation, Permutation]:
    """The permutations of operand and result of an op that reduces axes, one of which is given."""
    if keeps:
        return permutation, permutation
    if value is op.operand(0):
        return permutation, without(permutation, axes)
    return extended(permutation, axes), permutation


def _squeeze(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank = _rank(op.needed(0))
    axes = None if rank is None else _axes_operand(op, 1, rank)
    if axes is None:
        return None
    before, after = _around(op, value, permutation, axes, False)
    return _plain(op, before, after, constants={1: Tensor.integers(sorted(before.index(axis) for axis in axes))})


def _unsqueeze(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank = _rank(op.result)
    axes = None if rank is None else _axes_operand(op, 1, rank)
    if axes is None:
        return None
    after = permutation if value is op.result else extended(permutation, axes)
    moved = Tensor.integers(sorted(after.index(axis) for axis in axes))
    return _plain(op, without(after, axes), after, constants={1: moved})


def _quantize(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    scale = op.needed(1).shape
    if value not in (op.operand(0), op.result) or scale is None or op.integer("block_size", 0):
        return None
    changes = _axis(op, permutation, 1) if len(scale) == 1 and scale[0] != 1 else {}
    return _plain(op, permutation, permutation, attributes=changes) if len(scale) < 2 else None


def _expand(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank, target = len(permutation), op.constant_operand(1)
    if target is None or _rank(op.needed(0)) != rank or _rank(op.result) != rank:
        return None
    sizes = [int(v) for v in target.to_list()]
    whole = [1] * (rank - len(sizes)) + sizes
    return _plain(op, permutation, permutation, constants={1: Tensor.integers(permuted(whole, permutation))})


def _gather(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank, places = _rank(op.needed(0)), _rank(op.needed(1))
    if rank is None or places is None or places > 1 or value not in (op.operand(0), op.result):
        return None
    axis = op.integer("axis", 0) % rank
    before, after = _around(op, value, permutation, [axis], places == 1)
    return _plain(op, before, after, attributes={"axis": before.index(axis)})


def _normalize(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank = len(permutation)
    axis = op.integer("axis", -1) % rank
    if value not in (op.operand(0), op.results[0]) or any(result.uses for result in op.results[1:]):
        return None
    if permutation[axis:] != tuple(range(axis, rank)):
        return None
    return Flip((permutation, *(None for _ in op.operands[1:])), (permutation, *(None for _ in op.results[1:])))


def _matmul(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    a, b, rank = op.needed(0), op.needed(1), len(permutation)
    if _rank(a) != rank or _rank(op.result) != rank or value is (b if _rank(b) != rank else None):
        return None
    if _rank(b) == 2 and rank > 2:  # rows are all the dims but the last
        return Flip((permutation, None), (permutation,), exact=False) if permutation[-1] == rank - 1 else None
    if _rank(b) != rank:
        return None
    if permutation[-2:] == (rank - 2, rank - 1):
        return Flip((permutation, permutation), (permutation,), exact=False)
    # (a b) transposed is b transposed, a transposed. Engines keep a constant second operand in the form they like best.
    if permutation[-2:] == (rank - 1, rank - 2) and b.constant is None:
        return Flip((permutation, permutation), (permutation,), exact=False, swapped=True)
    return None


def _resize(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    before, after, roi = op.needed(0).shape, op.result.shape, op.constant_operand(1)
    if value not in (op.operand(0), op.result) or before is None or after is None or "axes" in op.attributes:
        return None
    if op.operand(1) is not None and (roi is None or roi.size):
        return None
    constants: dict[int, Tensor] = {}
    for index in (2, 3):
        tensor = op.constant_operand(index)
        if tensor is not None and tensor.size == len(permutation):
            constants[index] = Tensor.from_array(tensor.array[list(permutation)], tensor.dtype)
        elif op.operand(index) is not None and (tensor is None or tensor.size):
            return None
    # Kernels resize the last dims of an image.
    if len(permutation) != 4 or any(before[i] is None or before[i] != after[i] for i in permutation[:2]):
        return None
    exact = op.string("mode", "nearest") == "nearest"
    return _plain(op, permutation, permutation, constants=constants, exact=exact, relied=before)


def _shape(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    rank = len(permutation)
    start, end = (max(0, min(rank, b % rank if b < 0 else b)) for b in (op.integer("start", 0), op.integer("end", rank)))
    if end - start != 1:
        return None
    place = permutation.index(start)
    return Flip((permutation,), (None,), {"start": place, "end": place + 1})


def _reshape(op: Op, value: Value, permutation: Permutation) -> Flip | None:
    before, after = op.needed(0).shape, op.result.shape
    if before is None or after is None or value not in (op.operand(0), op.result):
        return None
    backwards = value is op.result
    found = flip_of_groups(*((after, before) if backwards else (before, after)), permutation)
    if found is None:
        return None
    first, second = (found, permutation) if backwards else (permutation, found)
    target = target_of(permuted(before, first), permuted(after, second))
    if target is None:
        return None
    plain = {"allowzero": 0} if "allowzero" in op.attributes else {}
    return _plain(op, first, second, constants={1: Tensor.integers(target)}, attributes=plain, relied=(*before, *after))


def target_of(source: Sequence[Dim], target: Sequence[Dim]) -> list[int] | None:
    """A Reshape's constant operand for a shape, or None where that takes more than one dim computed at run time."""
    numbers = [d if isinstance(d, int) and d > 0 else -1 for d in target]
    if numbers.count(-1) > 1:
        same = [i < len(source) and d is not None and source[i] == d for i, d in enumerate(target)]
        numbers = [0 if n == -1 and copied else n for n, copied in zip(numbers, same, strict=True)]
    if numbers.count(-1) > 1 or (0 in numbers and -1 in numbers) or 0 in target:
        return None
    return numbers


_FLIPS: dict[str, FlipFunction] = {
    **dict.fromkeys((*ELEMENTWISE, "Identity"), _elementwise),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Split"), _along_axis),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _quantize),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalize),
    # Not ReduceMax, ArgMax or TopK: which of several kernels runs depends on the axis, and not all of them keep NaN.
    **dict.fromkeys(
        ("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        _reduce,
    ),
    "Clip": _clip,
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
}
"""How each op is flipped. To add an op, write its function and name it here."""

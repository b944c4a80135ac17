"""What conditions may ask: one function each, listed in FUNCTIONS. None means that the answer is not known.

A function gets the match and its evaluated arguments. To add one, write it and put it in the list; docs/rules.md has the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irc.ir import Dim, DType, Op, SymbolicDim, Tensor, TensorType, Value, dims, shapes

from .. import precise
from ..permutations import permutation_of
from .match import Match
from .patterns import is_constant

Numbers = npt.NDArray[np.float64]

_SMALL = frozenset(d for d in DType if d.is_integer and d.bits <= 32)
_MOST_NUMBERS = 2**16
"""More elements than there are channels."""


@dataclass(frozen=True)
class Function:
    """A function of the language; its name and signature are those of the Python function, less the match."""

    name: str
    function: Callable[..., object]
    least: int
    most: int | None

    @property
    def doc(self) -> str:
        """What it answers, in one line."""
        return (self.function.__doc__ or "").splitlines()[0]


def constant(found: Match, *values: Value | None) -> bool:
    """Whether all values are constants, or computed from constants only; an absent one is."""
    return all(value is None or is_constant(value) for value in values)


def absent(found: Match, value: object) -> bool:
    """Whether an optional operand or attribute is absent."""
    return value is None


def rank(found: Match, value: Value | None) -> int | None:
    """The number of dims."""
    return None if value is None or value.shape is None else len(value.shape)


def dim(found: Match, value: Value, axis: int) -> object:
    """The size along an axis, which may count from the end."""
    shape = value.shape
    return None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]


def shape(found: Match, value: Value) -> object:
    """All dims, every one known or named."""
    return None if value.shape is None or any(d is None for d in value.shape) else value.shape


def sizes(found: Match, value: Value, along: tuple[int, ...]) -> object:
    """The dims along some axes, every one known or named."""
    chosen = [dim(found, value, axis) for axis in along]
    return None if any(d is None for d in chosen) else tuple(chosen)


def content(found: Match, value: Value | None) -> object:
    """The elements of a value that says a shape, every one known or named."""
    known = shapes.content_of(value)
    return None if known is None or any(d is None for d in known) else tuple(known)


def size(found: Match, value: Value) -> object:
    """The number of elements."""
    return None if value.shape is None else dims.product(value.shape)


def dtype(found: Match, value: Value) -> str | None:
    """The element type, such as "f32"."""
    return value.type.dtype.text if isinstance(value.type, TensorType) else None


def same_shape(found: Match, first: Value, second: Value) -> bool:
    """Whether two values are proved to have one shape."""
    return found.rewriter.same_dims(first.shape, second.shape)


def result(found: Match) -> Value:
    """The first result of the op the rule replaces."""
    return found.root.results[0]


def stretches_to(found: Match, small: Value, large: Value) -> bool:
    """Whether broadcasting `small` with `large` is proved to give the shape of `large`."""
    a, b = small.shape, large.shape
    if a is None or b is None or len(a) > len(b):
        return False
    pairs = [(x, y) for x, y in zip(reversed(a), reversed(b), strict=False) if x != 1]
    return found.rewriter.same_dims([x for x, _ in pairs], [y for _, y in pairs])


def broadcasts_to(found: Match, whole: Value, *parts: Value) -> bool:
    """Whether broadcasting `parts` with each other is proved to give the shape of `whole`."""
    together: tuple[Dim, ...] = ()
    for part in parts:
        if part.shape is None:
            return False
        together = shapes.broadcast_shapes(together, part.shape)
    return found.rewriter.same_dims(together, whole.shape)


def per_channel_of(found: Match, value: Value, large: Value, axis: int) -> bool:
    """Whether `value`, broadcast to `large` without stretching it, varies along `axis` only."""
    a, b = value.shape, large.shape
    if a is None or b is None or len(a) > len(b):
        return False
    own = axis % len(b) - (len(b) - len(a))
    if any(size != 1 for i, size in enumerate(a) if i != own):
        return False
    return own < 0 or a[own] == 1 or found.rewriter.same_dims((a[own],), (b[axis],))


def length(found: Match, items: tuple[object, ...] | str) -> int:
    """The number of elements of a list."""
    return len(items)


def product(found: Match, items: tuple[object, ...]) -> object:
    """The product of numbers or dims."""
    return dims.product([d if isinstance(d, (int, SymbolicDim)) else None for d in items])


def axes(found: Match, given: int | tuple[int, ...], value: Value) -> tuple[int, ...] | None:
    """Axes of a value counted from the front and sorted."""
    if value.shape is None:
        return None
    listed = given if isinstance(given, tuple) else (given,)
    return tuple(sorted(a % len(value.shape) for a in listed)) if value.shape else ()


def inverse(found: Match, permutation: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def compose(found: Match, outer: tuple[int, ...], inner: tuple[int, ...]) -> tuple[int, ...] | None:
    """The permutation of Transpose(Transpose(x, inner), outer)."""
    return tuple(inner[i] for i in outer) if len(outer) == len(inner) else None


def permutation(found: Match, transposed: Value) -> tuple[int, ...] | None:
    """In which order a Transpose puts the dims, also where it is left to reverse them."""
    return None if transposed.op is None else permutation_of(transposed.op)


def swaps_last(found: Match, permutation: tuple[int, ...]) -> bool:
    """Whether a permutation swaps the last two dims and leaves the others."""
    count = len(permutation)
    return count >= 2 and permutation == (*range(count - 2), count - 1, count - 2)


def all_of(found: Match, value: Value | Numbers, low: float, high: float) -> bool:
    """Whether all elements of a constant, or all numbers, lie in [low, high]; NaN does not."""
    if isinstance(value, np.ndarray):
        return bool(((value >= low) & (value <= high)).all())
    tensor = value.constant
    if tensor is None or not (tensor.dtype.is_float or tensor.dtype.is_integer):
        return False
    if not tensor.size:
        return True
    array = tensor.array if tensor.dtype.bits >= 32 else tensor.array.astype(np.float64)
    return bool(low <= float(array.min()) and float(array.max()) <= high)  # NaN, if there is one, is both


def modest(found: Match, *values: Value) -> bool:
    """Whether constants are so small that adding one to a number and taking it away again hardly rounds the number."""
    return all(_is_modest(value.constant) for value in values)


def _is_modest(tensor: Tensor | None) -> bool:
    if tensor is None or not tensor.size or not tensor.dtype.is_float:
        return False
    limit = {DType.F16: 16.0, DType.BF16: 4.0}.get(tensor.dtype, 1024.0)
    return bool((np.abs(tensor.array.astype(np.float64)) <= limit).all())


def uniform(found: Match, value: Value) -> float | int | None:
    """The one number all elements of a constant are."""
    tensor = value.constant
    return None if tensor is None or not tensor.size else _uniform(tensor)


def _uniform(tensor: Tensor) -> float | int | None:
    if not (tensor.dtype.is_float or tensor.dtype.is_integer):
        return None
    flat = tensor.array.reshape(-1)
    if not bool((flat == flat[0]).all()):
        return None
    return float(flat[0]) if tensor.dtype.is_float else int(flat[0])


def integers(found: Match, value: Value | None) -> tuple[int, ...] | None:
    """The elements of an integer constant of rank 0 or 1."""
    tensor = None if value is None else value.constant
    if tensor is None or not tensor.dtype.is_integer or len(tensor.shape) > 1 or tensor.size > _MOST_NUMBERS:
        return None
    return tuple(int(v) for v in tensor.to_list())


def maker(found: Match, value: Value) -> str:
    """The name of the op that makes a value, or "" for an input."""
    op: Op | None = value.op
    return "" if op is None else op.qualified_name


def spatial(found: Match, value: Value) -> int | None:
    """The number of dims after batch and channel."""
    return None if value.shape is None or len(value.shape) < 2 else len(value.shape) - 2


def numbers(found: Match, given: Value | float) -> Numbers | None:
    """The elements of a finite constant, exactly, in f64."""
    if not isinstance(given, Value):
        return np.asarray([given], np.float64)
    tensor = given.constant
    if tensor is None or not (tensor.dtype in precise.FLOATS or tensor.dtype in _SMALL) or tensor.size > _MOST_NUMBERS:
        return None
    array = tensor.array.reshape(-1).astype(np.float64)
    return array if np.isfinite(array).all() else None


def per_output(found: Match, given: Numbers, convolution: Value) -> Numbers | None:
    """Numbers for the channels that a convolution makes, shaped to multiply its weight with."""
    op = convolution.op
    return None if op is None else _by_rows(given, op) if op.is_a("Conv") else _in_groups(given, op)


def per_input(found: Match, given: Numbers, convolution: Value) -> Numbers | None:
    """Numbers for the channels that a convolution reads, shaped to multiply its weight with."""
    op = convolution.op
    return None if op is None else _in_groups(given, op) if op.is_a("Conv") else _by_rows(given, op)


def _by_rows(given: Numbers, convolution: Op) -> Numbers | None:
    shape = convolution.needed(1).shape
    if shape is None or len(shape) < 3 or given.size not in (1, shape[0]):
        return None
    return given.reshape(-1, *[1] * (len(shape) - 1))


def _in_groups(given: Numbers, convolution: Op) -> Numbers | None:
    """The second dim of a weight counts channels within the group that the first dim belongs to."""
    shape, group = convolution.needed(1).shape, convolution.integer("group", 1)
    if shape is None or len(shape) < 3 or not isinstance(shape[0], int) or not isinstance(shape[1], int):
        return None
    if group < 1 or shape[0] % group or given.size not in (1, shape[1] * group):
        return None
    if given.size == 1:
        return given
    rows = np.repeat(given.reshape(group, -1), shape[0] // group, axis=0)
    return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))


def weighed(found: Match, weight: Value, given: Numbers) -> Numbers | None:
    """The sum of each row of a constant times numbers shaped to multiply it with."""
    tensor = weight.constant
    if tensor is None or tensor.dtype not in precise.FLOATS or tensor.byte_count > precise.MOST_COMPUTED or not tensor.size:
        return None
    with np.errstate(all="ignore"):
        sums = np.multiply(tensor.array, given, dtype=np.float64).reshape(tensor.shape[0], -1).sum(axis=1)
    return sums if np.isfinite(sums).all() else None


def unpadded(found: Match, convolution: Value) -> bool:
    """Whether a convolution reads nothing outside its input."""
    return convolution.op is not None and is_unpadded(convolution.op)


def is_unpadded(op: Op) -> bool:
    """Whether a convolution or pool puts nothing around its input."""
    auto = op.string("auto_pad", "NOTSET")
    return auto == "VALID" or (auto == "NOTSET" and not any(op.integers("pads") or ()))


def replaceable(found: Match, value: Value) -> bool:
    """Whether another constant in place of one leaves no large one standing for others."""
    return precise.may_be_replaced(value)


def sqrt(found: Match, number: float | Numbers) -> float | Numbers | None:
    """The square root."""
    if isinstance(number, np.ndarray):
        return np.sqrt(number) if (number >= 0).all() else None
    return math.sqrt(number) if number >= 0 else None


def absolute(found: Match, number: float) -> float:
    """The absolute value."""
    return abs(number)


def repeated(found: Match, item: object, count: int) -> tuple[object, ...]:
    """A list of the same element."""
    return (item,) * count


def part(found: Match, items: tuple[object, ...], start: int, stop: int | None) -> tuple[object, ...]:
    """The elements of a list from `start` up to and without `stop`, which count from the end where they are negative."""
    return items[start:stop]


def counting(found: Match, start: int, stop: int) -> tuple[int, ...]:
    """The integers from `start` up to and without `stop`."""
    return tuple(range(start, stop))


def _listed(function: Callable[..., object], least: int, most: int | None, name: str = "") -> Function:
    return Function(name or function.__name__, function, least, most)


FUNCTIONS: dict[str, Function] = {
    one.name: one
    for one in (
        _listed(constant, 1, None),
        _listed(absent, 1, 1),
        _listed(rank, 1, 1),
        _listed(dim, 2, 2),
        _listed(shape, 1, 1),
        _listed(sizes, 2, 2),
        _listed(content, 1, 1),
        _listed(size, 1, 1),
        _listed(dtype, 1, 1),
        _listed(same_shape, 2, 2),
        _listed(result, 0, 0),
        _listed(stretches_to, 2, 2),
        _listed(broadcasts_to, 2, None),
        _listed(per_channel_of, 3, 3),
        _listed(length, 1, 1),
        _listed(product, 1, 1),
        _listed(axes, 2, 2),
        _listed(inverse, 1, 1),
        _listed(compose, 2, 2),
        _listed(permutation, 1, 1),
        _listed(swaps_last, 1, 1),
        _listed(all_of, 3, 3),
        _listed(modest, 1, None),
        _listed(uniform, 1, 1),
        _listed(integers, 1, 1),
        _listed(maker, 1, 1),
        _listed(spatial, 1, 1),
        _listed(numbers, 1, 1),
        _listed(per_output, 2, 2),
        _listed(per_input, 2, 2),
        _listed(weighed, 2, 2),
        _listed(unpadded, 1, 1),
        _listed(replaceable, 1, 1),
        _listed(sqrt, 1, 1),
        _listed(absolute, 1, 1),
        _listed(repeated, 2, 2),
        _listed(part, 3, 3),
        _listed(counting, 2, 2),
    )
}

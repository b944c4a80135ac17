"""What small integer tensors hold, followed symbolically through shape arithmetic: one row of CONTENT an op.

A row says what an op's result holds given what its operands hold, and answers None for "nothing is known".
"""

from __future__ import annotations

from collections.abc import Callable

from . import dims
from .dims import Dim
from .graph import Op, Value
from .tensors import Tensor
from .types import DType, TensorType

LARGEST_CONTENT = 256
Content = tuple[Dim, ...]


def content_of(value: Value | None) -> Content | None:
    """What an integer or bool tensor of rank 0 or 1 holds, element by element, or None when that is unknown."""
    if value is None:
        return None
    if value.content is not None:
        return value.content
    tensor = value.constant
    if tensor is None or len(tensor.shape) > 1 or tensor.size > LARGEST_CONTENT:
        return None
    if not (tensor.dtype.is_integer or tensor.dtype is DType.BOOL):
        return None
    value.content = tuple(int(v) for v in tensor.to_list())
    return value.content


def scalar_of(value: Value | None) -> Dim:
    """The single element of a content, or None."""
    content = content_of(value)
    return content[0] if content is not None and len(content) == 1 else None


def _rank(value: Value | None) -> int | None:
    return value.type.rank if value is not None and isinstance(value.type, TensorType) else None


def infer_content(op: Op) -> Content | None:
    """What the only result of an op holds, by the row of CONTENT."""
    rule = CONTENT.get(op.name) if not op.domain else None
    if rule is None or len(op.results) != 1:
        return None
    kind = op.results[0].type
    if not isinstance(kind, TensorType) or kind.rank not in (0, 1) or not (kind.dtype.is_integer or kind.dtype is DType.BOOL):
        return None
    if isinstance(kind.shape, tuple) and kind.shape and isinstance(kind.shape[0], int) and kind.shape[0] > LARGEST_CONTENT:
        return None
    content = rule(op)
    if content is None or len(content) > LARGEST_CONTENT or all(d is None for d in content):
        return content if content == () else None
    # What wraps is left unknown.
    signed = kind.dtype.text[0] != "u"
    low, high = (-(2 ** (kind.dtype.bits - 1)), 2 ** (kind.dtype.bits - 1)) if signed else (0, 2**kind.dtype.bits)
    return tuple(None if isinstance(d, int) and not low <= d < high else d for d in content)


def _shape_content(op: Op) -> Content | None:
    shape = op.needed(0).shape
    if shape is None:
        return None
    start, end = op.integer("start", 0), op.integer("end", len(shape))
    start = max(0, min(len(shape), start + len(shape) if start < 0 else start))
    end = max(0, min(len(shape), end + len(shape) if end < 0 else end))
    return shape[start:end]


def _size_content(op: Op) -> Content | None:
    shape = op.needed(0).shape
    return None if shape is None else (dims.product(shape),)


def _gather_content(op: Op) -> Content | None:
    data, indices = content_of(op.operand(0)), content_of(op.operand(1))
    if data is None or indices is None or _rank(op.operand(0)) != 1:
        return None
    picked: list[Dim] = []
    for index in indices:
        if not isinstance(index, int) or not -len(data) <= index < len(data):
            return None
        picked.append(data[index])
    return tuple(picked)


def _slice_content(op: Op) -> Content | None:
    data = content_of(op.operand(0))
    starts, ends = scalar_of(op.operand(1)), scalar_of(op.operand(2))
    step = 1 if op.operand(4) is None else scalar_of(op.operand(4))
    if data is None or not isinstance(starts, int) or not isinstance(ends, int) or not isinstance(step, int) or step == 0:
        return None
    if step < 0 and ends < -len(data):
        return data[starts::step]
    return data[starts:ends:step]


def _concat_content(op: Op) -> Content | None:
    parts = [content_of(operand) for operand in op.operands]
    if any(part is None for part in parts):
        # A part of known length but unknown elements still leaves the others known.
        padded: list[Content] = []
        for part, operand in zip(parts, op.operands, strict=True):
            shape = operand.shape if operand is not None else None
            if part is not None:
                padded.append(part)
            elif shape and len(shape) == 1 and isinstance(shape[0], int) and shape[0] <= LARGEST_CONTENT:
                padded.append((None,) * shape[0])
            else:
                return None
        return tuple(d for part in padded for d in part)
    return tuple(d for part in parts if part is not None for d in part)


def _same_content(op: Op) -> Content | None:
    return content_of(op.operand(0))


def _cast_content(op: Op) -> Content | None:
    content = content_of(op.operand(0))
    kind = op.results[0].type
    if content is None or not isinstance(kind, TensorType):
        return None
    if kind.dtype is DType.BOOL:
        return tuple(int(d != 0) if isinstance(d, int) else None for d in content)
    if kind.dtype not in (DType.I64, DType.I32):
        return None
    limit = range(-(2 ** (kind.dtype.bits - 1)), 2 ** (kind.dtype.bits - 1))
    return tuple(None if isinstance(d, int) and d not in limit else d for d in content)


def _elementwise(function: Callable[[Dim, Dim], Dim]) -> Callable[[Op], Content | None]:
    def rule(op: Op) -> Content | None:
        result = content_of(op.operand(0))
        for operand in op.operands[1:]:
            other = content_of(operand)
            if result is None or other is None:
                return None
            pairs = _broadcast(result, other)
            if pairs is None:
                return None
            result = tuple(function(a, b) for a, b in pairs)
        return result

    return rule


def _broadcast(a: Content, b: Content) -> list[tuple[Dim, Dim]] | None:
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        return None
    length = len(b) if len(a) == 1 else len(a)
    left = a * length if len(a) == 1 else a
    right = b * length if len(b) == 1 else b
    return list(zip(left, right, strict=True))


def _equal(a: Dim, b: Dim) -> Dim:
    difference = dims.add(a, dims.negate(b))
    if isinstance(difference, int):
        return int(difference == 0)
    # A named dim is a size, so it equals no negative number.
    for dim, number in ((a, b), (b, a)):
        if isinstance(number, int) and number < 0 and isinstance(dim, dims.SymbolicDim) and dim.plain_name is not None:
            return 0
    return None


def _where_content(op: Op) -> Content | None:
    condition, yes, no = (content_of(operand) for operand in op.operands)
    if condition is None or yes is None or no is None:
        return None
    length = max(len(condition), len(yes), len(no))
    columns = [c * length if len(c) == 1 else c for c in (condition, yes, no)]
    if any(len(c) != length for c in columns):
        return None
    return tuple((y if c else n) if isinstance(c, int) else (y if y == n else None) for c, y, n in zip(*columns, strict=True))


def _reduce(function: Callable[[Dim, Dim], Dim], start: int) -> Callable[[Op], Content | None]:
    def rule(op: Op) -> Content | None:
        data = content_of(op.operand(0))
        if data is None or _rank(op.operand(0)) != 1 or (op.operand(1) is None and op.integer("noop_with_empty_axes", 0)):
            return None
        if op.operand(1) is not None and content_of(op.operand(1)) not in ((0,), (-1,)):
            return None
        total: Dim = start
        for dim in data:
            total = function(total, dim)
        return (total,)

    return rule


def _constant_of_shape_content(op: Op) -> Content | None:
    length = content_of(op.operand(0))
    fill = op.attributes.get("value")
    if length is None or len(length) > 1 or not all(isinstance(d, int) and 0 <= d <= LARGEST_CONTENT for d in length):
        return None
    element = int(fill.to_list()[0]) if isinstance(fill, Tensor) and fill.dtype.is_integer and fill.size == 1 else None
    return None if element is None else (element,) * (length[0] if length and isinstance(length[0], int) else 1)


def _expand_content(op: Op) -> Content | None:
    data, shape = content_of(op.operand(0)), content_of(op.operand(1))
    if data is None or shape is None or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] > LARGEST_CONTENT:
        return None
    return data * shape[0] if len(data) == 1 else data


def _range_content(op: Op) -> Content | None:
    bounds = [scalar_of(operand) for operand in op.operands]
    numbers = [b for b in bounds if isinstance(b, int)]
    if len(numbers) != 3 or numbers[2] == 0:
        return None
    span = range(*numbers)
    return tuple(span) if len(span) <= LARGEST_CONTENT else None


CONTENT: dict[str, Callable[[Op], Content | None]] = {
    "Shape": _shape_content,
    "Size": _size_content,
    "Gather": _gather_content,
    "Slice": _slice_content,
    "Concat": _concat_content,
    "Identity": _same_content,
    "Squeeze": _same_content,
    "Unsqueeze": _same_content,
    "Reshape": _same_content,
    "Flatten": _same_content,
    "Cast": _cast_content,
    "Add": _elementwise(dims.add),
    "Sub": _elementwise(lambda a, b: dims.add(a, dims.negate(b))),
    "Mul": _elementwise(dims.multiply),
    "Div": _elementwise(dims.divide),
    "Mod": lambda op: None if op.integer("fmod", 0) else _elementwise(dims.modulo)(op),
    "Min": _elementwise(dims.minimum),
    "Max": _elementwise(dims.maximum),
    "Equal": _elementwise(_equal),
    "Where": _where_content,
    "ReduceProd": _reduce(dims.multiply, 1),
    "ReduceSum": _reduce(dims.add, 0),
    "ConstantOfShape": _constant_of_shape_content,
    "Expand": _expand_content,
    "Range": _range_content,
}

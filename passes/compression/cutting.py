"""Taking channels away: constants lose their slices, ops get their sizes and indices written anew, types are inferred again.

Law: every result has the shape that the cut foretold, or the cut is refused as a defect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Graph, Op, Tensor, TensorType, Type, Value, VerifyError, constant_op, infer, via

from ..base import erase_dead
from .moving import taken_by_slice
from .slots import Indices, Place

Array = NDArray[Any]


@dataclass(frozen=True)
class Cut:
    """For each axis that loses something the indices that are kept, in order; `name` is the rewrite that asks for it."""

    name: str
    kept: Mapping[Place, Indices]

    def of(self, value: Value | None, axis: int) -> Indices | None:
        """The indices kept of an axis, or None where it stays whole."""
        return None if value is None else self.kept.get((value, axis))

    def shrunk(self, value: Value) -> Type:
        """The type of a value after the cut."""
        kind = value.type
        if not isinstance(kind, TensorType) or kind.shape is None:
            return kind
        found = [self.of(value, axis) for axis in range(len(kind.shape))]
        shape = tuple(size if k is None else int(k.size) for size, k in zip(kind.shape, found, strict=True))
        return kind if shape == kind.shape else TensorType(kind.dtype, shape)


def apply(cut: Cut, graph: Graph, contents: Mapping[Value, Array]) -> None:
    """Carry out a cut; `contents` has what some constants hold before it in place of their own.

    Raises VerifyError where a result comes out in another shape than foretold, a defect of the ties.
    """
    touched = {value for value, _ in cut.kept}
    for op in graph:
        if op.name in RESTATED and any(v in touched for v in (*op.operands, *op.results)):
            RESTATED[op.name](op, cut)
    foretold = {value: cut.shrunk(value) for value in touched}
    for value in list(touched):
        if value.constant is not None:
            touched.add(_slice_constant(value, cut, contents.get(value, value.constant.array)))
    for op in graph:
        if op.is_constant or not any(v in touched for v in (*op.operands, *op.results)):
            continue
        before = [result.content for result in op.results]
        infer.refresh(op, tuple(foretold.get(result, result.type) for result in op.results))
        for result, content in zip(op.results, before, strict=True):
            if result in foretold and result.type != foretold[result]:
                message = f"{op.qualified_name} became {result.type} where {foretold[result]} was foretold"
                raise VerifyError(message, location=str(op.location))
            if result.content != content:
                touched.add(result)


def _slice_constant(value: Value, cut: Cut, array: Array) -> Value:
    op, tensor = value.op, value.constant
    assert op is not None
    assert op.graph is not None
    assert tensor is not None
    for axis in range(array.ndim):
        kept = cut.of(value, axis)
        array = array if kept is None else np.take(array, kept, axis)
    smaller = op.graph.insert(constant_op(Tensor.from_array(array, tensor.dtype), via(cut.name, op.location), value.name), op)
    value.replace_by(smaller.result)
    op.graph.erase(op)
    return smaller.result


def _restate(op: Op, index: int, numbers: list[int] | Indices, cut: Cut, dtype: DType | None = None) -> None:
    """Give an op another constant operand of integers."""
    assert op.graph is not None
    old, location = op.operand(index), via(cut.name, op.location)
    known = old.type.dtype if old is not None and isinstance(old.type, TensorType) else DType.I64
    tensor = Tensor.from_array(np.asarray(numbers, np.int64), dtype or known)
    op.set_operand(index, op.graph.insert(constant_op(tensor, location, old.name if old is not None else ""), op).result)
    op.location = location
    if old is not None and old.op is not None:
        erase_dead(old.op)


def _groups(attribute: str) -> Callable[[Op, Cut], None]:
    """As many groups less as channels are gone, since groups go whole."""

    def restate(op: Op, cut: Cut) -> None:
        data, count = op.needed(0), op.integer(attribute, 1)
        kept, size = cut.of(data, 1), (data.shape or (0, 0))[1]
        if count > 1 and kept is not None and isinstance(size, int):
            op.attributes[attribute] = int(kept.size) * count // size
            op.location = via(cut.name, op.location)

    return restate


def _heads(*attributes: str) -> Callable[[Op, Cut], None]:
    """With heads in blocks of axis 2 their numbers fall as the axis of the first operand does."""

    def restate(op: Op, cut: Cut) -> None:
        data = op.needed(0)
        kept, size = cut.of(data, 2), (data.shape or (0, 0, 0))[2]
        if attributes[0] not in op.attributes or kept is None or not isinstance(size, int):
            return
        for name in attributes:
            op.attributes[name] = int(kept.size) * op.integer(name, 1) // size
        op.location = via(cut.name, op.location)

    return restate


def _sizes(index: int) -> Callable[[Op, Cut], None]:
    """An operand that says the shape of the result: what changes, and what is copied from the input, gets its number."""

    def restate(op: Op, cut: Cut) -> None:
        target, result = op.constant_operand(index), op.results[0]
        changed = {axis for value, axis in cut.kept if value is result}
        if target is None or result.shape is None or not changed:
            return
        numbers = [int(n) for n in target.to_list()]
        shift = len(result.shape) - len(numbers)
        for position, number in enumerate(numbers):
            size, kept = result.shape[position + shift], cut.of(result, position + shift)
            if kept is not None and number not in (-1, 1):
                numbers[position] = int(kept.size)
            elif number == 0 and isinstance(size, int):
                numbers[position] = size
        _restate(op, index, numbers, cut)

    return restate


def _resize(op: Op, cut: Cut) -> None:
    if op.operand(3) is None:
        return
    sizes, axes = op.constant_operand(3), op.integers("axes")
    assert sizes is not None
    numbers = [int(n) for n in sizes.to_list()]
    for position, axis in enumerate(axes if axes is not None else range(len(numbers))):
        kept = cut.of(op.results[0], axis)
        numbers[position] = numbers[position] if kept is None else int(kept.size)
    _restate(op, 3, numbers, cut)


def _split(op: Op, cut: Cut) -> None:
    data = op.needed(0)
    axis = op.integer("axis", 0) % len(data.shape or (0,))
    if cut.of(data, axis) is None:
        return
    numbers: list[int] = []
    for result in op.results:
        kept, size = cut.of(result, axis), (result.shape or ())[axis]
        numbers.append(int(kept.size) if kept is not None else size if isinstance(size, int) else 0)
    op.attributes.pop("num_outputs", None)
    if len(op.operands) < 2:
        op.operands.append(None)
    _restate(op, 1, numbers, cut)


def _slice(op: Op, cut: Cut) -> None:
    data, taken = op.needed(0), taken_by_slice(op)
    if taken is None or all(cut.of(data, axis) is None for axis in taken):
        return
    axes = list(taken)
    starts: list[int] = []
    ends: list[int] = []
    for axis in axes:
        chosen, kept = taken[axis], cut.of(data, axis)
        places = chosen if kept is None else np.flatnonzero(np.isin(kept, chosen))
        starts.append(int(places[0]) if places.size else 0)
        ends.append(int(places[-1]) + 1 if places.size else 0)
    while len(op.operands) < 4:
        op.operands.append(None)
    for index, numbers in ((1, starts), (2, ends), (3, axes)):
        _restate(op, index, numbers, cut, DType.I64)
    if op.operand(4) is not None:
        op.set_operand(4, None)
        op.operands.pop()


def _gather(op: Op, cut: Cut) -> None:
    data, indices = op.needed(0), op.constant_operand(1)
    axis = op.integer("axis", 0) % len(data.shape or (0,))
    kept, size = cut.of(data, axis), (data.shape or ())[axis]
    if indices is None or kept is None or not isinstance(size, int):
        return
    chosen = indices.array.reshape(-1).astype(np.int64) % size
    _restate(op, 1, np.searchsorted(kept, chosen[np.isin(chosen, kept)]), cut)


RESTATED: Mapping[str, Callable[[Op, Cut], None]] = {
    "Conv": _groups("group"),
    "ConvTranspose": _groups("group"),
    "GroupNormalization": _groups("num_groups"),
    "Attention": _heads("q_num_heads", "kv_num_heads"),
    "RotaryEmbedding": _heads("num_heads"),
    "Reshape": _sizes(1),
    "Expand": _sizes(1),
    "Resize": _resize,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
}
"""How an op's sizes and indices are written anew, by its name."""


def settle_targets(graph: Graph, name: str) -> None:
    """Make constants of the shapes that a Reshape computes for itself, where at most one dim is open.

    Such a shape is often put together from the sizes of what is reshaped, whose channels could not change otherwise.
    """
    for op in list(graph):
        if op.is_a("Reshape") and op.constant_operand(1) is None:
            numbers = _stated(op)
            if numbers is not None:
                _restate(op, 1, numbers, Cut(name, {}), DType.I64)


def _stated(op: Op) -> list[int] | None:
    """A Reshape's target as numbers: 0 for a dim copied from the same place of the input, -1 for at most one other open dim."""
    before, after = op.needed(0).shape, op.result.shape
    if before is None or after is None or 0 in after:
        return None
    copies = not op.integer("allowzero", 0)
    numbers: list[int] = []
    for index, dim in enumerate(after):
        if isinstance(dim, int):
            numbers.append(dim)
        else:
            same = dim is not None and index < len(before) and before[index] == dim
            numbers.append(0 if same and copies else -1)
    return numbers if numbers.count(-1) <= 1 else None

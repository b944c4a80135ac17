"""Ops that only move elements, as other views of the same buffer wherever strides can say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from irc.ir import Op

from .views import View

Moved = Callable[[Op, View], "list[View] | None"]
"""The views of an op's results on the view of its first operand; None where they are none."""


def static_shape(op: Op, index: int = 0) -> tuple[int, ...]:
    """The shape of a result, all of whose dims are known."""
    shape = op.results[index].shape
    assert shape is not None
    return tuple(size for size in shape if isinstance(size, int))


def moved(op: Op, view: View) -> list[View] | None:
    """The views of the results of `op`, a key of MOVEMENT, on its operand's; None where elements have to be copied."""
    return MOVEMENT[op.qualified_name](op, view)


def _reshape(op: Op, view: View) -> list[View] | None:
    shaped = view.reshaped(static_shape(op))
    return None if shaped is None else [shaped]


def _transpose(op: Op, view: View) -> list[View]:
    order = op.integers("perm") or tuple(reversed(range(len(view.shape))))
    return [view.permuted(order)]


def _expand(op: Op, view: View) -> list[View]:
    return [view.broadcast(static_shape(op))]


def _split(op: Op, view: View) -> list[View]:
    axis = op.integer("axis", 0) % len(view.shape)
    views: list[View] = []
    start = 0
    for index in range(len(op.results)):
        size = static_shape(op, index)[axis]
        views.append(view.sliced(axis, start, size))
        start += size
    return views


def _slice(op: Op, view: View) -> list[View] | None:
    given = [op.constant_operand(index) for index in range(1, 5)]
    starts, axes, steps = given[0], given[2], given[3]
    if starts is None or (axes is None and op.operand(3) is not None) or (steps is None and op.operand(4) is not None):
        return None
    count = starts.size
    along = list(range(count)) if axes is None else [int(axis) % len(view.shape) for axis in axes.to_list()]
    strides = [1] * count if steps is None else [int(step) for step in steps.to_list()]
    shape = static_shape(op)
    for axis, start, step in zip(along, starts.to_list(), strides, strict=True):
        size = view.shape[axis]
        first = int(start) + size if start < 0 else int(start)
        first = min(max(first, 0), size - 1 if step < 0 else size)
        view = view.sliced(axis, first, shape[axis], step)
    return [view]


def _same(op: Op, view: View) -> list[View]:
    return [view]


MOVEMENT: Mapping[str, Moved] = {
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Expand": _expand,
    "Split": _split,
    "Slice": _slice,
    "Identity": _same,
}
"""The ops that move elements and compute nothing."""

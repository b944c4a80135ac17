"""Ops that are a few kernels one after the other: a reduction, and what is done to each element with what came of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from irc.ir import DType, Op

from .kernel import Writer
from .loops import Body, elementwise
from .lowerer import Lowerer
from .places import Buffer, Place
from .reductions import ReductionRequest, argument, reduction
from .regions import Region
from .views import View


def lower_hardmax(lowerer: Lowerer, region: Region) -> None:
    """Hardmax: 1 where the first of the greatest is, and 0 elsewhere."""
    op = region.op
    source, axis = _along(lowerer, op)
    kept, flat = _kept(source.view, axis)
    best = Place(Buffer(DType.I64, kept.size), kept)
    request = ReductionRequest(source.view, (axis,), flat, DType.F32, lowerer.machine.lanes)
    lowerer.call(argument("ArgMax", request), [source.buffer, best.buffer], (op,))
    shape = source.view.shape
    numbers = lowerer.constant(np.arange(shape[axis], dtype=np.int64), DType.I64)
    places = Place(numbers, View(shape, tuple(1 if each == axis else 0 for each in range(len(shape)))))

    def body(writer: Writer, names: Sequence[str]) -> str:
        return f"T.Select({names[0]} == {names[1]}, T.float32(1), T.float32(0))"

    _elementwise(lowerer, op, [places, Place(best.buffer, kept.broadcast(shape))], body)


def lower_lp_normalization(lowerer: Lowerer, region: Region) -> None:
    """LpNormalization by sums of magnitudes or roots of sums of squares; what has a norm of 0 is 0."""
    op = region.op
    source, axis = _along(lowerer, op)
    kept, flat = _kept(source.view, axis)
    norm = Place(Buffer(DType.F32, kept.size), kept)
    request = ReductionRequest(source.view, (axis,), flat, DType.F32, lowerer.machine.lanes)
    kernel = reduction("ReduceL1" if op.integer("p", 2) == 1 else "ReduceL2", request)
    lowerer.call(kernel, [source.buffer, norm.buffer], (op,))

    def body(writer: Writer, names: Sequence[str]) -> str:
        quotient = writer.value("float32", f"{names[0]} / {names[1]}")
        return f"T.Select({names[1]} == T.float32(0), T.float32(0), {quotient})"

    _elementwise(lowerer, op, [source, Place(norm.buffer, kept.broadcast(source.view.shape))], body)


def _along(lowerer: Lowerer, op: Op) -> tuple[Place, int]:
    """The operand, and the axis that an op works along."""
    source = lowerer.place(op.needed(0))
    return source, op.integer("axis", -1) % len(source.view.shape)


def _kept(view: View, axis: int) -> tuple[View, View]:
    """A dense view of what is left of a shape, with one element along the axis, and without the axis."""
    shape = [1 if each == axis else size for each, size in enumerate(view.shape)]
    return View.dense(shape), View.dense([size for each, size in enumerate(view.shape) if each != axis])


def _elementwise(lowerer: Lowerer, op: Op, places: Sequence[Place], body: Body) -> None:
    target = lowerer.fresh_like(op.result, places)
    operands = [(place.dtype, place.view) for place in places]
    kernel = elementwise(target.dtype, target.view, operands, body, lowerer.machine.lanes)
    lowerer.call(kernel, [*(place.buffer for place in places), target.buffer], (op,))

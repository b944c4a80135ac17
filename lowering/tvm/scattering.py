"""Gathering and scattering of elements and slices as calls of kernels."""

from __future__ import annotations

from irc.ir import DType, Op

from .expressions import dtype_of, shape_of
from .indexing import COMBINED, gather_elements, gather_nd, scatter_elements, scatter_nd
from .lowerer import Lowerer
from .places import Place
from .regions import Region
from .views import View

INDICES = (DType.I32, DType.I64)


def why_not_indexed(op: Op) -> str:
    """Why an op with computed places has no kernel, as a clause; empty where it has."""
    if dtype_of(op.needed(1)) not in INDICES:
        return "its indices are no integers"
    if op.is_a("GatherND", "ScatterND") and not shape_of(op.needed(1)):
        return "its indices have no axes"
    how = op.string("reduction", "none")
    if how not in COMBINED:
        return f"it scatters by {how}"
    if how != "none" and dtype_of(op.needed(0)) not in (DType.F32, DType.F64):
        return f"it scatters {dtype_of(op.needed(0)).text} by {how}"  # whose overflow is LLVM's to define
    return ""


def lower_gather_elements(lowerer: Lowerer, region: Region) -> None:
    """GatherElements, of any views."""
    op = region.op
    data, indices = lowerer.place(op.needed(0)), lowerer.place(op.needed(1))
    axis = op.integer("axis", 0) % len(data.view.shape)
    target = lowerer.fresh(op.result)
    kernel = gather_elements(data.dtype, data.view, indices.dtype, indices.view, axis)
    lowerer.call(kernel, [data.buffer, indices.buffer, lowerer.status, target.buffer], (op,))


def lower_gather_nd(lowerer: Lowerer, region: Region) -> None:
    """GatherND, of dense copies."""
    op = region.op
    data, indices = lowerer.dense(op.needed(0)), lowerer.dense(op.needed(1))
    target, batch_axes = lowerer.fresh(op.result), op.integer("batch_dims", 0)
    kernel = gather_nd(data.dtype, data.view.shape, indices.dtype, indices.view.shape, batch_axes)
    lowerer.call(kernel, [data.buffer, indices.buffer, lowerer.status, target.buffer], (op,))


def lower_scatter(lowerer: Lowerer, region: Region) -> None:
    """ScatterElements and ScatterND: a copy of the data, then the updates."""
    op = region.op
    source, indices = lowerer.place(op.needed(0)), lowerer.dense(op.needed(1))
    updates, target = lowerer.dense(op.needed(2)), lowerer.fresh(op.result)
    lowerer.copy(source, Place(target.buffer, View.dense(target.view.shape)), (op,))
    how = op.string("reduction", "none")
    if op.is_a("ScatterND"):
        kernel = scatter_nd(target.dtype, target.view.shape, indices.dtype, indices.view.shape, how)
    else:
        axis = op.integer("axis", 0) % len(target.view.shape)
        kernel = scatter_elements(target.dtype, target.view, indices.dtype, indices.view, updates.view, axis, how)
    lowerer.call(kernel, [indices.buffer, updates.buffer, lowerer.status, target.buffer], (op,))

"""Weight-only quantization: constant weights of few bits, dequantized where they are read; data stay as they are.

A weight becomes `DequantizeLinear(integers, scales, zero points)` with a scale, and where it is not symmetric a zero point, for
every block of `block_size` numbers along the summed axis. Scales are kept in f16 behind a Cast where that loses nothing but
rounding: 4-bit weights in blocks of 32 take 0.578 bytes each with a zero point, 0.5625 without.
A weight that others read, too (the table of an embedding, tied to the last product), stays beside the integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irc.ir import Attribute, DType, Graph, Location, Op, Tensor, UsageError, Value, constant_op, make, via

from ..base import Context, Contract, Pass, erase_dead
from .compensating import compensated, learnt
from .grids import Floats, Grid, Levels, best_grid, stored_dtype
from .sites import Site, taken

BITS = (4, 8)
CHUNK = 1 << 18
"""Weights that are looked at together, so that they stay in the cache."""
COMPENSATED_COLUMNS = 1024
"""Columns that are compensated together: a block of them stays in the cache, and matrix products are fast."""

Grams = Mapping[Op, npt.NDArray[Any]]


def quantize_weights(
    graph: Graph,
    chosen: Iterable[Site],
    bits: int = 4,
    block_size: int = 32,
    *,
    symmetric: bool = False,
    compensation: Grams | None = None,
) -> None:
    """Quantize the constant weights of the `chosen` sites of `graph` to `bits` (4 or 8) in blocks of `block_size`.

    A block size of 0 makes each column one block.
    `compensation` has X^T X [rows, rows] of the data X [any, rows] of ops, or better [2, rows, rows] of two halves of the data:
    their weights are rounded for the least error of the product, where the halves agree on what that is. Sites of one weight
    share its integers. Sites that `why_not_quantized_weights` speaks against stay as they are.
    Raises UsageError for other numbers of bits and a negative block size.
    """
    _check(bits, block_size)
    groups: dict[tuple[Value, int], list[Site]] = {}
    for site in chosen:
        if not why_not_quantized_weights(site):
            groups.setdefault((site.weights, site.summed_axis), []).append(site)
    levels = Levels(bits, symmetric)
    for (weights, axis), readers in groups.items():
        grams = [compensation[site.op] for site in readers if compensation is not None and site.op in compensation]
        _replace(weights, axis, readers, levels, block_size, sum(grams[1:], grams[0]) if grams else None)


def _check(bits: int, block_size: int) -> None:
    if bits not in BITS:
        raise UsageError(f"weights cannot have {bits} bits", hint=f"use {' or '.join(map(str, BITS))}")
    if block_size < 0:
        raise UsageError(f"a block cannot have {block_size} weights", hint="use 32, 64 or 128, or 0 for one block a column")


def why_not_quantized_weights(site: Site) -> str:
    """Why the weights of a site cannot be quantized by themselves, as a clause; empty where nothing speaks against it."""
    tensor = site.weights.constant
    if tensor is None:
        return "its weights are not constant"
    if site.op.is_a("Conv", "ConvTranspose"):
        return "it is a convolution, whose weights are few for what it computes"
    if tensor.dtype is not DType.F32:
        return "its weights are not f32"
    if not tensor.size:
        return "it has no weights"
    if not np.isfinite(tensor.array).all():
        return "a weight is NaN or infinite"
    return ""


def _replace(
    weights: Value, axis: int, readers: list[Site], levels: Levels, block_size: int, gram: npt.NDArray[Any] | None
) -> None:
    """Let the sites read a weight as integers behind a DequantizeLinear."""
    tensor, maker = weights.constant, weights.op
    assert tensor is not None
    assert maker is not None
    turned = np.moveaxis(tensor.array, axis, 0)
    columns = turned.reshape(len(turned), -1)
    block = block_size or len(columns)
    grid, codes = _quantized(columns, levels, block, gram if tensor.array.ndim == 2 else None)
    by_column = not block_size and tensor.array.ndim == 2

    def in_place(rows: Floats, dtype: DType) -> Tensor:
        return Tensor.from_array(np.moveaxis(rows.reshape(-1, *turned.shape[1:]), 0, axis), dtype)

    def of_blocks(numbers: Floats, dtype: DType) -> Tensor:
        return Tensor.from_array(numbers.reshape(-1), dtype) if by_column else in_place(numbers, dtype)

    emit = _Emitting(maker, via("quantize-weights", maker.location))
    scales = emit.constant(of_blocks(grid.scales, grid.stored), f"{weights.name}_scale")
    if grid.stored is not DType.F32:
        scales = emit.op("Cast", [scales], {"to": DType.F32.onnx_code})
    operands = [emit.constant(in_place(codes, levels.dtype), weights.name), scales]
    if not levels.symmetric:
        operands.append(emit.constant(of_blocks(grid.zeros, levels.dtype), f"{weights.name}_zero"))
    attributes: dict[str, Attribute] = {"axis": 1 - axis} if by_column else {"axis": axis, "block_size": block}
    wide = emit.op("DequantizeLinear", operands, attributes)
    for site in readers:
        site.op.set_operand(1, wide)
    erase_dead(maker)


class _Emitting:
    """Puts ops in front of another, with one location."""

    def __init__(self, place: Op, location: Location) -> None:
        self._place, self._location = place, location

    def constant(self, tensor: Tensor, name: str) -> Value:
        return self._put(constant_op(tensor, self._location, name))

    def op(self, name: str, operands: Sequence[Value], attributes: dict[str, Attribute]) -> Value:
        return self._put(make(name, tuple(operands), self._location, attributes=attributes))

    def _put(self, op: Op) -> Value:
        assert self._place.graph is not None
        return self._place.graph.insert(op, self._place).result


def _quantized(columns: Floats, levels: Levels, block: int, gram: npt.NDArray[Any] | None) -> tuple[Grid, Floats]:
    """Grid and integers of weights [rows, columns], some columns at a time."""
    stored = stored_dtype(columns, levels, block)
    curvature = None if gram is None else learnt(gram, columns, levels, block, stored)
    importance = None if curvature is None else np.diag(curvature.hessian)
    at_once = max(1, CHUNK // len(columns)) if curvature is None else COMPENSATED_COLUMNS
    codes = np.empty(columns.shape, np.float32)
    grids: list[Grid] = []
    for begin in range(0, columns.shape[1], at_once):
        some = np.ascontiguousarray(columns[:, begin : begin + at_once])
        grid = best_grid(some, levels, block, stored, importance)
        if curvature is None:
            codes[:, begin : begin + at_once] = grid.codes(some)
        else:
            grid, codes[:, begin : begin + at_once] = compensated(some, curvature, grid)
        grids.append(grid)
    scales, zeros = (np.concatenate([getattr(grid, name) for grid in grids], axis=1) for name in ("scales", "zeros"))
    return Grid(levels, block, scales, zeros, stored), codes


@dataclass(frozen=True)
class QuantizeWeights(Pass, name="quantize-weights", contract=Contract.LOSSY):
    """Quantize the constant weights of products to 4 or 8 bits, with a scale for every block of `block-size` weights."""

    bits: int = 4
    block_size: int = 32
    symmetric: bool = False

    def __post_init__(self) -> None:
        """Raises UsageError for other numbers of bits than 4 and 8, and a negative block size."""
        _check(self.bits, self.block_size)

    def run(self, graph: Graph, context: Context) -> None:
        """All of them; how much is lost is for the caller to measure."""
        chosen: list[Site] = []
        try:
            # One by one, so that those before a limit on rewrites are kept.
            for site in taken(graph, context, self.name, why_not_quantized_weights):
                chosen.append(site)
        finally:
            quantize_weights(graph, chosen, self.bits, self.block_size, symmetric=self.symmetric)

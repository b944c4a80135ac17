"""Constant weights of few bits as the buffers of a kernel: numbers, scales and zero points in panels.

Law: what lies there is what `Stored` says of them; nothing is rounded again.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Op, Value

from .axes import Contraction
from .lowerer import Lowerer
from .narrow import constant_of, parameter_of
from .packing import elements_of
from .panels import Element, pack, packed_columns
from .places import Buffer
from .products import Product
from .stored import Stored
from .tiling import Tiling

_SHIFTS = {DType.U4: 0, DType.I4: 8, DType.U8: 0, DType.I8: 128}
"""What makes a number unsigned, by the dtypes that are unpacked."""


def stored_of(value: Value, wanted: Contraction) -> Stored | None:
    """How the constant behind a dequantized matrix lies in few bits; None where it lies otherwise, or no kernel unpacks it."""
    op, tensor = value.op, constant_of(value)
    if op is None or tensor is None or tensor.dtype not in _SHIFTS or not op.is_a("DequantizeLinear"):
        return None
    scale = parameter_of(op, 1)
    if scale is None or len(tensor.shape) != 2 or wanted.groups > 1 or scale.dtype not in (DType.F16, DType.F32):
        return None
    block = op.integer("block_size", 0)
    axis = op.integer("axis", 1) % 2
    by_column = not block and scale.shape == (wanted.columns,) and tensor.shape[axis] == wanted.columns
    if not block and not by_column:
        return None
    return Stored(4 if tensor.dtype.bits == 4 else 8, wanted.depth if by_column else block, scale.dtype)


def stored_weights(lowerer: Lowerer, value: Value, made: Product, tiling: Tiling, stored: Stored) -> list[Buffer]:
    """The numbers, the scales and the zero points of a B that is stored so."""
    op, tensor = value.op, constant_of(value)
    assert op is not None
    assert tensor is not None
    depth, how = made.contraction.depth, (made.weights, tiling.layout, stored)
    sizes = stored.buffers(depth, packed_columns(tiling))
    parameters = tuple(parameter_of(op, index) for index in (1, 2))

    def numbers(target: NDArray[np.uint8]) -> None:
        shifted = (tensor.array.astype(np.int16) + _SHIFTS[tensor.dtype]).astype(np.uint8)
        codes = elements_of(shifted, made)
        pack(codes if stored.bits == 8 else codes[:, 0::2] | codes[:, 1::2] << 4, tiling, target)

    def scales(target: NDArray[np.uint8]) -> None:
        given = parameters[0]
        assert given is not None
        pack(_of_blocks(op, given.array, made, stored), tiling, target.view(stored.scale_dtype.numpy))

    def zeros(target: NDArray[np.uint8]) -> None:
        given = parameters[1]
        plain = np.zeros((1, 1), np.int16) if given is None else given.array.astype(np.int16)
        pack(_of_blocks(op, (plain + _SHIFTS[tensor.dtype]).astype(np.uint8), made, stored), tiling, target)

    fills = (("numbers", numbers), ("scales", scales), ("zero points", zeros))
    return [
        lowerer.prepared(tensor, (name, how, parameters), size, fill, dtype)
        for (name, fill), (dtype, size) in zip(fills, sizes, strict=True)
    ]


def _of_blocks(op: Op, numbers: NDArray[Element], made: Product, stored: Stored) -> NDArray[Element]:
    """A number for each block as [1, blocks, columns]."""
    blocks, columns = made.contraction.depth // stored.block, made.contraction.columns
    if numbers.size == 1:
        return np.broadcast_to(numbers.reshape(1, 1, 1), (1, blocks, columns))
    by_column = not op.integer("block_size", 0)
    if by_column:
        return numbers.reshape(1, 1, columns)
    return (numbers if op.integer("axis", 1) % 2 == 0 else numbers.T).reshape(1, blocks, columns)

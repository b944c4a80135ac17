"""Convolutions of 3 x 3 windows with fewer multiplications: tiles of 4 x 4 results from 6 x 6 transformed elements.

Law: the same sums of products in another order, with 36 multiplications for a tile where the plain sum has 144; the answers
differ from it by some 1e-6 of the largest, as the matrices below have entries up to 8.

Method: Winograd's F(4 x 4, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): with the points
0, 1, -1, 2, -2 and infinity, Y = A^T [(G g G^T) * (B^T d B)] A. The products in the middle are one contraction over channels
for each of the 36 elements, the elements being its groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from irc.ir import DType, Op

from .axes import Axis, Contraction
from .contraction import Epilogue
from .kernel import Kernel, Writer, literal
from .products import Window
from .tiling import Machine
from .views import View
from .windows import along

TILE = 4
"""Results along each side of a tile."""
PATCH = 6
"""Elements along each side of what a tile is computed from."""

B_TRANSPOSED: tuple[tuple[int, ...], ...] = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
G: tuple[tuple[Fraction, ...], ...] = (
    (Fraction(1, 4), Fraction(0), Fraction(0)),
    (Fraction(-1, 6), Fraction(-1, 6), Fraction(-1, 6)),
    (Fraction(-1, 6), Fraction(1, 6), Fraction(-1, 6)),
    (Fraction(1, 24), Fraction(1, 12), Fraction(1, 6)),
    (Fraction(1, 24), Fraction(-1, 12), Fraction(1, 6)),
    (Fraction(0), Fraction(0), Fraction(1)),
)
A_TRANSPOSED: tuple[tuple[int, ...], ...] = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


@dataclass(frozen=True, slots=True)
class Tiles:
    """A convolution in tiles: how many there are down and across for each image, its channels in and out."""

    batch: int
    down: int
    across: int
    channels: int
    out_channels: int

    @property
    def count(self) -> int:
        """All tiles."""
        return self.batch * self.down * self.across


OPERATIONS_A_BYTE = 8.0
"""Floating-point operations in the time that a byte takes to and from the caches that cores share."""
OPERATIONS_A_FETCHED_BYTE = 12.0
"""The same for a byte from memory, where weights lie."""
GAIN = 0.9
"""The share of the direct convolution's time that the model has to promise."""


def pays(tiles: Tiles, results: int, machine: Machine) -> bool:
    """Whether tiles are faster than direct sums, by operations and bytes; `results` are pixels of all images.

    Transformed elements and products are written once and read once; weights are four times as many as they were.
    """
    if tiles.channels < machine.lanes or tiles.out_channels < machine.lanes:
        return False
    pairs = tiles.channels * tiles.out_channels
    direct = 2.0 * 9 * results * pairs + OPERATIONS_A_FETCHED_BYTE * 4 * 9 * pairs
    elements = PATCH * PATCH * tiles.count
    moved = 8.0 * elements * (tiles.channels + tiles.out_channels)
    products = 2.0 * elements * pairs
    weights = 4.0 * PATCH * PATCH * pairs
    return products + OPERATIONS_A_BYTE * moved + OPERATIONS_A_FETCHED_BYTE * weights < GAIN * direct


def transformed_weights(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """G g G^T of filters [out, in, 3, 3], in float64, as [36, in, out]."""
    g = np.array([[float(entry) for entry in row] for row in G])
    result = np.einsum("ik,ockl,jl->ijco", g, weights.astype(np.float64), g, optimize=True)
    return result.reshape(PATCH * PATCH, weights.shape[1], weights.shape[0]).astype(np.float32)


def products_of(tiles: Tiles) -> Contraction:
    """The contraction of elements [36, tiles, channels] with weights, both transformed, into [36, tiles, out channels]."""
    channels, out = tiles.channels, tiles.out_channels
    return Contraction(
        (Axis(PATCH * PATCH, tiles.count * channels, tiles.count * out),),
        Axis(tiles.count, channels, out),
        (Axis(channels, 1),),
        out,
        PATCH * PATCH * tiles.count * channels,
        PATCH * PATCH * tiles.count * out,
        groups=PATCH * PATCH,
    )


def transform_input(data: View, data_size: int, tiles: Tiles, lanes: int) -> Kernel:
    """B^T d B of every patch of images that have their border; the pointers are data and [36, tiles, channels]."""
    writer = Writer()
    source = writer.buffer(DType.F32, data_size)
    target = writer.buffer(DType.F32, PATCH * PATCH * tiles.count * tiles.channels)
    with ExitStack() as loops:
        image, down, across, tile, tasks = _each_tile(writer, loops, tiles)
        start = writer.let("int32", data.at(image, "0", f"{down} * {TILE}", f"{across} * {TILE}"))

        def channel(first: str, count: int) -> None:
            with writer.loop(count, "vectorized") as lane:
                at = f"{start} + {first} + {lane}"
                patch = [
                    [
                        writer.let("float32", f"{source}[{at} + {i * data.strides[2] + j * data.strides[3]}]")
                        for j in range(PATCH)
                    ]
                    for i in range(PATCH)
                ]
                turned = _transform(writer, B_TRANSPOSED, patch)
                for number, value in enumerate(each for row in turned for each in row):
                    place = f"({number * tiles.count} + {tile}) * {tiles.channels} + {first} + {lane}"
                    writer.line(f"{target}[{place}] = {value}")

        along(writer, tiles.channels, lanes, channel)
    return writer.kernel(tasks)


def transform_output(
    result: View,
    result_size: int,
    tiles: Tiles,
    lanes: int,
    operands: Sequence[tuple[DType, int]] = (),
    epilogue: Epilogue | None = None,
    result_dtype: DType = DType.F32,
) -> Kernel:
    """A^T m A of every tile, through the epilogue, into images of `result_dtype` with channels side by side.

    The pointers are [36, tiles, out channels], the `operands` of the epilogue (buffers b1, b2, ...), and the result.
    """
    writer = Writer()
    source = writer.buffer(DType.F32, PATCH * PATCH * tiles.count * tiles.out_channels)
    for dtype, size in operands:
        writer.buffer(dtype, size)
    target = writer.buffer(result_dtype, result_size)
    height, width = result.shape[2:]
    with ExitStack() as loops:
        image, down, across, tile, tasks = _each_tile(writer, loops, tiles)
        top, left = writer.let("int32", f"{down} * {TILE}"), writer.let("int32", f"{across} * {TILE}")
        start = writer.let("int32", result.at(image, "0", top, left))

        def channel(first: str, count: int) -> None:
            values = writer.local("float32", TILE * TILE, count)
            with writer.loop(count, "vectorized") as lane:
                patch = [
                    [
                        writer.let(
                            "float32",
                            f"{source}[({(i * PATCH + j) * tiles.count} + {tile}) * {tiles.out_channels} + {first} + {lane}]",
                        )
                        for j in range(PATCH)
                    ]
                    for i in range(PATCH)
                ]
                for number, value in enumerate(each for row in _transform(writer, A_TRANSPOSED, patch) for each in row):
                    writer.line(f"{values}[{number}, {lane}] = {value}")
            for number in range(TILE * TILE):
                i, j = divmod(number, TILE)
                with ExitStack() as guards:
                    if height % TILE and i:
                        guards.enter_context(writer.block(f"if {top} + {i} < {height}"))
                    if width % TILE and j:
                        guards.enter_context(writer.block(f"if {left} + {j} < {width}"))
                    with writer.loop(count, "vectorized") as lane:
                        column = f"{first} + {lane}"
                        place = f"{start} + {i * result.strides[2] + j * result.strides[3]} + {column}"
                        value = writer.let("float32", f"{values}[{number}, {lane}]")
                        value = epilogue(writer, value, place, column) if epilogue is not None else value
                        writer.line(f"{target}[{place}] = {value}")

        along(writer, tiles.out_channels, lanes, channel)
    return writer.kernel(tasks)


def _each_tile(writer: Writer, loops: ExitStack, tiles: Tiles) -> tuple[str, str, str, str, int]:
    """A loop over the tiles of a task: image, place down and across, number of the tile; and how many tasks there are."""
    rows = tiles.batch * tiles.down
    each = -(-rows // min(rows, 16))
    step = loops.enter_context(writer.loop(each))
    row = writer.let("int32", f"task * {each} + {step}")
    if rows % each:
        loops.enter_context(writer.block(f"if {row} < {rows}"))
    across = loops.enter_context(writer.loop(tiles.across))
    tile = writer.let("int32", f"{row} * {tiles.across} + {across}")
    return (
        writer.let("int32", f"{row} // {tiles.down}"),
        writer.let("int32", f"{row} % {tiles.down}"),
        across,
        tile,
        -(-rows // each),
    )


def _transform(writer: Writer, matrix: Sequence[Sequence[int]], patch: Sequence[Sequence[str]]) -> list[list[str]]:
    """matrix * patch * matrix^T, written out; zeros and ones cost nothing."""
    columns = [[_combined(writer, row, [line[j] for line in patch]) for j in range(len(patch[0]))] for row in matrix]
    return [[_combined(writer, row, line) for row in matrix] for line in columns]


def _combined(writer: Writer, factors: Sequence[int], values: Sequence[str]) -> str:
    terms: list[str] = []
    for factor, value in zip(factors, values, strict=True):
        if not factor:
            continue
        size = value if abs(factor) == 1 else f"{literal(abs(factor), 'float32')} * {value}"
        terms.append(f"{'-' if factor < 0 else '+'} {size}")
    # The first positive term leads, so that no zero is subtracted from.
    lead = next(number for number, term in enumerate(terms) if term[0] == "+")
    rest = [term for number, term in enumerate(terms) if number != lead]
    return writer.value("float32", " ".join([terms[lead][2:], *rest]))


def tiles_of(op: Op, machine: Machine) -> Tiles | None:
    """The tiles of a Conv with constant filters for which they pay; None for any other."""
    weights = op.constant_operand(1)
    shape, result = op.needed(0).shape or (), op.result.shape or ()
    if weights is None or weights.shape[2:] != (3, 3) or op.integer("group", 1) != 1:
        return None
    if {*(op.integers("strides") or ()), *(op.integers("dilations") or ())} - {1}:
        return None
    batch, channels = (size for size in shape[:2] if isinstance(size, int))
    height, width = (size for size in result[2:] if isinstance(size, int))
    tiles = Tiles(batch, -(-height // TILE), -(-width // TILE), channels, weights.shape[0])
    return tiles if pays(tiles, batch * height * width, machine) else None


def border_for(op: Op, window: Window, machine: Machine) -> Window:
    """The window with the border that the kernels of a Conv read: that of whole tiles where it is made in tiles."""
    if tiles_of(op, machine) is None:
        return window
    beyond = [-size % TILE for size in (op.result.shape or ())[2:] if isinstance(size, int)]
    return replace(window, ends=tuple(end + more for end, more in zip(window.ends, beyond, strict=True)))

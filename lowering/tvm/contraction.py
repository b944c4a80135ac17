"""Contractions: products summed over some axes, as register tiles that run at the arithmetic limit; convolutions among them.

One description holds for matrix products and convolutions of any rank: addresses are affine in all axes,

    C[outer, row, column] = sum over the reduced axes of A[outer, row, reduced (, column)] * B[group, reduced, column]

and B lies packed in the order in which the inner loop reads it: panels of columns, in each the reduced axes, in those the
columns of the panel. Tile sizes follow from the vector unit and the caches by the model in `tiling.py`.

Method: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008), without packing A, whose rows are
read by broadcast; for convolutions as Georganas et al., "Anatomy of High-Performance Deep Learning Convolutions" (2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from irc.ir import DType

from .axes import Axis, Contraction
from .casting import widened
from .kernel import Kernel, Writer, product, tir_name
from .lanes import held
from .panels import packed_columns
from .stored import Stored
from .tiling import Ahead, Extent, Machine, Tiling, choose_tiling

Epilogue = Callable[[Writer, str, str, str], str]
"""The new value of an element of C, given its value, its place in C and its column, counted over all groups; it stands in a
vectorized loop over columns."""


def tiling_of(wanted: Contraction, machine: Machine) -> Tiling:
    """How a contraction, its axes collapsed, is cut by the model."""
    return choose_tiling(extent_of(wanted), wanted.arithmetic.leaves_of(machine))


def extent_of(wanted: Contraction) -> Extent:
    """What there is to cut of a contraction, its axes collapsed."""
    outer = product([axis.size for axis in wanted.outer]) // wanted.groups
    return Extent(outer, wanted.rows.size, wanted.columns, wanted.depth, wanted.groups, wanted.rows.in_a)


def contraction(
    wanted: Contraction,
    tiling: Tiling,
    operands: Sequence[tuple[DType, int]] = (),
    epilogue: Epilogue | None = None,
    result_dtype: DType | None = None,
    ahead: Ahead | None = None,
    stored: Stored | None = None,
) -> Kernel:
    """The kernel of a contraction whose axes are collapsed.

    Its pointers are A, B packed, the `operands` of the epilogue (buffers b2, b3, ...), each a dtype and a size, then C, which
    has the dtype of the sums unless the epilogue makes another, `result_dtype`, of them. `ahead` says what is fetched of B. A
    B that is `stored` in few bits has more pointers than one.
    """
    writer = Writer()
    arithmetic = wanted.arithmetic
    writer.buffer(wanted.a_dtype if wanted.columns_in_a else arithmetic.lane, wanted.a_size)
    whole = [(arithmetic.lane, wanted.groups * wanted.depth * packed_columns(tiling))]
    weights = whole if stored is None else stored.buffers(wanted.depth, packed_columns(tiling))
    for dtype, size in (*weights, *operands):
        writer.buffer(dtype, size)
    result = writer.buffer(arithmetic.sums if result_dtype is None else result_dtype, wanted.c_size)
    if tiling.lanes in arithmetic.support:
        writer.line(f'T.attr(0, "pragma_import_llvm", {arithmetic.support[tiling.lanes]!r})')
    return _Writing(writer, wanted, tiling, result, epilogue, ahead, stored).kernel()


@dataclass(frozen=True, slots=True)
class _Panel:
    """A panel of B: its group, its number therein, the buffer it lies in, where, and what is fetched meanwhile, if anything."""

    group: str
    number: str
    buffer: str
    base: str
    fetched: str = ""


@dataclass(frozen=True, slots=True)
class _Writing:
    """A kernel of a contraction in the making."""

    writer: Writer
    wanted: Contraction
    tiling: Tiling
    result: str
    epilogue: Epilogue | None
    ahead: Ahead | None
    stored: Stored | None

    def kernel(self) -> Kernel:
        wanted, tiling, writer = self.wanted, self.tiling, self.writer
        tiles, panels = self._outer_size * self._row_tiles, wanted.groups * tiling.panels
        chunks, shares = -(-tiles // tiling.tiles_per_task), -(-panels // tiling.panels_per_task)
        if tiling.panel_first:
            share, chunk = f"task % {shares}", f"task // {shares}"
        else:
            share, chunk = f"task // {chunks}", f"task % {chunks}"
        share, chunk = writer.let("int32", share), writer.let("int32", chunk)
        with ExitStack() as blocks:
            panel = _part(writer, blocks, share, tiling.panels_per_task, panels)
            group = writer.let("int32", f"{panel} // {tiling.panels}") if wanted.groups > 1 else "0"
            within = writer.let("int32", f"{panel} % {tiling.panels}") if wanted.groups > 1 else panel
            lying = self._lying(group, within)
            tile = _part(writer, blocks, chunk, tiling.tiles_per_task, tiles)
            self._panels(tile, replace(lying, fetched=self._fetched(tile, shares, chunks)))
        return replace(writer.kernel(shares * chunks, wanted.flops), way=f"{wanted.key} {tiling.text}")

    @property
    def _streams(self) -> Stored | None:
        """How B lies where one register tile has all rows: it is unpacked slice by slice, since nothing reads it again."""
        alone = self._outer_size * self._row_tiles == 1 and len(self.wanted.reduced) == 1 and not self.wanted.columns_in_a
        return self.stored if alone else None

    def _lying(self, group: str, number: str) -> _Panel:
        """Where a panel lies: in B, or on the stack where it is unpacked."""
        tiling, depth = self.tiling, self.wanted.depth
        if self._streams is not None:
            return _Panel(group, number, self.writer.local("float32", self._streams.slice * tiling.panel), "0")
        if self.stored is not None:
            return _Panel(group, number, self.stored.unpacked(self.writer, depth, tiling, number), "0")
        start = f"{group} * {depth * packed_columns(tiling)} + {number} * {depth * tiling.panel}"
        return _Panel(group, number, "b1", self.writer.let("int32", start))

    def _fetched(self, tile: str, shares: int, chunks: int) -> str:
        """Where in B the first element is that a register tile fetches ahead; empty where it fetches none."""
        if self.ahead is None:
            return ""
        tiling, depth = self.tiling, self.wanted.depth
        follower = f"task + {self.ahead.threads}"
        panel = f"({follower}) % {shares}" if tiling.panel_first else f"({follower}) // {chunks}"
        start = f"T.min({panel}, {shares - 1}) * {depth * tiling.panel}"
        return self.writer.let("int32", f"{start} + {tile} % {tiling.tiles_per_task} * {depth * self.ahead.step}")

    @property
    def _outer_size(self) -> int:
        return product([axis.size for axis in self.wanted.outer]) // self.wanted.groups

    @property
    def _row_tiles(self) -> int:
        return -(-self.wanted.rows.size // self.tiling.tile_rows)

    def _panels(self, tile: str, panel: _Panel) -> None:
        """The tile for the panel, which is a full one or the last."""
        tiling, writer = self.tiling, self.writer
        if not tiling.rest:
            self._rows(tile, panel, tiling.vectors, tiling.panel)
        elif not tiling.full_panels:
            self._rows(tile, panel, tiling.tail_vectors, tiling.rest)
        else:
            with writer.block(f"if {panel.number} < {tiling.full_panels}"):
                self._rows(tile, panel, tiling.vectors, tiling.panel)
            with writer.block("else"):
                self._rows(tile, panel, tiling.tail_vectors, tiling.rest)

    def _rows(self, tile: str, panel: _Panel, vectors: int, width: int) -> None:
        """The tile with all its rows, or with those that are left at the end."""
        writer, rows = self.writer, self.wanted.rows.size
        full, rest = divmod(rows, self.tiling.tile_rows)
        outer, place = ("0", tile)
        if self._outer_size > 1:
            outer = writer.let("int32", f"{tile} // {self._row_tiles}")
            place = writer.let("int32", f"{tile} % {self._row_tiles}")
        if not rest:
            self._tile(outer, place, panel, self.tiling.tile_rows, vectors, width)
        elif not full:
            self._tile(outer, place, panel, rest, vectors, width)
        else:
            with writer.block(f"if {place} < {full}"):
                self._tile(outer, place, panel, self.tiling.tile_rows, vectors, width)
            with writer.block("else"):
                self._tile(outer, place, panel, rest, vectors, width)

    def _tile(self, outer: str, place: str, panel: _Panel, rows: int, vectors: int, width: int) -> None:
        """One register tile: cleared, summed, and stored through the epilogue."""
        writer, wanted, tiling = self.writer, self.wanted, self.tiling
        lanes, row = tiling.lanes, f"{place} * {tiling.tile_rows}"
        in_a, in_c = self._bases(outer, panel.group)
        a_base = writer.let("int32", f"{wanted.a_offset}{in_a} + {row} * {wanted.rows.in_a}")
        first = f"{panel.number} * {tiling.panel}"
        c_base = writer.let("int32", f"{wanted.c_offset}{in_c} + {row} * {wanted.rows.in_c} + {first}")
        widths = [min(lanes, width - vector * lanes) for vector in range(vectors)]
        arithmetic = wanted.arithmetic
        kind = tir_name(arithmetic.sums)
        sums = writer.local(kind, rows, vectors * lanes)
        with writer.loop(rows, "unroll") as i, writer.loop(vectors, "unroll") as j:
            writer.line(f"{sums}[{i}, T.ramp({j} * {lanes}, 1, {lanes})] = T.broadcast({arithmetic.zero}, {lanes})")
        if wanted.columns_in_a:
            a_base = writer.let("int32", f"{a_base} + {first}")
        self._sum(sums, a_base, panel, rows, widths)
        for vector, here in enumerate(widths):
            with writer.loop(rows, "unroll") as i, writer.loop(here, "vectorized") as lane:
                value = writer.let(kind, f"{sums}[{i}, {vector * lanes} + {lane}]")
                column = f"{vector * lanes} + {lane}"
                target = f"{c_base} + {i} * {wanted.rows.in_c} + {column}"
                if self.epilogue is not None:
                    whole = f"{panel.group} * {wanted.columns} + {first} + {column}"
                    value = self.epilogue(writer, value, target, whole)
                writer.line(f"{self.result}[{target}] = {value}")

    def _bases(self, outer: str, group: str) -> tuple[str, str]:
        """What the outer axes add to the places in A and in C, as texts that begin with a plus sign or are empty."""
        axes = list(self.wanted.outer)
        in_a, in_c = "", ""
        if self.wanted.groups > 1:
            first = axes.pop(0)
            in_a, in_c = f" + {group} * {first.in_a}", f" + {group} * {first.in_c}"
        left = self._outer_size
        for number, axis in enumerate(axes):
            left //= axis.size
            index = outer if left == 1 else f"{outer} // {left}"
            index = index if number == 0 else f"({index}) % {axis.size}"
            in_a += f" + ({index}) * {axis.in_a}"
            in_c += f" + ({index}) * {axis.in_c}"
        return in_a, in_c

    def _sum(self, sums: str, a_base: str, panel: _Panel, rows: int, widths: Sequence[int]) -> None:
        """The loops over the reduced axes; their body is unrolled into loads, broadcasts and multiply-adds."""
        if self._streams is not None:
            self._sum_of_slices(self._streams, sums, a_base, panel, rows, widths)
            return
        writer, lanes = self.writer, self.tiling.lanes
        inner = self._shared
        with ExitStack() as loops:
            in_a, in_b = a_base, "0"
            for axis in self.wanted.reduced[: len(self.wanted.reduced) - len(inner)]:
                index = loops.enter_context(writer.loop(axis.size))
                in_a = f"{in_a} + {index} * {axis.in_a}"
                in_b = f"({in_b}) * {axis.size} + {index}"
            if self.ahead is not None:
                place = f"T.address_of(b1[{panel.fetched} + ({in_b}) * {self.ahead.step}])"
                writer.line(f'T.evaluate(T.call_llvm_intrin("void", "llvm.prefetch", {place}, {FOR_READING}, {IN_L2}, 1))')
            taps = inner[0] if inner else Axis(1, 0)
            a = writer.let("int32", in_a)
            b = writer.let("int32", f"{panel.base} + ({in_b}) * {taps.size * len(widths) * lanes}")
            if self.wanted.columns_in_a:
                self._taps(sums, a, b, panel, rows, widths, taps)
            else:
                self._multiply_add(sums, a, f"{panel.buffer}[T.ramp({b}", rows, len(widths))

    def _taps(self, sums: str, a: str, b: str, panel: _Panel, rows: int, widths: Sequence[int], taps: Axis) -> None:
        """One step of the sum, or as many as there are `taps`, where A has the columns.

        What several rows read at one place of A is read, and widened, once.
        """
        writer, lanes, dtype = self.writer, self.tiling.lanes, self.wanted.a_dtype
        readers: dict[int, list[tuple[int, int]]] = {}
        for row, tap in itertools.product(range(rows), range(taps.size)):
            readers.setdefault(row * self.wanted.rows.in_a + tap * taps.in_a, []).append((row, tap))
        for j, width in enumerate(widths):  # what is behind the last column need not be A's
            for place, reading in sorted(readers.items()):
                factor = f"b0[{_lanes(f'{a} + {place + j * lanes}', width)}]"
                factor = held(writer, "float32", width, factor if dtype is DType.F32 else widened(factor, dtype, width))
                for row, tap in reading:
                    target = f"{sums}[{row}, {_lanes(str(j * lanes), width)}]"
                    weights = f"{panel.buffer}[{_lanes(f'{b} + {(tap * len(widths) + j) * lanes}', width)}]"
                    writer.line(f"{target} = {target} + {factor} * {weights}")

    @property
    def _shared(self) -> tuple[Axis, ...]:
        """The last reduced axis where rows share what they read along it and widen: f32 is read where it is multiplied."""
        last = self.wanted.reduced[-1]
        widens = self.wanted.columns_in_a and self.wanted.a_dtype is not DType.F32
        return (last,) if widens and last.size <= MOST_TAPS else ()

    def _sum_of_slices(self, stored: Stored, sums: str, a_base: str, panel: _Panel, rows: int, widths: Sequence[int]) -> None:
        """The sum over slices of B, each unpacked right before it is read."""
        writer, (axis,), width = self.writer, self.wanted.reduced, len(widths) * self.tiling.lanes
        with writer.loop(axis.size // stored.slice) as number:
            stored.sliced(writer, panel.buffer, axis.size, self.tiling, panel.number, width, number)
            with writer.loop(stored.slice) as step:
                a = writer.let("int32", f"{a_base} + ({number} * {stored.slice} + {step}) * {axis.in_a}")
                b = writer.let("int32", f"{step} * {width}")
                self._multiply_add(sums, a, f"{panel.buffer}[T.ramp({b}", rows, len(widths))

    def _multiply_add(self, sums: str, a: str, b: str, rows: int, vectors: int) -> None:
        """One step of the sum; `a` is a text of where its column of A is, `b` the begin of that for its row of B."""
        writer, lanes = self.writer, self.tiling.lanes
        with writer.loop(rows, "unroll") as i, writer.loop(vectors, "unroll") as j:
            place = f"{sums}[{i}, T.ramp({j} * {lanes}, 1, {lanes})]"
            factor = f"T.broadcast(b0[{a} + {i} * {self.wanted.rows.in_a}], {lanes})"
            weights = f"{b} + {j} * {lanes}, 1, {lanes})]"
            writer.line(f"{place} = {self.wanted.arithmetic.multiply_add(place, factor, weights, lanes)}")


MOST_TAPS = 7
"""Neighbours that rows share, of a row of a window, which are written out."""
FOR_READING, IN_L2 = 0, 2
"""LLVM's words for what is fetched ahead, and for where it is kept."""


def _lanes(first: str, count: int) -> str:
    """The index of so many elements side by side."""
    return first if count == 1 else f"T.ramp({first}, 1, {count})"


def _part(writer: Writer, blocks: ExitStack, part: str, size: int, total: int) -> str:
    """A loop over a part of `size` of `total` things, the last part perhaps smaller; the number of each thing."""
    step = blocks.enter_context(writer.loop(min(size, total)))
    number = writer.let("int32", f"{part} * {size} + {step}")
    if total % size and total > size:
        blocks.enter_context(writer.block(f"if {number} < {total}"))
    return number


__all__ = ["Epilogue", "contraction", "extent_of", "tiling_of"]

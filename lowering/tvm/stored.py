"""How a B of few bits lies in a kernel's memory, and how a panel of it is unpacked onto the stack.

Law: a weight is (number - zero point) * scale in f32, as DequantizeLinear makes it. Numbers lie unsigned, two of 4 bits to a
byte, the lower that of the earlier step of the sum; numbers, scales and zero points lie in panels as an unpacked B does.
"""

from __future__ import annotations

from dataclasses import dataclass

from irc.ir import DType

from .kernel import Writer, tir_name
from .tiling import Tiling

LARGEST_PANEL = 1 << 20
"""Bytes of a panel that are unpacked onto the stack of a thread."""
LONGEST_SLICE = 64
"""Steps of a sum that are unpacked at a time where nothing reads them again: they stay in the first-level cache."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Steps of a sum that are unpacked in one go: how many, texts of their block, their first byte, and where they go."""

    steps: int
    block: str
    first: str
    into: str


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights of 4 or 8 `bits`, of which so many steps of a sum, a `block`, have one scale, f16 or f32, and one zero point."""

    bits: int
    block: int
    scale_dtype: DType

    @property
    def in_a_byte(self) -> int:
        """How many numbers a byte holds."""
        return 8 // self.bits

    def fits(self, depth: int, tiling: Tiling) -> bool:
        """Whether sums so long are whole blocks of whole bytes, and a panel fits onto the stack."""
        return not depth % self.block and not self.block % self.in_a_byte and 4 * depth * tiling.panel <= LARGEST_PANEL

    @property
    def slice(self) -> int:
        """How many steps of a sum are unpacked at a time where nothing reads them again; all are of one block."""
        sizes = range(min(self.block, LONGEST_SLICE), 0, -1)
        return next((each for each in sizes if not self.block % each and not each % self.in_a_byte), self.block)

    def buffers(self, depth: int, columns: int) -> list[tuple[DType, int]]:
        """Dtypes and sizes of the numbers, the scales, and the zero points, of so many columns in panels."""
        blocks = depth // self.block
        return [
            (DType.U8, depth // self.in_a_byte * columns),
            (self.scale_dtype, blocks * columns),
            (DType.U8, blocks * columns),
        ]

    def unpacked(self, writer: Writer, depth: int, tiling: Tiling, panel: str) -> str:
        """The name of the f32 weights of a panel; they are buffers 1 to 3 of the kernel."""
        target = writer.local("float32", depth * tiling.panel)
        if not tiling.rest:
            self._panel(writer, target, depth, tiling, panel, tiling.panel)
        elif not tiling.full_panels:
            self._panel(writer, target, depth, tiling, panel, tiling.tail_panel)
        else:
            with writer.block(f"if {panel} < {tiling.full_panels}"):
                self._panel(writer, target, depth, tiling, panel, tiling.panel)
            with writer.block("else"):
                self._panel(writer, target, depth, tiling, panel, tiling.tail_panel)
        return target

    def _panel(self, writer: Writer, target: str, depth: int, tiling: Tiling, panel: str, width: int) -> None:
        """One panel of so many columns, block by block."""
        with writer.loop(depth // self.block) as block:
            chunk = Chunk(self.block, block, f"{block} * {self.block // self.in_a_byte}", f"{block} * {self.block}")
            self.chunk(writer, target, depth, tiling, panel, width, chunk)

    def sliced(self, writer: Writer, target: str, depth: int, tiling: Tiling, panel: str, width: int, number: str) -> None:
        """The slice of a panel of so many columns with this number, at the begin of `target`."""
        block = writer.let("int32", f"{number} * {self.slice} // {self.block}")
        chunk = Chunk(self.slice, block, f"{number} * {self.slice // self.in_a_byte}", "0")
        self.chunk(writer, target, depth, tiling, panel, width, chunk)

    def chunk(self, writer: Writer, target: str, depth: int, tiling: Tiling, panel: str, width: int, chunk: Chunk) -> None:
        """Some steps of a panel of so many columns, a vector of columns at a time."""
        blocks = depth // self.block
        with writer.loop(width // tiling.lanes) as vector:
            of_block = writer.let(
                "int32", f"{panel} * {blocks * tiling.panel} + {chunk.block} * {width} + {vector} * {tiling.lanes}"
            )
            scale, zero = (writer.local("float32", tiling.lanes) for _ in range(2))
            with writer.loop(tiling.lanes, "vectorized") as lane:
                writer.line(f'{scale}[{lane}] = T.Cast("float32", b2[{of_block} + {lane}])')
                writer.line(f'{zero}[{lane}] = T.Cast("float32", b3[{of_block} + {lane}])')
            with writer.loop(chunk.steps // self.in_a_byte) as row:
                step = writer.let("int32", f"{chunk.first} + {row}")
                first = f"{panel} * {depth // self.in_a_byte * tiling.panel} + {step} * {width} + {vector} * {tiling.lanes}"
                place = writer.let("int32", first)
                into = writer.let("int32", f"{chunk.into} + {row} * {self.in_a_byte}")
                with writer.loop(tiling.lanes, "vectorized") as lane:
                    kind = tir_name(DType.U8)
                    number = writer.value(kind, f"b1[{place} + {lane}]")
                    for half in range(self.in_a_byte):
                        own = number if self.bits == 8 else _nibble(number, half)
                        at = f"({into} + {half}) * {width} + {vector} * {tiling.lanes} + {lane}"
                        plain = writer.value("float32", f'T.Cast("float32", {own}) - {zero}[{lane}]')
                        writer.line(f"{target}[{at}] = {plain} * {scale}[{lane}]")


def _nibble(number: str, half: int) -> str:
    return f"T.shift_right({number}, T.uint8(4))" if half else f"T.bitwise_and({number}, T.uint8(15))"

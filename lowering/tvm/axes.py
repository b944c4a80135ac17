"""What a contraction sums: its axes, where their elements lie, and how many of them share a lane.

Law: addresses are affine in all axes; axes that lie one behind the other are one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from irc.ir import DType

from .arithmetic import F32, Arithmetic
from .kernel import product


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a contraction: its size, and how many elements apart its own lie in A and in C; 0 where it is not there."""

    size: int
    in_a: int
    in_c: int = 0


@dataclass(frozen=True, slots=True)
class Contraction:
    """A contraction whose columns lie side by side in C.

    `outer` axes are looped over, of which the first is that of the groups where `groups` is more than 1; `rows` are those of
    the register tile; `reduced` axes are in the order of B's. Offsets are of the first elements. With `columns_in_a` A has the
    columns too, side by side, as in a depthwise convolution. In an arithmetic that sums several products in a lane, sizes,
    strides and offsets of A and of the reduced axes count lanes; `in_lanes` makes them so. An A that has the columns may lie in
    another dtype, `a_dtype`, and is widened to f32.
    """

    outer: tuple[Axis, ...]
    rows: Axis
    reduced: tuple[Axis, ...]
    columns: int
    a_size: int
    c_size: int
    a_offset: int = 0
    c_offset: int = 0
    groups: int = 1
    columns_in_a: bool = False
    arithmetic: Arithmetic = F32
    a_dtype: DType = DType.F32

    @property
    def depth(self) -> int:
        """How many lanes of products a sum has."""
        return product([axis.size for axis in self.reduced])

    @property
    def row_count(self) -> int:
        """How many rows there are, over all outer axes but the groups."""
        return product([axis.size for axis in self.outer]) // self.groups * self.rows.size

    @property
    def flops(self) -> int:
        """Floating-point operations, a multiplication and an addition for each product."""
        return 2 * self.groups * self.row_count * self.depth * self.arithmetic.together * self.columns

    @property
    def key(self) -> str:
        """A name for those that only lie elsewhere: `128x3072x768-1a2b3c4d`, rows, columns, depth, and a digest of the rest."""
        axes = (self.outer, self.rows, self.reduced)
        lying = () if self.a_dtype is DType.F32 else (self.a_dtype.text,)
        said = repr((axes, self.columns, self.groups, self.columns_in_a, self.arithmetic.name, *lying))
        return f"{self.row_count}x{self.columns}x{self.depth}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"

    def collapsed(self) -> Contraction:
        """The same with fewer axes: neighbours that lie one behind the other are one, outer ones into the rows too."""
        outer, rows = list(self.outer), self.rows
        while len(outer) > (self.groups > 1) and _follow(outer[-1], rows):
            last = outer.pop()
            rows = Axis(last.size * rows.size, rows.in_a, rows.in_c)
        reduced: list[Axis] = []
        for axis in self.reduced:
            if reduced and _follow(reduced[-1], axis):
                axis = Axis(reduced.pop().size * axis.size, axis.in_a)
            if axis.size > 1 or not reduced:
                reduced.append(axis)
        kept = (axis for number, axis in enumerate(outer) if axis.size > 1 or (number == 0 and self.groups > 1))
        return replace(self, outer=tuple(kept), rows=rows, reduced=tuple(reduced))


def in_lanes(wanted: Contraction, arithmetic: Arithmetic) -> Contraction | None:
    """A contraction that counts elements, in another arithmetic; None where what shares a lane does not lie side by side."""
    together = arithmetic.together
    last = wanted.reduced[-1]
    strides = [axis.in_a for axis in (*wanted.outer, wanted.rows, *wanted.reduced[:-1])]
    whole = not any(number % together for number in (*strides, last.size, wanted.a_offset, wanted.a_size))
    if together > 1 and (last.in_a != 1 or not whole or wanted.columns_in_a):
        return None

    def lanes(axis: Axis) -> Axis:
        return replace(axis, in_a=axis.in_a // together)

    return replace(
        wanted,
        outer=tuple(map(lanes, wanted.outer)),
        rows=lanes(wanted.rows),
        reduced=(*map(lanes, wanted.reduced[:-1]), Axis(last.size // together, last.in_a)),
        a_size=wanted.a_size // together,
        a_offset=wanted.a_offset // together,
        arithmetic=arithmetic,
    )


def _follow(outer: Axis, inner: Axis) -> bool:
    return outer.size == 1 or (inner.size * inner.in_a == outer.in_a and inner.size * inner.in_c == outer.in_c)

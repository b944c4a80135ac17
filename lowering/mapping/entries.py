"""What a rule is asked about: an op, and along which axes its operands have entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from irc.ir import Dim, Op, SymbolicDim, Value, dims
from irc.runtime import MOST_ROWS

Found: TypeAlias = "int | tuple[int, ...] | str"
"""The axis of the results, one for each where they differ, or a clause that says why entries do not stay apart."""
Rule: TypeAlias = "Callable[[Entries], Found]"


@dataclass(frozen=True, slots=True)
class Entries:
    """An op, the dim that counts entries, and along which axes values have them."""

    op: Op
    name: str
    axes: Mapping[Value, int]

    def axis(self, index: int) -> int | None:
        """The axis of an operand; None for one that is shared, or absent."""
        value = self.op.operand(index)
        return None if value is None else self.axes.get(value)

    def shape(self, index: int) -> tuple[Dim, ...]:
        """The shape of an operand; none for one of unknown rank."""
        value = self.op.operand(index)
        return () if value is None else value.shape or ()

    def rows(self, index: int) -> int | None:
        """How many rows an operand has for each entry; None where it has none."""
        axis = self.axis(index)
        return None if axis is None else rows_of(self.shape(index)[axis], self.name)

    def keeps(self, axis: int, index: int = 0) -> bool:
        """Whether the first result has as many rows on `axis` as an operand has on that of its entries."""
        return axis < len(self.made) and rows_of(self.made[axis], self.name) == self.rows(index)

    @property
    def made(self) -> tuple[Dim, ...]:
        """The shape of the first result."""
        return self.op.results[0].shape or ()

    def only(self, *indices: int) -> str:
        """A clause where operands other than these have entries."""
        for index, value in enumerate(self.op.operands):
            if value is not None and value in self.axes and index not in indices:
                return f"operand {index} differs along {self.name}"
        return ""

    def mixes(self, what: str = "it computes") -> str:
        """The clause for an op that goes over the entries."""
        return f"{what} along {self.name}"


def rows_of(dim: Dim, name: str) -> int | None:
    """How many rows an entry has where `dim` counts the rows of all; None where it is no multiple of the number of entries.

    What takes as many as MOST_ROWS takes all there are.
    """
    if isinstance(dim, SymbolicDim) and len(dim.terms) == 1:
        (atoms, factor), *_ = dim.terms
        clipped = factor == 1 and len(atoms) == 1 and isinstance(atoms[0], dims.Call) and atoms[0].function == "min"
        parts = atoms[0].arguments if clipped and isinstance(atoms[0], dims.Call) else ()
        if any(isinstance(part, int) and part >= MOST_ROWS for part in parts):
            dim = next((part for part in parts if not isinstance(part, int)), None)
    rows = None if dim is None else dims.exact_quotient(dim, dims.named(name))
    return rows if isinstance(rows, int) and rows > 0 else None

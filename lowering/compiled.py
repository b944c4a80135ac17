"""What comes out of a compilation, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from irc.ir import Graph
from irc.passes import PassRecord, Undone
from irc.runtime import Decision, Placement, PrecisionReport, Program

from .verification import Agreement


@dataclass(frozen=True)
class Timing:
    """Seconds spent in each part of a compilation."""

    capture: float
    passes: float
    lower: float
    load: float


@dataclass(frozen=True)
class CompiledVariant:
    """What was made for some sizes of dims, or none: where its ops are, and whether it answers as the model does there."""

    dims: Mapping[str, int]
    placement: Sequence[Placement]
    agreement: Agreement

    @property
    def name(self) -> str:
        """Its sizes, as a flag would say them; where there are none it is for calls that override defaults."""
        return "overriding a default" if not self.dims else " ".join(f"{dim}={size}" for dim, size in self.dims.items())


@dataclass(frozen=True)
class Compiled:
    """A compiled model: the program, the graph it was lowered from, and what happened on the way.

    `forms` counts the engine's own rewrites, by name. `checked` rewrites were looked at before they were done; `undone` are
    those found to change answers, and therefore not done; of `unchecked` ones nothing could be said, because the reference
    runs neither side. `decisions` are the candidates that were measured, in the order they were tried.
    Everything is about the program for all sizes; `variants` are those for some, which are made alike. Where inputs have
    defaults, it may be about calls that override none, and `overriding` is what was made for the others. `precision` says what
    became of the one that was asked for.
    """

    program: Program
    graph: Graph
    records: Sequence[PassRecord]
    timing: Timing
    agreement: Agreement
    notes: Sequence[str] = ()
    forms: Mapping[str, int] = field(default_factory=dict[str, int])
    undone: Sequence[Undone] = ()
    unchecked: int = 0
    checked: int = 0
    decisions: Sequence[Decision] = ()
    variants: Sequence[CompiledVariant] = ()
    overriding: CompiledVariant | None = None
    precision: PrecisionReport | None = None

    @property
    def failures(self) -> list[PassRecord]:
        """The passes that were rolled back."""
        return [record for record in self.records if record.failure is not None]

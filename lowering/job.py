"""What goes with a graph through its compilation: what was asked for, and what came with the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from irc.passes import Contract, Instrument
from irc.runtime import Source

from .options import CompileOptions
from .targets import Target


@dataclass(frozen=True)
class Job:
    """A compilation to be done; `target` is the one that the options name.

    `instruments` hear of it. `source` is the model's, and `captured_in` are the seconds spent on it so far. `examples` are
    arrays by input name, to check and measure with where the options give no inputs. Answers may be as far as `allowance` from
    the graph's, in relative L2, where that is more than rounding comes to.
    """

    options: CompileOptions
    target: Target
    instruments: Sequence[Instrument] = ()
    source: Source | None = None
    captured_in: float = 0.0
    examples: Mapping[str, Any] | None = None
    allowance: float = 0.0

    @property
    def strictest(self) -> Contract:
        """What forms of an engine may change: accuracy only where answers may be further off than rounding makes them."""
        return Contract.LOSSY if self.allowance else Contract.REASSOCIATING

    def beside(self, options: CompileOptions) -> Job:
        """The job of a program beside the usual one: no instrument hears of it, and its time counts by itself."""
        return replace(self, options=options, instruments=(), captured_in=0.0)

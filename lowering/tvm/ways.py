"""How contractions are cut: as the model says, but for those of which something else was measured, or is to be.

Law: what is chosen is data, a text for each key of a contraction, from which the same kernels follow again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from irc.ir import UsageError

from .axes import Contraction
from .contraction import extent_of
from .tiling import Machine, Tiling, choose_tiling, neighbours, read_tiling

TILES = "tiles"
"""The setting of the engine with texts by keys, where something else was measured than the model says."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Texts of tilings by the keys of contractions; those whose key is `tried` have their `trial`-th neighbour, from 1 on."""

    chosen: tuple[tuple[str, str], ...] = ()
    trial: int = 0
    tried: frozenset[str] = frozenset()

    @staticmethod
    def of(chosen: Mapping[str, str]) -> Ways:
        """What was chosen, by key."""
        return Ways(tuple(sorted(chosen.items())))

    def text(self, key: str) -> str:
        """What was chosen for a key; an empty text where nothing was."""
        return next((text for known, text in self.chosen if known == key), "")

    def tiling(self, wanted: Contraction, machine: Machine, vectors: int | None = None) -> Tiling:
        """How a contraction, its axes collapsed, is cut, by the model with panels of so many vectors where they are said.

        Raises UsageError for a text that is none of a tiling.
        """
        of, key, machine = extent_of(wanted), wanted.key, wanted.arithmetic.leaves_of(machine)
        for known, text in self.chosen:
            if known == key:
                return _read(key, text, read_tiling(text, of, machine))
        near = neighbours(of, machine) if self.trial and key in self.tried else ()
        return near[self.trial - 1] if self.trial <= len(near) and near else choose_tiling(of, machine, vectors)


AS_MODELLED = Ways()
"""Nothing was measured."""


def _read(key: str, text: str, found: Tiling | None) -> Tiling:
    if found is None:
        raise UsageError(f"'{text}', for the kernel {key}, is no tiling for this machine", hint="compile without it")
    return found

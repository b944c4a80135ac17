"""What to leave out of a compilation whose program answers otherwise than its model: less and less is done.

Law: the first attempt leaves out nothing, and each names what it leaves out, so that a note can say it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from irc.passes import PASSES, Contract

from .options import CompileOptions

NOTHING = "O0"
MOST_SUSPECTS = 16
"""How many rewrites are left out one at a time to find the one that changes answers."""


@dataclass(frozen=True)
class Attempt:
    """One way to compile: the level whose forms lowering uses, and the options and contract to run the passes `anew` with.

    `without` says what it leaves out.
    """

    lowered_as: int
    without: str = ""
    anew: CompileOptions | None = None
    strictest: Contract | None = None


def attempts(options: CompileOptions, applied: Callable[[], Iterable[str]]) -> Iterator[Attempt]:
    """What to try, best first; `applied` tells which rewrites the passes have made."""
    yield Attempt(options.opt_level)
    suspects = sorted(applied())
    plain = min(options.opt_level, 1)
    if options.opt_level >= 2:
        yield Attempt(plain, "the engine's own ops were left out")
    if options.opt_level >= 2 and not options.has_own_passes:
        loose = {n for kind in PASSES for n, contract, _ in kind.rewrites() if contract is Contract.REASSOCIATING}
        for name in [name for name in suspects if name in loose][:MOST_SUSPECTS]:
            anew = replace(options, disable=options.disable | {name})
            yield Attempt(options.opt_level, f"the rewrite '{name}' was left out", anew)
        yield Attempt(plain, "the rewrites that reassociate were left out", options, Contract.EXACT)
    if suspects:
        yield Attempt(plain, "the passes were left out", replace(options, passes=NOTHING), Contract.EXACT)

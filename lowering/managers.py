"""The passes that options ask for, and what checks each rewrite of theirs where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from irc.ir import Graph, UsageError, closest
from irc.passes import LEVELS, Contract, Instrument, PassManager, RegionChecker, Registry

from .engines import ENGINES
from .options import CompileOptions
from .verification import EXAMPLES, GIVEN, MADE_UP, Probe, Verify, probe_of


def rewrite_checker(options: CompileOptions, examples: Mapping[str, Any] | None = None) -> RegionChecker | None:
    """What checks each rewrite where that is asked for, on inputs as `probe_of` has them; it raises UsageError as that does."""
    if options.verify is not Verify.REWRITES:
        return None

    probes: list[Probe | str] = []

    def feeds(graph: Graph) -> Mapping[str, object] | None:
        # Made once, on the graph as captured: of the optimized one the reference may have no kernels.
        if not probes:
            probes.append(probe_of(graph, options.inputs, examples))
        return None if isinstance(probes[0], str) else probes[0].feeds

    return RegionChecker(feeds, GIVEN if options.inputs is not None else MADE_UP if examples is None else EXAMPLES)


def pass_manager(
    options: CompileOptions,
    known: Registry,
    instruments: Sequence[Instrument] = (),
    checker: RegionChecker | None = None,
    strictest: Contract | None = None,
) -> PassManager:
    """The manager for the pipeline that the options name: `passes` where given, else the level's own.

    `strictest` is the loosest contract allowed, by default the level's; beyond that, passes that are named may go as far.

    Raises UsageError for a name to disable that does not exist, and for a pass whose contract the level does not allow.
    """
    names = {name for kind in known.passes.values() for name in (kind.name, *(r[0] for r in kind.rewrites()))}
    names.update(form.name for engine in ENGINES for form in engine.forms)
    for name in sorted(options.disable - names):
        hint = closest(name, sorted(names)) or "`irc passes --rewrites` lists them"
        raise UsageError(f"there is no pass or rewrite '{name}' to disable", hint=hint)
    passes = LEVELS[f"O{options.opt_level}"] if options.passes is None else known.pipeline(options.passes)
    allowed = Contract.EXACT if options.opt_level <= 1 else Contract.REASSOCIATING
    for one in passes:
        if one.contract > max(allowed, allowed if strictest is None else strictest):
            hint = "use -O2" if one.contract is Contract.REASSOCIATING else "`irc opt -O2` runs what changes answers"
            raise UsageError(f"pass '{one.name}' is {one.contract.text}, which O{options.opt_level} does not allow", hint=hint)
    return PassManager(
        passes,
        instruments,
        disabled=options.disable,
        rewrite_limit=options.rewrite_limit,
        strictest=allowed if strictest is None else strictest,
        checker=checker,
    )

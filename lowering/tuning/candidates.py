"""What may be the fastest: an engine, its setting, and the rewrites before it; one row of ALTERNATIVES each thing to try.

Law: among the first candidates is what a user would do by hand with each engine, so that no O3 is slower than that.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from irc.passes import LEVELS, catalogue_by_topic, pipeline_text
from irc.runtime import OptionValue

from ..engine import Engine, Varied
from ..engines import ENGINES, find_engine
from ..options import CompileOptions
from ..targets import Target
from .splits import Split, parse_split

AS_IT_IS = 1
"""The level whose rewrites keep every bit: what an engine gets then is the user's own graph, tidied up."""


@dataclass(frozen=True)
class Candidate:
    """One way to compile.

    `level` is that of the rewrites and the engine's forms; `without` names rewrites to leave out; a `split` runs on several
    engines, of which `engine` is the first. `name` is unique among the candidates of a compilation and says what it is.
    """

    name: str
    engine: Engine
    setting: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])
    level: int = 2
    without: frozenset[str] = frozenset()
    split: Split | None = None

    def options(self, asked: CompileOptions) -> CompileOptions:
        """How the passes are run for it, where `asked` is what the user wants."""
        passes = asked.passes
        if passes is None and self.level < 2:
            passes = pipeline_text(LEVELS[f"O{self.level}"])
        return replace(asked, engine=self.engine.name, passes=passes, disable=asked.disable | self.without)


KERNELS_OF_LOWER_PRECISION = tuple(engine.name for engine in reversed(ENGINES))
"""The engines by how many kernels of lower precision they have, that with most of them first."""


def usable_engines(target: Target) -> list[Engine]:
    """The engines whose programs for a target run here."""
    return [engine for engine in ENGINES if engine.serves(target) and engine.runs(target)]


def first_candidates(options: CompileOptions, target: Target, preferred: Sequence[str] = ()) -> Iterator[Candidate]:
    """Each engine that serves the target with irc's graph, then each with the user's own, then settings that may pay.

    Engines that are `preferred` come first, for where there is no time for all.
    """
    engines = (
        [e for e in ENGINES if e.serves(target) and e.runs(target)] if options.engine is None else [find_engine(options.engine)]
    )
    if set(options.engine_options) - {"threads"}:
        engines = engines[:1]  # its settings mean nothing to another engine
    engines.sort(key=lambda each: preferred.index(each.name) if each.name in preferred else len(preferred))
    for engine in engines:
        for setting in engine.settings(2, target)[:1]:
            yield Candidate(engine.name, engine, setting)
    for engine in engines if options.passes is None else ():
        for setting in engine.defaults(target):
            yield Candidate(f"{engine.name}, graph as it is", engine, setting, AS_IT_IS)
    for engine in engines:
        for name, setting in engine.variants(target).items() if isinstance(engine, Varied) else ():
            yield Candidate(f"{engine.name}, {name}", engine, setting)


def _rules_of(*topics: str) -> frozenset[str]:
    return frozenset(rule.name for topic in topics for rule in catalogue_by_topic()[topic])


@dataclass(frozen=True)
class Alternative:
    """Rewrites that pay on some engines only: what leaving them out is called, and which they are."""

    name: str
    rewrites: Callable[[], frozenset[str]]


ALTERNATIVES: tuple[Alternative, ...] = (
    Alternative("products apart", lambda: frozenset({"merge-products"})),
    Alternative("attention in parts", lambda: _rules_of("attention")),
    Alternative("layout as it is", lambda: frozenset({"layout"})),
)


def alternatives(of: Candidate, applied: Collection[str]) -> Iterator[Candidate]:
    """A candidate again without each group of rewrites of which any was `applied` to it."""
    if of.level < 2:
        return
    for each in ALTERNATIVES:
        left_out = each.rewrites()
        if not left_out.isdisjoint(applied):
            yield replace(of, name=f"{of.name}, {each.name}", without=of.without | left_out)


ONE_THREAD = "one thread"
SHORT = 1.0
"""Milliseconds below which waking other threads may take longer than what they save."""


def with_one_thread(of: Candidate) -> Candidate:
    """A candidate again, on one thread."""
    return replace(of, name=f"{of.name}, {ONE_THREAD}", setting={**of.setting, "threads": 1})


MEASURED_KERNELS = ", measured kernels"


def with_measured_kernels(of: Candidate, setting: Mapping[str, OptionValue]) -> Candidate:
    """A candidate again, its kernels made as a setting says."""
    return replace(of, name=of.name + MEASURED_KERNELS, setting={**of.setting, **setting})


def split_candidate(split: Split) -> Candidate:
    """The candidate that runs a split, with the graph that engines get at O2."""
    return Candidate(split.name, split.engines[0], split=split)


def named(name: str, options: CompileOptions, target: Target) -> Candidate | None:
    """The candidate called `name`, if there is one; also an alternative, whatever was applied. Of kernels it knows nothing."""
    name = name.removesuffix(MEASURED_KERNELS)
    everything = frozenset(rewrite for each in ALTERNATIVES for rewrite in each.rewrites())
    for candidate in first_candidates(options, target):
        for each in (candidate, *alternatives(candidate, everything)):
            if name in (each.name, f"{each.name}, {ONE_THREAD}"):
                return each if each.name == name else with_one_thread(each)
    split = parse_split(name)
    return None if split is None else split_candidate(split)

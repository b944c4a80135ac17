"""What an engine is: it says which ops it takes on a target, and turns a graph into the files its executor runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, runtime_checkable

from irc.ir import Graph, Op, Tensor
from irc.passes import Context, Rule
from irc.runtime import EngineFiles as RuntimeFiles
from irc.runtime import OptionValue, WeightView

from .targets import Target


@dataclass(frozen=True)
class Verdict:
    """Whether an engine takes an op or serves a target; a refusal carries a lower-case clause that says why."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


YES = Verdict()


@dataclass(frozen=True)
class EngineFiles:
    """A lowered graph: the engine's files as chunks of bytes, the weights kept apart, and the ops behind its node names.

    `options` are settings of the engine that go with these files, whatever setting is chosen. `parts` are the files of each
    piece of a plan.
    """

    files: Mapping[str, Sequence[bytes | memoryview]]
    weights: Mapping[str, WeightView]
    op_names: Mapping[str, Op] = field(default_factory=dict[str, Op])
    options: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])
    parts: Mapping[str, EngineFiles] = field(default_factory=dict[str, "EngineFiles"])

    def to_runtime(self) -> RuntimeFiles:
        """The files as the runtime takes them."""
        return RuntimeFiles(self.files, self.weights, {name: part.to_runtime() for name, part in self.parts.items()})


class Engine(Protocol):
    """The protocol of an engine; one folder under `lowering/` each, and one line in `engines.py`."""

    @property
    def name(self) -> str:
        """The name users and manifests call it by."""
        ...

    @property
    def version(self) -> str:
        """The installed version of the library behind it, or an empty string when it is not installed."""
        ...

    def serves(self, target: Target) -> Verdict:
        """Whether it can lower for `target`, which need not be this machine: it is installed and has kernels for its kind."""
        ...

    def runs(self, target: Target) -> Verdict:
        """Whether what it lowers for a `target` that it serves also runs, and can be measured, on this machine as it is."""
        ...

    def takes(self, op: Op, target: Target) -> Verdict:
        """Whether this engine runs `op`, with its operand types, on `target`."""
        ...

    def settings(self, opt_level: int, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """Options for its executor on `target` that keep the contract of a level, fastest first and safest last."""
        ...

    def defaults(self, target: Target) -> Sequence[Mapping[str, OptionValue]]:
        """The options that a user gets the most with by hand, given a graph as it is; each is a candidate of O3."""
        ...

    @property
    def forms(self) -> Sequence[Rule]:
        """The rewrites that lowering may make of ops, to say them as the engine runs them fastest."""
        ...

    def lower(self, graph: Graph, target: Target, opt_level: int, context: Context | None = None) -> EngineFiles:
        """The files of a graph, every op of which it takes; the graph stays as it is but for dims found to be assumed.

        `context` says which of the engine's `forms` may be used, is asked before each use, and counts them.
        """
        ...


@runtime_checkable
class Varied(Protocol):
    """What an engine may have beside: settings that pay for some models only."""

    def variants(self, target: Target) -> Mapping[str, Mapping[str, OptionValue]]:
        """Such settings on `target` by name; each is a candidate of O3, with the graph that its `settings` get at O2."""
        ...


@runtime_checkable
class Particular(Protocol):
    """What an engine may have beside: a say in the signature of a graph, all ops of which it takes."""

    def takes_signature(self, graph: Graph) -> Verdict:
        """Whether it runs a graph with such inputs and outputs."""
        ...


@runtime_checkable
class Blockwise(Protocol):
    """What an engine may have beside that takes nothing but sizes known ahead: blocks, for graphs that map over a dim.

    Such a graph it takes where it takes those for all of its blocks.
    """

    def block_sizes(self, graph: Graph, target: Target) -> Sequence[int]:
        """How many entries it computes at a time, the largest block first, and 1 at last; none where it does no such thing."""
        ...


@runtime_checkable
class Estimated(Protocol):
    """What an engine may have beside that takes long to lower: how long, so that a search ends when it should."""

    def seconds_to_lower(self, graph: Graph, target: Target) -> float:
        """About how long `lower` takes where nothing of what it makes is in a cache."""
        ...


@runtime_checkable
class Tunable(Protocol):
    """What an engine may have beside: kernels that can be made in several ways, of which it chooses one by a model.

    In the plan of its programs a kernel says the key of what it computes, and its way; for each key others can be tried.
    """

    @property
    def trials(self) -> int:
        """How many other ways a kernel has at most."""
        ...

    def trial(self, number: int, keys: Collection[str], deadline: float) -> Engine:
        """The engine that makes the kernels of `keys` in their `number`-th other way, from 1 on, the best ones first.

        Who has less ways is made as always. Lowering fails with EngineFailure at `deadline`, a time of `time.monotonic`.
        """
        ...

    def chosen(self, ways: Mapping[str, str]) -> Mapping[str, OptionValue]:
        """The settings that say how kernels are made, by their keys."""
        ...

    def with_settings(self, settings: Mapping[str, OptionValue]) -> Engine:
        """The engine that makes kernels as is said among its settings. Raises UsageError where that cannot be."""
        ...


@runtime_checkable
class Native(Protocol):
    """What an engine may have beside: programs that run on their target alone, so nothing of one elsewhere can be checked."""

    def why_not_elsewhere(self, target: Target) -> str:
        """Why no other machine runs programs for `target`, as a clause."""
        ...


class Wish(Enum):
    """How else a graph in lower precision may be rounded, for an engine that is faster then."""

    ROUNDED_RESULTS = "rounded results"  # what an integer convolution makes, though no contraction reads it
    NARROW_ATTENTION = "narrow attention"  # queries, keys and values that come from contractions in lower precision, to bf16
    SMALL_NEIGHBOURS = "small neighbours"  # weights of 8 bits, two of which are no larger together than sums in 16 bits take


@runtime_checkable
class Wishing(Protocol):
    """What an engine may have beside: wishes for graphs in lower precision."""

    def wishes(self, target: Target) -> frozenset[Wish]:
        """What makes it faster on `target`."""
        ...


@runtime_checkable
class Partial(Protocol):
    """What an engine may have beside: another that gets what it does not take, even where a user asks for it alone."""

    @property
    def rest(self) -> str:
        """The name of the engine that gets the rest."""
        ...


def weight_view(tensor: Tensor) -> WeightView:
    """A constant as the runtime takes it; the bytes stay where they are unless the constant is a reordered view."""
    data = tensor.data
    assert isinstance(data, memoryview), "strings stay in the engine's model"
    return WeightView(tensor.dtype.text, tensor.shape, data)

"""What an engine is: it says which ops it takes on a target, and turns a graph into the files its executor runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from irc.ir import Graph, Op, Tensor
from irc.passes import Context, Rule
from irc.runtime import OptionValue, WeightView

from .targets import Target


@dataclass(frozen=True)
class Verdict:
    """Whether an engine takes an op; a refusal carries a lower-case clause that says why."""

    reason: str = ""

    def __bool__(self) -> bool:
        return not self.reason


YES = Verdict()


@dataclass(frozen=True)
class EngineFiles:
    """A lowered graph: the engine's files as chunks of bytes, the weights kept apart, and the ops behind its node names.

    `options` are settings of the engine that go with these files, whatever setting is chosen.
    """

    files: Mapping[str, Sequence[bytes]]
    weights: Mapping[str, WeightView]
    op_names: Mapping[str, Op] = field(default_factory=dict[str, Op])
    options: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])


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

    def takes(self, op: Op, target: Target) -> Verdict:
        """Whether this engine runs `op`, with its operand types, on `target`."""
        ...

    def settings(self, opt_level: int) -> Sequence[Mapping[str, OptionValue]]:
        """Options for its executor that keep the contract of a level, fastest first and safest last."""
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


def weight_view(tensor: Tensor) -> WeightView:
    """A constant as the runtime takes it; the bytes stay where they are unless the constant is a reordered view."""
    data = tensor.data
    assert isinstance(data, memoryview), "strings stay in the engine's model"
    return WeightView(tensor.dtype.text, tensor.shape, data)

"""How a graph of torch.compile is traced again: as a module with the weights for attributes, called with the caller's tensors.

torch.compile passes everything as a flat list: weights, sizes and the caller's tensors. Each place of that list is a slot here.
"""

# pyright: basic
from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import Dim
from torch.fx.traceback import preserve_node_meta

from .trees import unique

_TAKEN = frozenset(dir(torch.nn.Module()))


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor that the caller passes; `open_dims` are those dynamo holds open."""

    name: str
    open_dims: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of the module, called by the path that leads to it."""

    path: str


@dataclass(frozen=True, slots=True)
class Size:
    """A size that is a dim of another placeholder's tensor."""

    place: int
    axis: int


@dataclass(frozen=True, slots=True)
class Known:
    """A number that no tensor carries; dynamo guards that it stays the same."""

    value: Any


Slot = Given | Weight | Size | Known


@dataclass(frozen=True)
class Traced:
    """A graph of torch.compile: its slots, the nodes that are known numbers, and the outputs that others make."""

    module: torch.fx.GraphModule
    slots: tuple[Slot, ...]
    numbers: Mapping[str, float]
    left_out: tuple[int, ...]


class Replay:
    """How dynamo's graph is captured: as a module with the weights for attributes, called with the caller's tensors."""

    def __init__(self, graph: Traced, args: Sequence[Any], variable: frozenset[int]) -> None:
        self._graph = graph
        self._owners: dict[int, tuple[torch.nn.Module, str]] = {}
        self.places = tuple(p for p, s in enumerate(graph.slots) if isinstance(s, Given) or p in variable)
        self.module = torch.nn.Module()
        for place, slot in enumerate(graph.slots):
            if isinstance(slot, Weight) and place not in variable:
                self._attach(slot.path, place, args[place])
        names = unique((identifier(described(graph.slots[place])) for place in self.places), set())
        self.inputs = tuple(_ordinary(args[place]) for place in self.places)
        dims = [getattr(graph.slots[place], "open_dims", ()) for place in self.places]
        self.open_dims = {name: dict.fromkeys(axes, Dim.AUTO) for name, axes in zip(names, dims, strict=True) if axes}
        self.module.forward = self._forward(names)
        self.module.eval()

    def _forward(self, names: Sequence[str]) -> Callable[..., Any]:
        """The forward with a signature that has the inputs' names, which the capture calls them by."""

        def forward(*tensors: torch.Tensor) -> tuple[Any, ...]:
            return self._run(tensors)

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        signature = inspect.Signature([inspect.Parameter(name, kind) for name in names])
        forward.__signature__ = signature  # type: ignore[attr-defined]  # inspect.signature reads it
        return forward

    def _attach(self, path: str, place: int, tensor: torch.Tensor) -> None:
        *parts, name = path.split(".")
        owner = self.module
        for part in parts:
            if part not in owner._modules:
                owner.add_module(part, torch.nn.Module())
            owner = owner.get_submodule(part)
        if isinstance(tensor, torch.nn.Parameter):
            owner.register_parameter(name, tensor)
        else:
            owner.register_buffer(name, tensor)
        self._owners[place] = (owner, name)

    def _run(self, tensors: Sequence[torch.Tensor]) -> tuple[Any, ...]:
        graph = self._graph
        values: list[Any] = [None] * len(graph.slots)
        for place, tensor in zip(self.places, tensors, strict=True):
            values[place] = tensor
        for place, (owner, name) in self._owners.items():
            values[place] = getattr(owner, name)
        for place, slot in enumerate(graph.slots):
            if isinstance(slot, Size):
                values[place] = values[slot.place].shape[slot.axis]
            elif isinstance(slot, Known):
                values[place] = slot.value
        with preserve_node_meta():
            results = _Interpreter(graph.module, graph.numbers).run(*values)
        return tuple(each for index, each in enumerate(results) if index not in graph.left_out)


class _Interpreter(torch.fx.Interpreter):
    """Runs a graph node by node, so that what is traced keeps each node's line and module; some nodes are numbers."""

    def __init__(self, module: torch.fx.GraphModule, numbers: Mapping[str, float]) -> None:
        super().__init__(module)
        self._numbers = numbers

    def run_node(self, n: torch.fx.Node) -> Any:
        return self._numbers[n.name] if n.name in self._numbers else super().run_node(n)


def identifier(text: str) -> str:
    """A name that a parameter may have, and that no attribute of a module hides."""
    name = re.sub(r"\W", "_", text) or "input"
    plain = name.isidentifier() and not keyword.iskeyword(name) and name not in _TAKEN
    return name if plain else f"{name}_" if name.isidentifier() else f"_{name}"


def described(slot: Slot) -> str:
    """What a slot is called."""
    return slot.name if isinstance(slot, Given) else slot.path if isinstance(slot, Weight) else "a number"


def _ordinary(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as torch.export takes it; of its values nothing depends."""
    if not tensor.is_inference():
        return tensor
    with torch.inference_mode(False):
        return tensor.clone()

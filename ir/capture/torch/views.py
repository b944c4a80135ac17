"""Outputs of a graph that are views of its inputs: torch makes them at every call, since the caller may write through them.

Law: a result that shares memory with an input in eager mode shares it here too; one that does not never does.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Views:
    """The places of the outputs that are views, and the function from all arguments of the graph to these outputs."""

    places: tuple[int, ...] = ()
    make: Callable[..., tuple[Any, ...]] | None = None

    def __bool__(self) -> bool:
        return bool(self.places)

    def merge(self, computed: Sequence[Any], args: Sequence[Any]) -> list[Any]:
        """All results in order: those computed, and between them the views of these arguments."""
        assert self.make is not None
        results = list(computed)
        for place, view in zip(self.places, self.make(*args), strict=True):
            results.insert(place, view)
        return results


def views_of_inputs(module: torch.fx.GraphModule, inputs: Sequence[Any]) -> Views:
    """The outputs that share memory with an input; `inputs` are the values the graph was traced with, by placeholder."""
    owners = {_memory(value) for value in inputs if isinstance(value, torch.Tensor)} - {None}
    outputs: Any = module.graph.output_node().args[0]
    if not isinstance(outputs, (tuple, list)):
        return Views()
    places: list[int] = []
    needed: dict[torch.fx.Node, None] = {}
    for place, node in enumerate(outputs):
        if not isinstance(node, torch.fx.Node):
            continue
        value = node.meta.get("example_value")
        if node.op == "placeholder" or (isinstance(value, torch.Tensor) and _memory(value) in owners):
            chain = _chain(node, owners)
            if chain is not None:
                places.append(place)
                needed.update(chain)
    if not places:
        return Views()
    return Views(tuple(places), _function(module, [outputs[place] for place in places], needed))


def _chain(node: torch.fx.Node, owners: set[int | None]) -> dict[torch.fx.Node, None] | None:
    """The nodes that lead from the inputs to a view; None where one of them computes or holds a tensor of its own."""
    pending, chain = [node], dict[torch.fx.Node, None]()
    while pending:
        each = pending.pop()
        if each in chain:
            continue
        value = each.meta.get("example_value")
        if each.op == "get_attr" or (
            each.op != "placeholder" and isinstance(value, torch.Tensor) and _memory(value) not in owners
        ):
            return None
        chain[each] = None
        pending.extend(each.all_input_nodes)
    return chain


def _function(
    module: torch.fx.GraphModule, outputs: list[torch.fx.Node], needed: dict[torch.fx.Node, None]
) -> Callable[..., tuple[Any, ...]]:
    graph = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder" or node in needed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in outputs))
    return torch.fx.GraphModule(module, graph).forward


def _memory(tensor: torch.Tensor) -> int | None:
    """What tells whether two tensors share memory; None for tensors that have none of their own."""
    try:
        return tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse and other tensors without storage
        return None

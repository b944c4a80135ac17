"""What the tests of the PyTorch capture share. Nothing here imports torch until a test asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import pytest

from irc.ir import Evaluator, Graph, verify
from irc.ir.capture.torch import TorchCapture, capture_torch


class Program:
    """A captured module that is called as the module is, by the reference evaluator."""

    def __init__(self, capture: TorchCapture) -> None:
        verify(capture.graph)
        self.capture = capture
        self.graph: Graph = capture.graph
        self.notes = capture.notes

    @cached_property
    def evaluator(self) -> Evaluator:
        """The graph, ready to be evaluated."""
        return Evaluator(self.graph)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.capture.calling.call(self.evaluator.run, args, kwargs)

    @property
    def ops(self) -> list[str]:
        """The names of all ops but constants."""
        return [op.name for op in self.graph.walk() if not op.is_constant]

    @property
    def inputs(self) -> Mapping[str, str]:
        """The types of the inputs by name, as the text form writes them."""
        return {name: str(v.type) for name, v in zip(self.graph.input_names, self.graph.inputs, strict=True)}

    @property
    def outputs(self) -> Mapping[str, str]:
        """The declared types of the outputs by name, as the text form writes them."""
        return {name: str(t) for name, t in zip(self.graph.output_names, self.graph.output_types, strict=True)}


@pytest.fixture
def captured() -> Any:
    """Capture a module, put in eval mode, or an exported program on example inputs."""

    def make(source: Any, *args: Any, dynamic_shapes: Any = None, **kwargs: Any) -> Program:
        module = source.eval() if callable(getattr(source, "eval", None)) else source
        return Program(capture_torch(module, args, kwargs, dynamic_shapes))

    return make


@pytest.fixture
def agrees() -> Any:
    """Compare what two programs return: the same structure, dtypes and shapes, and numbers within rounding."""
    import torch
    from torch.utils import _pytree as pytree

    def check(found: Any, expected: Any) -> None:
        assert pytree.tree_structure(found) == pytree.tree_structure(expected)
        for one, other in zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True):
            assert type(one) is type(other)
            if isinstance(other, torch.Tensor):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
            else:
                assert one == other

    return check

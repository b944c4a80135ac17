"""What the tests of `torch.compile(backend="irc")` share; importing it takes torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

import irc.torch.backends
from irc.torch.backends import FallbackWarning, backend


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Every test starts with nothing compiled, without gradients, and with warnings as errors."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        yield
    torch._dynamo.reset()


class Counter:
    """The backend, with a note of the graphs it was given and the programs it compiled."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graphs = 0
        self.programs: list[Any] = []
        inner = irc.torch.backends._Lowered._compiled

        def compiled(lowered: Any, capture: Any, args: Any) -> Any:
            self.programs.append(capture.captured.graph)
            return inner(lowered, capture, args)

        monkeypatch.setattr(irc.torch.backends._Lowered, "_compiled", compiled)

    def __call__(self, gm: Any, inputs: Any, **options: Any) -> Any:
        self.graphs += 1
        return backend(gm, inputs, **options)


@pytest.fixture(name="counter")
def make_counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """A backend to compile with that counts."""
    return Counter(monkeypatch)


class Net(nn.Module):
    """Two linear layers and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.second = nn.Linear(8, 3)
        self.register_buffer("shift", torch.randn(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu()) + self.shift


def same(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def compiled(thing: Any, **settings: Any) -> Any:
    return torch.compile(thing.eval() if isinstance(thing, nn.Module) else thing, **{"backend": backend, **settings})

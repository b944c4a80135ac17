"""The table of architectures, and what its entries are made with: sizes, inputs and weights, all seeded.

Law: `build(name)` gives the same module with the same weights each time, and an input depends on its sizes only.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

BATCH, LENGTH = 2, 9
"""The sizes of the example inputs; LENGTH is of a sequence, or whatever else of an input may vary besides the batch."""
OTHER_BATCH, OTHER_LENGTH = 3, 12
"""The sizes that a program is run with besides."""
ENCODER_DECODER = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
}
"""The size of a transformer of both, as the configurations of transformers spell it."""


@dataclass(frozen=True)
class Call:
    """What a module is called with."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the tensors in it, in order."""
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return [tuple(leaf.shape) for leaf in leaves if isinstance(leaf, torch.Tensor)]


@dataclass(frozen=True)
class Architecture:
    """A module in eval mode, its inputs by batch and length, and which of their dims are to be dynamic."""

    module: nn.Module
    inputs: Callable[[int, int], Call]
    dynamic_shapes: Any = None

    @property
    def example(self) -> Call:
        """The inputs to capture with."""
        return self.inputs(BATCH, LENGTH)

    @property
    def others(self) -> tuple[tuple[str, Call], ...]:
        """Inputs of other sizes, the most different first, each with what is different about it."""
        wide, long = self.inputs(OTHER_BATCH, LENGTH), self.inputs(BATCH, OTHER_LENGTH)
        apart = [(what, call) for what, call in (("batch", wide), ("length", long)) if call.shapes != self.example.shapes]
        if len(apart) == 2:
            return (("batch and length", self.inputs(OTHER_BATCH, OTHER_LENGTH)), *apart)
        return tuple(apart) or (("values", long),)


@dataclass(frozen=True)
class Entry:
    """A line of the table: how to make the architecture, and the family it is listed under."""

    family: str
    make: Callable[[], Architecture]


FAMILIES = (
    "classification",
    "detection",
    "segmentation",
    "depth",
    "text encoder",
    "decoder",
    "decoder with KV cache",
    "encoder-decoder",
    "speech",
    "vision-language",
    "video",
    "state space",
    "recurrent",
    "time series",
    "trajectories",
    "graph",
    "recommender",
    "diffusion",
    "generative",
    "torch.nn",
    "control flow",
    "state in buffers",
)
"""The families there are, in the order in which they are listed."""

TABLE: dict[str, Entry] = {}
"""All architectures by name."""


def entry(family: str, name: str = "") -> Callable[[Callable[[], Architecture]], Callable[[], Architecture]]:
    """Put the function decorated into the table, under its own name if none is given."""

    def register(make: Callable[[], Architecture]) -> Callable[[], Architecture]:
        key = name or make.__name__
        assert key not in TABLE, key
        assert family in FAMILIES, family
        TABLE[key] = Entry(family, make)
        return make

    return register


def build(name: str) -> Architecture:
    """The architecture of this name, ready to be captured."""
    torch.manual_seed(0)
    architecture = TABLE[name].make()
    architecture.module.eval()
    return architecture


# Inputs


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    """Normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def image(batch: int, size: int = 64, channels: int = 3) -> torch.Tensor:
    """Square images."""
    return noise(batch, channels, size, size)


def tokens(*shape: int, low: int = 3, high: int = 100) -> torch.Tensor:
    """Whole numbers from low to below high: token ids without the special ones, rows of embedding tables, nodes."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(1))


def padding_mask(batch: int, length: int) -> torch.Tensor:
    """Ones for tokens; the first row ends with two zeros."""
    mask = torch.ones(batch, length, dtype=torch.int64)
    mask[0, -2:] = 0
    return mask


# Modules


def of_transformers(model: str, config: str, **settings: Any) -> nn.Module:
    """A model of transformers with random weights."""
    import transformers

    torch.manual_seed(0)
    return getattr(transformers, model)(getattr(transformers, config)(**settings))


def enliven(module: nn.Module) -> nn.Module:
    """The module with weights of unit gain, norms near one, and biases and running statistics that are not trivial.

    For those in whose own initial weights the signal dies out (standard deviations of 0.02 through many layers, layer scales
    of 1e-6, heads of zeros): every graph would agree with them.
    """
    draw = partial(torch.Tensor.normal_, generator=torch.Generator().manual_seed(3))
    spread = partial(torch.Tensor.uniform_, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                draw(parameter, 0, (2 / max(1, parameter[0].numel())) ** 0.5)
            elif parameter.dim() == 1:
                draw(parameter, 0, 0.1)
        for part in module.modules():
            if getattr(part, "running_mean", None) is not None:
                draw(part.running_mean, 0, 0.1)
                spread(part.running_var, 0.5, 1.5)
            weight = getattr(part, "weight", None)
            if isinstance(weight, torch.Tensor) and weight.dim() == 1:
                spread(weight, 0.5, 1.5)
    return module


__all__ = [
    "FAMILIES",
    "TABLE",
    "Architecture",
    "Call",
    "Entry",
    "build",
    "enliven",
    "entry",
    "image",
    "noise",
    "of_transformers",
    "padding_mask",
    "tokens",
]

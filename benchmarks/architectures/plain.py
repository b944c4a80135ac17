"""What torch.nn itself has, control flow, and a module that keeps a state."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

import torch
from torch import Tensor, nn

from .table import Architecture, Call, entry, noise

DIMS = {0: "batch", 1: "length"}


@entry("torch.nn")
def perceptron() -> Architecture:
    module = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 4), nn.Softmax(-1))
    return Architecture(module, lambda batch, length: Call((noise(batch, 16),)), [{0: "batch"}])


@entry("torch.nn")
def transformer() -> Architecture:
    return Architecture(
        nn.Transformer(64, 4, 2, 2, 128, batch_first=True),
        lambda batch, length: Call((noise(batch, length, 64), noise(batch, length - 4, 64, seed=2))),
        {"src": DIMS, "tgt": {0: "batch", 1: "target"}},
    )


@entry("torch.nn")
def transformer_encoder() -> Architecture:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True, activation="gelu")
    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return Architecture(module, lambda batch, length: Call((noise(batch, length, 64),)), {"src": DIMS})


@entry("torch.nn")
def transformer_encoder_padded() -> Architecture:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)

    def inputs(batch: int, length: int) -> Call:
        mask = torch.zeros(batch, length, dtype=torch.bool)
        mask[0, -2:] = True
        return Call((noise(batch, length, 64),), {"src_key_padding_mask": mask})

    module = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return Architecture(module, inputs, {"src": DIMS, "src_key_padding_mask": DIMS})


@entry("torch.nn")
def transformer_decoder() -> Architecture:
    layer = nn.TransformerDecoderLayer(64, 4, 128, batch_first=True)

    def inputs(batch: int, length: int) -> Call:
        later = nn.Transformer.generate_square_subsequent_mask(length)
        # Left to itself the decoder compares the mask with a causal one, which torch.export cannot trace.
        masks = {"tgt_mask": later, "tgt_is_causal": True}
        return Call((noise(batch, length, 64), noise(batch, length + 3, 64, seed=2)), masks)

    dynamic = {"tgt": DIMS, "memory": {0: "batch", 1: "source"}, "tgt_mask": {0: "length", 1: "length"}}
    return Architecture(nn.TransformerDecoder(layer, 2), inputs, dynamic)


class SelfAttention(nn.Module):
    """nn.MultiheadAttention, with the weights it can also return."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.attention(x, x, x)


@entry("torch.nn")
def multihead_attention() -> Architecture:
    return Architecture(SelfAttention(), lambda batch, length: Call((noise(batch, length, 64),)), {"x": DIMS})


class Conditional(nn.Module):
    """torch.cond between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.positive, self.negative = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda t: self.positive(t).relu(), lambda t: self.negative(t).tanh(), (x,))


@entry("control flow")
def conditional() -> Architecture:
    return Architecture(Conditional(), lambda batch, length: Call((noise(batch, 8),)), {"x": {0: "batch"}})


class Ring(nn.Module):
    """A cache in a buffer, which every call writes."""

    cache: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(1, 8, 4))
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        self.cache.index_copy_(1, position, self.linear(x))
        return self.cache.sum(1)


@entry("state in buffers")
def cache_in_buffer() -> Architecture:
    return Architecture(Ring(), lambda batch, length: Call((noise(1, 1, 4), torch.tensor([length % 8]))))

"""Blocks of diffusion models, and other generators of images."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .table import Architecture, Call, entry, image, noise, tokens


class TimeEmbedding(nn.Module):
    """Sines and cosines of the time step, through a perceptron."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.net = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        frequencies = torch.exp(-torch.arange(half, dtype=torch.float32) * (9.21 / half))
        angles = t[:, None].float() * frequencies[None]
        return self.net(torch.cat([angles.sin(), angles.cos()], -1))


class ResidualBlock(nn.Module):
    """Two convolutions of normalized activations, with the time added between them."""

    def __init__(self, inner: int, outer: int, width: int) -> None:
        super().__init__()
        self.first_norm, self.first = nn.GroupNorm(4, inner), nn.Conv2d(inner, outer, 3, padding=1)
        self.time = nn.Linear(width, outer)
        self.second_norm, self.second = nn.GroupNorm(4, outer), nn.Conv2d(outer, outer, 3, padding=1)
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.first(F.silu(self.first_norm(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.second(F.silu(self.second_norm(h))) + self.skip(x)


class SpatialAttention(nn.Module):
    """Attention between the pixels of a feature map."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(4, width)
        self.project, self.out = nn.Conv1d(width, 3 * width, 1), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        parts = self.project(self.norm(x).reshape(b, c, h * w)).reshape(b, 3, self.heads, c // self.heads, h * w)
        query, key, value = parts.transpose(-1, -2).unbind(1)
        y = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2).reshape(b, c, h * w)
        return x + self.out(y).reshape(b, c, h, w)


class DiffusionUNet(nn.Module):
    """What predicts the noise (https://arxiv.org/abs/2006.11239), one step down and one up."""

    def __init__(self) -> None:
        super().__init__()
        self.time, self.stem = TimeEmbedding(32), nn.Conv2d(4, 32, 3, padding=1)
        self.down, self.pool = ResidualBlock(32, 64, 32), nn.Conv2d(64, 64, 3, 2, 1)
        self.middle, self.attention = ResidualBlock(64, 64, 32), SpatialAttention(64)
        self.up, self.head = ResidualBlock(128, 32, 32), nn.Conv2d(32, 4, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(t)
        across = self.down(self.stem(x), time)
        y = self.attention(self.middle(self.pool(across), time))
        wide = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return self.head(F.silu(self.up(torch.cat([wide, across], 1), time)))


@entry("diffusion")
def diffusion_unet() -> Architecture:
    return Architecture(
        DiffusionUNet(),
        lambda batch, length: Call((image(batch, 16, 4), tokens(batch, low=0, high=1000))),
        {"x": {0: "batch"}, "t": {0: "batch"}},
    )


class DiTBlock(nn.Module):
    """A transformer block that a condition shifts, scales and gates (https://arxiv.org/abs/2212.09748)."""

    def __init__(self, width: int = 64, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.inner = nn.Sequential(nn.Linear(width, 128), nn.GELU(approximate="tanh"), nn.Linear(128, width))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale, gate, inner_shift, inner_scale, inner_gate = self.modulation(condition)[:, None].chunk(6, -1)
        y = self.norm(x) * (1 + scale) + shift
        x = x + gate * self.attention(y, y, y, need_weights=False)[0]
        return x + inner_gate * self.inner(self.norm(x) * (1 + inner_scale) + inner_shift)


@entry("diffusion")
def dit_block() -> Architecture:
    return Architecture(
        DiTBlock(),
        lambda batch, length: Call((noise(batch, length, 64), noise(batch, 64, seed=2))),
        {"x": {0: "batch", 1: "length"}, "condition": {0: "batch"}},
    )


class CrossAttention(nn.Module):
    """A latent image attends to itself and to a text, and passes a gated perceptron, as in latent diffusion."""

    def __init__(self, width: int = 32, text: int = 48) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = nn.MultiheadAttention(width, 4, batch_first=True)
        self.across = nn.MultiheadAttention(width, 4, kdim=text, vdim=text, batch_first=True)
        self.gated, self.out = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, latent: Tensor, text: Tensor) -> Tensor:
        b, c, h, w = latent.shape
        x = latent.flatten(2).transpose(1, 2)
        y = self.norms[0](x)
        x = x + self.own(y, y, y, need_weights=False)[0]
        x = x + self.across(self.norms[1](x), text, text, need_weights=False)[0]
        value, gate = self.gated(self.norms[2](x)).chunk(2, -1)
        x = x + self.out(value * F.gelu(gate))
        return latent + x.transpose(1, 2).reshape(b, c, h, w)


@entry("diffusion")
def cross_attention_block() -> Architecture:
    return Architecture(
        CrossAttention(),
        lambda batch, length: Call((image(batch, 8, 32), noise(batch, length, 48))),
        {"latent": {0: "batch"}, "text": {0: "batch", 1: "length"}},
    )


# Generators


@entry("generative")
def gan_generator() -> Architecture:
    module = nn.Sequential(
        nn.ConvTranspose2d(32, 32, 4, 1, 0, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(True),
        nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2, True),
        nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1),
        nn.InstanceNorm2d(8, affine=True),
        nn.PReLU(8),
        nn.PixelShuffle(2),
        nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
        nn.Tanh(),
    )
    return Architecture(module, lambda batch, length: Call((noise(batch, 32, 1, 1),)), [{0: "batch"}])


@entry("generative")
def autoencoder() -> Architecture:
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.ELU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.SELU(),
        nn.Flatten(),
        nn.Linear(16 * 64, 32),
        nn.Softplus(),
        nn.Linear(32, 16 * 64),
        nn.Mish(),
        nn.Unflatten(1, (16, 8, 8)),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(16, 8, 3, padding=1),
        nn.Hardswish(),
        nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True),
        nn.Conv2d(8, 1, 3, padding=1),
        nn.Sigmoid(),
    )
    return Architecture(module, lambda batch, length: Call((image(batch, 32, 1),)), [{0: "batch"}])


class VectorQuantizer(nn.Module):
    """An autoencoder whose code is the nearest row of a book (https://arxiv.org/abs/1711.00937)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(8, 3, 4, 4)
        self.book = nn.Embedding(32, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x).permute(0, 2, 3, 1)
        codes = torch.cdist(z.flatten(1, 2), self.book.weight[None].expand(x.shape[0], -1, -1)).argmin(-1)
        return self.decoder(self.book(codes).reshape(z.shape).permute(0, 3, 1, 2)), codes


@entry("generative")
def vector_quantizer() -> Architecture:
    return Architecture(VectorQuantizer(), lambda batch, length: Call((image(batch, 16),)), {"x": {0: "batch"}})

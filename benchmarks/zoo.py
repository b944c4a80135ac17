"""The benchmark models as PyTorch modules: factories of (module, example inputs) with seeded random weights.

    irc compile benchmarks/zoo.py:bert_base -o bert_base.irc

Random weights measure speed and graph quality, never what a model is worth. BatchNorm gets statistics that do something.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import transformers

Made = tuple[torch.nn.Module, tuple[torch.Tensor, ...]]


class Field(torch.nn.Module):
    """A model of transformers that returns one field of its output."""

    def __init__(self, model: torch.nn.Module, field: str = "logits", **keywords: Any) -> None:
        super().__init__()
        self.model, self.field, self.keywords = model, field, keywords

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return getattr(self.model(*inputs, **self.keywords), self.field)


class UNet(torch.nn.Module):
    """Three levels of convolutions with skip connections (Ronneberger et al. 2015)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.down = torch.nn.ModuleList([_double(3, width), _double(width, 2 * width)])
        self.bottom = _double(2 * width, 4 * width)
        self.raise_ = torch.nn.ModuleList(
            [torch.nn.ConvTranspose2d(4 * width, 4 * width, 2, 2), torch.nn.ConvTranspose2d(2 * width, 2 * width, 2, 2)]
        )
        self.up = torch.nn.ModuleList([_double(6 * width, 2 * width), _double(3 * width, width)])
        self.head = torch.nn.Conv2d(width, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = []
        for level in self.down:
            x = level(x)
            kept.append(x)
            x = torch.nn.functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for widen, level, skipped in zip(self.raise_, self.up, reversed(kept), strict=True):
            x = level(torch.cat([widen(x), skipped], 1))
        return self.head(x)


def _double(inputs: int, outputs: int) -> torch.nn.Module:
    layers: list[torch.nn.Module] = []
    for channels in (inputs, outputs):
        layers += [torch.nn.Conv2d(channels, outputs, 3, padding=1), torch.nn.BatchNorm2d(outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers)


def _seeded(make: Callable[[], Made]) -> Callable[[], Made]:
    def made() -> Made:
        torch.manual_seed(0)
        module, inputs = make()
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.uniform_(-0.1, 0.1)
                part.running_var.uniform_(0.5, 1.5)
        return module.eval(), inputs

    made.__name__, made.__doc__ = make.__name__, make.__doc__
    return made


def _image(size: int = 224) -> tuple[torch.Tensor]:
    return (torch.randn(1, 3, size, size),)


def _words(count: int = 128) -> tuple[torch.Tensor]:
    return (torch.randint(0, 1000, (1, count)),)


@_seeded
def resnet50() -> Made:
    """He et al. 2015."""
    return Field(transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000))), _image()


@_seeded
def mobilenet_v2() -> Made:
    """Sandler et al. 2018."""
    config = transformers.MobileNetV2Config(num_labels=1000)
    return Field(transformers.MobileNetV2ForImageClassification(config)), _image()


@_seeded
def efficientnet_b0() -> Made:
    """Tan and Le 2019."""
    config = transformers.EfficientNetConfig(
        width_coefficient=1.0, depth_coefficient=1.0, image_size=224, hidden_dim=1280, num_labels=1000
    )
    return Field(transformers.EfficientNetForImageClassification(config)), _image()


@_seeded
def convnext_tiny() -> Made:
    """Liu et al. 2022."""
    return Field(transformers.ConvNextForImageClassification(transformers.ConvNextConfig(num_labels=1000))), _image()


@_seeded
def vit_small() -> Made:
    """Dosovitskiy et al. 2020."""
    config = transformers.ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000)
    return Field(transformers.ViTForImageClassification(config)), _image()


@_seeded
def segformer_b0() -> Made:
    """Xie et al. 2021."""
    return Field(transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig())), _image(256)


@_seeded
def unet() -> Made:
    """Ronneberger et al. 2015."""
    return UNet(), _image(128)


@_seeded
def bert_base() -> Made:
    """Devlin et al. 2018."""
    return Field(transformers.BertModel(transformers.BertConfig()), "last_hidden_state"), _words()


@_seeded
def gpt2() -> Made:
    """Radford et al. 2019."""
    return Field(transformers.GPT2LMHeadModel(transformers.GPT2Config()), use_cache=False), _words()


@_seeded
def llama_small() -> Made:
    """Touvron et al. 2023, with grouped queries and eight layers."""
    config = transformers.LlamaConfig(
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=12,
        num_key_value_heads=4,
        vocab_size=32000,
    )
    return Field(transformers.LlamaForCausalLM(config), use_cache=False), _words()


@_seeded
def mlp() -> Made:
    """A tower of a recommender, in which the call costs more than the arithmetic."""
    sizes = (64, 256, 256, 1)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.Sigmoid() if outputs == 1 else torch.nn.ReLU()]
    return torch.nn.Sequential(*layers), (torch.randn(1, 64),)


ZOO = (
    mlp,
    mobilenet_v2,
    resnet50,
    efficientnet_b0,
    unet,
    segformer_b0,
    vit_small,
    convnext_tiny,
    gpt2,
    llama_small,
    bert_base,
)

"""Image classifiers: convolutions, transformers, and what lies between."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from .table import Architecture, Call, enliven, entry, image, of_transformers

VIT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "image_size": 32,
    "patch_size": 8,
}


def classifier(name: str, model: str, config: str, size: int = 64, faint: bool = False, **settings: Any) -> None:
    """An image classifier of transformers on square images of `size`; a `faint` one ignores its input as it is initialized."""

    @entry("classification", name)
    def make() -> Architecture:
        module = of_transformers(model, config, **settings)
        return Architecture(
            enliven(module) if faint else module,
            lambda batch, length: Call(kwargs={"pixel_values": image(batch, size)}),
            {"pixel_values": {0: "batch"}},
        )


PYRAMID = {"hidden_sizes": [16, 32, 40, 64], "depths": [1, 1, 1, 1]}
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
FOCAL = {"image_size": 64, "embed_dim": 32, "depths": [1, 1], "focal_levels": [2, 2], "focal_windows": [3, 3]}
CONVNEXT = {"hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 2, 1]}
LEVIT = {
    "image_size": 64,
    "hidden_sizes": [32, 48, 64],
    "num_attention_heads": [2, 3, 4],
    "depths": [1, 1, 1],
    "key_dim": [8, 8, 8],
    "drop_path_rate": 0,
    "patch_size": 16,
}
MOBILEVIT = {"image_size": 64, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 40, 48, 64]}
EFFICIENTNET = {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}
HEADS = {"num_attention_heads": [1, 2, 5, 8]}

# fmt: off
classifier("resnet", "ResNetForImageClassification", "ResNetConfig", embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1])
classifier("convnext", "ConvNextForImageClassification", "ConvNextConfig", **CONVNEXT)
classifier("convnextv2", "ConvNextV2ForImageClassification", "ConvNextV2Config", **CONVNEXT)
classifier("mobilenet_v1", "MobileNetV1ForImageClassification", "MobileNetV1Config", faint=True, depth_multiplier=0.25)
classifier("mobilenet_v2", "MobileNetV2ForImageClassification", "MobileNetV2Config", faint=True, depth_multiplier=0.35)
classifier("efficientnet", "EfficientNetForImageClassification", "EfficientNetConfig", faint=True, **EFFICIENTNET)
classifier("regnet", "RegNetForImageClassification", "RegNetConfig", embedding_size=16, hidden_sizes=[16, 32, 32, 64],
           depths=[1, 1, 2, 1], groups_width=8)
classifier("bit", "BitForImageClassification", "BitConfig", embedding_size=16, hidden_sizes=[32, 64], depths=[1, 1],
           num_groups=4)
classifier("poolformer", "PoolFormerForImageClassification", "PoolFormerConfig", **PYRAMID)
classifier("vit", "ViTForImageClassification", "ViTConfig", size=32, **VIT)
classifier("deit", "DeiTForImageClassificationWithTeacher", "DeiTConfig", size=32, **VIT)
classifier("beit", "BeitForImageClassification", "BeitConfig", size=32, use_relative_position_bias=True, **VIT)
classifier("dinov2", "Dinov2ForImageClassification", "Dinov2Config", size=32, hidden_size=64, num_hidden_layers=2,
           num_attention_heads=4, image_size=32, patch_size=8)
classifier("swin", "SwinForImageClassification", "SwinConfig", **SWIN)
classifier("swinv2", "Swinv2ForImageClassification", "Swinv2Config", **SWIN)
classifier("levit", "LevitForImageClassification", "LevitConfig", **LEVIT)
classifier("pvt", "PvtForImageClassification", "PvtConfig", image_size=64, **PYRAMID, **HEADS)
classifier("pvt_v2", "PvtV2ForImageClassification", "PvtV2Config", image_size=64, **PYRAMID, **HEADS)
classifier("focalnet", "FocalNetForImageClassification", "FocalNetConfig", hidden_sizes=[32, 64], **FOCAL)
classifier("mobilevit", "MobileViTForImageClassification", "MobileViTConfig", faint=True, **MOBILEVIT)
classifier("cvt", "CvtForImageClassification", "CvtConfig", embed_dim=[16, 32, 64], depth=[1, 2, 3], num_heads=[1, 2, 4])
classifier("hiera", "HieraForImageClassification", "HieraConfig", image_size=[64, 64], embed_dim=16, depths=[1, 1, 1, 1],
           num_heads=[1, 2, 4, 8])
# fmt: on


class Mixer(nn.Module):
    """MLP-Mixer: products over tokens and over channels, in turn (https://arxiv.org/abs/2105.01601)."""

    def __init__(self, tokens: int = 16, width: int = 32, depth: int = 2) -> None:
        super().__init__()

        def mixing(over: int) -> nn.Module:
            return nn.Sequential(nn.Linear(over, 64), nn.GELU(), nn.Linear(64, over))

        self.patch = nn.Conv2d(3, width, 8, 8)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.tokens = nn.ModuleList(mixing(tokens) for _ in range(depth))
        self.channels = nn.ModuleList(mixing(width) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        for index, (over_tokens, over_channels) in enumerate(zip(self.tokens, self.channels, strict=True)):
            x = x + over_tokens(self.norms[2 * index](x).transpose(1, 2)).transpose(1, 2)
            x = x + over_channels(self.norms[2 * index + 1](x))
        return self.head(x.mean(1))


@entry("classification")
def mlp_mixer() -> Architecture:
    return Architecture(Mixer(), lambda batch, length: Call((image(batch, 32),)), {"x": {0: "batch"}})

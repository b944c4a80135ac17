"""Detection, segmentation and depth: one answer for each object or pixel."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from .classification import HEADS, PYRAMID, VIT
from .table import ENCODER_DECODER, Architecture, Call, enliven, entry, image, noise, of_transformers

DETR = {
    **ENCODER_DECODER,
    "num_queries": 10,
}
STAGES = ("stage1", "stage2", "stage3", "stage4")


def resnet(*stages: str) -> Any:
    """The configuration of a small ResNet that gives the feature maps of these stages."""
    import transformers

    widths = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1]}
    return transformers.ResNetConfig(**widths, out_features=list(stages))


def on_backbone(*stages: str) -> dict[str, Any]:
    """DETR's settings on feature maps of a ResNet."""
    return {
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "backbone": None,
        "backbone_config": resnet(*stages),
        **DETR,
    }


def dense(
    family: str, name: str, model: str, config: str, settings: Callable[[], dict[str, Any]], size: int = 64, faint: bool = False
) -> None:
    """A model of transformers for square images of `size`."""

    @entry(family, name)
    def make() -> Architecture:
        module = of_transformers(model, config, **settings())
        return Architecture(
            enliven(module) if faint else module,
            lambda batch, length: Call(kwargs={"pixel_values": image(batch, size)}),
            {"pixel_values": {0: "batch"}},
        )


def rt_detr_settings() -> dict[str, Any]:
    import transformers

    return {
        "backbone_config": transformers.RTDetrResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage2", "stage3", "stage4"],
        ),
        "encoder_hidden_dim": 32,
        "encoder_in_channels": [32, 48, 64],
        "feat_strides": [8, 16, 32],
        "encoder_layers": 1,
        "encoder_ffn_dim": 64,
        "encoder_attention_heads": 2,
        "d_model": 32,
        "num_queries": 10,
        "decoder_in_channels": [32, 32, 32],
        "decoder_ffn_dim": 64,
        "decoder_layers": 2,
        "decoder_attention_heads": 2,
        "num_denoising": 0,
    }


def mask2former_settings() -> dict[str, Any]:
    import transformers

    return {
        "backbone_config": transformers.SwinConfig(
            image_size=64,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 4, 8],
            window_size=2,
            out_features=list(STAGES),
        ),
        "feature_size": 32,
        "mask_feature_size": 32,
        "hidden_dim": 32,
        "encoder_feedforward_dim": 64,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_attention_heads": 4,
        "dim_feedforward": 64,
        "num_queries": 10,
    }


def maskformer_settings() -> dict[str, Any]:
    import transformers

    decoder = transformers.DetrConfig(use_timm_backbone=False, backbone=None, backbone_config=resnet("stage4"), **DETR)
    return {
        "backbone_config": resnet(*STAGES),
        "decoder_config": decoder,
        "fpn_feature_size": 32,
        "mask_feature_size": 32,
    }


def upernet_settings() -> dict[str, Any]:
    return {
        "backbone_config": resnet(*STAGES),
        "hidden_size": 32,
        "auxiliary_in_channels": 48,
        "pool_scales": [1, 2, 3, 6],
    }


def dpt_settings() -> dict[str, Any]:
    return {
        **VIT,
        "num_hidden_layers": 4,
        "neck_hidden_sizes": [16, 16, 32, 32],
        "fusion_hidden_size": 16,
        "backbone_out_indices": [0, 1, 2, 3],
        "is_hybrid": False,
    }


# fmt: off
dense("detection", "detr", "DetrForObjectDetection", "DetrConfig", lambda: on_backbone("stage4"))
dense("detection", "conditional_detr", "ConditionalDetrForObjectDetection", "ConditionalDetrConfig",
      lambda: on_backbone("stage4"))
dense("detection", "deformable_detr", "DeformableDetrForObjectDetection", "DeformableDetrConfig",
      lambda: {**on_backbone("stage2", "stage3", "stage4"), "num_feature_levels": 4})
dense("detection", "yolos", "YolosForObjectDetection", "YolosConfig",
      lambda: {**VIT, "image_size": [32, 32], "num_detection_tokens": 5}, size=32)
# With its own weights all invalid anchors score the same, and the best of equals are chosen otherwise by each engine.
dense("detection", "rt_detr", "RTDetrForObjectDetection", "RTDetrConfig", rt_detr_settings, faint=True)
dense("segmentation", "segformer", "SegformerForSemanticSegmentation", "SegformerConfig",
      lambda: {**PYRAMID, **HEADS, "decoder_hidden_size": 32})
dense("segmentation", "mask2former", "Mask2FormerForUniversalSegmentation", "Mask2FormerConfig", mask2former_settings)
dense("segmentation", "maskformer", "MaskFormerForInstanceSegmentation", "MaskFormerConfig", maskformer_settings)
dense("segmentation", "upernet", "UperNetForSemanticSegmentation", "UperNetConfig", upernet_settings)
dense("depth", "dpt", "DPTForDepthEstimation", "DPTConfig", dpt_settings, size=32)
dense("depth", "glpn", "GLPNForDepthEstimation", "GLPNConfig", lambda: {**PYRAMID, **HEADS, "decoder_hidden_size": 16})
# fmt: on


def convolutions(inner: int, outer: int) -> nn.Module:
    """Two convolutions, each with its normalization and activation."""
    return nn.Sequential(
        nn.Conv2d(inner, outer, 3, padding=1),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
        nn.Conv2d(outer, outer, 3, padding=1),
        nn.BatchNorm2d(outer),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    """Two steps down, two up, with connections across (https://arxiv.org/abs/1505.04597)."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.middle, self.coarse = convolutions(3, 8), convolutions(8, 16), convolutions(16, 32)
        self.up_middle, self.join_middle = nn.ConvTranspose2d(32, 16, 2, 2), convolutions(32, 16)
        self.up_fine, self.join_fine = nn.ConvTranspose2d(16, 8, 2, 2), convolutions(16, 8)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        middle = self.middle(F.max_pool2d(fine, 2))
        coarse = self.coarse(F.max_pool2d(middle, 2))
        middle = self.join_middle(torch.cat([self.up_middle(coarse), middle], 1))
        return self.head(self.join_fine(torch.cat([self.up_fine(middle), fine], 1)))


@entry("segmentation")
def unet() -> Architecture:
    return Architecture(UNet(), lambda batch, length: Call((image(batch, 32),)), {"x": {0: "batch"}})


@entry("segmentation")
def unet_any_size() -> Architecture:
    return Architecture(
        UNet(),
        lambda batch, length: Call((noise(batch, 3, 4 * length, 4 * length + 4),)),
        {"x": {0: "batch", 2: 4 * Dim("height"), 3: 4 * Dim("width")}},
    )

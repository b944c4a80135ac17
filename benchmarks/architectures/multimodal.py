"""Images and text together, and video."""

# pyright: basic
# ruff: noqa: D103  an entry's name says what it is
from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .classification import VIT
from .table import Architecture, Call, entry, image, noise, of_transformers, padding_mask, tokens
from .text_encoders import TEXT

SPECIAL = {"eos_token_id": 99, "bos_token_id": 98, "pad_token_id": 0}
BLIP_TEXT = {**TEXT, "encoder_hidden_size": 64, "bos_token_id": 98, "sep_token_id": 97, "eos_token_id": 97, "pad_token_id": 0}
PAIR_DIMS = {
    "input_ids": {0: "batch", 1: "length"},
    "pixel_values": {0: "batch"},
    "attention_mask": {0: "batch", 1: "length"},
}


def image_and_text(name: str, model: str, config: str, text: dict[str, Any], **settings: Any) -> None:
    """A model of transformers with a part for images and a part for text."""

    @entry("vision-language", name)
    def make() -> Architecture:
        def inputs(batch: int, length: int) -> Call:
            ids, mask = tokens(batch, length), padding_mask(batch, length)
            return Call(kwargs={"input_ids": ids, "pixel_values": image(batch, 32), "attention_mask": mask})

        module = of_transformers(model, config, text_config=text, vision_config=VIT, **settings)
        return Architecture(module, inputs, PAIR_DIMS)


image_and_text("clip", "CLIPModel", "CLIPConfig", {**TEXT, **SPECIAL}, projection_dim=32)
image_and_text("siglip", "SiglipModel", "SiglipConfig", {**TEXT, **SPECIAL})
image_and_text("chinese_clip", "ChineseCLIPModel", "ChineseCLIPConfig", {**TEXT, "pad_token_id": 0}, projection_dim=32)
image_and_text("blip", "BlipForImageTextRetrieval", "BlipConfig", BLIP_TEXT, projection_dim=32, image_text_hidden_size=32)
image_and_text("clipseg", "CLIPSegForImageSegmentation", "CLIPSegConfig", {**TEXT, **SPECIAL}, projection_dim=32, reduce_dim=16,
               extract_layers=[1], decoder_num_attention_heads=2, decoder_intermediate_size=32)  # fmt: skip


@entry("vision-language")
def vilt() -> Architecture:
    def inputs(batch: int, length: int) -> Call:
        mask = torch.ones(batch, 32, 32, dtype=torch.int64)
        pair = {"input_ids": tokens(batch, length), "attention_mask": padding_mask(batch, length)}
        return Call(kwargs={**pair, "pixel_values": image(batch, 32), "pixel_mask": mask})

    module = of_transformers("ViltForQuestionAnswering", "ViltConfig", max_image_length=-1, **{**TEXT, **VIT})
    return Architecture(module, inputs, {**PAIR_DIMS, "pixel_mask": {0: "batch"}})


@entry("vision-language")
def layoutlm() -> Architecture:
    def inputs(batch: int, length: int) -> Call:
        corner, extent = tokens(batch, length, 2, high=50), tokens(batch, length, 2, low=1, high=40)
        boxes = torch.cat([corner, corner + extent], -1)
        return Call(kwargs={"input_ids": tokens(batch, length), "bbox": boxes, "attention_mask": padding_mask(batch, length)})

    dims = {0: "batch", 1: "length"}
    module = of_transformers("LayoutLMForTokenClassification", "LayoutLMConfig", max_2d_position_embeddings=128, **TEXT)
    return Architecture(module, inputs, {"input_ids": dims, "bbox": dims, "attention_mask": dims})


# Video


def clip_of_frames(name: str, model: str, config: str, **settings: Any) -> None:
    """A video classifier of transformers."""

    @entry("video", name)
    def make() -> Architecture:
        return Architecture(
            of_transformers(model, config, **{**VIT, **settings}),
            lambda batch, length: Call(kwargs={"pixel_values": noise(batch, 4, 3, 32, 32)}),
            {"pixel_values": {0: "batch"}},
        )


clip_of_frames("videomae", "VideoMAEForVideoClassification", "VideoMAEConfig", num_frames=4)
clip_of_frames("timesformer", "TimesformerForVideoClassification", "TimesformerConfig", num_frames=4)
clip_of_frames("vivit", "VivitForVideoClassification", "VivitConfig", num_frames=4, tubelet_size=[2, 8, 8])


@entry("video")
def convolutions_3d() -> Architecture:
    module = nn.Sequential(
        nn.Conv3d(3, 8, 3, padding=1),
        nn.BatchNorm3d(8),
        nn.ReLU(),
        nn.MaxPool3d(2),
        nn.Conv3d(8, 16, 3, stride=(1, 2, 2)),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    return Architecture(module, lambda batch, length: Call((noise(batch, 3, 8, 16, 16),)), [{0: "batch"}])

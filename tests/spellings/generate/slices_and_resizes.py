# pyright: basic
"""Slices, joins, expansions and resizes, as models write them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users

from .core import DYNAMO, SCRIPT, Case, coarse, of
from .movement import BOTH, IMAGE


def split_cat(x: torch.Tensor) -> torch.Tensor:
    """Slices that join to the whole again."""
    return torch.cat((x[:, :1], x[:, 1:3], x[:, 3:]), dim=1)


def slices_of_slices(x: torch.Tensor) -> torch.Tensor:
    """Slices in a row on one dim and on others."""
    return x[:, 1:][:, :2][:, :, 1::2][..., :-1]


def select_rows(x: torch.Tensor) -> torch.Tensor:
    """x[:, 0] and x[:, -1]: class token and last token."""
    return x[:, 0] + x[:, -1]


def flip(x: torch.Tensor) -> torch.Tensor:
    """Twice flipped."""
    return x.flip(-1).flip(-1) + x.flip(2)


def repeat_tile(x: torch.Tensor) -> torch.Tensor:
    """A repeat whose result meets broadcasting."""
    return x[:, :, :1, :1].repeat(1, 1, 4, 6) + x


def expand_batch(x: torch.Tensor, token: torch.Tensor) -> torch.Tensor:
    """ViT's class token: expanded to the batch and put in front."""
    return torch.cat((token.expand(x.shape[0], -1, -1), x), dim=1)


def nearest_by_repeat(x: torch.Tensor) -> torch.Tensor:
    """Nearest upsampling by unsqueeze and expand (torchvision's YOLO, detectron)."""
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, h * 2, w * 2)


def unfold_patches(x: torch.Tensor) -> torch.Tensor:
    """Patches by two unfolds (MAE)."""
    return x.unfold(2, 2, 2).unfold(3, 2, 2).reshape(1, 4, 6, 4)


def resize(**options: Any) -> Any:
    """F.interpolate."""
    return lambda x: F.interpolate(x, **options)


CASES = [
    Case("slices-joined", "slices that join to the whole", of(split_cat, IMAGE), "", "Slice, Concat, Split", 0, sources=BOTH),
    Case("slices-of-slices", "slices in a row", of(slices_of_slices, IMAGE), "Slice=1", "", 1, sources=BOTH),
    Case(
        "select-rows",
        "first and last token",
        of(select_rows, (2, 3, 4)),
        "Gather=2, Add=1",
        "Slice, Squeeze",
        3,
        sources=(SCRIPT,),
    ),
    Case("flips", "flips that cancel", of(flip, IMAGE), "Slice=1, Add=1", "", 2, sources=BOTH),
    Case(
        "repeat-broadcast",
        "a repeat that broadcasting makes up for",
        of(repeat_tile, IMAGE),
        "Slice=1, Add=1",
        "Tile, Expand",
        2,
        sources=BOTH,
    ),
    Case(
        "class-token",
        "ViT's class token, dynamic batch",
        of(expand_batch, (2, 3, 4), token=coarse(1, 1, 4)),
        "Concat=1, Expand=1",
        "ConstantOfShape, Mul, Equal, Where",
        5,
        dynamic={"x": {0: "N"}},
        inputs=["x"],
        sources=BOTH,
    ),
    Case(
        "nearest-by-expand",
        "nearest upsampling by expand and reshape",
        of(nearest_by_repeat, (1, 2, 3, 4)),
        "Resize=1",
        "Expand, Reshape, Unsqueeze",
        1,
        sources=BOTH,
    ),
    Case("patches-by-unfold", "patches by two unfolds", of(unfold_patches, IMAGE), "", "Gather, Slice", 3, sources=BOTH),
    Case(
        "resize-nearest",
        "nearest by a factor",
        of(resize(scale_factor=2), (1, 2, 3, 4)),
        "Resize=1",
        "",
        1,
        sources=(DYNAMO, SCRIPT, "torchscript-9", "torchscript-11"),
    ),
    Case(
        "resize-bilinear",
        "bilinear to a size",
        of(resize(size=(6, 8), mode="bilinear", align_corners=False), (1, 2, 3, 4)),
        "Resize=1",
        "Concat",
        1,
        sources=BOTH,
    ),
    Case(
        "resize-corners-dynamic",
        "bilinear with aligned corners to the size of another, dynamic",
        of(
            lambda x, y: F.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=True) + y, (2, 2, 3, 4), (2, 2, 6, 8)
        ),
        "Resize=1, Add=1",
        "Gather, Unsqueeze, Cast",
        6,
        dynamic={"x": {2: "H", 3: "W"}, "y": {2: "K", 3: "L"}},
        inputs=["x", "y"],
        sources=(SCRIPT,),
    ),
    Case(
        "resize-same-size",
        "a resize to the size it has",
        of(resize(size=(3, 4), mode="bilinear", align_corners=False), (1, 2, 3, 4)),
        "",
        "",
        1,
        sources=(SCRIPT,),
        hope="Resize=0",
        corner="interpolation adds 0 · neighbour, which is NaN for Inf",
    ),
]

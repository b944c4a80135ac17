# pyright: basic
"""Data movement, as models write it: shuffles, windows, transposes that meet, patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the custom of its users
from torch import nn

from .core import DYNAMO, SCRIPT, Case, module, of

IMAGE = (1, 4, 4, 6)


def depth_to_space_crd(x: torch.Tensor) -> torch.Tensor:
    """PixelShuffle written out."""
    n, c, h, w = x.shape
    return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, h * 2, w * 2)


def depth_to_space_dcr(x: torch.Tensor) -> torch.Tensor:
    """TF's order of depth."""
    n, c, h, w = x.shape
    return x.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2).reshape(n, c // 4, h * 2, w * 2)


def space_to_depth(x: torch.Tensor) -> torch.Tensor:
    """The way back in ONNX's order (block row, block column, channel)."""
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).reshape(n, c * 4, h // 2, w // 2)


def focus(x: torch.Tensor) -> torch.Tensor:
    """YOLOv5's: four strided slices, columns before rows. Not SpaceToDepth's order."""
    return torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1)


class Focus(nn.Module):
    """YOLOv5's focus with its convolution, which can absorb the order of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(focus(x))


class PatchEmbedding(nn.Module):
    """ViT's: a strided convolution, flattened and transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).flatten(2).transpose(1, 2)


class PatchMerging(nn.Module):
    """Swin's: four strided slices of NHWC, normalized, reduced."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.reduction = nn.LayerNorm(16), nn.Linear(16, 8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))


class Mlp2d(nn.Module):
    """Permute to channels last, a linear layer, permute back: a 1x1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.permute(0, 2, 3, 1)
        return x + self.down(F.relu(self.up(y))).permute(0, 3, 1, 2)


def channel_shuffle(x: torch.Tensor) -> torch.Tensor:
    """ShuffleNet's."""
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)


def window_partition(x: torch.Tensor) -> torch.Tensor:
    """Swin's windows of NHWC."""
    b, h, w, c = x.shape
    return x.view(b, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 2, 2, c)


def window_reverse(x: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """And back."""
    b = x.shape[0] // (h * w // 4)
    return x.view(b, h // 2, w // 2, 2, 2, -1).permute(0, 1, 3, 2, 4, 5).contiguous().view(b, h, w, -1)


def windows_there_and_back(x: torch.Tensor) -> torch.Tensor:
    """Nothing in between but what is per element."""
    return window_reverse(F.relu(window_partition(x)), x.shape[1], x.shape[2])


def rolled_windows(x: torch.Tensor) -> torch.Tensor:
    """Swin's shifted windows: a roll there and back."""
    y = torch.roll(x, shifts=(-1, -1), dims=(1, 2))
    return torch.roll(F.relu(y), shifts=(1, 1), dims=(1, 2))


def transposes_around_relu(x: torch.Tensor) -> torch.Tensor:
    """Cancel across an elementwise chain."""
    return (F.relu(x.permute(0, 2, 3, 1)) * 0.5).permute(0, 3, 1, 2)


def transposes_around_sum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Cancel across a binary op whose operands are both transposed."""
    return (torch.sigmoid(x.permute(0, 2, 3, 1)) + y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def transpose_mean(x: torch.Tensor) -> torch.Tensor:
    """A transpose in front of a reduction moves into its axes."""
    return x.permute(0, 2, 3, 1).mean((1, 2))


def flatten_squeeze(x: torch.Tensor) -> torch.Tensor:
    """Reshapes in a row."""
    return x.unsqueeze(0).reshape(4, 4, 6).flatten(1).view(1, 4, 24).squeeze(0)


D = "DepthToSpace=1"
S = "SpaceToDepth=1"
BOTH = (DYNAMO, SCRIPT)
DYNAMIC = {"x": {0: "N", 2: "H", 3: "W"}}
CASES = [
    Case(
        "pixel-shuffle",
        "nn.PixelShuffle",
        module(lambda: nn.PixelShuffle(2), IMAGE),
        D,
        "Reshape, Transpose",
        1,
        sources=(DYNAMO, SCRIPT, "torchscript-9"),
    ),
    Case(
        "pixel-shuffle-written",
        "PixelShuffle written out",
        of(depth_to_space_crd, IMAGE),
        D,
        "Reshape, Transpose",
        1,
        sources=BOTH,
    ),
    Case(
        "pixel-shuffle-dynamic",
        "PixelShuffle written out, dynamic batch and image",
        of(depth_to_space_crd, (2, 4, 4, 6)),
        D,
        "Reshape, Transpose, Shape",
        1,
        dynamic=DYNAMIC,
        inputs=["x"],
        sources=BOTH,
    ),
    Case(
        "depth-to-space-tf",
        "DepthToSpace in TF's order written out",
        of(depth_to_space_dcr, IMAGE),
        D,
        "Reshape, Transpose",
        1,
        sources=(SCRIPT,),
    ),
    Case(
        "pixel-unshuffle",
        "nn.PixelUnshuffle: channels before blocks, not SpaceToDepth's order",
        module(lambda: nn.PixelUnshuffle(2), IMAGE),
        "",
        "",
        3,
        sources=BOTH,
    ),
    Case("space-to-depth", "SpaceToDepth written out", of(space_to_depth, IMAGE), S, "Reshape, Transpose", 1, sources=BOTH),
    Case(
        "focus",
        "YOLOv5's Focus alone",
        of(focus, (1, 2, 4, 6)),
        "",
        "",
        5,
        sources=(SCRIPT,),
        hope=S,
        corner="its order of blocks is not SpaceToDepth's; a Gather of channels makes up for it",
    ),
    Case(
        "focus-conv",
        "YOLOv5's Focus and its convolution",
        module(Focus, (1, 2, 4, 6)),
        "Conv=1",
        "Slice, Concat",
        2,
        sources=BOTH,
    ),
    Case(
        "patch-embedding",
        "ViT's patch embedding",
        module(PatchEmbedding, IMAGE),
        "Conv=1, Reshape=1, Transpose=1",
        "",
        3,
        sources=(SCRIPT,),
    ),
    Case(
        "patch-merging",
        "Swin's patch merging",
        module(PatchMerging, (1, 4, 6, 4)),
        "LayerNormalization=1, MatMul=1",
        "ReduceMean",
        7,
        sources=BOTH,
    ),
    Case("channels-last-mlp", "an MLP between permutes", module(Mlp2d, IMAGE), "Relu=1", "", 8, sources=BOTH),
    Case(
        "channel-shuffle",
        "ShuffleNet's channel shuffle",
        of(channel_shuffle, IMAGE),
        "Reshape=2, Transpose=1",
        "",
        3,
        sources=BOTH,
    ),
    Case(
        "channel-shuffle-dynamic",
        "ShuffleNet's channel shuffle, dynamic",
        of(channel_shuffle, (2, 4, 4, 6)),
        "Transpose=1, Reshape=2",
        "Gather, Unsqueeze",
        7,
        dynamic=DYNAMIC,
        inputs=["x"],
        sources=(SCRIPT,),
    ),
    Case(
        "window-partition",
        "Swin's window partition",
        of(window_partition, (1, 4, 6, 4)),
        "Reshape=2, Transpose=1",
        "",
        3,
        sources=BOTH,
    ),
    Case(
        "windows-there-and-back",
        "windows, ReLU, and back",
        of(windows_there_and_back, (1, 4, 6, 4)),
        "Relu=1",
        "Reshape, Transpose",
        1,
        sources=BOTH,
    ),
    Case(
        "windows-rolled", "a roll, ReLU, and back", of(rolled_windows, (1, 4, 6, 4)), "Relu=1", "Slice, Concat", 1, sources=BOTH
    ),
    Case(
        "transposes-relu",
        "transposes around an elementwise chain",
        of(transposes_around_relu, IMAGE),
        "Relu=1, Mul=1",
        "Transpose",
        2,
        sources=BOTH,
    ),
    Case(
        "transposes-sum",
        "transposes around a sum",
        of(transposes_around_sum, IMAGE, IMAGE),
        "Sigmoid=1, Add=1",
        "Transpose",
        2,
        sources=(SCRIPT,),
    ),
    Case(
        "transpose-mean",
        "a transpose in front of a mean",
        of(transpose_mean, IMAGE),
        "ReduceMean=1",
        "Transpose",
        1,
        sources=BOTH,
    ),
    Case("reshapes", "reshapes in a row", of(flatten_squeeze, IMAGE), "", "Unsqueeze, Squeeze, Flatten", 1, sources=BOTH),
]

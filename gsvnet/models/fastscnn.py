"""Fast-SCNN (Poudel, Liwicki, Cipolla, "Fast-SCNN: Fast Semantic Segmentation Network", BMVC 2019).

Three strided layers learn to downsample to 1/8; from there a deep branch of inverted bottlenecks sees the whole at
1/32, and the shallow features themselves are the detail branch. Both are added and classified at 1/8. No pretraining
needed. The auxiliary losses that the authors train with (0.4 on both branches) are not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsvnet.nn.blocks import resize


def _convolve(
    in_channels: int,
    channels: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    dilation: int = 1,
    relu: bool = True,
) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU unless switched off; size ceil(size / stride)."""
    pad = kernel // 2 * dilation
    conv = nn.Conv2d(in_channels, channels, kernel, stride, pad, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU() if relu else nn.Identity())


def _separable(in_channels: int, channels: int, *, stride: int = 1) -> nn.Sequential:
    """DSConv: depthwise 3x3, then pointwise; as in the paper (section 3.2.1) no ReLU in between."""
    return nn.Sequential(
        _convolve(in_channels, in_channels, kernel=3, stride=stride, groups=in_channels, relu=False),
        _convolve(in_channels, channels),
    )


class Bottleneck(nn.Module):
    """Inverted residual (Table 2): widen, depthwise 3x3, narrow without ReLU; the input is added where it fits."""

    def __init__(self, in_channels: int, channels: int, *, stride: int, expansion: int = 6) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.block = nn.Sequential(
            _convolve(in_channels, wide),
            _convolve(wide, wide, kernel=3, stride=stride, groups=wide),
            _convolve(wide, channels, relu=False),
        )
        self.residual = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, ceil(h / stride), ceil(w / stride))."""
        return self.block(x) + x if self.residual else self.block(x)


class PyramidPooling(nn.Module):
    """Context from grids of 1, 2, 3 and 6 cells a side, beside the features themselves (PSPNet's module)."""

    grids = (1, 2, 3, 6)

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = channels // len(self.grids)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(grid), _convolve(channels, width)) for grid in self.grids
        )
        self.merge = _convolve(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape is kept."""
        return self.merge(torch.cat([x, *(resize(level(x), x.shape[-2:]) for level in self.levels)], 1))


class FeatureFusion(nn.Module):
    """Detail and context on the detail's grid, added, then ReLU (Table 3)."""

    def __init__(self, detail_channels: int, context_channels: int, channels: int, *, ratio: int = 4) -> None:
        super().__init__()
        self.spread = _convolve(context_channels, context_channels, kernel=3, groups=context_channels, dilation=ratio)
        self.context = _convolve(context_channels, channels, relu=False)
        self.detail = _convolve(detail_channels, channels, relu=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """(B, detail_channels, h, w), (B, context_channels, h', w') -> (B, channels, h, w)."""
        context = self.context(self.spread(resize(context, detail.shape[-2:])))
        return torch.relu(self.detail(detail) + context)


class FastSCNN(nn.Module):
    """Normalised RGB (B, 3, H, W) of any size -> raw logits (B, num_classes, ceil(H/8), ceil(W/8)).

    Layers as in Table 1; 1.1 million parameters.
    """

    classifiers = ("classify.3",)

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            _convolve(3, 32, kernel=3, stride=2), _separable(32, 48, stride=2), _separable(48, 64, stride=2)
        )
        self.extract = nn.Sequential(
            *_repeat(64, 64, stride=2), *_repeat(64, 96, stride=2), *_repeat(96, 128, stride=1), PyramidPooling(128)
        )
        self.fuse = FeatureFusion(64, 128, 128)
        self.classify = nn.Sequential(
            _separable(128, 128), _separable(128, 128), nn.Dropout(0.1), nn.Conv2d(128, num_classes, 1)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits at 1/8 of the input, not upsampled, no softmax."""
        detail = self.downsample(image)
        return self.classify(self.fuse(detail, self.extract(detail)))


def _repeat(in_channels: int, channels: int, *, stride: int, times: int = 3) -> list[Bottleneck]:
    """One stage: the first bottleneck changes size and channels, the others keep them."""
    return [Bottleneck(in_channels, channels, stride=stride)] + [
        Bottleneck(channels, channels, stride=1) for _ in range(times - 1)
    ]

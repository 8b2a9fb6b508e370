"""Pyramid pooling: what whole regions of a map show, at every pixel of it (Zhao et al., PSPNet, CVPR 2017)."""

from __future__ import annotations

from torch import Tensor, nn

from gsvnet.nn.blocks import ConvUnit, resize

BINS = (1, 2, 3, 6)  # rows and columns of regions


class PyramidPooling(nn.Module):
    """Means over 1, 4, 9 and 36 regions, each through a 1x1 convolution. norm: with batch norm and ReLU behind it."""

    def __init__(self, in_channels: int, channels: int, *, norm: bool = True, align_corners: bool = True) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), ConvUnit(in_channels, channels, kernel=1, norm=norm, relu=norm))
            for bins in BINS
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map (N, in_channels, h, w) -> four of (N, channels, h, w), to be joined with it."""
        return [resize(stage(x), x.shape[-2:], align_corners=self.align_corners) for stage in self.stages]

"""PSPNet up to its pyramid, as TDNet's sub-networks begin (Hu et al., CVPR 2020, section 3.1): each gives half of it.

A dilated ResNet at 1/8 of the size and pyramid pooling; of the backbone's channels and of each pyramid level's only one
half is given, turn about, and the other half of the pyramid is not built.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gsvnet.models.trunk import Trunk
from gsvnet.nn.blocks import ConvUnit
from gsvnet.nn.pyramid import PyramidPooling
from gsvnet.nn.resnet import ResNet18Backbone
from gsvnet.nn.resnet_bottleneck import RESNET50, BottleneckBackbone

HALVES = 2


class PSPTrunk18(Trunk):
    """On ResNet-18: image (N, 3, H, W) -> half `turn` mod 2 of the pyramid, (N, 512, ceil(H/8), ceil(W/8))."""

    feature_channels = 512
    value_channels = 512
    middle_channels = 256
    memory_stride = 4
    bytes_per_pixel = 350

    def __init__(self, *, turn: int) -> None:
        super().__init__()
        self.own_half = turn % HALVES
        self.backbone = ResNet18Backbone(dilations=(((1, 2), (2, 2)), ((4, 4), (8, 4))))
        self.pyramid = PyramidPooling(512, 128 // HALVES)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return math.ceil(height / 8), math.ceil(width / 8)

    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The feature, and the third stage's map, (N, 256, ceil(H/8), ceil(W/8))."""
        _, _, third, deepest = self.backbone(image)
        return torch.cat([deepest.chunk(HALVES, dim=1)[self.own_half], *self.pyramid(deepest)], dim=1), third

    def build_head(self, num_classes: int) -> nn.Module:
        """3x3 to 128 channels and a classifier."""
        return _build_head(self.value_channels, 128, num_classes)


class PSPTrunk50(Trunk):
    """On ResNet-50: image (N, 3, H, W) -> half `turn` mod 2 of the pyramid, (N, 2048, ceil(H/8), ceil(W/8))."""

    feature_channels = 2048
    value_channels = 512
    middle_channels = 1024
    memory_stride = 4
    bytes_per_pixel = 950

    def __init__(self, *, turn: int) -> None:
        super().__init__()
        self.own_half = turn % HALVES
        self.backbone = BottleneckBackbone(blocks=RESNET50)
        self.pyramid = PyramidPooling(2048, 512 // HALVES)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return math.ceil(height / 8), math.ceil(width / 8)

    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The feature, and the third stage's map, (N, 1024, ceil(H/8), ceil(W/8))."""
        _, _, third, deepest = self.backbone(image)
        return torch.cat([deepest.chunk(HALVES, dim=1)[self.own_half], *self.pyramid(deepest)], dim=1), third

    def build_head(self, num_classes: int) -> nn.Module:
        """3x3 to 256 channels and a classifier."""
        return _build_head(self.value_channels, 256, num_classes)


def _build_head(in_channels: int, channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(ConvUnit(in_channels, channels), nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, 1))

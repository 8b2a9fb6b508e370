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
from gsvnet.nn.pyramid import BINS, PyramidPooling
from gsvnet.nn.resnet import ResNet18Backbone
from gsvnet.nn.resnet_bottleneck import RESNET50, BottleneckBackbone

HALVES = 2


class PSPTrunk(Trunk):
    """Image (N, 3, H, W) -> half `turn` mod 2 of the pyramid, (N, feature_channels, ceil(H/8), ceil(W/8)).

    backbone: gives four maps of 1/4 and, from the second on, 1/8 of the size, the last one of feature_channels.
    """

    head_channels: int
    memory_stride = 4

    def __init__(self, backbone: nn.Module, *, turn: int) -> None:
        super().__init__()
        self.own_half = turn % HALVES
        self.backbone = backbone
        self.pyramid = PyramidPooling(self.feature_channels, self.feature_channels // len(BINS) // HALVES)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return math.ceil(height / 8), math.ceil(width / 8)

    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The feature, and the third stage's map, (N, middle_channels, ceil(H/8), ceil(W/8))."""
        _, _, third, deepest = self.backbone(image)
        return torch.cat([deepest.chunk(HALVES, dim=1)[self.own_half], *self.pyramid(deepest)], dim=1), third

    def build_head(self, num_classes: int) -> nn.Module:
        """3x3 to head_channels and a classifier."""
        unit = ConvUnit(self.value_channels, self.head_channels)
        return nn.Sequential(unit, nn.Dropout2d(0.1), nn.Conv2d(self.head_channels, num_classes, 1))


class PSPTrunk18(PSPTrunk):
    """On ResNet-18: 512 channels."""

    feature_channels = 512
    value_channels = 512
    middle_channels = 256
    head_channels = 128
    bytes_per_pixel = 350

    def __init__(self, *, turn: int) -> None:
        super().__init__(ResNet18Backbone(dilations=(((1, 2), (2, 2)), ((4, 4), (8, 4)))), turn=turn)


class PSPTrunk50(PSPTrunk):
    """On ResNet-50: 2048 channels."""

    feature_channels = 2048
    value_channels = 512
    middle_channels = 1024
    head_channels = 256
    bytes_per_pixel = 950

    def __init__(self, *, turn: int) -> None:
        super().__init__(BottleneckBackbone(blocks=RESNET50), turn=turn)

"""ResNet-50 and ResNet-101 at 1/8 of the size, without classifier: the encoders of TDNet's large networks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, as PSPNet's authors use it: a stem of three 3x3
convolutions, and dilated last stages; the dilations of the last one double from block to block (multi-grid).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gsvnet.nn.blocks import ConvUnit

EXPANSION = 4
RESNET50 = (3, 4, 6, 3)
RESNET101 = (3, 4, 23, 3)
"""Blocks per stage."""
_MULTI_GRID = (4, 8, 16)  # dilations of the last stage's blocks


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; (B, C_in, H, W) -> (B, 4 * channels, H / stride, W / stride)."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, EXPANSION * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(EXPANSION * channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != EXPANSION * channels:
            shortcut = nn.Conv2d(in_channels, EXPANSION * channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(EXPANSION * channels))

    def forward(self, x: Tensor) -> Tensor:
        """Residual block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


class BottleneckBackbone(nn.Module):
    """Stem and four stages. blocks: per stage, RESNET50 or RESNET101. Names behind the stem are the published ones."""

    channels = (256, 512, 1024, 2048)

    def __init__(self, *, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvUnit(3, 64, stride=2), ConvUnit(64, 64), ConvUnit(64, 128))
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _make_stage(128, 64, dilations=(1,) * blocks[0])
        self.layer2 = _make_stage(256, 128, stride=2, dilations=(1,) * blocks[1])
        self.layer3 = _make_stage(512, 256, dilations=(1,) + (2,) * (blocks[2] - 1))
        self.layer4 = _make_stage(1024, 512, dilations=_MULTI_GRID[: blocks[3]])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalised image -> the stages' features, post-ReLU: 256 channels at 1/4, the others at 1/8."""
        first = self.layer1(self.maxpool(self.stem(x)))
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


def _make_stage(in_channels: int, channels: int, *, stride: int = 1, dilations: Sequence[int]) -> nn.Sequential:
    """One block per dilation; the first block has the stride, on its 3x3 convolution."""
    first, *others = dilations
    return nn.Sequential(
        Bottleneck(in_channels, channels, stride=stride, dilation=first),
        *(Bottleneck(EXPANSION * channels, channels, dilation=dilation) for dilation in others),
    )

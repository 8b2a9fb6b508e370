"""ResNet-18 without its classifier: the encoder of SwiftNet, BiSeNet and PSPNet-18 (He et al., CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn

Dilations = tuple[tuple[int, int], tuple[int, int]]
"""Of a stage's four 3x3 convolutions: of both in the first block, of both in the second."""
PLAIN: Dilations = ((1, 1), (1, 1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; (B, C_in, H, W) -> (B, C, H / stride, W / stride), after the last ReLU."""

    def __init__(
        self, in_channels: int, channels: int, *, stride: int = 1, dilations: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, first, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, second, second, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Residual block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18Backbone(nn.Module):
    """Stem and four stages. State-dict names are those of the published ResNet-18 files.

    dilations: of the last two stages, which then keep the second stage's grid; None: they halve it, as published.
    """

    channels = (64, 128, 256, 512)

    def __init__(self, *, dilations: tuple[Dilations, Dilations] | None = None) -> None:
        super().__init__()
        third, fourth = dilations or (PLAIN, PLAIN)
        deep_stride = 1 if dilations else 2
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _make_stage(64, 64, stride=1)
        self.layer2 = _make_stage(64, 128, stride=2)
        self.layer3 = _make_stage(128, 256, stride=deep_stride, dilations=third)
        self.layer4 = _make_stage(256, 512, stride=deep_stride, dilations=fourth)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalised image -> the stages' features, all post-ReLU.

        At 1/4 (64 channels), 1/8 (128), 1/16 (256) and 1/32 (512); with dilations the last two at 1/8.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        first = self.layer1(x)
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


def _make_stage(in_channels: int, channels: int, *, stride: int, dilations: Dilations = PLAIN) -> nn.Sequential:
    first, second = dilations
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride=stride, dilations=first),
        BasicBlock(channels, channels, dilations=second),
    )


def initialise_for_training(module: nn.Module) -> None:
    """Kaiming-normal convolutions and unit batch norms, in place; for training without pretrained weights."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, BasicBlock):
            nn.init.zeros_(part.bn2.weight)  # residual branches start silent: faster from scratch

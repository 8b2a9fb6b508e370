"""ResNet-18 without its classifier: the encoder of SwiftNet, BiSeNet, PSPNet-18 and FANet-18 (He et al., CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from gsvnet.nn.resnet_bottleneck import Bottleneck

Dilations = tuple[tuple[int, int], tuple[int, int]]
"""Of a stage's four 3x3 convolutions: of both in the first block, of both in the second."""
PLAIN: Dilations = ((1, 1), (1, 1))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; (B, C_in, H, W) -> (B, C, H / stride, W / stride), after the last ReLU.

    slope: on negative values between the two convolutions; 0 is ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        stride: int = 1,
        dilations: tuple[int, int] = (1, 1),
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        first, second = dilations
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, first, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, second, second, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.between = _rectify(slope)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Residual block."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.between(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet18Backbone(nn.Module):
    """Stem and four stages. State-dict names are those of the published ResNet-18 files.

    dilations: of the last two stages, which then keep the second stage's grid; None: they halve it, as published.
    first_stride: 2 lets the first stage halve its grid too, so that all four maps are half as large. slope: on negative
    values in the stem and inside blocks, not behind their sums; 0 is ReLU.
    """

    channels = (64, 128, 256, 512)

    def __init__(
        self, *, dilations: tuple[Dilations, Dilations] | None = None, first_stride: int = 1, slope: float = 0.0
    ) -> None:
        super().__init__()
        third, fourth = dilations or (PLAIN, PLAIN)
        deep_stride = 1 if dilations else 2
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = _rectify(slope)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _make_stage(64, 64, stride=first_stride, slope=slope)
        self.layer2 = _make_stage(64, 128, stride=2, slope=slope)
        self.layer3 = _make_stage(128, 256, stride=deep_stride, dilations=third, slope=slope)
        self.layer4 = _make_stage(256, 512, stride=deep_stride, dilations=fourth, slope=slope)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalised image -> the stages' features, all post-ReLU.

        At 1/4 (64 channels), 1/8 (128), 1/16 (256) and 1/32 (512), with `first_stride` 1; with dilations the last two
        at 1/8.
        """
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        first = self.layer1(x)
        second = self.layer2(first)
        third = self.layer3(second)
        return first, second, third, self.layer4(third)


def _make_stage(
    in_channels: int, channels: int, *, stride: int, dilations: Dilations = PLAIN, slope: float = 0.0
) -> nn.Sequential:
    first, second = dilations
    return nn.Sequential(
        BasicBlock(in_channels, channels, stride=stride, dilations=first, slope=slope),
        BasicBlock(channels, channels, dilations=second, slope=slope),
    )


def _rectify(slope: float) -> nn.Module:
    return nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)


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
        if isinstance(part, BasicBlock | Bottleneck):  # residual branches start silent: faster from scratch
            nn.init.zeros_((part.bn2 if isinstance(part, BasicBlock) else part.bn3).weight)

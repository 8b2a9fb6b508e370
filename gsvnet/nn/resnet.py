"""ResNet-18 without its classifier: the encoder of SwiftNet, BiSeNet and PSPNet-18 (He et al., CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut; (B, C_in, H, W) -> (B, C, H / stride, W / stride), after the last ReLU."""

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
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
    """Stem and four stages. State-dict names are those of the published ResNet-18 files."""

    channels = (64, 128, 256, 512)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(64, 64, stride=1)
        self.layer2 = self._stage(64, 128, stride=2)
        self.layer3 = self._stage(128, 256, stride=2)
        self.layer4 = self._stage(256, 512, stride=2)

    @staticmethod
    def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
        return nn.Sequential(BasicBlock(in_channels, channels, stride=stride), BasicBlock(channels, channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) normalised image -> features at 1/4 (64), 1/8 (128), 1/16 (256), 1/32 (512), all post-ReLU."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        quarter = self.layer1(x)
        eighth = self.layer2(quarter)
        sixteenth = self.layer3(eighth)
        return quarter, eighth, sixteenth, self.layer4(sixteenth)


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

"""SwiftNet-R18, single scale (Orsic et al., "In Defense of Pre-trained ImageNet Architectures", CVPR 2019).

ResNet-18 encoder -> spatial pyramid pooling at 1/32 -> a light ladder decoder up to 1/4. The skips are post-ReLU, as
in the published weights (an in-place ReLU makes them so, whatever the drawing says). Names follow the published files.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.nn.resnet import ResNet18Backbone


class NormReluConv(nn.Module):
    """BN -> ReLU -> convolution: the pre-activation unit of everything behind the encoder."""

    def __init__(
        self, in_channels: int, channels: int, *, kernel: int = 1, bias: bool = False, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(in_channels, momentum=momentum)
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W)."""
        return self.conv(F.relu(self.norm(x)))


class PyramidPooling(nn.Module):
    """Context at three grids of 8, 4 and 2 rows, columns by the aspect ratio (half rounds to even)."""

    grids = (8, 4, 2)

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        level = channels // len(self.grids)
        self.spp = nn.ModuleDict({"spp_bn": NormReluConv(in_channels, channels, momentum=0.005)})
        for i in range(len(self.grids)):
            self.spp[f"spp{i}"] = NormReluConv(channels, level, momentum=0.005)
        self.spp["spp_fuse"] = NormReluConv(channels + level * len(self.grids), channels, momentum=0.005)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 512, h, w) at 1/32 -> (B, 128, h, w)."""
        h, w = x.shape[-2:]
        x = self.spp["spp_bn"](x)
        levels = [x]
        for i, grid in enumerate(self.grids):
            pooled = F.adaptive_avg_pool2d(x, (grid, max(1, round(w / h * grid))))
            level = self.spp[f"spp{i}"](pooled)
            levels.append(F.interpolate(level, (h, w), mode="bilinear", align_corners=False))
        return self.spp["spp_fuse"](torch.cat(levels, 1))


class LadderStep(nn.Module):
    """Resize to the skip's size, add the projected skip, blend."""

    def __init__(self, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.bottleneck = NormReluConv(skip_channels, channels)
        self.blend_conv = NormReluConv(channels, channels, kernel=3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, 128, h, w), (B, C, 2h, 2w) -> (B, 128, 2h, 2w)."""
        skip = self.bottleneck(skip)
        x = F.interpolate(x, skip.shape[-2:], mode="bilinear", align_corners=False)
        return self.blend_conv(x + skip)


class SwiftNetBackbone(ResNet18Backbone):
    """Encoder, pyramid and ladder: (B, 3, H, W) -> (B, 128, H/4, W/4)."""

    def __init__(self, *, features: int) -> None:
        super().__init__()
        # In every published file and unused: images arrive normalised.
        self.register_buffer("img_mean", torch.tensor([73.15, 82.90, 72.3]).view(1, 3, 1, 1))
        self.register_buffer("img_std", torch.tensor([47.67, 48.49, 47.73]).view(1, 3, 1, 1))
        self.spp = PyramidPooling(self.channels[3], features)
        self.upsample = nn.ModuleList([LadderStep(c, features) for c in (256, 128, 64)])

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, 3, H, W) -> features at 1/4."""
        quarter, eighth, sixteenth, deepest = super().forward(x)
        x = self.spp(deepest)
        for step, skip in zip(self.upsample, (sixteenth, eighth, quarter)):
            x = step(x, skip)
        return x


class SwiftNet(nn.Module):
    """SwiftNet-R18: normalised RGB (B, 3, H, W) -> raw logits (B, num_classes, ceil(H/4), ceil(W/4))."""

    classifiers = ("logits.conv",)

    def __init__(self, *, num_classes: int, features: int = 128) -> None:
        super().__init__()
        self.options = {} if features == 128 else {"features": features}
        self.backbone = SwiftNetBackbone(features=features)
        self.logits = NormReluConv(features, num_classes, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Logits at 1/4 of the input, not upsampled, no softmax."""
        return self.logits(self.backbone(x))

"""BiSeNet-R18 (Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018).

A shallow spatial path at 1/8 sees where, a context path (ResNet-18, refined from 1/32 up to 1/8) sees what, and a
fusion of both is classified. Names follow the published files, so their state dicts load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gsvnet.nn.blocks import ConvUnit, resize
from gsvnet.nn.resnet import ResNet18Backbone


class SpatialPath(nn.Module):
    """Detail without depth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_7x7 = ConvUnit(3, 64, kernel=7, stride=2)
        self.conv_3x3_1 = ConvUnit(64, 64, stride=2)
        self.conv_3x3_2 = ConvUnit(64, 64, stride=2)
        self.conv_1x1 = ConvUnit(64, 128, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised image (N, 3, H, W) -> features at 1/8, (N, 128, ceil(H/8), ceil(W/8))."""
        return self.conv_1x1(self.conv_3x3_2(self.conv_3x3_1(self.conv_7x7(x))))


class AttentionRefinement(nn.Module):
    """3x3 convolution, each channel gated by what the whole map says."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.conv_3x3 = ConvUnit(in_channels, 128)
        self.channel_attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvUnit(128, 128, kernel=1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, 128, h, w)."""
        x = self.conv_3x3(x)
        return x * torch.sigmoid(self.channel_attention(x))


class FeatureFusion(nn.Module):
    """Both paths mixed by a 1x1 convolution; a gate from the whole map then amplifies channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1x1 = ConvUnit(256, 256, kernel=1)
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            ConvUnit(256, 256, kernel=1, norm=False),
            ConvUnit(256, 256, kernel=1, norm=False, relu=False),
        )

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Two maps (N, 128, h, w) -> (N, 256, h, w)."""
        x = self.conv_1x1(torch.cat([spatial, context], dim=1))
        return x + x * torch.sigmoid(self.channel_attention(x))


class Head(nn.Module):
    """Features to logits on the same grid."""

    def __init__(self, in_channels: int, channels: int, *, num_classes: int) -> None:
        super().__init__()
        self.conv_3x3 = ConvUnit(in_channels, channels)
        self.conv_1x1 = nn.Conv2d(channels, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, num_classes, h, w)."""
        return self.conv_1x1(self.conv_3x3(x))


class BiSeNet(nn.Module):
    """BiSeNet-R18: normalised RGB (N, 3, H, W) -> raw logits (N, num_classes, ceil(H/8), ceil(W/8)).

    auxiliary_heads: also build the heads at 1/16 and 1/8 of the context path. Published files hold them and training
    wants them; labeling does not: `drop_auxiliary_heads` takes them out, 600,614 parameters at 19 classes.
    """

    def __init__(self, *, num_classes: int, auxiliary_heads: bool = False) -> None:
        super().__init__()
        self.context_path = ResNet18Backbone()
        self.spatial_path = SpatialPath()
        self.global_context = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvUnit(512, 128, kernel=1))
        self.arms = nn.ModuleList([AttentionRefinement(512), AttentionRefinement(256)])
        self.refines = nn.ModuleList([ConvUnit(128, 128), ConvUnit(128, 128)])
        self.ffm = FeatureFusion()
        self.heads = nn.ModuleDict({"2": Head(256, 64, num_classes=num_classes)})
        if auxiliary_heads:
            self.heads["0"] = Head(128, 256, num_classes=num_classes)
            self.heads["1"] = Head(128, 256, num_classes=num_classes)

    @property
    def has_auxiliary_heads(self) -> bool:
        """Whether there are heads that only training uses: `segment_with_auxiliary`, `drop_auxiliary_heads`."""
        return len(self.heads) > 1

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the last layers, auxiliary heads included where there are any."""
        return tuple(f"heads.{name}.conv_1x1" for name in self.heads)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at 1/8 of the input, not upsampled, no softmax."""
        features, _, _ = self._extract(image)
        return self.heads["2"](features)

    def segment_with_auxiliary(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: logits at 1/8, and the auxiliary heads' logits at 1/16 and 1/8."""
        features, sixteenth, eighth = self._extract(image)
        return self.heads["2"](features), self.heads["0"](sixteenth), self.heads["1"](eighth)

    def drop_auxiliary_heads(self) -> None:
        """Remove the heads that only training uses, in place."""
        for name in ("0", "1"):
            if name in self.heads:
                del self.heads[name]

    def _extract(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused features (N, 256) at 1/8, and the refined context (N, 128) at 1/16 and at 1/8."""
        _, eighth, sixteenth, deepest = self.context_path(image)
        context = self.arms[0](deepest) + self.global_context(deepest)  # one vector, the same for every pixel
        coarse = self.refines[0](resize(context, sixteenth.shape[-2:]))
        context = self.arms[1](sixteenth) + coarse
        fine = self.refines[1](resize(context, eighth.shape[-2:]))
        return self.ffm(self.spatial_path(image), fine), coarse, fine

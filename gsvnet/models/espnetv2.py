"""ESPNetv2 for segmentation, in the variant of the EdgeNets model zoo, whose Cityscapes weights are published.

S. Mehta, M. Rastegari, L. Shapiro, H. Hajishirzi, "ESPNetv2: A Light-weight, Power Efficient, and General Purpose
Convolutional Neural Network", CVPR 2019.

Encoder of EESP units (grouped 1x1 -> four dilated depthwise convolutions, fused step by step -> grouped 1x1) down to
1/16, the image fed in again at every level; a decoder of pyramid poolings up to 1/2. Under a million parameters.
Published files are read by `published_espnetv2.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.errors import ModelError
from gsvnet.nn.blocks import resize

CHANNELS = {0.5: (16, 32, 64, 128), 1.0: (32, 64, 128, 256), 1.5: (32, 96, 192, 384), 2.0: (32, 128, 256, 512)}
"""Channels at 1/2, 1/4, 1/8 and 1/16 of the image, by width."""

BRANCHES = 4


class Conv(nn.Module):
    """Convolution without bias, then batch norm and a PReLU, each unless switched off; size ceil(size / stride)."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
        norm: bool = True,
        act: bool = True,
    ) -> None:
        super().__init__()
        pad = kernel // 2 * dilation
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, pad, dilation, groups, bias=False)
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.act = nn.PReLU(channels) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, ceil(h / stride), ceil(w / stride))."""
        return self.act(self.bn(self.conv(x)))


class NormAct(nn.Module):
    """Batch norm, then PReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn, self.act = nn.BatchNorm2d(channels), nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Shape is kept."""
        return self.act(self.bn(x))


class EESP(nn.Module):
    """Extremely efficient spatial pyramid (section 3.2): reduce, four dilations in parallel, add up, merge.

    With `residual` the input is added and the sum activated; else the merged features come out as they are.
    """

    def __init__(
        self, in_channels: int, channels: int, *, dilations: Sequence[int], stride: int = 1, residual: bool = True
    ) -> None:
        super().__init__()
        width = channels // BRANCHES
        self.proj_1x1 = Conv(in_channels, width, groups=BRANCHES)
        self.spp_dw = nn.ModuleList(
            Conv(width, width, kernel=3, stride=stride, groups=width, dilation=d, norm=False, act=False)
            for d in dilations
        )
        self.br_after_cat = NormAct(channels)
        self.conv_1x1_exp = Conv(channels, channels, groups=BRANCHES, act=False)
        self.module_act = nn.PReLU(channels).requires_grad_(residual)  # in the published files even where it is unused
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, ceil(h / stride), ceil(w / stride))."""
        reduced = self.proj_1x1(x)
        branches = [self.spp_dw[0](reduced)]
        for branch in self.spp_dw[1:]:
            branches.append(branch(reduced) + branches[-1])
        merged = self.conv_1x1_exp(self.br_after_cat(torch.cat(branches, 1)))
        return self.module_act(merged + x) if self.residual else merged


class DownSampler(nn.Module):
    """Half the size: mean pooling beside a strided EESP, plus the image itself at that size."""

    def __init__(self, in_channels: int, channels: int, *, dilations: Sequence[int]) -> None:
        super().__init__()
        self.eesp = EESP(in_channels, channels - in_channels, dilations=dilations, stride=2, residual=False)
        self.inp_reinf = nn.Sequential(Conv(3, 3, kernel=3), Conv(3, channels, act=False))
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, channels, h/2, w/2), and the image (B, 3, h/2, w/2) halved once more than it came."""
        image = F.avg_pool2d(image, 3, stride=2, padding=1)
        halved = torch.cat([F.avg_pool2d(x, 3, stride=2, padding=1), self.eesp(x)], 1)
        return self.act(halved + self.inp_reinf(image)), image


class Encoder(nn.Module):
    """(B, 3, H, W) -> features at 1/2, 1/4, 1/8 and 1/16."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        half, quarter, eighth, sixteenth = channels
        wide, narrow = (1, 2, 3, 4), (1, 1, 2, 3)
        self.level1 = Conv(3, half, kernel=3, stride=2)
        self.level2_0 = DownSampler(half, quarter, dilations=wide)
        self.level3_0 = DownSampler(quarter, eighth, dilations=wide)
        self.level3 = nn.Sequential(*(EESP(eighth, eighth, dilations=wide) for _ in range(3)))
        self.level4_0 = DownSampler(eighth, sixteenth, dilations=wide)
        self.level4 = nn.Sequential(*(EESP(sixteenth, sixteenth, dilations=narrow) for _ in range(7)))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All four levels, finest first."""
        half = self.level1(image)
        image = F.avg_pool2d(image, 3, stride=2, padding=1)
        quarter, image = self.level2_0(half, image)
        eighth, image = self.level3_0(quarter, image)
        eighth = self.level3(eighth)
        sixteenth, _ = self.level4_0(eighth, image)
        return half, quarter, eighth, self.level4(sixteenth)


class PyramidPooling(nn.Module):
    """Depthwise convolutions at five scales of the same map, shuffled and merged (EdgeNets' EfficientPyrPool)."""

    scales = (2.0, 1.5, 1.0, 0.5, 0.1)
    least = 5  # rows and columns

    def __init__(self, in_channels: int, width: int, channels: int, *, last: bool = False) -> None:
        super().__init__()
        self.projection = Conv(in_channels, width)
        self.stages = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False) for _ in self.scales
        )
        self.norm = NormAct(width * len(self.scales))
        self.mix = Conv(width * len(self.scales), width, kernel=3, groups=width)
        self.merge = nn.Conv2d(width, channels, 1, bias=last)
        self.br = nn.Identity() if last else NormAct(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)."""
        x = self.projection(x)
        levels = [self._see_at(x, stage, scale) for stage, scale in zip(self.stages, self.scales)]
        shuffled = self.norm(torch.cat(levels, 1)).unflatten(1, (len(levels), -1)).transpose(1, 2).flatten(1, 2)
        return self.br(self.merge(self.mix(shuffled)))

    def _see_at(self, x: Tensor, stage: nn.Module, scale: float) -> Tensor:
        height, width = size = x.shape[-2:]
        scaled = max(self.least, math.ceil(height * scale)), max(self.least, math.ceil(width * scale))
        if scale < 1:
            return resize(stage(F.adaptive_avg_pool2d(x, scaled)), size)
        return F.adaptive_avg_pool2d(stage(resize(x, scaled)), (height, width)) if scale > 1 else stage(x)


class Skip(nn.Module):
    """Encoder features for the decoder: a grouped convolution, weighted by channel from the whole map's mean."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.expansion = Conv(in_channels, channels, kernel=3, groups=math.gcd(in_channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, h, w) -> (B, channels, h, w)."""
        return self.expansion(x) * torch.sigmoid(self.weigh(F.adaptive_avg_pool2d(x, 1)))


class ESPNetv2(nn.Module):
    """Normalised RGB (B, 3, H, W) -> raw logits (B, num_classes, ceil(H/2), ceil(W/2)), corner-aligned.

    width: 0.5, 1.0, 1.5 or 2.0. projection: channels inside the decoder's poolings; 10 in the published Cityscapes
    weights. Raises ModelError for another width.
    """

    classifiers = ("decode.3.merge",)

    def __init__(self, *, num_classes: int, width: float = 2.0, projection: int = 10) -> None:
        super().__init__()
        if width not in CHANNELS or projection < 1:
            widths = ", ".join(map(str, CHANNELS))
            raise ModelError(f"ESPNetv2 of width {width!r}, projection {projection}; widths: {widths}, projection >= 1")
        self.options = {"width": width, "projection": projection}
        half, quarter, eighth, sixteenth = CHANNELS[width]
        self.base_net = Encoder(CHANNELS[width])
        self.decode = nn.ModuleList(
            [
                PyramidPooling(sixteenth, projection, 64),
                PyramidPooling(64, projection, 48),
                PyramidPooling(48, projection, 32),
                PyramidPooling(32, projection, num_classes, last=True),
            ]
        )
        self.skips = nn.ModuleList([Skip(eighth, 64), Skip(quarter, 48), Skip(half, 32)])
        self.blend = nn.ModuleList([NormAct(64), NormAct(48), NormAct(32)])

    def forward(self, image: Tensor) -> Tensor:
        """Logits at 1/2 of the input, not upsampled, no softmax."""
        half, quarter, eighth, sixteenth = self.base_net(image)
        x = self.decode[0](sixteenth)
        for decode, skip, blend, features in zip(self.decode[1:], self.skips, self.blend, (eighth, quarter, half)):
            x = decode(blend(skip(features) + resize(x, features.shape[-2:])))
        return x

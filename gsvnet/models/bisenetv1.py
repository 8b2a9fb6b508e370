"""BiSeNetV1-R18 as AR-Seg uses it (Hu et al., CVPR 2023, after Yu et al., ECCV 2018): a head of 256 channels at 1/8.

It differs from `bisenet.py`, GSVNet's form, in the wide head, in context that is enlarged by repetition, and in a gate
with a batch norm. `extract` and `classify` are apart because AR-Seg fuses features between them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.models.bisenet import AttentionRefinement, Head, SpatialPath
from gsvnet.models.split import SplitNetwork
from gsvnet.nn.blocks import ConvUnit, resize
from gsvnet.nn.resnet import ResNet18Backbone


class GatedFusion(nn.Module):
    """Both paths mixed by a 1x1 convolution; a gate from the whole map then amplifies channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1x1 = ConvUnit(256, 256, kernel=1)
        self.channel_attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvUnit(256, 256, kernel=1, relu=False))

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        """Two maps (N, 128, h, w) -> (N, 256, h, w)."""
        x = self.conv_1x1(torch.cat([spatial, context], dim=1))
        return x + x * torch.sigmoid(self.channel_attention(x))


class TwoPaths(nn.Module):
    """Spatial and context path and their fusion: normalised image -> 256 channels at 1/8, all but the head."""

    def __init__(self) -> None:
        super().__init__()
        self.context_path = ResNet18Backbone()
        self.spatial_path = SpatialPath()
        self.global_context = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvUnit(512, 128, kernel=1))
        self.arms = nn.ModuleList([AttentionRefinement(512), AttentionRefinement(256)])
        self.refines = nn.ModuleList([ConvUnit(128, 128), ConvUnit(128, 128)])
        self.ffm = GatedFusion()

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return 2 * math.ceil(height / 16), 2 * math.ceil(width / 16)

    def fuse_paths(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Fused features (N, 256) at 1/8, and the refined context (N, 128) at 1/8 and at 1/16."""
        _, _, sixteenth, deepest = self.context_path(image)
        coarse = _enlarge_twice(self.arms[0](deepest) + self.global_context(deepest))
        coarse = self.refines[0](resize(coarse, sixteenth.shape[-2:]))  # only odd sizes differ
        fine = self.refines[1](_enlarge_twice(self.arms[1](sixteenth) + coarse))
        spatial = resize(self.spatial_path(image), fine.shape[-2:], align_corners=False)
        return self.ffm(spatial, fine), fine, coarse


class BiSeNetV1(TwoPaths, SplitNetwork):
    """BiSeNetV1-R18: normalised RGB (N, 3, H, W) -> logits (N, num_classes, 2 ceil(H/16), 2 ceil(W/16)), no softmax.

    auxiliary_heads: also build the heads on the context at 1/8 and 1/16, which published files hold and training wants.
    """

    feature_channels = 256
    bytes_per_pixel = 240

    def __init__(self, *, num_classes: int, auxiliary_heads: bool = False) -> None:
        super().__init__()
        self.head = Head(256, 256, num_classes=num_classes)
        self.auxiliary_heads = nn.ModuleList()
        if auxiliary_heads:
            self.auxiliary_heads.extend(Head(128, 64, num_classes=num_classes) for _ in range(2))

    @property
    def has_auxiliary_heads(self) -> bool:
        """Whether there are heads that only training uses: `segment_with_auxiliary`, `drop_auxiliary_heads`."""
        return len(self.auxiliary_heads) > 0

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the last layers, auxiliary heads included where there are any."""
        return ("head.conv_1x1", *(f"auxiliary_heads.{i}.conv_1x1" for i in range(len(self.auxiliary_heads))))

    def extract(self, image: Tensor) -> Tensor:
        """The last feature before the classifier, (N, 256, 2 ceil(H/16), 2 ceil(W/16)): AR-Seg's `p`."""
        return self.head.conv_3x3(self.fuse_paths(image)[0])

    def classify(self, features: Tensor) -> Tensor:
        """Features (N, 256, h, w) -> logits (N, num_classes, h, w)."""
        return self.head.conv_1x1(features)

    def segment_with_auxiliary(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For training: logits at 1/8, and the auxiliary heads' logits at 1/8 and 1/16."""
        fused, fine, coarse = self.fuse_paths(image)
        return self.head(fused), self.auxiliary_heads[0](fine), self.auxiliary_heads[1](coarse)

    def drop_auxiliary_heads(self) -> None:
        """Remove the heads that only training uses, in place."""
        self.auxiliary_heads = nn.ModuleList()


def _enlarge_twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")

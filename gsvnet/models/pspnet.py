"""PSPNet-18 (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017) as AR-Seg uses it for Cityscapes.

A ResNet-18 whose last stages are dilated and keep 1/8 of the size, pyramid pooling, a wide head of 512 channels. The
form for CamVid, which labels at the image's own size, is in `pspnet_up.py`, ETC's, with a narrower head, in
`pspnet_etc.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gsvnet.models.split import SplitNetwork
from gsvnet.nn.blocks import ConvUnit
from gsvnet.nn.pyramid import BINS, PyramidPooling
from gsvnet.nn.resnet import Dilations, ResNet18Backbone


class PSPNet18(SplitNetwork):
    """PSPNet-18: normalised RGB (N, 3, H, W) -> raw logits (N, num_classes, ceil(H/8), ceil(W/8)).

    auxiliary_heads: also build the head on the third stage, which published files hold and training wants.
    """

    feature_channels = 512
    bytes_per_pixel = 340
    dilations: tuple[Dilations, Dilations] = (((1, 2), (2, 2)), ((1, 4), (4, 4)))

    def __init__(self, *, num_classes: int, auxiliary_heads: bool = False) -> None:
        super().__init__()
        self.backbone = ResNet18Backbone(dilations=self.dilations)
        self.pyramid = PyramidPooling(512, 128)
        self.head = nn.Sequential(ConvUnit(512 + len(BINS) * 128, self.feature_channels), nn.Dropout2d(0.1))
        self.classifier = nn.Conv2d(self.feature_channels, num_classes, 1)
        self.auxiliary_head: nn.Sequential | None = None
        if auxiliary_heads:
            self.auxiliary_head = nn.Sequential(ConvUnit(256, 256), nn.Dropout2d(0.1), nn.Conv2d(256, num_classes, 1))

    @property
    def has_auxiliary_heads(self) -> bool:
        """Whether there is a head that only training uses: `segment_with_auxiliary`, `drop_auxiliary_heads`."""
        return self.auxiliary_head is not None

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the last layers, the auxiliary head's included where there is one."""
        return ("classifier", "auxiliary_head.2") if self.has_auxiliary_heads else ("classifier",)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return math.ceil(height / 8), math.ceil(width / 8)

    def extract(self, image: Tensor) -> Tensor:
        """The last feature before the classifier, (N, feature_channels, ceil(H/8), ceil(W/8))."""
        return self._pool(self.backbone(image)[3])

    def classify(self, features: Tensor) -> Tensor:
        """Features (N, feature_channels, h, w) -> logits (N, num_classes, h, w)."""
        return self.classifier(features)

    def segment_with_auxiliary(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """For training: logits, and the auxiliary head's logits, both at 1/8."""
        assert self.auxiliary_head is not None
        _, _, third, deepest = self.backbone(image)
        return self.classify(self._pool(deepest)), self.auxiliary_head(third)

    def drop_auxiliary_heads(self) -> None:
        """Remove the head that only training uses, in place."""
        self.auxiliary_head = None

    def _pool(self, deepest: Tensor) -> Tensor:
        return self.head(torch.cat([deepest, *self.pyramid(deepest)], dim=1))

"""PSPNet-18 with three up-samplers, as AR-Seg uses it for CamVid (Hu et al., CVPR 2023, after Zhao et al., CVPR 2017).

It labels at the image's own size: fine, and heavy. A keyframe's feature is 64 float32 values for each of its pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gsvnet.models.split import SplitNetwork
from gsvnet.nn.blocks import conv_norm, resize
from gsvnet.nn.pyramid import BINS, PyramidPooling
from gsvnet.nn.resnet import ResNet18Backbone


class PSPNet18Up(SplitNetwork):
    """PSPNet-18: normalised RGB (N, 3, H, W) -> raw logits (N, num_classes, 8 ceil(H/8), 8 ceil(W/8)).

    auxiliary_heads: also build the head that says which classes an image shows, which published files hold. It labels
    no pixels, so `segment_with_presence` takes the place of other networks' `segment_with_auxiliary`.
    """

    feature_channels = 64
    bytes_per_pixel = 1200

    def __init__(self, *, num_classes: int, auxiliary_heads: bool = False) -> None:
        super().__init__()
        self.backbone = ResNet18Backbone(dilations=(((1, 1), (2, 2)), ((1, 1), (4, 4))))
        self.pyramid = PyramidPooling(512, 512, norm=False, align_corners=False)
        self.bottleneck = nn.Sequential(nn.Conv2d(512 + len(BINS) * 512, 1024, 1), nn.ReLU(), nn.Dropout2d(0.3))
        self.up = nn.ModuleList(
            conv_norm(before, after, activation=nn.PReLU()) for before, after in ((1024, 256), (256, 64), (64, 64))
        )
        self.dropout = nn.Dropout2d(0.15)
        self.classifier = nn.Conv2d(64, num_classes, 1)
        self.presence_head: nn.Sequential | None = None
        if auxiliary_heads:
            self.presence_head = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, num_classes))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names of the last layers, the presence head's included where there is one."""
        return ("classifier",) if self.presence_head is None else ("classifier", "presence_head.2")

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return 8 * math.ceil(height / 8), 8 * math.ceil(width / 8)

    def extract(self, image: Tensor) -> Tensor:
        """The last feature before the classifier, (N, 64, 8 ceil(H/8), 8 ceil(W/8))."""
        return self._enlarge(self.backbone(image)[3])

    def classify(self, features: Tensor) -> Tensor:
        """Features (N, 64, h, w) -> logits (N, num_classes, h, w)."""
        return self.classifier(features)

    def segment_with_presence(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """For training: logits of every pixel, and of each class being anywhere in the image, (N, num_classes)."""
        assert self.presence_head is not None
        _, _, third, deepest = self.backbone(image)
        return self.classify(self._enlarge(deepest)), self.presence_head(third.amax(dim=(2, 3)))

    def drop_auxiliary_heads(self) -> None:
        """Remove the head that only training uses, in place."""
        self.presence_head = None

    def _enlarge(self, deepest: Tensor) -> Tensor:
        """The dilated stages' feature (N, 512, h, w) -> (N, 64, 8 h, 8 w)."""
        x = self.bottleneck(torch.cat([*self.pyramid(deepest), deepest], dim=1))
        for up in self.up:
            x = self.dropout(up(resize(x, (2 * x.shape[-2], 2 * x.shape[-1]), align_corners=False)))
        return x

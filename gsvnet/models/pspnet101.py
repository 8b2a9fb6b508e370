"""PSPNet-101 (Zhao et al., "Pyramid Scene Parsing Network", CVPR 2017) as TDNet has it: what its networks learn from.

A dilated ResNet-101 at 1/8 of the size, the whole pyramid, a head of 512 channels. TDNet's sub-networks each see a part
of the pyramid; `segment_groups` says what this network makes of the same part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.errors import ModelError
from gsvnet.nn.blocks import ConvUnit
from gsvnet.nn.pyramid import BINS, PyramidPooling
from gsvnet.nn.resnet_bottleneck import RESNET101, BottleneckBackbone


class PSPNet101(nn.Module):
    """PSPNet-101: normalised RGB (N, 3, H, W) -> raw logits (N, num_classes, ceil(H/8), ceil(W/8))."""

    classifiers = ("classifier",)

    def __init__(self, *, num_classes: int) -> None:
        super().__init__()
        self.backbone = BottleneckBackbone(blocks=RESNET101)
        self.pyramid = PyramidPooling(2048, 512)
        self.head = nn.Sequential(ConvUnit(2048 + len(BINS) * 512, 512), nn.Dropout2d(0.1))
        self.classifier = nn.Conv2d(512, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits at 1/8 of the input, not upsampled, no softmax."""
        return self.classifier(self.head(torch.cat(self._pool(image), dim=1)))

    def segment_groups(self, image: Tensor, num_groups: int) -> list[Tensor]:
        """Per sub-network of TDNet, in the order of their turns, the logits of its group of channels alone.

        num_groups: 2 or 4. Each is the head on one group of the input channels of its 3x3 convolution; together the
        convolutions of all groups sum to the whole. As published, a group of four counts four times, one of two once.
        """
        return self.segment_with_groups(image, num_groups)[1]

    def segment_with_groups(self, image: Tensor, num_groups: int) -> tuple[Tensor, list[Tensor]]:
        """Logits of the whole, and of each group as `segment_groups` has them, at the cost of the whole alone."""
        parts, unit = self._pool(image), self.head[0]
        assert isinstance(unit, ConvUnit)
        weights = unit.conv.weight.split([part.shape[1] for part in parts], dim=1)
        maps = []
        for place in order_of_groups(num_groups):
            inputs, kernels = (
                torch.cat([tensor.chunk(num_groups, dim=1)[place] for tensor in tensors], dim=1)
                for tensors in (parts, weights)
            )
            maps.append(F.conv2d(inputs, kernels, padding=unit.conv.padding))
        weight = num_groups if num_groups > 2 else 1
        whole, *groups = (self._classify(x) for x in (torch.stack(maps).sum(0), *(weight * x for x in maps)))
        return whole, groups

    def _pool(self, image: Tensor) -> list[Tensor]:
        """The last stage's map and the four pyramid levels."""
        deepest = self.backbone(image)[3]
        return [deepest, *self.pyramid(deepest)]

    def _classify(self, x: Tensor) -> Tensor:
        """What follows the head's convolution."""
        unit = self.head[0]
        assert isinstance(unit, ConvUnit)
        return self.classifier(self.head[1:](unit.activation(unit.bn(x))))


def order_of_groups(num_groups: int) -> list[int]:
    """Which group of channels, counted from the first channel on, goes with the sub-network of each turn.

    Turns alternate between the two halves of the channels; of four groups, 0, 2, 1, 3. Raises ModelError for numbers
    of groups other than 2 and 4.
    """
    if num_groups not in (2, 4):
        raise ModelError(f"{num_groups} groups of channels; allowed: 2, 4, as many as TDNet's sub-networks")
    per_half = num_groups // 2
    return [(turn % 2) * per_half + turn // 2 for turn in range(num_groups)]

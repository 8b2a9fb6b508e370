"""FANet-18 up to its head: a ResNet-18 at 1/8 to 1/64 of the size, and attention whose cost is linear in the map.

P. Hu, F. Perazzi, F. Caba Heilbron, O. Wang, Z. Lin, K. Saenko, S. Sclaroff, "Real-time Semantic Segmentation with Fast
Attention", 2020, as TDNet's training code has it. Queries and keys are of length 1 and no softmax stands between, so
keys and values meet first: q (k v) in place of (q k) v.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.models.trunk import Trunk
from gsvnet.nn.blocks import resize
from gsvnet.nn.resnet import ResNet18Backbone

SLOPE = 0.01  # of all activations on negative values, except those behind a residual sum
_KEY_CHANNELS = 32
_SMOOTH_CHANNELS = 128


class NormedConvolution(nn.Module):
    """Convolution without bias, batch norm, and LeakyReLU if `active`."""

    def __init__(
        self, in_channels: int, channels: int, *, kernel: int = 1, padding: int = 0, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.activation = nn.LeakyReLU(SLOPE) if active else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels, h + 2 padding - kernel + 1, likewise)."""
        return self.activation(self.bn(self.conv(x)))


class FastAttention(nn.Module):
    """A map that has looked at all of itself, and taken in what the coarser one says.

    up: build what hands it on to the finer map. smooth: build what hands it on to the head.
    """

    def __init__(self, channels: int, *, up: bool = True, smooth: bool = False) -> None:
        super().__init__()
        self.query, self.key = (NormedConvolution(channels, _KEY_CHANNELS, active=False) for _ in range(2))
        self.value = NormedConvolution(channels, channels)
        self.merge = NormedConvolution(channels, channels)
        # padding a 1x1 convolution is the authors': the map grows by a rim, and is squeezed where it is added
        self.up = NormedConvolution(channels, channels // 2, padding=1) if up else None
        self.smooth = NormedConvolution(channels, _SMOOTH_CHANNELS, kernel=3, padding=1) if smooth else None

    def forward(self, x: Tensor, coarser: Tensor | None = None) -> Tensor:
        """Map (N, channels, h, w), and what the coarser one's `up` made of it, of any size -> (N, channels, h, w)."""
        query, key = (F.normalize(part(x).flatten(2), dim=1) for part in (self.query, self.key))  # (N, 32, places)
        context = key @ self.value(x).flatten(2).transpose(1, 2)  # (N, 32, channels)
        seen = (context.transpose(1, 2) @ query).unflatten(2, x.shape[-2:])
        merged = self.merge(seen) + x
        return merged if coarser is None else merged + resize(coarser, x.shape[-2:])


class FANetTrunk18(Trunk):
    """Image (N, 3, H, W) -> feature (N, 256, ceil(H/8), ceil(W/8)): of the finest map and of the second coarsest."""

    feature_channels = 256
    value_channels = 256
    middle_channels = _SMOOTH_CHANNELS
    memory_stride = 3
    bytes_per_pixel = 160

    def __init__(self, *, turn: int) -> None:
        super().__init__()
        del turn  # every sub-network gives its whole feature
        self.backbone = ResNet18Backbone(first_stride=2, slope=SLOPE)
        first, second, third, fourth = self.backbone.channels
        self.attend_eighth = FastAttention(first, up=False, smooth=True)
        self.attend_sixteenth = FastAttention(second)
        self.attend_thirty_second = FastAttention(third, smooth=True)
        self.attend_sixty_fourth = FastAttention(fourth)

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""
        return math.ceil(height / 8), math.ceil(width / 8)

    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The feature, and the half of it that comes from the map at 1/32, (N, 128, ceil(H/32), ceil(W/32))."""
        eighth, sixteenth, thirty_second, sixty_fourth = self.backbone(image)
        x = _apply(self.attend_sixty_fourth.up, self.attend_sixty_fourth(sixty_fourth))
        x = self.attend_thirty_second(thirty_second, x)
        coarse = _apply(self.attend_thirty_second.smooth, x)
        x = self.attend_sixteenth(sixteenth, _apply(self.attend_thirty_second.up, x))
        x = self.attend_eighth(eighth, _apply(self.attend_sixteenth.up, x))
        fine = _apply(self.attend_eighth.smooth, x)
        return torch.cat([resize(coarse, fine.shape[-2:]), fine], dim=1), coarse

    def build_head(self, num_classes: int) -> nn.Module:
        """3x3 convolution and a classifier without bias."""
        return nn.Sequential(
            NormedConvolution(256, 256, kernel=3, padding=1), nn.Conv2d(256, num_classes, 1, bias=False)
        )


def _apply(part: nn.Module | None, x: Tensor) -> Tensor:
    assert part is not None
    return part(x)

"""BiSeNetV1-R18 up to its head, as TDNet's sub-networks begin: the paper's TD4-Bise18, for which there is no code."""

from __future__ import annotations

from torch import Tensor, nn

from gsvnet.models.bisenet import Head
from gsvnet.models.bisenetv1 import TwoPaths
from gsvnet.models.trunk import Trunk


class BiSeNetTrunk(TwoPaths, Trunk):
    """Image (N, 3, H, W) -> both paths fused, (N, 256, 2 ceil(H/16), 2 ceil(W/16)), at every turn."""

    feature_channels = 256
    value_channels = 256
    middle_channels = 128
    memory_stride = 4
    bytes_per_pixel = 240

    def __init__(self, *, turn: int) -> None:
        super().__init__()
        del turn  # every sub-network gives its whole feature

    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The feature, and the refined context of the same size, (N, 128)."""
        fused, fine, _ = self.fuse_paths(image)
        return fused, fine

    def build_head(self, num_classes: int) -> nn.Module:
        """BiSeNetV1's head."""
        return Head(256, 256, num_classes=num_classes)

"""What TDNet's sub-networks begin with: an image network up to the feature that is shared over time."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Trunk(nn.Module, ABC):
    """Normalised image (N, 3, H, W) -> feature (N, feature_channels, *feature_size(H, W)), by `extract`.

    Constructed with `turn`, the number of the sub-network, 0..N-1: some give one half of a feature each.
    value_channels: of what other frames take over of the feature. memory_stride: every so many rows and columns of it
    are kept for them. middle_channels: of the map that a head beside the last one may learn from, in training.
    bytes_per_pixel: of memory at the peak of `extract`, for one pixel of one float32 image on a CPU without gradients.
    """

    feature_channels: int
    value_channels: int
    middle_channels: int
    memory_stride: int = 4
    bytes_per_pixel: int

    @staticmethod
    @abstractmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""

    def extract(self, image: Tensor) -> Tensor:
        """The feature of images (N, 3, H, W)."""
        return self.extract_with_middle(image)[0]

    @abstractmethod
    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The feature, and the map (N, middle_channels, h, w) from the middle of the network."""

    @abstractmethod
    def build_head(self, num_classes: int) -> nn.Module:
        """A new head: normed feature (N, value_channels, h, w) -> logits (N, num_classes, h, w)."""

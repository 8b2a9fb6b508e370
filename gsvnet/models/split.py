"""An image network in two parts, which AR-Seg fuses between."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class SplitNetwork(nn.Module, ABC):
    """Normalised image (N, 3, H, W) -> logits (N, num_classes, h, w), by `extract` and then `classify`.

    Constructed with num_classes and auxiliary_heads: whether to build the heads that only training uses, too.
    feature_channels: of what `extract` gives. bytes_per_pixel: of memory at the peak of `extract`, for one pixel of one
    float32 image on a CPU without gradients (tests/models/test_split_networks.py counts it).
    """

    feature_channels: int
    bytes_per_pixel: int

    @property
    @abstractmethod
    def classifiers(self) -> tuple[str, ...]:
        """Names of the last layers, of the heads that only training uses too where there are any."""

    def forward(self, image: Tensor) -> Tensor:
        """Logits on the feature's grid, not upsampled, no softmax."""
        return self.classify(self.extract(image))

    @staticmethod
    @abstractmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of what `extract` makes of an image of this size."""

    @abstractmethod
    def extract(self, image: Tensor) -> Tensor:
        """The last feature before the classifier, (N, feature_channels, *feature_size(H, W)): the paper's `p`."""

    @abstractmethod
    def classify(self, features: Tensor) -> Tensor:
        """Features (N, feature_channels, h, w) -> logits (N, num_classes, h, w)."""

    @abstractmethod
    def drop_auxiliary_heads(self) -> None:
        """Remove the heads that only training uses, in place."""

"""Small parts that several networks are built from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn


def resize(x: Tensor, size: Sequence[int], *, align_corners: bool = True) -> Tensor:
    """`x` (N, C, h, w) on a grid of `size` (height, width): bilinear, not antialiased; `x` itself if it fits."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=align_corners)


def equal_batches(num_rows: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Batches of one size, at most `most` rows each: (rows to run, which of their results are new).

    What a row comes out as depends in the last bits on the size of its batch (another kernel is chosen), though not
    on its neighbours. So all batches are equally large, and the last one may overlap the one before.

    >>> list(equal_batches(5, 3))
    [(slice(0, 3, None), slice(0, 3, None)), (slice(2, 5, None), slice(1, 3, None))]
    """
    size = math.ceil(num_rows / math.ceil(num_rows / most)) if num_rows else 1
    for start in range(0, num_rows, size):
        first = min(start, num_rows - size)
        yield slice(first, first + size), slice(start - first, size)


def conv_norm(
    in_channels: int, out_channels: int, *, activation: nn.Module, kernel: int = 3, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """Convolution with bias, batch norm, activation; output size ceil(size / stride)."""
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=dilation * (kernel // 2), dilation=dilation)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), activation)


class ConvUnit(nn.Module):
    """Convolution without bias, then batch norm and ReLU unless switched off; output size ceil(size / stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        norm: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.activation = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, ceil(h / stride), ceil(w / stride))."""
        return self.activation(self.bn(self.conv(x)))

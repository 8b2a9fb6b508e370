"""Images to the sizes that a network reads, as labeling gets them from the decoder."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from gsvnet.models.segmenter import Resize


def resize_image(image: Tensor, size: tuple[int, int], kind: Resize) -> Tensor:
    """Image (3, h, w) of an image (3, H, W) uint8: uint8 for "area", float32 in 0..255 for "exact".

    "exact" is corner-aligned bilinear without antialiasing. "area" is what swscale's AREA does (measured: less than
    0.1 levels apart on average): along an axis that shrinks the mean of the covered pixels, along one that grows
    half-pixel bilinear, rounded once.
    """
    if kind == "exact":
        return F.interpolate(image[None].float(), size, mode="bilinear", align_corners=True)[0]
    if tuple(image.shape[-2:]) == size:
        return image
    rows, columns = _area_weights(image.shape[-2], size[0]), _area_weights(image.shape[-1], size[1])
    return (rows @ image.float() @ columns.T).round().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=32)
def _area_weights(n: int, m: int) -> Tensor:
    """(m, n) float32: how much of each of n pixels goes into each of m; rows sum to 1."""
    if m >= n:
        unit = torch.eye(n).view(n, 1, n)
        return F.interpolate(unit, m, mode="linear", align_corners=False)[:, 0].T.contiguous()
    borders = torch.arange(m + 1, dtype=torch.float64) * n / m
    pixel = torch.arange(n, dtype=torch.float64)
    covered = torch.minimum(borders[1:, None], pixel + 1) - torch.maximum(borders[:-1, None], pixel)
    return (covered.clamp(min=0) * m / n).float()

"""Backward warp: another frame, fetched to where the current frame sees it."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def warp(source: Tensor, flow: Tensor, *, beyond: Literal["zeros", "border"] = "zeros") -> Tensor:
    """`source` seen from the current frame: out(y, x) = source(y + dy, x + dx), (B, C, h, w) float32.

    source: (B, C, h, w) float. flow: (B, 2, h, w), (dx, dy) in pixels of this grid, current -> previous; positive dx
    fetches from the right. Bilinear between pixel centres. Outside is zero, so a pixel that is half outside is
    half as large; with beyond "border" outside is the rim, as in FlowNet2's Resample2d. Computed in float32 even under
    autocast: a bfloat16 position is off by whole pixels.

    Positions are pixels, which grid_sample calls corner-aligned. The other normalisation is handed to it here
    because it says the same positions and holds for a grid of one row or column too.
    """
    h, w = source.shape[-2:]
    with torch.autocast(source.device.type, enabled=False):
        dx, dy = flow.float().unbind(1)
        x = torch.arange(w, device=flow.device) + dx
        y = torch.arange(h, device=flow.device)[:, None] + dy
        positions = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)
        return F.grid_sample(source.float(), positions, mode="bilinear", padding_mode=beyond, align_corners=False)


def warp_as_published(source: Tensor, flow: Tensor) -> Tensor:
    """`warp` as AR-Seg's authors sample (warpFeature): at x * W / (W - 1) - 0.5 instead of x, likewise in y.

    They normalise for corners that are pixel centres and sample with corners that are pixel edges. So without any
    motion the map is blurred, moved by half a pixel at its borders, and fades out there; their weights are used to it.
    """
    h, w = source.shape[-2:]
    with torch.autocast(source.device.type, enabled=False):
        dx, dy = flow.float().unbind(1)
        x = torch.arange(w, device=flow.device) + dx
        y = torch.arange(h, device=flow.device)[:, None] + dy
        positions = torch.stack([2 * x / max(1, w - 1) - 1, 2 * y / max(1, h - 1) - 1], dim=-1)
        return F.grid_sample(source.float(), positions, mode="bilinear", padding_mode="zeros", align_corners=False)

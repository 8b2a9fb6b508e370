"""Layer norm over the places of a map, as TDNet has it (Hu et al., CVPR 2020, section 3.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.errors import ModelError
from gsvnet.nn.blocks import resize


class SpatialLayerNorm(nn.Module):
    """Each channel of each map normed over its places; a weight and a bias for every place, shared by the channels.

    map_size: (rows, columns) of weight and bias. For maps of another size both are resized, bilinearly, as the authors
    advise; nothing is ever repeated or cut to make it fit.
    """

    def __init__(self, map_size: tuple[int, int], *, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(map_size))
        self.bias = nn.Parameter(torch.zeros(map_size))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> the same shape, float32 or as autocast has it."""
        if x.dim() != 4:
            raise ModelError(f"a spatial norm takes maps (N, C, h, w), not {tuple(x.shape)}")
        size = x.shape[-2:]
        weight, bias = (resize(p[None, None], size, align_corners=False)[0, 0] for p in (self.weight, self.bias))
        return F.layer_norm(x.contiguous(), size, weight, bias, self.eps)

"""One of TDNet's sub-networks: what it makes of an image, and how it gathers what the others made of theirs.

Shapes: n frames, D value channels, h w the feature's grid, p q the memory's, which is coarser.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gsvnet.models.trunk import Trunk
from gsvnet.nn.spatial_norm import SpatialLayerNorm

KEY_CHANNELS = 64


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What other frames take over of a frame: query, key (n, 64, p, q) and value (n, D, p, q)."""

    query: Tensor
    key: Tensor
    value: Tensor

    def of(self, n: int) -> Memory:
        """The memory of one of the frames."""
        return Memory(query=self.query[n : n + 1], key=self.key[n : n + 1], value=self.value[n : n + 1])

    @classmethod
    def join(cls, memories: Sequence[Memory]) -> Memory:
        """Of several frames, in the order given."""
        return cls(**{name: torch.cat([getattr(m, name) for m in memories]) for name in ("query", "key", "value")})


class SubNetwork(nn.Module):
    """One of N: a trunk, what it tells and asks the others, and a head of its own.

    hops[j] takes over what comes from sub-network own + 1 + j (mod N). map_size: (rows, columns) of the norm's maps.
    """

    def __init__(self, trunk: Trunk, *, num_classes: int, num_sub_networks: int, map_size: tuple[int, int]) -> None:
        super().__init__()
        channels = trunk.value_channels
        self.trunk = trunk
        self.query, self.key = _projection(trunk.feature_channels), _projection(trunk.feature_channels)
        self.value = nn.Conv2d(trunk.feature_channels, channels, 1)
        self.hops = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(num_sub_networks - 1))
        self.norm = SpatialLayerNorm(map_size)
        self.head = trunk.build_head(num_classes)

    def remember(self, feature: Tensor, *, stride: int) -> Memory:
        """The memory of features (n, C, h, w): every `stride`-th row and column, from the first on."""
        thinned = feature[..., ::stride, ::stride]
        return Memory(query=self.query(thinned), key=self.key(thinned), value=self.value(thinned))

    def gather(self, query: Tensor, memories: Sequence[Memory]) -> Tensor:
        """What N - 1 memories hold for frames that ask (n, 64, h, w): (n, D, h, w), to be added to their values.

        memories: of the sub-networks own + 1, own + 2, ... Each passes what it got from the one before on to the next.
        """
        carried = memories[0].value
        for j, (memory, hop) in enumerate(zip(memories, self.hops, strict=True)):
            asking = memories[j + 1].query if j + 1 < len(memories) else query
            # the paper has the hop's convolution behind the attention, over all places of the frame that asks; the
            # weights of an average sum to 1, so before it, over the few of the memory, it comes to the same
            carried = attend(asking, memory.key, hop(carried))
            if j + 1 < len(memories):
                carried = carried + memories[j + 1].value
        return carried

    def label(self, value: Tensor, gathered: Tensor | None = None) -> Tensor:
        """Logits (n, C, h, w) of values (n, D, h, w), with what was gathered from others, if anything was."""
        return self.head(self.norm(value if gathered is None else value + gathered))


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(n, D, h, w): at each place of `query` (n, 64, h, w) the mean of `value` (n, D, p, q), by likeness to `key`.

    softmax(q k / 8) v over all places (the paper's equation 1); nothing tells where a place lies.
    """
    asking, keys, values = (x.flatten(2).transpose(1, 2).unsqueeze(1) for x in (query, key, value))
    found = F.scaled_dot_product_attention(asking, keys, values)  # scaled by 1 / sqrt(64)
    return found[:, 0].transpose(1, 2).unflatten(2, query.shape[-2:])


def _projection(channels: int) -> nn.Sequential:
    """(n, channels, h, w) -> (n, 64, h, w), what is compared."""
    return nn.Sequential(
        nn.Conv2d(channels, KEY_CHANNELS, 1),
        nn.BatchNorm2d(KEY_CHANNELS),
        nn.LeakyReLU(0.01),
        nn.Conv2d(KEY_CHANNELS, KEY_CHANNELS, 1),
    )

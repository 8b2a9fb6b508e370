"""A smallest TDNet with random weights: fast, and its labels are far from uniform. Videos of noise to run it over."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gsvnet.choices import Ensemble, References
from gsvnet.classes import CAMVID
from gsvnet.models.segmenter import ChunkBatch, Normalise
from gsvnet.models.sub_network import SubNetwork
from gsvnet.models.tdnet import TDNet
from gsvnet.models.trunk import Trunk

CHANNELS = 8
MAP_SIZE = 6, 8  # of the norms: that of images of 24x32 pixels
SUB_NETWORKS = 3


class TinyTrunk(Trunk):
    """One strided convolution, to a quarter of the image's size."""

    feature_channels = value_channels = middle_channels = CHANNELS
    memory_stride, bytes_per_pixel = 3, 60

    def __init__(self, *, turn: int = 0) -> None:
        super().__init__()
        self.turn = turn
        self.features = nn.Sequential(nn.Conv2d(3, CHANNELS, 5, 4, 2), nn.ReLU())

    @staticmethod
    def feature_size(height: int, width: int) -> tuple[int, int]:
        return math.ceil(height / 4), math.ceil(width / 4)

    def extract_with_middle(self, image: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.features(image)
        return feature, feature

    def build_head(self, num_classes: int) -> nn.Module:
        return nn.Conv2d(CHANNELS, num_classes, 1)


def build_tdnet(
    references: References = "before", ensemble: Ensemble = "none", *, num_sub_networks: int = SUB_NETWORKS
) -> TDNet:
    """In evaluation mode, of CamVid's classes, float32; the same arguments give the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        parts = [
            SubNetwork(
                TinyTrunk(turn=turn), num_classes=len(CAMVID), num_sub_networks=num_sub_networks, map_size=MAP_SIZE
            )
            for turn in range(num_sub_networks)
        ]
        for part in parts:
            for layer in (part.query[-1], part.key[-1], part.value, *part.hops):
                nn.init.normal_(layer.weight, std=0.7)  # so that places are told apart and memories count
            nn.init.normal_(part.norm.weight, mean=1.0, std=0.3)
            nn.init.normal_(part.norm.bias, std=0.3)
    return TDNet(
        parts,
        classes=CAMVID,
        normalise=Normalise(mean=(0.4,) * 3, std=(0.2,) * 3),
        references=references,
        ensemble=ensemble,
        micro_batch=2,
    ).eval()


def draw_video(num_frames: int, *, height: int = 24, width: int = 32) -> Tensor:
    """Frames of noise (n, 3, H, W) uint8."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (num_frames, 3, height, width), dtype=torch.uint8, generator=generator)


def cut_batch(
    video: Tensor, first: int, stop: int, *, interval: int = 1, before: int = 0, after: int = 0, first_index: int = 0
) -> ChunkBatch:
    """Frames [first, stop) of a video as chunks of `interval`, whole ones, with as many frames around as it has.

    first_index: index of the video's first frame.
    """
    index = torch.arange(first, stop).unflatten(0, (-1, interval))
    frames = video[index]
    around = list(range(max(0, first - before), first)), list(range(stop, min(len(video), stop + after)))
    return ChunkBatch(
        first_frame=first + first_index,
        num_frames=torch.full((len(index),), interval),
        keyframes=frames[:, 0],
        frames=frames if interval > 1 else None,
        valid=torch.ones_like(index, dtype=torch.bool),
        index=index + first_index,
        before=video[around[0]] if before else None,
        before_index=torch.tensor(around[0], dtype=torch.long) + first_index if before else None,
        after=video[around[1]] if after else None,
        after_index=torch.tensor(around[1], dtype=torch.long) + first_index if after else None,
    )

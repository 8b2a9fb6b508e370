"""A smallest GSVNet with random weights: fast, and its labels change from frame to frame."""

from __future__ import annotations

import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.propagation import Propagation
from gsvnet.models.segmenter import Normalise, SizeRule


def build_gsvnet() -> GSVNet:
    """Always the same weights; labels are carried on a quarter of the video's size."""
    torch.manual_seed(3)
    normalise = Normalise(mean=(0.5,) * 3, std=(0.25,) * 3)
    propagation = Propagation(num_classes=len(CAMVID))
    nn.init.normal_(propagation.guided_filter.guide.to_taps[1].bias)  # all taps take part, some are off in places
    nn.init.normal_(propagation.flow.to_flow.bias, std=4)
    return GSVNet(
        nn.Conv2d(3, len(CAMVID), 4, 4),
        propagation,
        classes=CAMVID,
        keyframe_normalise=normalise,
        frame_normalise=normalise,
        size_rule=SizeRule(strides=(4,), min_grid_rows=4),
    ).eval()

"""A smallest AR-Seg with random weights: fast, and its labels are far from uniform."""

from __future__ import annotations

import torch
from torch import nn

from gsvnet.classes import CAMVID
from gsvnet.models.arseg import ARSeg, CrossResolutionFusion
from gsvnet.models.segmenter import Normalise, SizeRule
from gsvnet.models.split import SplitNetwork

CHANNELS = 6


class TinySplit(SplitNetwork):
    """One convolution and a classifier, at a quarter of the image's size."""

    feature_channels, bytes_per_pixel = CHANNELS, 16

    classifiers = ("classifier",)

    def __init__(self, *, num_classes, auxiliary_heads=True):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, CHANNELS, 5, 4, 2), nn.ReLU())
        self.classifier = nn.Conv2d(CHANNELS, num_classes, 1)

    @staticmethod
    def feature_size(height, width):
        return -(-height // 4), -(-width // 4)

    def extract(self, image):
        return self.features(image)

    def classify(self, features):
        return self.classifier(features)

    def drop_auxiliary_heads(self):
        pass


def build_arseg(references="before") -> ARSeg:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        keyframe_network = TinySplit(num_classes=len(CAMVID))
        frame_network = TinySplit(num_classes=len(CAMVID))
        fusion = CrossResolutionFusion(channels=CHANNELS)
        for layer in (fusion.query, fusion.key):
            nn.init.normal_(layer.weight, std=0.5)
        nn.init.normal_(fusion.value.weight, std=0.5)
    return ARSeg(
        keyframe_network,
        frame_network,
        fusion,
        classes=CAMVID,
        normalise=Normalise(mean=(0.4,) * 3, std=(0.2,) * 3),
        size_rule=SizeRule(rows=48),
        references=references,
    ).eval()

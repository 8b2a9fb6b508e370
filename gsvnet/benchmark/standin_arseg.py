"""An AR-Seg that costs what the published one costs, and labels a drawn street like a trained one.

As in `standin.py`, but only the last layers are fitted: networks are random, their classifiers know a few drawn frames,
and the fusion adds nothing to the frames' own features, at its full cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.benchmark.standin import fit_classifier, one_hot_truth, start_randomly
from gsvnet.models.arseg import ARSeg
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import SizeRule
from gsvnet.models.spec import build_model
from gsvnet.models.split import SplitNetwork
from gsvnet.nn.blocks import resize


@torch.no_grad()
def build_arseg_stand_in(
    family: str, images: Tensor | None = None, truth: Sequence[np.ndarray] | None = None, *, seed: int = 0
) -> ARSeg:
    """AR-Seg for the 19 classes of Cityscapes at half resolution, float32, in evaluation mode.

    family: "arseg-..." of PUBLISHED. images: (N, 3, H, W) uint8 RGB. truth: (H, W) uint8, ids of CAMVID; two frames are
    the least. Without them, labels are noise. Videos are read at their own size, resized by area, and features are
    sampled where motion says, as in networks trained here.
    """
    spec = replace(
        PUBLISHED[family],
        classes=PUBLISHED["gsvnet-swiftnet"].classes,
        size_rule=SizeRule(),
        resize="area",
        propagation={"scale": 0.5, "sampling": "exact", "references": "before"},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(spec)
        assert isinstance(model, ARSeg)
        nn.init.zeros_(model.fusion.value.weight)
        if model.fusion.value.bias is not None:
            nn.init.zeros_(model.fusion.value.bias)
        if images is not None and truth is not None:
            pixels = model.normalise(images)
            _fit(model.keyframe_network, pixels, truth)
            height, width = pixels.shape[-2:]
            _fit(model.frame_network, resize(pixels, (height // 2, width // 2), align_corners=False), truth)
    return model.eval()


def _fit(network: SplitNetwork, images: Tensor, truth: Sequence[np.ndarray]) -> None:
    """Fit the classifier in place to normalised images (N, 3, h, w)."""
    start_randomly(network, lambda: network.extract(images[:2]))
    one_hot = one_hot_truth(truth, (images.shape[-2], images.shape[-1]))
    known = one_hot.sum((0, 2, 3)).nonzero()[:, 0]
    last = network.get_submodule(network.classifiers[0])
    assert isinstance(last, nn.Conv2d)
    fit_classifier(last, [network.extract(image[None])[0] for image in images], one_hot, known)

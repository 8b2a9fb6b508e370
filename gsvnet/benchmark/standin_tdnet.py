"""A TDNet that costs what the published one costs, and labels a drawn street like a trained one.

As in `standin_arseg.py`: the sub-networks are random, their classifiers know a few drawn frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from gsvnet.benchmark.standin import fit_classifier, one_hot_truth, start_randomly
from gsvnet.benchmark.streaming import stream_labels
from gsvnet.models.published import PUBLISHED
from gsvnet.models.segmenter import ChunkBatch, SizeRule
from gsvnet.models.spec import NUM_SUB_NETWORKS, TRUNKS, build_model
from gsvnet.models.tdnet import TDNet


@torch.no_grad()
def build_tdnet_stand_in(family: str, images: Tensor, truth: Sequence[np.ndarray], *, seed: int = 0) -> TDNet:
    """TDNet for the 19 classes of Cityscapes, float32, in evaluation mode; its norms' maps have the images' size.

    family: "td...". images: (n, 3, H, W) uint8 RGB, frames of one video from its first one on, two for each sub-network
    at least. truth: (H, W) uint8 of each, ids of CAMVID. Videos are read at their own size, resized by area.
    """
    count, trunk = NUM_SUB_NETWORKS[family], TRUNKS[family.split("-", 1)[1]]
    assert len(images) >= 2 * count, "batch norms need two frames of each sub-network"
    size = images.shape[-2], images.shape[-1]
    rows, columns = trunk(turn=0).feature_size(*size)
    spec = replace(
        PUBLISHED["td4-pspnet18"],
        family=family,
        size_rule=SizeRule(),
        resize="area",
        propagation={"map_rows": rows, "map_columns": columns},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(spec)
        assert isinstance(model, TDNet)
        chunks = as_single_frames(images[: len(images) // count * count])
        start_randomly(model, lambda: list(model.segment(chunks)))
        _fit(model, images, one_hot_truth(truth, size))
    return model.eval()


def as_single_frames(images: Tensor) -> ChunkBatch:
    """Frames (n, 3, H, W), a video from its first one on, as chunks of one frame each."""
    return ChunkBatch(
        first_frame=0,
        num_frames=torch.ones(len(images), dtype=torch.int64),
        keyframes=images,
        valid=torch.ones(len(images), 1, dtype=torch.bool),
    )


def _fit(model: TDNet, images: Tensor, one_hot: Tensor) -> None:
    """Fit the classifiers in place, each to the frames at its sub-network's turn."""
    known, turns = one_hot.sum((0, 2, 3)).nonzero()[:, 0], range(model.num_sub_networks)
    last = [[part for part in model.sub(turn).head.modules() if isinstance(part, nn.Conv2d)][-1] for turn in turns]
    seen: list[Tensor] = []
    listeners = [layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0])) for layer in last]
    for _ in stream_labels(model, images):
        pass
    for listener in listeners:
        listener.remove()
    for turn, layer in enumerate(last):
        fit_classifier(layer, seen[turn :: len(turns)], one_hot[turn :: len(turns)], known)

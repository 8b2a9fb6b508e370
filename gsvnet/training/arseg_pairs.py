"""What AR-Seg's frame network learns from: pairs of a keyframe and another frame, seen once by the frozen network.

The keyframe network does not change, so what it makes of a pair is computed when the pair is drawn and kept. That is
memory for time: training then runs the small network alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.evaluation.resize import resize_image
from gsvnet.labeling.memory import free_bytes, total_bytes
from gsvnet.models.arseg import ARSeg
from gsvnet.models.segmenter import FrameNeeds, Resize
from gsvnet.nn.upsample import upsample_labels
from gsvnet.training import parallel
from gsvnet.training.arseg_start import size_rule_alone
from gsvnet.training.footage_runs import Run, RunSource, draw_run
from gsvnet.video.proxy import trace_by_proxy

_MOST_SHARE = 0.8  # of the machine's memory


@dataclass(frozen=True, kw_only=True)
class ArsegPairs:
    """N pairs. images: (N, 3, h, w) uint8 RGB, the frames as they are read between keyframes. targets: (N, H, W) uint8
    labels of them, 255 = ignore.

    brought: (N, K, rows, columns) float16, the keyframe's feature where each frame sees it, 0 where that is not known.
    wanted: the same shape, the keyframe network's feature of the frame itself in full resolution. Both None for a
    training without fusion. Memory: 4 * K * rows * columns + 3 * h * w + H * W bytes per pair, 3.1 MB for bisenetv1 at
    360x480.
    """

    images: Tensor
    targets: Tensor
    brought: Tensor | None = None
    wanted: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def pick(self, places: Sequence[int] | np.ndarray) -> ArsegPairs:
        """Some of them, in the order given."""
        chosen = torch.as_tensor(places, dtype=torch.long)
        return ArsegPairs(
            images=self.images[chosen],
            targets=self.targets[chosen],
            brought=None if self.brought is None else self.brought[chosen],
            wanted=None if self.wanted is None else self.wanted[chosen],
        )

    def to(self, device: str) -> ArsegPairs:
        """The same pairs on another device."""
        return ArsegPairs(
            images=self.images.to(device),
            targets=self.targets.to(device),
            brought=None if self.brought is None else self.brought.to(device),
            wanted=None if self.wanted is None else self.wanted.to(device),
        )


@dataclass(frozen=True, kw_only=True)
class PairRecipe:
    """How pairs are drawn. size: (height, width) in pixels of the runs. keyframe_interval: distances are
    1..keyframe_interval - 1. fused: compute features too. bf16: run the keyframe network in mixed precision.
    """

    size: tuple[int, int]
    count: int
    pairs_per_run: int = 3
    keyframe_interval: int = 12
    fused: bool = True
    bf16: bool = True
    seed: tuple[int, ...] = (0,)


def draw_pairs(
    model: ARSeg,
    sources: Sequence[tuple[RunSource, float]],
    recipe: PairRecipe,
    *,
    share: slice = slice(None),
    on_pairs: Callable[[int], None] = lambda count: None,
) -> ArsegPairs:
    """`recipe.count` pairs, on the CPU, by the model's keyframe network, which is in eval mode on its device.

    What is drawn follows from the seed and the number of a run alone. Motion is what labeling will find: that of
    `trace_by_proxy` over the small frames. share: of every so many runs, those that this process draws. on_pairs: is
    told how many are drawn.
    """
    pairs = _make_room(model, recipe)
    filled, number = 0, share.start or 0
    while filled < recipe.count:
        generator = np.random.default_rng([*recipe.seed, number])
        filled += _see_run(model, pairs, filled, *_draw_run(sources, recipe, generator), recipe)
        number += share.step or 1
        on_pairs(filled)
    return pairs


def bytes_per_pair(model: ARSeg, recipe: PairRecipe) -> int:
    """Of memory that one pair takes, as the docstring of ArsegPairs says."""
    (height, width), (h, w), feature = _sizes(model, recipe)
    return (4 * feature[0] * feature[1] * feature[2] if recipe.fused else 0) + 3 * h * w + height * width


def check_memory(model: ARSeg, recipe: PairRecipe, *, num_held_out: int = 0) -> None:
    """Raises ConfigError where the pairs of all processes, and those held out, do not fit into memory.

    They may take most of the machine, and no more than is free. Where neither is known, nothing is refused.
    """
    each, total, free = bytes_per_pair(model, recipe), total_bytes(), free_bytes()
    if total is None or free is None:
        return
    count, room = recipe.count * parallel.num_processes(), min(_MOST_SHARE * total, free)
    if (count + num_held_out) * each > room:
        raise ConfigError(
            f"--pairs {count}: {count * each / 1e9:.1f} GB at {each / 1e6:.1f} MB each; of {total / 1e9:.1f} GB of "
            f"memory {free / 1e9:.1f} are free, enough for {max(0, int(room / each) - num_held_out)} pairs"
        )


def _sizes(model: ARSeg, recipe: PairRecipe) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int]]:
    """Size of a pair's labels, of its frame, and (channels, rows, columns) of its features."""
    needs, network = model.needs(*recipe.size), model.keyframe_network
    frame_size = needs.frame_size if recipe.fused else size_rule_alone(model).keyframe_size(*recipe.size)
    assert frame_size is not None, "an ARSeg reads small frames"
    return recipe.size, frame_size, (network.feature_channels, *network.feature_size(*needs.keyframe_size))


def _make_room(model: ARSeg, recipe: PairRecipe) -> ArsegPairs:
    """Pairs to be filled in. Features lie channels last: both the network and the attention read them so."""
    size, frame_size, feature = _sizes(model, recipe)
    shape = (recipe.count, *feature)
    brought, wanted = (
        torch.empty(shape, dtype=torch.float16, memory_format=torch.channels_last) if recipe.fused else None
        for _ in range(2)
    )
    return ArsegPairs(
        images=torch.empty((recipe.count, 3, *frame_size), dtype=torch.uint8),
        targets=torch.empty((recipe.count, *size), dtype=torch.uint8),
        brought=brought,
        wanted=wanted,
    )


def _draw_run(
    sources: Sequence[tuple[RunSource, float]], recipe: PairRecipe, generator: np.random.Generator
) -> tuple[Run, np.ndarray]:
    """A run, and the distances from its keyframe at which it is looked at."""
    most = recipe.keyframe_interval - 1
    distances = 1 + generator.choice(most, min(most, recipe.pairs_per_run), replace=False)
    return draw_run(sources, recipe.keyframe_interval, generator), np.sort(distances)


@torch.no_grad()
def _see_run(model: ARSeg, pairs: ArsegPairs, first: int, run: Run, distances: np.ndarray, recipe: PairRecipe) -> int:
    """Fill in the pairs of one run from place `first` on, as many as there is room for; how many that were."""
    places = torch.from_numpy(distances)[: len(pairs) - first]
    room, needs = slice(first, first + len(places)), model.needs(*recipe.size)
    small = _read(run.images[: int(places.max()) + 1], (pairs.images.shape[-2], pairs.images.shape[-1]), needs.resize)
    small = small.round().to(torch.uint8) if small.is_floating_point() else small
    pairs.images[room] = small[places]
    if recipe.fused or run.targets is None:
        seen = torch.cat([run.images[:1], run.images[places]]) if recipe.fused else run.images[places]
        features = _extract(model, _read(seen, needs.keyframe_size, needs.resize), bf16=recipe.bf16)
        wanted = features[-len(places) :]
        if pairs.brought is not None and pairs.wanted is not None:
            pairs.brought[room] = _bring(model, features[:1], small, places, needs).half()
            pairs.wanted[room] = wanted.half()
    if run.targets is not None:
        pairs.targets[room] = run.targets[places]
    else:
        logits = model.keyframe_network.classify(wanted).float()
        pairs.targets[room] = upsample_labels(logits, recipe.size, align_corners=model.align_corners).cpu()
    return len(places)


def _read(images: Tensor, size: tuple[int, int], kind: Resize) -> Tensor:
    """Images (N, 3, H, W) uint8 as labeling reads them: uint8 for "area", float32 for "exact"."""
    if kind == "area":
        return resize_image(images, size, kind)
    return torch.stack([resize_image(image, size, kind) for image in images])


def _extract(model: ARSeg, images: Tensor, *, bf16: bool) -> Tensor:
    """The keyframe network's features, float32."""
    pixels = model.normalise(images.to(model.normalise.mean.device)).contiguous(memory_format=torch.channels_last)
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bf16):
        return model.keyframe_network.extract(pixels).float()


def _bring(model: ARSeg, feature: Tensor, small: Tensor, places: Tensor, needs: FrameNeeds) -> Tensor:
    """A keyframe's feature (1, K, rows, columns) where the frames at `places` of a run see it; small: the run's."""
    assert needs.motion_grid is not None
    motion, known = trace_by_proxy(list(small.permute(0, 2, 3, 1).contiguous().numpy()), needs.motion_grid)
    return model.bring(
        feature.expand(len(places), -1, -1, -1),
        torch.from_numpy(motion)[places].to(feature.device),
        torch.from_numpy(known)[places].to(feature.device),
    )

"""Where training material comes from: CamVid's stills, drawn streets, and real videos without labels.

A propagation is trained on what it will see when it labels, so every frame here has the sizes that the model's
`needs` name, and every keyframe's logits come from its own keyframe network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import VideoError
from gsvnet.evaluation.footage import stack_images
from gsvnet.evaluation.resize import resize_image
from gsvnet.models.gsvnet import GSVNet
from gsvnet.nn.blocks import resize
from gsvnet.nn.upsample import upsample_labels
from gsvnet.synthetic import SceneConfig, SceneFrame, StreetScene
from gsvnet.training.clips import Clip, StillClips, VideoClips, compute_logits, flow_to_grid, to_grid
from gsvnet.training.stills import Stills
from gsvnet.video.decode import Frame, read_frames
from gsvnet.video.frames import View
from gsvnet.video.probe import probe_video

_STREETS_OF_STILLS, _STREETS_OF_CLIPS = 100_000, 200_000  # first seeds: the demo and the tests drive in other streets
_BEFORE_ANY_PTS = -(1 << 60)
_BATCH_FRAMES = 8


class MixedClips:
    """Clips of several sources of one grid, each drawn by its share, so that one batch may hold them all."""

    def __init__(self, sources: Sequence[tuple[StillClips | VideoClips, float]]) -> None:
        self.sources = [source for source, _ in sources]
        shares = np.array([share for _, share in sources], float)
        self.shares = shares / shares.sum()

    def draw(self, num_frames: int, generator: np.random.Generator) -> Clip:
        """One clip of `num_frames` frames."""
        return self.sources[int(generator.choice(len(self.sources), p=self.shares))].draw(num_frames, generator)


def mix_by_grid(sources: Sequence[tuple[StillClips | VideoClips, float]]) -> list[tuple[MixedClips, float]]:
    """The same clips as often as before, with one source per grid: clips of one batch need equal grids."""
    groups: dict[tuple[int, int], list[tuple[StillClips | VideoClips, float]]] = {}
    for source, share in sources:
        groups.setdefault(source.grid, []).append((source, share))
    return [(MixedClips(group), sum(share for _, share in group)) for group in groups.values()]


def draw_street_stills(
    num_scenes: int, size: tuple[int, int], *, seed: int, on_scene: Callable[[int], None] = lambda count: None
) -> Stills:
    """One image of each of `num_scenes` drawn streets, `size` (height, width) in pixels, with exact labels."""
    generator = np.random.default_rng([seed, 1])
    images, labels = [], []
    for i in range(num_scenes):
        scene = _draw_street(_STREETS_OF_STILLS + 1000 * seed + i, size, generator)
        index = int(generator.integers(0, 400))
        images.append(torch.from_numpy(scene.image(index)).permute(2, 0, 1))
        labels.append(torch.from_numpy(scene.labels(index)))
        on_scene(i + 1)
    return Stills(images=torch.stack(images), labels=torch.stack(labels), sequences=("drawn",) * num_scenes)


def make_still_clips(stills: Stills, model: GSVNet) -> StillClips:
    """Clips of stills in motion."""
    _, grid = _sizes(model, stills.labels.shape[-2:])
    return StillClips(stills, _see_all(model, stills.images), grid=grid, align_corners=model.align_corners)


def make_street_clips(
    num_clips: int, num_frames: int, size: tuple[int, int], model: GSVNet, *, seed: int
) -> Iterator[VideoClips]:
    """`num_clips` drives of `num_frames` frames, each in a drawn street of its own, with exact labels as targets."""
    _, grid = _sizes(model, size)
    for scene, indices in plan_drives(num_clips, num_frames, size, seed=seed):
        drawn = [scene.frame(j) for j in indices]
        images = torch.stack([torch.from_numpy(frame.image).permute(2, 0, 1) for frame in drawn])
        targets = torch.stack([torch.from_numpy(frame.labels) for frame in drawn])
        flow = torch.stack([flow_of_street(frame, grid) for frame in drawn])
        yield VideoClips(to_grid(images, grid).to(torch.uint8), _see_all(model, images), targets, flow=flow)


def plan_drives(
    num_drives: int, num_frames: int, size: tuple[int, int], *, seed: int
) -> Iterator[tuple[StreetScene, range]]:
    """`num_drives` streets to draw, each another one, and which frames of each."""
    generator = np.random.default_rng([seed, 2])
    for i in range(num_drives):
        scene = _draw_street(_STREETS_OF_CLIPS + 1000 * seed + i, size, generator)
        first = int(generator.integers(0, 400))
        yield scene, range(first, first + num_frames)


def make_video_clips(uri: str, model: GSVNet, *, max_frames: int, threads: int = 1) -> VideoClips:
    """Clips of the first `max_frames` frames of a real video; targets are the keyframe network's own labels.

    Frames are decoded at the sizes that labeling decodes; lost ones are left out. Targets have the model's working
    size. Raises VideoError for a video that cannot be read or has less than two frames.
    """
    info = probe_video(uri)
    keyframe_size, grid = _sizes(model, (info.height, info.width))
    working_size = model.size_rule.working_size(info.height, info.width)
    views = (View(*keyframe_size, resize="area"), View(*grid, resize="area"))
    frames, logits, targets = [], [], []
    decoded = islice(read_views(uri, lambda index: views, rotation=info.rotation, threads=threads), max_frames)
    while part := list(islice(decoded, _BATCH_FRAMES)):
        keyframes, small = (stack_images([frame.images[view] for frame in part]) for view in range(2))
        fine = _segment(model, keyframes)
        frames.append(small)
        logits.append(_to_grid(model, fine, grid))
        targets.append(upsample_labels(fine, working_size, align_corners=model.align_corners))
    if sum(map(len, frames)) < 2:
        raise VideoError("less than two frames can be decoded; nothing to learn motion from", uri=info.uri)
    return VideoClips(torch.cat(frames), torch.cat(logits), torch.cat(targets))


def flow_of_street(frame: SceneFrame, grid: tuple[int, int]) -> Tensor:
    """(2, h, w) float16: a drawn frame's flow, as `flow_to_grid` has it, of what was visible one frame ago."""
    flow = torch.where(torch.from_numpy(frame.flow_valid), torch.from_numpy(frame.flow), float("nan"))
    return flow_to_grid(flow[None], grid)[0].half()


def _draw_street(seed: int, size: tuple[int, int], generator: np.random.Generator) -> StreetScene:
    height, width = size
    return StreetScene(
        SceneConfig(
            height=height,
            width=width,
            seed=seed,
            speed_m_s=float(generator.uniform(4, 14)),
            cars=float(generator.uniform(0.5, 1.5)),
            people=float(generator.uniform(0.5, 2)),
        )
    )


def read_views(uri: str, views: Callable[[int], Sequence[View]], *, rotation: int, threads: int = 1) -> Iterator[Frame]:
    """The decodable frames of a video from its start; views(index): the sizes to render of each."""
    frames = read_frames(
        uri, first_frame=0, start_pts=_BEFORE_ANY_PTS, end_pts=None, views=views, rotation=rotation, threads=threads
    )
    with closing(frames):
        yield from (frame for frame in frames if frame.status == "ok")


def _sizes(model: GSVNet, size: Sequence[int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of keyframes and of the grid, for frames of `size`."""
    needs = model.needs(size[0], size[1])
    assert needs.frame_size is not None, "a GSVNet has a grid"
    return needs.keyframe_size, needs.frame_size


def _see_all(model: GSVNet, images: Tensor) -> Tensor:
    """Logits (N, C, h, w) float16 on the model's grid, of images (N, 3, H, W) uint8 of any size, a few at a time."""
    keyframe_size, grid = _sizes(model, images.shape[-2:])
    parts = images.split(_BATCH_FRAMES)
    return torch.cat([_to_grid(model, _segment(model, resize_image(p, keyframe_size, "area")), grid) for p in parts])


def _segment(model: GSVNet, keyframes: Tensor) -> Tensor:
    """The keyframe network's logits, float32, on its own grid."""
    return compute_logits(model.keyframe_network, model.keyframe_normalise, keyframes).float()


def _to_grid(model: GSVNet, logits: Tensor, grid: tuple[int, int]) -> Tensor:
    """Logits as the propagation starts from them, float16."""
    return resize(logits, grid, align_corners=model.align_corners).half()

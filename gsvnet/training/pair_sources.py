"""The pairs of frames that one command learns consistency from, gathered: videos, drawn streets, stills in motion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import VideoError
from gsvnet.evaluation.footage import stack_images
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.models.segmenter import SizeRule
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.pair_flow import PairFlow, make_flow
from gsvnet.training.pairs import FramePairs, MovingStills, PairSource, flow_grid
from gsvnet.training.sources import flow_of_street, plan_drives, read_views
from gsvnet.training.stills import Stills
from gsvnet.uris import redact_uri
from gsvnet.video.frames import View
from gsvnet.video.probe import probe_video

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PairMaterial:
    """sources: of pairs, and how often each is drawn; none where none is asked for. data: all of it in words."""

    sources: tuple[tuple[PairSource, float], ...] = ()
    data: tuple[str, ...] = ()


def gather_pairs(config: TrainKeyframeConfig, stills: Sequence[Stills], rule: SizeRule, report: Report) -> PairMaterial:
    """Everything that `config` names. Each kind is drawn as often as the others, and so is each video of one kind.

    stills: what is set in motion, where `config` asks for that. rule: of the sizes of videos. Raises ConfigError and
    VideoError for what cannot be read.
    """
    sources: list[tuple[PairSource, float]] = []
    data = []
    if config.video:
        flow = make_flow(config.flow, model=config.flow_model, everywhere=config.consistency_form == "published")
        uris = expand_inputs(config.video)
        for uri in uris:
            frames = read_frames_of(uri, rule, max_frames=config.video_frames, threads=max(1, config.threads))
            report(f"finding the flow of {len(frames)} frames of {redact_uri(uri)}")
            pairs = pair_frames(frames, flow, frame_gap=config.frame_gap, seed=config.seed)
            sources.append((pairs, 1 / len(uris)))
            name = redact_uri(uri).rstrip("/").rpartition("/")[2]
            data.append(f"{name} ({len(pairs)} pairs of frames, flow by {flow.name})")
    if config.synthetic_clips:
        report(f"drawing {config.synthetic_clips} clips of {config.synthetic_frames} frames")
        size = (stills[0].labels.shape[-2], stills[0].labels.shape[-1])
        clips = list(draw_street_pairs(config.synthetic_clips, config.synthetic_frames, size, seed=config.seed))
        sources += [(clip, 1 / len(clips)) for clip in clips]
        data.append(f"drawn streets ({sum(map(len, clips))} pairs of frames)")
    if config.moving_stills:
        count = sum(map(len, stills))
        sources += [(MovingStills(part), len(part) / count) for part in stills]
        data.append(f"{count} images in motion")
    return PairMaterial(sources=tuple(sources), data=tuple(data))


def pair_frames(frames: Tensor, flow: PairFlow, *, frame_gap: int, seed: int = 0) -> FramePairs:
    """Each of the frames (N, 3, H, W) uint8 with one other, 1..frame_gap frames before or after it, by chance."""
    generator = np.random.default_rng([seed, 5])
    places, flows = [], []
    for i in range(len(frames)):
        gaps = [sign * gap for sign in (-1, 1) for gap in range(1, frame_gap + 1)]
        partner = int(generator.choice([i + gap for gap in gaps if 0 <= i + gap < len(frames)]))
        step = 1 if i > partner else -1
        places.append([i, partner])
        flows.append(flow(frames[list(range(partner, i + step, step))]).half())
    return FramePairs(frames, torch.tensor(places), torch.stack(flows))


def read_frames_of(uri: str, rule: SizeRule, *, max_frames: int, threads: int = 1) -> Tensor:
    """(N, 3, H, W) uint8: the first `max_frames` frames of a video at its working size; lost ones are left out.

    Raises VideoError for a video that cannot be read or of which less than two frames can be decoded.
    """
    info = probe_video(uri)
    view = View(*rule.working_size(info.height, info.width), resize="area")
    decoded = read_views(uri, lambda index: [view], rotation=info.rotation, threads=threads)
    images = [frame.images[0] for frame in islice(decoded, max_frames)]
    if len(images) < 2:
        raise VideoError("less than two frames can be decoded; there is no pair of them", uri=info.uri)
    return stack_images(images)


def draw_street_pairs(num_clips: int, num_frames: int, size: tuple[int, int], *, seed: int) -> Iterator[FramePairs]:
    """Each frame but the first of `num_clips` drives with the one before it: their flow is exact."""
    for scene, indices in plan_drives(num_clips, num_frames, size, seed=seed):
        drawn = [scene.frame(j) for j in indices]
        flow = torch.stack([flow_of_street(frame, flow_grid(size)) for frame in drawn[1:]])
        places = torch.tensor([[j, j - 1] for j in range(1, num_frames)])
        yield FramePairs(stack_images([frame.image for frame in drawn]), places, flow)

"""What one command trains on, gathered: labelled stills and unlabelled ones, clips, and the part that is held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gsvnet.errors import ConfigError
from gsvnet.labeling.inputs import expand_inputs
from gsvnet.models.gsvnet import GSVNet
from gsvnet.models.segmenter import SizeRule
from gsvnet.training.clips import Clip, StillClips, VideoClips
from gsvnet.training.hold_out import split_stills, split_video
from gsvnet.training.keyframe_config import TrainKeyframeConfig
from gsvnet.training.propagation_config import TrainPropagationConfig
from gsvnet.training.sources import draw_street_stills, make_still_clips, make_street_clips, make_video_clips
from gsvnet.training.stills import Stills, load_camvid_stills
from gsvnet.training.unlabelled import read_unlabelled
from gsvnet.uris import redact_uri

CAMVID_SIZE = (360, 480)
_HELD_OUT_CLIPS = 24  # so many are scored, of all kinds together

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StillMaterial:
    """stills: what is trained on; unlabelled: for the teacher alone; held_out: to score on. data: all of it in words.

    Where nothing is labelled, the first of the unlabelled sets is in `stills`.
    """

    stills: Stills
    unlabelled: tuple[Stills, ...]
    held_out: Stills | None
    data: list[str]


@dataclass(frozen=True, kw_only=True)
class ClipPart:
    """One source of clips, and how often it is drawn from. held_out: the end of it, which is not trained on."""

    kind: str
    clips: StillClips | VideoClips
    share: float
    held_out: StillClips | VideoClips | None = None

    @property
    def targets(self) -> Tensor:
        """(N, H, W) uint8 labels that are trained on."""
        return self.clips.stills.labels if isinstance(self.clips, StillClips) else self.clips.targets


@dataclass(frozen=True, kw_only=True)
class ClipMaterial:
    """All sources of clips, the clips that are scored, and all of it in words."""

    parts: tuple[ClipPart, ...]
    held_out: tuple[Clip, ...]
    data: list[str]

    def samples(self) -> dict[str, StillClips | VideoClips]:
        """Of each kind one source to show clips of, held out where there is such a part."""
        first: dict[str, StillClips | VideoClips] = {}
        for part in self.parts:
            first.setdefault(part.kind, part.held_out or part.clips)
        return first


def gather_stills(config: TrainKeyframeConfig, rule: SizeRule, report: Report) -> StillMaterial:
    """Everything that `config` names. Held out is the end of each drive, or of the drawn streets where none is real."""
    labelled, data = [], []
    if config.camvid is not None:
        labelled.append(load_camvid_stills(config.camvid))
        data.append(f"CamVid train ({len(labelled[0])} images)")
    if config.synthetic_scenes:
        report(f"drawing {config.synthetic_scenes} streets")
        height, width = labelled[0].labels.shape[-2:] if labelled else CAMVID_SIZE
        labelled.append(draw_street_stills(config.synthetic_scenes, (height, width), seed=config.seed))
        data.append(f"drawn streets ({len(labelled[-1])} images)")
    held_out = None
    if config.hold_out:
        labelled[0], held_out = split_stills(labelled[0], config.hold_out)
        data[0] += f", {len(held_out)} of them held out"
    stills = [labelled[0].joined(labelled[1]) if len(labelled) == 2 else labelled[0]] if labelled else []
    for path, unlabelled in read_unlabelled(config.unlabelled, rule, step=config.unlabelled_step):
        stills.append(unlabelled)
        data.append(f"{_name(path)} ({len(unlabelled)} images, without labels)")
    report(f"training on {', '.join(data)}")
    return StillMaterial(stills=stills[0], unlabelled=tuple(stills[1:]), held_out=held_out, data=data)


def gather_clips(config: TrainPropagationConfig, model: GSVNet, report: Report) -> ClipMaterial:
    """Everything that `config` names. A kind's share is split equally among its clips.

    Raises ConfigError for a video, or a part of one, that is shorter than a clip.
    """
    uris = expand_inputs(config.video)
    parts: list[ClipPart] = []
    data, size = [], CAMVID_SIZE
    if config.camvid is not None:
        stills = load_camvid_stills(config.camvid)
        size = (stills.labels.shape[-2], stills.labels.shape[-1])
        report(f"labeling {len(stills)} stills of CamVid train")
        parts.append(_still_part(stills, model, config))
        data.append(f"CamVid train ({len(stills)} images in motion)")
    if config.synthetic_clips:
        report(f"drawing {config.synthetic_clips} clips of {config.synthetic_frames} frames")
        clips = make_street_clips(config.synthetic_clips, config.synthetic_frames, size, model, seed=config.seed)
        share, held = config.synthetic_share / config.synthetic_clips, 0.0 if parts or uris else config.hold_out
        parts += [_video_part("drawn street", clip, share, held, config.frames) for clip in clips]
        data.append(f"drawn streets ({config.synthetic_clips} clips of {config.synthetic_frames} frames)")
    for uri in uris:
        clip = make_video_clips(uri, model, max_frames=config.video_frames, threads=max(1, config.threads))
        report(f"labeled {len(clip.frames)} frames of {redact_uri(uri)}")
        parts.append(_video_part(_name(uri), clip, config.video_share / len(uris), config.hold_out, config.frames))
        data.append(f"{_name(uri)} ({len(clip.frames)} frames, without labels)")
    if config.hold_out:
        data.append(f"the last {config.hold_out:.0%} of each held out")
    return ClipMaterial(parts=tuple(parts), held_out=_draw_held_out(parts, config), data=data)


def _still_part(stills: Stills, model: GSVNet, config: TrainPropagationConfig) -> ClipPart:
    kind, share = "still in motion", config.still_share
    if not config.hold_out:
        return ClipPart(kind=kind, clips=make_still_clips(stills, model), share=share)
    trained, held = (make_still_clips(part, model) for part in split_stills(stills, config.hold_out))
    return ClipPart(kind=kind, clips=trained, share=share, held_out=held)


def _video_part(name: str, clips: VideoClips, share: float, hold_out: float, num_frames: int) -> ClipPart:
    kind = name if name == "drawn street" else "video"
    trained, held = split_video(clips, hold_out)
    for part, words in ((trained, "to train on"), (held, "held out")):
        if len(part.frames) < num_frames and (hold_out or part is trained):
            raise ConfigError(f"{name}: {len(part.frames)} frames {words}; --frames {num_frames} asks for more")
    return ClipPart(kind=kind, clips=trained, share=share, held_out=held if hold_out else None)


def _draw_held_out(parts: list[ClipPart], config: TrainPropagationConfig) -> tuple[Clip, ...]:
    """The same clips whenever the seed is the same, as many of each source."""
    sources = [part.held_out for part in parts if part.held_out is not None]
    generator = np.random.default_rng([config.seed, 3])
    most = max(1, _HELD_OUT_CLIPS // max(1, len(sources)))
    return tuple(source.draw(config.frames, generator) for source in sources for _ in range(most))


def count_targets(parts: tuple[ClipPart, ...]) -> Tensor:
    """All labels that are trained on, in one row, for class weights."""
    return torch.cat([part.targets.flatten() for part in parts])


def _name(uri: str) -> str:
    return redact_uri(uri).rstrip("/").rpartition("/")[2]
